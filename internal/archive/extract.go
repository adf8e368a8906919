package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options say how Extract does it.
type Options struct {
	Limits Limits
	Owners bool            // give files to the users of the machine, by number; needs root
	Keep   func(Path) bool // what to extract, directories aside; nil for all
}

// member is one of a snapshot, with its content.
type member struct {
	Entry
	header  *tar.Header
	content io.Reader
}

// Extract unpacks a snapshot as the directory to, which must not be there, or be
// empty, and verifies it meanwhile. Times and permissions are those of the machine,
// but the owner can read everything and no file has a set-user-ID bit. Extended
// attributes are set where the user may, and where the file system has them.
func Extract(ctx context.Context, dir, to string, options Options) (m Manifest, err error) {
	if err := checkTarget(to); err != nil {
		return m, fmt.Errorf("extracting to %s: %w", to, err)
	}
	draft, err := os.MkdirTemp(filepath.Dir(filepath.Clean(to)), ".extract.*")
	if err != nil {
		return m, fmt.Errorf("extracting to %s: %w", to, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeTree(draft))
		}
	}()
	root, err := os.OpenRoot(draft)
	if err != nil {
		return m, fmt.Errorf("extracting to %s: %w", to, err)
	}
	x := &extraction{Options: options, root: root, made: map[Path]bool{}}
	m, err = each(ctx, dir, options.Limits, x.member)
	if err == nil {
		err = x.finish()
	}
	if err = errors.Join(err, root.Close()); err == nil {
		err = os.Rename(draft, to)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("extracting to %s: %w", to, err)
	}
	return m, syncDir(filepath.Dir(filepath.Clean(to)))
}

func checkTarget(to string) error {
	names, err := os.ReadDir(to)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(names) > 0:
		return &fs.PathError{Op: "extract", Path: to, Err: fs.ErrExist}
	}
	return nil
}

// removeTree removes also what its owner may not write to.
func removeTree(dir string) error {
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = os.Chmod(name, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

type extraction struct {
	Options
	root *os.Root
	made map[Path]bool // files, for hard links to them
	dirs []Entry       // get their permissions and times when nothing is written to them any more
}

func (x *extraction) member(m member) error {
	name := string(m.Path)
	if m.Type != typeDir && x.Keep != nil && !x.Keep(m.Path) {
		return nil
	}
	var err error
	switch m.Type {
	case typeDir:
		x.dirs = append(x.dirs, m.Entry)
		err = x.root.Mkdir(name, 0o700)
	case typeSymlink:
		err = x.root.Symlink(string(m.Target), name)
	case typeHard:
		if !x.made[m.Target] {
			return nil // its content is with what was not kept
		}
		return own(x.root.Link(string(m.Target), name))
	case typeFile:
		return x.file(m)
	}
	if err == nil && x.Owners {
		err = x.root.Lchown(name, m.UID, m.GID)
	}
	if err == nil && m.Type == typeDir {
		err = x.attributes(name, m.header)
	}
	return own(err)
}

// own is an error of this side.
func own(err error) error {
	if err == nil {
		return nil
	}
	return ownError{err}
}

func (x *extraction) file(m member) error {
	file, err := x.root.OpenFile(string(m.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return own(err)
	}
	to := &holes{File: file}
	_, err = io.CopyBuffer(struct{ io.Writer }{to}, m.content, make([]byte, 64<<10))
	if to.failed == nil && err != nil {
		return errors.Join(err, file.Close())
	}
	err = errors.Join(to.failed, file.Truncate(m.Size))
	if err == nil && x.Owners {
		err = file.Chown(m.UID, m.GID)
	}
	if err == nil {
		err = setXattrs(file, m.header)
	}
	if err == nil {
		err = file.Chmod(fs.FileMode(m.Mode)&0o777 | 0o400)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = x.times(m.Entry)
	}
	x.made[m.Path] = true
	return own(err)
}

// finish gives directories what is theirs, those inside first.
func (x *extraction) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		d := x.dirs[i]
		if err := x.root.Chmod(string(d.Path), fs.FileMode(d.Mode)&0o777|0o500); err != nil {
			return err
		}
		if err := x.times(d); err != nil {
			return err
		}
	}
	return nil
}

func (x *extraction) times(e Entry) error {
	at := time.Unix(0, e.MTime)
	return x.root.Chtimes(string(e.Path), at, at)
}

func (x *extraction) attributes(name string, header *tar.Header) error {
	if len(xattrs(header)) == 0 {
		return nil
	}
	file, err := x.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(setXattrs(file, header), file.Close())
}

// setXattrs sets those that are data. Others mean something to a kernel.
func setXattrs(file *os.File, header *tar.Header) error {
	for name, value := range xattrs(header) {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		err := unix.Fsetxattr(int(file.Fd()), name, []byte(value), 0)
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return &fs.PathError{Op: "setxattr", Path: file.Name(), Err: err}
		}
	}
	return nil
}

// holes writes a file and leaves out what is zero anyway.
type holes struct {
	*os.File
	failed error
}

var zeros [4096]byte

func (h *holes) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), len(zeros))
		var err error
		if bytes.Equal(rest[:n], zeros[:n]) {
			_, err = h.Seek(int64(n), io.SeekCurrent)
		} else {
			_, err = h.File.Write(rest[:n])
		}
		if err != nil {
			h.failed = err
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}
