// Package payload makes the disk that a machine installs its packages from, so
// that a first boot needs no network and installs exactly what was baked.
//
// apt resolves for a machine that is not this one, from what its base image
// says of itself: dpkg's status, the sources, the keyrings and the preferences,
// read from the qcow2 without a mount, a chroot, a virtual machine or root.
// [Builder.Resolve] does that, [Builder.Build] fetches what is not here and
// writes the disk.
//
// The disk is a squashfs with
//
//	apt/              a flat repository: the packages, Packages, Release
//	<path of a tree>  every further Tree, at its path
//
// and no label: a machine finds it by the serial of its virtio disk, [Serial],
// and believes it by its digest, which is on the seed.
//
// The directory of a Builder (0700, a cache: removing it costs fetching again):
//
//	debs/<sha256>.deb        packages, by digest
//	disk/<sha256>.squashfs   disks, 0600
//	disk/<key>.json          which disk a list of packages and trees gave, and how
//	                         its file looked when it was hashed
//	asked/<key>.json         what apt resolved for an image and a list of packages, and
//	                         what the archives' lists were then
//	names/<sha256>.txt       which packages the archives of an image have
//	.lock                    held by a run that resolves, fetches or builds
//	.work-*                  what it works in; the next one removes what is left
//
// It promises:
//   - A package is in a disk only if its SHA-256 is the one that bake.lock has,
//     and in bake.lock only if an index says so that is signed by a key of the
//     image's own keyrings and is not out of date.
//   - What the image says is data: no configuration, hook or method of its apt
//     is used, only sources over http and https, keys and pins.
//   - The same packages and trees give the same bytes on machines with the same
//     mksquashfs, whatever the time, TMPDIR, umask and user.
//   - With a list that was built before neither apt nor mksquashfs runs.
//   - A run that is killed leaves nothing under a name that counts.
//
// It refuses, as an [IntegrityError], lists without a good signature, lists that
// are out of date (unless that is asked for), packages that are older than those
// before, and packages that are not what the list or bake.lock says; as a
// [SetError] packages that the image's archives
// do not have, or that cannot be installed without removing others.
//
// # Decisions
//
// 2026-11: apt itself resolves and downloads. What it knows of dependencies,
// alternatives, phasing and signatures nobody should write again. A machine
// without apt (exit status 4) can bake with payload: none.
//
// 2026-11: of this machine's own apt configuration only what belongs to its
// network is used: proxies, certificates, credentials. The rest, hooks and
// relaxed checks above all, is not this image's.
//
// 2026-11: no recommended packages. Layers name what they need; the rest would
// be what nobody asked for. (cloud-init installs them.) Where releases disagree about
// a name a layer writes a|b.
//
// 2026-11: bake.lock pins whole sets, by base image and the packages asked for,
// not packages one by one: only a whole set is known to fit together, and it
// needs no apt to be built again. Another package is another set; it takes the
// versions of the sets that the image has already, as long as the archive has
// them.
//
// 2026-11: whether there is anything new is asked without apt, which has no way to ask
// only that without a copy of all lists, and takes seconds: an InRelease that is the
// same byte for byte leads to the same packages. It is not verified for that; what it
// led to was. Where it cannot be had in this way (a proxy or a password that only apt
// knows, an archive with Release.gpg), apt is asked each time.
//
// 2026-11: that a package does not go back is asked of the versions in bake.lock, not of
// the dates of lists: the lists of Ubuntu and of Debian's releases say no Valid-Until, so
// that a mirror can have any that was ever signed, and whoever cloned bake.lock has seen
// what this machine has not.
//
// 2026-11: packages are stored as they are, they are compressed already; the
// rest of the disk is compressed with zstd.
//
// 2026-11: file modes are made equal: what may be executed is 0755, all else
// 0644, everything root's. A tree that needs others would need a key here.
package payload

import (
	"context"
	"fmt"
	"strings"

	"bake/internal/origin"
	"bake/internal/tool"
)

// Serial is that of the virtio disk: /dev/disk/by-id/virtio-bake-payload.
const Serial = "bake-payload"

// A Builder makes payload disks in a cache directory.
type Builder struct {
	Dir   string
	Tools tool.Box

	// Say is told what a person should know, Stage what is being done: one line
	// each. Not told when nil.
	Say, Stage func(text string)

	// Progress, when not nil, is called before a download; it returns what is to
	// be told how far that is, in bytes, and what is told in the end how many
	// bytes came.
	Progress func(from string) (tell func(done, total int64), end func(received int64))

	// Shared, when not nil, is where machines that work together keep disks for each other.
	Shared Shared
}

// A Shared is a place where machines that work together keep the disks that one of them has made.
// What it returns is believed: who has made it, a Shared must know.
type Shared interface {
	// Find writes the disk of a key to a file, and waits for it if another machine is about to make
	// it. It is not ok when it is for this machine to make, which then calls Offer or Pass.
	Find(ctx context.Context, key, file string) (ok bool, err error)
	Offer(ctx context.Context, key string, disk Disk) error
	Pass(ctx context.Context, key string) error
}

// A Want says what a disk is for and what is to be on it.
type Want struct {
	Name     string // of what it is for, in messages
	Image    string // path of the base image
	SHA256   string // of the image, to keep the names of its packages under; "" for not
	Arch     string // of the machine: amd64, arm64
	Packages []Part // in the order of the layers
	Trees    []Tree
	Mirror   string // http or https URL instead of scheme and host of the image's sources, "" for those
	Expired  bool   // accept lists that are out of date

	// Before are packages that were resolved for the same purpose. None of them may go
	// back to an older version.
	Before []origin.Deb
}

// A Part is what one layer asks for.
type Part struct {
	Layer    string
	Packages []string
}

// A Tree is a directory that goes onto the disk as it is.
type Tree struct {
	Path   string // on the disk, such as "openclaw"
	Dir    string // on this machine
	Digest string // changes whenever anything in Dir does

	// Check, when not nil, says what is wrong with Dir. It is asked before a disk
	// is made of it, for a digest that was written down says nothing of what was
	// changed since.
	Check func() error
}

// A Disk is a payload disk in the cache.
type Disk struct {
	Path   string
	SHA256 string
	Size   int64
	Built  bool // by this call
}

// Names returns all packages that are wanted, sorted, once each.
func (w Want) Names() []string { return wanted(w.Packages) }

// An IntegrityError says that a list or a package is not what it must be.
type IntegrityError struct {
	What string // which one, and what is wrong with it
	Hint string
}

func (e *IntegrityError) Error() string {
	if e.Hint == "" {
		return e.What
	}
	return e.What + ": " + e.Hint
}

// Integrity marks the error as a failure of trust, not of the world.
func (e *IntegrityError) Integrity() bool { return true }

// A NetworkError says that an archive does not answer or lacks a file.
type NetworkError struct {
	What string
	Hint string
}

func (e *NetworkError) Error() string {
	if e.Hint == "" {
		return e.What
	}
	return e.What + ": " + e.Hint
}

// Network marks the error as one of the network or of a remote store.
func (e *NetworkError) Network() bool { return true }

// A DirError says that the cache cannot be used.
type DirError struct{ Reason error }

func (e *DirError) Error() string { return e.Reason.Error() }

// A SetError says that the archives of an image cannot provide the packages.
type SetError struct {
	Packages []string // those asked for
	Reason   string   // in apt's words
}

func (e *SetError) Error() string {
	return fmt.Sprintf("the base image's archives cannot provide %s: %s", strings.Join(e.Packages, ", "), e.Reason)
}

func (b Builder) stage(format string, args ...any) {
	if b.Stage != nil {
		b.Stage(fmt.Sprintf(format, args...))
	}
}

func (b Builder) say(format string, args ...any) {
	if b.Say != nil {
		b.Say(fmt.Sprintf(format, args...))
	}
}

// label names a package file for people.
func label(d origin.Deb) string { return d.Name + " " + d.Version }
