// Package image turns base images into disks.
//
// A base image is somebody else's file. [Store.Add] vets it, copies it into a
// directory where its name is its SHA-256, and from then on that copy is the
// only thing anybody opens: <dir>/<sha256>.qcow2, mode 0444. A machine's root
// disk is a qcow2 overlay on such a copy ([Store.Overlay]), so that a generation
// costs 200 KiB and 20 ms instead of gigabytes and minutes, and so that the
// bytes which were vetted are the bytes which boot.
//
// The qcow2 header is read here, before any other program sees the file. A
// qcow2 header can name a second file (backing file, external data file), and
// QEMU's tools open what it names: an image with the backing file /etc/passwd
// boots with the host's /etc/passwd as its disk.
//
// It promises:
//   - The digest of a [Blob] is that of the bytes behind Blob.Path, not of a
//     path that may have changed meanwhile: the source is opened once, copied,
//     and the copy is what is hashed, vetted and checked.
//   - qemu-img is always told the format and never guesses it, and runs under
//     limits on address space, processor time and bytes written.
//   - A run that is killed leaves nothing under a digest's name, and two runs
//     that add one image at once both succeed.
//   - The same blob, size and relative position give the same overlay bytes.
//   - The overlay names its base by a relative path: the tree can be moved.
//
// It refuses whatever is not a qcow2 image of version 2 or 3 that stands alone
// and is clean: backing file, external data file, encryption, unknown
// incompatible features, the dirty or the corrupt bit, tables outside the file,
// a virtual size of 0, above 16 TiB or not in whole sectors.
//
// # What is remembered, and what that trusts
//
// Hashing 300 MB on every run would be the slowest step of a build. So
// <dir>/.known.json (0600) remembers, for each source and each stored copy,
// device, inode, size, mtime and ctime in nanoseconds, and the digest. All five
// must be equal for the digest to be used again. An entry is written only when
// the ctime was more than two seconds older than the moment the hashing began:
// a later write in the same tick of the file system's clock would otherwise
// leave the same five numbers. A copy just stored is therefore hashed once
// more, at the next use.
//
// This trusts the kernel to change the ctime of a file that is written to. It
// does not see: bytes that changed below the file system (a failing disk,
// a write to the block device), a writable shared mapping between its first
// store and the kernel's next write-back, a clock set back and forth by root, a
// network file system that lies about ctime. Whoever can write in the store's
// directory could do all that more simply: it is 0700. Remove .known.json to
// have everything hashed again.
//
// # Decisions
//
// 2026-11: the header parser is ours, 200 lines over encoding/binary, and not
// "qemu-img info": that one would be the program that reads the hostile file
// first. Would change if QEMU got a mode that opens nothing but the file named.
//
// 2026-11: overlays are made by qemu-img and not by a Go writer of qcow2: those
// that exist are unmaintained and say that they lose data.
//
// 2026-11: the store copies (by reflink where the file system can), it never
// makes a hard link: a hard link would leave the user a writable name for a
// vetted file.
//
// 2026-11: limits are set by prlimit(1), which replaces itself by qemu-img, as
// os/exec cannot set them and setting them on this process would be global:
// 1 GiB of address space, 60 s of processor time, no bytes written for a check
// and 64 MiB for a new overlay. A check of an 8 TiB image with all metadata
// allocated takes 10 s and fits. A conversion reads all of the image: 4 GiB, two
// hours and a little more than the disk. Would change to a seccomp or user sandbox if
// images came from people the operator does not choose.
//
// 2026-11: a disk that stands alone ([Store.Flatten]) is converted in order,
// never with qemu-img's -W: the order of writes is the order of clusters in the
// file. The size of the disk grows, the partition table does not: growpart in
// the guest does that on the first boot, of overlays too, so there is one way.
//
// 2026-11: internal snapshots are let through. They are data in the same file
// and an overlay cannot see them.
package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"bake/internal/tool"
)

// A Blob is a vetted base image in a store. It is read-only, and nothing that
// has its path may write to it: overlays of many machines stand on it.
type Blob struct {
	Path        string // as the store's directory was given, absolute or not
	SHA256      string // 64 lower-case hexadecimal digits, of the file's bytes
	Size        int64  // of the file, in bytes
	VirtualSize int64  // of the disk inside, in bytes
}

// A Store is a directory of base images named by digest. The directory is made
// (0700) when the first image is added. Several processes may use one at once.
type Store struct {
	Dir   string
	Tools tool.Box // must have prlimit and qemu-img

	now func() time.Time // time.Now when nil; tests cannot set a file's ctime
}

// An IntegrityError says that a stored base image is no longer the bytes its
// name promises.
type IntegrityError struct {
	Path      string
	Want, Got string // SHA-256
}

func (e *IntegrityError) Error() string {
	return fmt.Sprintf("%s is damaged: its SHA-256 should be %s and is %s: "+
		"remove it and add the base image again", e.Path, e.Want, e.Got)
}

// Integrity marks the error as a failure of trust, not of the world.
func (e *IntegrityError) Integrity() bool { return true }

// A RefusedError says that a file cannot be a base image: it is none, it is
// damaged, or it needs other files.
type RefusedError struct{ Reason error }

func (e *RefusedError) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Reason }

// Integrity marks the error as a failure of trust, not of the world.
func (e *RefusedError) Integrity() bool { return true }

// refuse makes a judgement on an image's content a *RefusedError and leaves an
// error of the world, such as a disk that cannot be read, as it is.
func refuse(err error) error {
	var errno syscall.Errno
	if err == nil || errors.As(err, &errno) {
		return err
	}
	return &RefusedError{err}
}

func (s Store) path(sum string) string { return filepath.Join(s.Dir, sum+".qcow2") }

func (s Store) clock() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}
