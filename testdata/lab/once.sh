# shellcheck shell=bash
# once.sh: build a thing into the lab's cache, once. Sourced by base and cloud-init-schema.
#
# The cache is outside the clone, so that a second clone finds what the first one built.
# An entry is a directory that appears whole, by rename, or not at all.

# No HOME, no place for a cache: the expansion says so.
lab_cache=${XDG_CACHE_HOME:-${HOME:?}/.cache}/bake/lab

say() { printf 'lab: %s\n' "$*" >&2; }

die() {
	say "$@"
	exit 1
}

# digest FILE-OR-DIRECTORY...: twelve hex digits over names, modes and contents, below $PWD.
# Only the executable bit of a mode counts, because that is all git keeps of it.
digest() {
	find "$@" -type f -printf '%p %M\n' | LC_ALL=C sort | while read -r path mode; do
		printf '%s %s ' "$path" "${mode:3:1}"
		sha256sum <"$path"
	done | sha256sum | cut -c 1-12
}

# once NAME BUILD: unless $lab_cache/NAME is there already, call "BUILD DIR" to fill a new
# directory and give it that name. A concurrent call waits for the first and finds its result.
#
# The lock is a descriptor which the programs started here inherit. It is released when the
# last of them is gone, so whoever holds it may delete what an earlier, killed build left.
once() {
	local target=$lab_cache/$1
	if [ -d "$target" ]; then return; fi

	mkdir -p "$lab_cache"
	exec 9>"$lab_cache/.lock-$1"
	if ! flock --nonblock 9; then
		say "waiting for another build of $1"
		flock 9
	fi
	if [ ! -d "$target" ]; then
		building=$lab_cache/.building-$1
		rm -rf "$building"
		mkdir "$building"
		# A trap on a signal runs when the current program has ended: never beside it.
		trap 'rm -rf "$building"' EXIT
		trap 'exit 130' INT
		trap 'exit 143' TERM HUP
		"$2" "$building"
		sync "$building"/*
		mv "$building" "$target"
		trap - EXIT INT TERM HUP
	fi
	exec 9>&-
}
