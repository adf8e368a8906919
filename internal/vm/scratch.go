package vm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"bake/internal/lazy"
	"bake/internal/tool"
)

const (
	scratchPrefix = "bake-vm-"
	lockName      = "lock"
)

// scratch is a directory of mode 0700 for one machine. Its lock is held for
// as long as this process lives, so that a later one can tell a directory in
// use from one whose owner was killed.
type scratch struct {
	dir  string
	lock *os.File
}

// newScratch creates a directory and removes those that were left behind.
func newScratch(tools tool.Box) (*scratch, error) {
	root := scratchRoot(tools)
	sweep(root)
	dir, err := os.MkdirTemp(root, scratchPrefix)
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir}
	// The lock gets its name once it is held: sweep never sees it free.
	s.lock, err = os.OpenFile(s.path("lock.new"), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err == nil {
		err = syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(s.lock.Name(), s.path(lockName))
	}
	if err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// scratchRoot returns TMPDIR or /var/tmp: an overlay can grow to gigabytes and
// /tmp is often memory.
func scratchRoot(tools tool.Box) string {
	getenv := tools.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if dir := getenv("TMPDIR"); filepath.IsAbs(dir) {
		return dir
	}
	return "/var/tmp"
}

// sweep removes our own directories whose lock nobody holds.
func sweep(root string) {
	dirs, _ := filepath.Glob(filepath.Join(root, scratchPrefix+"*"))
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || info.Mode() != fs.ModeDir|0o700 {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(dir)
		}
		lock.Close()
	}
}

func (s *scratch) path(name string) string { return filepath.Join(s.dir, name) }

func (s *scratch) remove() error {
	err := os.RemoveAll(s.dir)
	if s.lock != nil {
		s.lock.Close()
	}
	return err
}

// credentialLimit bounds what SMBIOS carries, in bytes: its tables fit 64 KiB
// with all else that is in them.
const credentialLimit = 32 << 10

var credentialName = lazy.Regexp(`^[A-Za-z0-9._@-]{1,255}$`)

// credentials writes one SMBIOS string per credential, each in a file of its
// own, and returns the files in the order of the names.
func (s *scratch) credentials(values map[string]string) ([]string, error) {
	var files []string
	total := 0
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !credentialName.MatchString(name) || strings.Trim(name, ".") == "" {
			return nil, fmt.Errorf("%q is no name for a credential", name)
		}
		text := "io.systemd.credential.binary:" + name + "=" +
			base64.StdEncoding.EncodeToString([]byte(values[name]))
		if total += len(text); total > credentialLimit {
			return nil, fmt.Errorf("the credentials have more than %d bytes", credentialLimit)
		}
		file := s.path(fmt.Sprintf("credential-%d", len(files)))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// forget removes files that QEMU has read.
func (s *scratch) forget(files []string) error {
	var errs []error
	for _, file := range files {
		errs = append(errs, os.Remove(file))
	}
	return errors.Join(errs...)
}
