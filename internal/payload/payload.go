// Package payload makes the disk that a machine installs its packages from, so that
// its first boot asks nobody.
//
// The packages that layers name are resolved by apt, on this machine and for
// another: against the package status, the sources and the keyrings of the base
// image, which package inspect hands out. No chroot, no virtual machine, no root. The
// image's signatures are checked with the image's keys. What comes of it is a Set: exact
// versions with their digests, for bake.lock.
//
//	Resolve   names → Set           apt, network
//	Fetch     Set → files           from the cache, or apt and network
//	Build     files → Disk          dpkg-deb, mksquashfs
//
// The disk is a squashfs with an apt repository, /apt, which has an index of its own
// and nothing but the Set. It is named by its SHA-256 and the same for all hosts with
// the same Set; the guest compares the digest before it mounts it (layer payload).
//
// The cache (Depot.Dir, 0700) has
//
//	apt/<digest>/           an image's apt: status, sources, keyrings, lists
//	debs/<sha256>.deb       packages
//	disk/<sha256>.squashfs  disks, 0400
//	disk/<key>.json         which disk a Set makes: {"schema", "sha256", "size"}
//
// All of it can be removed at any time, at the price of fetching again.
//
// It promises:
//   - Nothing is in a disk but files with the digests that the Set gives, which apt
//     took from a signed index; each file is hashed when it is used.
//   - No word of the image is run, or read as configuration of this machine's apt: its
//     apt.conf, which can name commands, is left out, and so is this machine's, but for
//     how it reaches the network.
//   - The same Set gives the same disk, byte for byte.
//   - A run that is killed leaves nothing under a name that means something.
//
// It refuses, as errors with Integrity: an index without a good signature, a source that
// asks for none, a file with another digest. As errors with Network: what could not
// be reached, or is not offered any more. As an *UnknownError a name that no source has.
//
// # Decisions
//
// 2026-11: apt resolves, and not a library of ours: what it would install in the
// guest is the question, and only it knows. Costs two seconds and only when the
// layers' packages or the base image change.
//
// 2026-11: the repository on the disk is not signed. Its bytes are those of the digest
// in the seed, and whoever can change the seed is root in the guest anyway. A
// signature by a key that is made for it would prove no more.
//
// 2026-11: mksquashfs and not a Go writer: those that exist write no zstd, and their
// output is not what the kernel's own developers test.
package payload

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/origin"
	"bake/internal/tool"
)

// Depot is where packages and disks are kept. Two that use one directory at a time are
// for the caller to keep apart.
type Depot struct {
	Dir   string // the cache; made when it is needed
	Tools tool.Box
	Stage func(text string) // is told what takes time; may be nil

	look func(path string) (image, error) // instead of inspect.Open, for tests
}

// Want says what a machine shall be able to install.
type Want struct {
	Image    string            // path of the base image
	SHA256   string            // of the image
	Packages []string          // names, sorted, each once
	Mirrors  map[string]string // archive to ask instead of one that the image names, by URL
}

// Disk is a payload, ready to be attached.
type Disk struct {
	Path   string
	SHA256 string
	Size   int64 // bytes
}

// UnknownError says that no source of the base image has a package.
type UnknownError struct{ Package, Image string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("no apt source of %s has the package %q", e.Image, e.Package)
}

// IntegrityError says that something is not what it must be.
type IntegrityError struct{ What string }

func (e *IntegrityError) Error() string { return e.What }

// Integrity says that this is no matter of trying again.
func (e *IntegrityError) Integrity() bool { return true }

// NetworkError says that an archive could not be reached, or has not what it had.
type NetworkError struct{ What string }

func (e *NetworkError) Error() string { return e.What }

// Network says that this may be otherwise later.
func (e *NetworkError) Network() bool { return true }

func (d Depot) stage(format string, args ...any) {
	if d.Stage != nil {
		d.Stage(fmt.Sprintf(format, args...))
	}
}

// Set and Deb are as bake.lock has them.
type (
	Set = origin.Set
	Deb = origin.Deb
)

// Names returns package names sorted, each once.
func Names(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}

// line makes one line of a program's words.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }
