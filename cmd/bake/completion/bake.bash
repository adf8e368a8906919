# shellcheck shell=bash
# bash completion for bake: what can follow is bake's to say.
_bake() {
	local i word glue='' words=()
	for ((i = 1; i <= COMP_CWORD; i++)); do # bash splits at = and : as well
		word=${COMP_WORDS[i]}
		if [[ $glue || $word == [=:]* && ${#words[@]} -gt 0 ]]; then
			words[-1]+=$word
			if [[ $word == [=:]* ]]; then glue=1; else glue=''; fi
		else
			words+=("$word")
		fi
	done
	local typed=${words[-1]%"$2"} # of the word, before what is to be replaced
	COMPREPLY=()
	while IFS= read -r word; do
		COMPREPLY+=("$(printf %q "${word#"$typed"}")")
	done < <("$1" complete -- "${words[@]}" 2>/dev/null)
}
# -o default: where bake knows nothing, files.
complete -o default -F _bake bake
