package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Limits under which qemu-img runs, see the package's Decisions.
const (
	limitMemory  = "--as=1073741824"
	limitCPU     = "--cpu=60"
	limitNothing = "--fsize=0"
	limitOverlay = "--fsize=67108864"
)

// limits are what prlimit sets: address space, processor time, bytes written.
type limits [3]string

var (
	checking = limits{limitMemory, limitCPU, limitNothing}
	creating = limits{limitMemory, limitCPU, limitOverlay}
)

// pinnedOptions pins what qemu-img would otherwise choose by its own version's
// defaults, and so the bytes of the overlay.
const (
	pinnedOptions = "compat=1.1,cluster_size=65536,extended_l2=off,lazy_refcounts=off," +
		"preallocation=off,refcount_bits=16,compression_type="
	overlayOptions = pinnedOptions + "zlib"
	zstdOptions    = pinnedOptions + "zstd"
)

// Overlay makes a disk of size bytes at path (0600, must not exist) whose
// content is that of blob until something is written to it. The overlay names
// its base relative to its own directory: keep the two in the same relative
// position. A size smaller than the blob's virtual size is an error, as it
// would cut off the end of the base's file systems. A disk that could not be
// finished is removed; the error wraps syscall.ENOSPC when space ran out.
func (s Store) Overlay(ctx context.Context, blob Blob, path string, size int64) error {
	if err := s.overlay(ctx, blob, path, size); err != nil {
		return fmt.Errorf("creating the disk %s: %w", path, err)
	}
	return nil
}

func (s Store) overlay(ctx context.Context, blob Blob, path string, size int64) error {
	if err := fits(blob, size); err != nil {
		return err
	}
	path, err := filepath.Abs(path) // a name such as nbd:x would be a protocol to QEMU
	if err != nil {
		return err
	}
	base, err := relative(filepath.Dir(path), blob.Path)
	if err != nil {
		return err
	}
	if err := reserve(path); err != nil {
		return err
	}
	err = s.qemuImg(ctx, creating, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base,
		"-o", overlayOptions, path, strconv.FormatInt(size, 10))
	if err == nil {
		err = s.qemuCheck(ctx, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// fits refuses a size that would cut the base off, or is none.
func fits(blob Blob, size int64) error {
	switch {
	case size < blob.VirtualSize:
		return fmt.Errorf("a disk of %s is smaller than the base image's, which has %s",
			gibibytes(size), gibibytes(blob.VirtualSize))
	case size > maxVirtual:
		return fmt.Errorf("a disk of %s is more than 16 TiB", gibibytes(size))
	}
	return nil
}

// relative returns the path of the base as seen from dir, and makes sure that
// it leads there: with a symbolic link on the way it may not.
func relative(dir, base string) (string, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return "", err
	}
	name, err := filepath.Rel(dir, base)
	if err != nil {
		return "", err
	}
	want, err := os.Lstat(base)
	if err != nil {
		return "", err
	}
	got, err := os.Lstat(dir + string(filepath.Separator) + name) // Join would clean ".." away
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err != nil || !os.SameFile(want, got) {
		return "", fmt.Errorf("%s is not the base image %s: there is a symbolic link between the two", name, base)
	}
	if !strings.HasPrefix(name, "../") {
		name = "./" + name // keeps a colon in the name from being read as a protocol
	}
	return name, nil
}

// reserve makes the file before qemu-img does: a new one, and with its mode
// whatever the umask.
func reserve(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Chmod(0o600), file.Close())
}

// leaks is the exit status of a check that found unused clusters and nothing
// else: wasted space, as some distributors' images have it, not damage.
const leaks = 3

// qemuCheck has qemu-img check the metadata of a qcow2 file, which it opens
// read-only.
func (s Store) qemuCheck(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	err = s.qemuImg(ctx, checking, "check", "-q", "-f", "qcow2", path)
	var exit *exec.ExitError
	switch {
	case err == nil, errors.As(err, &exit) && exit.ExitCode() == leaks:
		return nil
	case exit != nil && ctx.Err() == nil:
		return refuse(err)
	}
	return err
}

func (s Store) qemuImg(ctx context.Context, most limits, args ...string) error {
	program, err := s.Tools.Find("qemu-img")
	if err != nil {
		return err
	}
	// One arena: glibc maps 128 MiB for each thread's own, and on a busy machine qemu-img has
	// so many threads that no address space is left for the stack of the next.
	line := append(most[:], "/usr/bin/env", "MALLOC_ARENA_MAX=1", program)
	_, err = s.Tools.Run(ctx, "prlimit", append(line, args...)...)
	if err != nil && strings.Contains(strings.ToLower(err.Error()), syscall.ENOSPC.Error()) {
		return fmt.Errorf("%w (%w)", syscall.ENOSPC, err)
	}
	if err != nil {
		return fmt.Errorf("qemu-img %s: %w", args[0], err)
	}
	return nil
}

func gibibytes(n int64) string {
	return strconv.FormatFloat(float64(n)/(1<<30), 'f', -1, 64) + " GiB"
}
