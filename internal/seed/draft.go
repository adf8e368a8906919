package seed

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// reached is called at the points where a crash would matter. Tests die there.
var reached = func(string) {}

// A draft is a file on its way to its path. Where the file system can, it has
// no name until it is complete, so that whatever kills the process, the kernel
// cleans up.
type draft struct {
	*os.File
	name string // "" while it has none
}

// publish makes path hold image, 0600, provided check accepts the bytes read back from
// the file, into room, which has more than the image has.
func publish(path string, image, room []byte, check func(readBack []byte) error) error {
	if err := replaceableFile(path); err != nil {
		return err
	}
	d, err := newDraft(path)
	if err != nil {
		return err
	}
	defer d.discard()
	if err := writeSynced(d.File, image); err != nil {
		return err
	}
	n, err := d.ReadAt(room, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := check(room[:n]); err != nil {
		return err
	}
	reached("written")
	if err := d.moveTo(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// replaceableFile refuses what must not be replaced by an image. The rename
// would not follow a symbolic link that appears later.
func replaceableFile(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("refusing to replace what is there: it is not a regular file (%s)", info.Mode().Type())
	}
	return nil
}

// replaceableImage refuses, beside what replaceableFile does, a file that is
// neither empty nor a volume with this label, in one of the places where
// ISO 9660 and FAT12 or FAT16 keep it: a host file, say.
func replaceableImage(path, label string) error {
	if err := replaceableFile(path); err != nil {
		return err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() == 0 {
		return err
	}
	found := false
	for _, place := range []struct {
		at    int64
		magic string
		label int64
	}{{16*sector + 1, "CD001", 16*sector + 40}, {510, "\x55\xaa", 43}} {
		magic, name := make([]byte, len(place.magic)), make([]byte, len(label))
		if _, err := f.ReadAt(magic, place.at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.ReadAt(name, place.label); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		found = found || string(magic) == place.magic && strings.EqualFold(string(name), label)
	}
	if !found {
		return fmt.Errorf("refusing to replace what is there: it is not an image labelled %s", label)
	}
	return nil
}

func newDraft(path string) (*draft, error) {
	if f, err := openUnnamed(filepath.Dir(path)); err == nil {
		return &draft{File: f}, nil
	}
	// Whatever stood in the way of an unnamed file and is not a matter of the
	// file system stands in the way of a named one as well, and is reported.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	var at *fs.PathError
	if errors.As(err, &at) { // the temporary name means nothing to anybody
		err = &fs.PathError{Op: "creating a file in", Path: filepath.Dir(path), Err: at.Err}
	}
	if err != nil {
		return nil, err
	}
	return &draft{File: f, name: f.Name()}, nil
}

// openUnnamed is a variable so that a test can be a file system without them.
var openUnnamed = func(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), filepath.Join(dir, "(unnamed)"))
	if _, err := os.Lstat(handle(f)); err != nil { // no /proc: it could not be named
		f.Close()
		return nil, err
	}
	return f, nil
}

// handle names an open file for linkat, which needs no privilege this way.
func handle(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// moveTo gives the draft its path, in one step if the path is free. It takes
// another name first only if the path is taken, since only a rename replaces.
func (d *draft) moveTo(path string) error {
	if d.name == "" {
		err := d.link(path)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text())
		if err := d.link(name); err != nil {
			return err
		}
		d.name = name
	}
	reached("named")
	if err := os.Rename(d.name, path); err != nil {
		return err
	}
	d.name = ""
	return nil
}

func (d *draft) link(path string) error {
	err := unix.Linkat(unix.AT_FDCWD, handle(d.File), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return &os.PathError{Op: "link", Path: path, Err: err}
	}
	return nil
}

// discard closes the draft and removes the name it still has, if any.
func (d *draft) discard() {
	d.Close() // already synced, or of no interest
	if d.name != "" {
		os.Remove(d.name)
	}
}

// writeSynced writes data to an empty file and to the disk, for its owner only.
func writeSynced(f *os.File, data []byte) error {
	// First of all, and explicitly: the umask may have taken bits away.
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes the names in a directory outlive a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
