package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"bake/internal/lazy"
)

const lockRetry = 50 * time.Millisecond

// A claim is an interest in the files of one digest. Whoever has one holds
// .users shared; whoever gets that lock alone may remove the files, the locks
// among them. A lock counts only while its file still has its name: between
// opening and locking it, somebody may have removed it.
type claim struct {
	path    string // of the result; the other names begin with it
	users   *flock.Flock
	release func(remove bool) error // once; again it does nothing
}

func (c *claim) part() string   { return c.path + ".part" }
func (c *claim) state() string  { return c.path + ".part.json" }
func (c *claim) draft() string  { return c.path + ".part.json.new" }
func (c *claim) writer() string { return c.path + ".lock" }

func (c *claim) data() []string  { return []string{c.path, c.part(), c.state(), c.draft()} }
func (c *claim) locks() []string { return []string{c.writer(), c.users.Path()} }

func newClaim(path string) *claim {
	c := &claim{path: path, users: flock.New(path + ".users")}
	var once sync.Once
	c.release = func(remove bool) (err error) {
		once.Do(func() { err = c.end(remove) })
		return err
	}
	return c
}

// claim makes the directory, removes what is stale in it, and claims a name.
func (f Fetcher) claim(ctx context.Context, dir, name string) (*claim, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	if err := clean(dir, f.now().Add(-staleAfter)); err != nil {
		return nil, fmt.Errorf("removing stale downloads: %w", err)
	}
	c := newClaim(filepath.Join(dir, name))
	for {
		step("claim")
		held, err := c.users.TryRLock()
		if err != nil {
			return nil, err
		}
		step("look at the claim")
		if held && c.current() {
			return c, nil
		}
		if err := c.users.Close(); err != nil {
			return nil, err
		}
		if err := sleep(ctx, lockRetry); err != nil {
			return nil, err
		}
	}
}

// current reports whether the lock that is held is the one that others see.
func (c *claim) current() bool {
	ours, err := c.users.Stat()
	if err != nil {
		return false
	}
	theirs, err := os.Lstat(c.users.Path())
	return err == nil && os.SameFile(ours, theirs)
}

// end gives the claim up. The data are removed if that is asked for and nobody
// else has a claim; the locks if there are no data then.
func (c *claim) end(remove bool) error {
	var errs []error
	alone, err := c.users.TryLock()
	errs = append(errs, err)
	if alone && c.current() {
		errs = append(errs, c.clear(remove))
	}
	return errors.Join(append(errs, c.users.Close())...)
}

// clear is called while .users is held alone.
func (c *claim) clear(remove bool) error {
	left := false
	for _, path := range c.data() {
		if remove {
			step("remove")
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		} else if _, err := os.Lstat(path); err == nil {
			left = true
		}
	}
	if left {
		return nil
	}
	for _, path := range c.locks() {
		step("remove lock")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// lock waits until no other run writes, and tells waiting how many bytes that
// one has meanwhile.
func (c *claim) lock(ctx context.Context, waiting func(done int64)) (unlock func(), err error) {
	held := flock.New(c.writer())
	for {
		got, err := held.TryLock()
		if err != nil {
			return nil, err
		}
		if got {
			return func() { _ = held.Close() }, nil
		}
		if info, err := os.Lstat(c.part()); err == nil {
			waiting(info.Size())
		}
		if err := sleep(ctx, lockRetry); err != nil {
			return nil, fmt.Errorf("waiting for the run that holds %s: %w", held.Path(), err)
		}
	}
}

// finished returns the file under its own name, hashed. One that is damaged is
// removed and counts as absent: the error wraps fs.ErrNotExist.
func (c *claim) finished(ctx context.Context, want Want) (File, error) {
	file, err := openRegular(c.path, os.O_RDONLY)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	sums := newDigester(want.Algorithm)
	defer sums.close()
	size, err := sums.readAll(ctx, file)
	if err != nil {
		return File{}, err
	}
	if sums.sum(want.Algorithm) == want.Digest {
		if err := c.tidy(file); err != nil {
			return File{}, err
		}
		return File{Path: c.path, SHA256: sums.sum("sha256"), Size: size}, nil
	}
	if err := os.Remove(c.path); err != nil {
		return File{}, err
	}
	return File{}, fmt.Errorf("%s was damaged: %w", c.path, fs.ErrNotExist)
}

// tidy does what is left to do when the result has its name, which a run that
// was killed at that moment did not. A partial must stay writable, so its mode
// changes only now, and only once: each change would move the ctime, by which
// another run may tell that the file it copies is still the one it opened.
func (c *claim) tidy(result *os.File) error {
	info, err := result.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm() != 0o444 {
		step("make the result read-only")
		if err := result.Chmod(0o444); err != nil {
			return err
		}
	}
	for _, path := range []string{c.state(), c.draft()} {
		step("remove the state")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

var ourName = lazy.Regexp(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})$`)

// clean removes the files of every digest of which none changed since the given
// moment, unless somebody has a claim on them. Other names are left alone.
func clean(dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry.Name(), ".")
		if seen[name] || !ourName.MatchString(name) {
			continue
		}
		seen[name] = true
		c := newClaim(filepath.Join(dir, name))
		if !unchanged(before, append(c.data(), c.locks()...)) {
			continue
		}
		if err := c.removeStale(before); err != nil {
			return err
		}
	}
	return nil
}

// removeStale looks again under the lock: somebody may have come and gone.
func (c *claim) removeStale(before time.Time) error {
	alone, err := c.users.TryLock()
	if err == nil && alone && c.current() && unchanged(before, c.data()) {
		err = c.clear(true)
	}
	return errors.Join(err, c.users.Close())
}

func unchanged(since time.Time, paths []string) bool {
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil && info.ModTime().After(since) {
			return false
		}
	}
	return true
}

// sleep returns after a while, or with the cause when ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
