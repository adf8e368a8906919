package artifact

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	keepPrefix = ".kept-"
	maxKept    = 1 << 20 // bytes
	keepTime   = time.Minute
)

// Keep replaces a file beside the generations of a host, which is not of any of
// them, in one step: change gets what it holds, nil when it is absent, and returns
// what it shall hold. The file is 0600; when root writes it, it belongs to whom the
// directory belongs. It needs no lock: runs take turns, so that none is given what another is
// about to replace, unless the file system locks no directory; there the last of two wins. What a
// killed run leaves is removed by a run after a minute.
func Keep(root, host, name string, change func(old []byte) ([]byte, error)) error {
	dir, err := makeHostDir(root, host)
	if err == nil {
		err = vetName("file", name)
	}
	if err == nil {
		err = keep(dir, name, change)
	}
	if err != nil {
		return fmt.Errorf("keeping %s of host %s: %w", name, host, err)
	}
	return nil
}

func keep(dir, name string, change func(old []byte) ([]byte, error)) error {
	turn, err := takeTurn(dir)
	if err != nil {
		return err
	}
	defer turn.Close()
	path := filepath.Join(dir, name)
	var old []byte
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() > maxKept:
		return fmt.Errorf("refusing to replace %s: it is not a regular file, or a large one", path)
	default:
		if old, err = os.ReadFile(path); err != nil {
			return err
		}
	}
	content, err := change(old)
	if err != nil {
		return err
	}
	if old != nil && bytes.Equal(content, old) && info.Mode().Perm() == 0o600 {
		return nil
	}
	if err := sweepKept(dir); err != nil {
		return err
	}
	return replaceKept(dir, name, content)
}

// takeTurn waits until nobody else keeps anything in a directory, which takes no longer than a file
// is written. The host's own lock is held for hours, also by who keeps something meanwhile.
func takeTurn(dir string) (io.Closer, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX)
		switch {
		case err == nil, errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP): // NFS locks no directory
			return file, nil
		case !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), file.Close())
		}
	}
}

// sweepKept removes what killed runs have left.
func sweepKept(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && strings.HasPrefix(entry.Name(), keepPrefix) && time.Since(info.ModTime()) > keepTime {
			err = os.Remove(filepath.Join(dir, entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func replaceKept(dir, name string, content []byte) (err error) {
	step("keep " + name)
	temporary, err := os.CreateTemp(dir, keepPrefix+name+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	step("write " + name)
	_, err = temporary.Write(content)
	if err == nil {
		err = giveTo(temporary, dir)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	step("rename " + name)
	if err := os.Rename(temporary.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	step("sync " + name)
	return syncPath(dir)
}

// giveTo makes a file belong to whom a directory belongs, if root has made it.
func giveTo(file *os.File, dir string) error {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}
