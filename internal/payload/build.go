package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/lazy"
	"bake/internal/origin"
)

const (
	workPrefix = ".work-"
	noteSchema = "bake.payload/1" // changes whenever the same input gives another disk
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func wanted(parts []Part) []string {
	var names []string
	for _, part := range parts {
		names = append(names, part.Packages...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Resolve asks apt which package files an image needs for what is wanted, and
// has them in the cache then. It prefers the versions in keep, and says what each
// layer adds to those before it.
func (b Builder) Resolve(ctx context.Context, w Want, keep []origin.Deb) (debs []origin.Deb, err error) {
	dir, done, err := b.work(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done()) }()
	a, err := b.prepare(ctx, dir, w)
	if err != nil {
		return nil, err
	}
	if err := a.prefer(keep); err != nil {
		return nil, err
	}
	b.stage("%s: resolving %d packages", w.Name, len(w.Names()))
	if debs, err = a.plan(ctx, w.Names()); err == nil {
		err = b.forward(ctx, w, debs)
	}
	if err != nil {
		return nil, err
	}
	if err := b.account(ctx, a, w, debs); err != nil {
		return nil, err
	}
	missing, err := b.missing(ctx, debs)
	if err != nil {
		return nil, err
	}
	return debs, b.fetch(ctx, a, w, missing)
}

// account says what each layer adds to those before it.
func (b Builder) account(ctx context.Context, a apt, w Want, all []origin.Deb) error {
	before := map[string]bool{}
	for n, part := range w.Packages {
		debs := all
		if n < len(w.Packages)-1 {
			var err error
			if debs, err = a.plan(ctx, wanted(w.Packages[:n+1])); err != nil {
				return err
			}
		}
		count, size := 0, int64(0)
		for _, deb := range debs {
			if !before[deb.Name] {
				before[deb.Name] = true
				count++
				size += deb.Size
			}
		}
		b.say("%s: %s needs %s: %d packages, %.1f MiB", w.Name, part.Layer, strings.Join(part.Packages, ", "), count, mib(size))
	}
	return nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// Build returns the disk with these package files and the trees of what is
// wanted. What is not here is fetched, from the archives of the image.
func (b Builder) Build(ctx context.Context, w Want, debs []origin.Deb) (disk Disk, err error) {
	if err := vetTrees(w.Trees); err != nil {
		return Disk{}, err
	}
	key, err := keyOf(debs, w.Trees)
	if err != nil {
		return Disk{}, err
	}
	if disk, ok, err := b.known(ctx, key); ok || err != nil {
		return disk, err
	}
	dir, done, err := b.work(ctx)
	if err != nil {
		return Disk{}, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if disk, ok, err := b.known(ctx, key); ok || err != nil { // by the run that had the lock
		return disk, err
	}
	file := filepath.Join(dir, "disk")
	if ok, err := b.borrow(ctx, w, key, file); err != nil {
		return Disk{}, err
	} else if ok {
		if disk, err = b.keep(file, key); err == nil {
			disk.Built = false
		}
		return disk, err
	}
	defer func() { b.share(ctx, w, key, disk, err) }()
	if err := b.obtain(ctx, dir, w, debs); err != nil {
		return Disk{}, err
	}
	b.stage("%s: writing the payload", w.Name)
	if err := b.squash(ctx, filepath.Join(dir, "stage"), file, debs, w.Trees); err != nil {
		return Disk{}, err
	}
	return b.keep(file, key)
}

// borrow has the disk that another machine has made. A place that does not answer costs what it
// would have spared.
func (b Builder) borrow(ctx context.Context, w Want, key, file string) (ok bool, err error) {
	if b.Shared == nil {
		return false, nil
	}
	b.stage("%s: asking whether others have the payload", w.Name)
	ok, err = b.Shared.Find(ctx, key, file)
	if err != nil && ctx.Err() == nil {
		b.say("%s: %v: making the payload here", w.Name, err)
		return false, os.RemoveAll(file)
	}
	return ok, err
}

// share gives others a disk that was made here, or lets one of them try.
func (b Builder) share(ctx context.Context, w Want, key string, disk Disk, failed error) {
	if b.Shared == nil || ctx.Err() != nil {
		return
	}
	var err error
	if failed != nil {
		err = b.Shared.Pass(ctx, key)
	} else {
		b.stage("%s: keeping the payload for the others", w.Name)
		err = b.Shared.Offer(ctx, key, disk)
	}
	if err != nil {
		b.say("%s: the others must make the payload themselves: %v", w.Name, err)
	}
}

// keyOf names a disk by what goes into it.
func keyOf(debs []origin.Deb, trees []Tree) (string, error) {
	type tree struct{ Path, Digest string }
	var all []tree
	for _, t := range trees {
		all = append(all, tree{t.Path, t.Digest})
	}
	content, err := json.Marshal([]any{noteSchema, debs, all})
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), err
}

// note is what disk/<key>.json has.
type note struct {
	Schema string `json:"schema"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Seen   string `json:"seen"` // how the file looked when it was hashed
}

// seen tells one state of a file from most others. Links that are made to it
// change nothing.
func seen(file string) (string, error) {
	var s unix.Stat_t
	if err := unix.Lstat(file, &s); err != nil {
		return "", &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", fmt.Errorf("%s is not a regular file", file)
	}
	return fmt.Sprintf("%d:%d:%d:%d", s.Dev, s.Ino, s.Size, s.Mtim.Nano()), nil
}

func (b Builder) diskFile(sum string) string { return filepath.Join(b.Dir, "disk", sum+".squashfs") }
func (b Builder) noteFile(key string) string { return filepath.Join(b.Dir, "disk", key+".json") }
func (b Builder) debFile(sum string) string  { return filepath.Join(b.Dir, "debs", sum+".deb") }

// known returns a disk that was built before, hashed again unless its file is
// known not to have changed. One that has changed is built anew.
func (b Builder) known(ctx context.Context, key string) (Disk, bool, error) {
	content, err := os.ReadFile(b.noteFile(key))
	if errors.Is(err, fs.ErrNotExist) {
		return Disk{}, false, nil
	}
	if err != nil {
		return Disk{}, false, err
	}
	var n note
	if json.Unmarshal(content, &n) != nil || n.Schema != noteSchema || len(n.SHA256) != 64 || strings.Trim(n.SHA256, "0123456789abcdef") != "" {
		return Disk{}, false, nil
	}
	disk := Disk{Path: b.diskFile(n.SHA256), SHA256: n.SHA256, Size: n.Size}
	now, err := seen(disk.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Disk{}, false, nil
	}
	if err != nil || now == n.Seen {
		return disk, err == nil, err
	}
	sum, size, err := hash(ctx, disk.Path)
	if err != nil {
		return Disk{}, false, err
	}
	if sum != n.SHA256 {
		b.say("the payload %s has changed on this disk: it is built anew", disk.Path)
		return Disk{}, false, os.Remove(disk.Path)
	}
	n.Size, n.Seen = size, now
	return disk, true, b.write(b.noteFile(key), n)
}

// keep gives a finished disk its name.
func (b Builder) keep(file, key string) (Disk, error) {
	sum, size, err := hash(context.Background(), file)
	if err != nil {
		return Disk{}, err
	}
	disk := Disk{Path: b.diskFile(sum), SHA256: sum, Size: size, Built: true}
	if err := errors.Join(os.Chmod(file, 0o600), syncFile(file)); err != nil {
		return Disk{}, err
	}
	if err := os.Rename(file, disk.Path); err != nil {
		return Disk{}, err
	}
	look, err := seen(disk.Path)
	if err != nil {
		return Disk{}, err
	}
	return disk, b.write(b.noteFile(key), note{noteSchema, sum, size, look})
}

// write puts a note in place in one step.
func (b Builder) write(file string, n note) error {
	content, err := json.Marshal(n)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), workPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone by then unless something failed
	_, err = temporary.Write(append(content, '\n'))
	if err := errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}

// obtain has all package files in debs/, each with its digest.
func (b Builder) obtain(ctx context.Context, dir string, w Want, debs []origin.Deb) error {
	missing, err := b.missing(ctx, debs)
	if err != nil || len(missing) == 0 {
		return err
	}
	a, err := b.prepare(ctx, dir, w)
	if err != nil {
		return err
	}
	return b.fetch(ctx, a, w, missing)
}

// missing are the packages that are not in debs/, or have changed there.
func (b Builder) missing(ctx context.Context, debs []origin.Deb) (missing []origin.Deb, err error) {
	for _, deb := range debs {
		sum, _, err := hash(ctx, b.debFile(deb.SHA256))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, deb)
		case err != nil:
			return nil, err
		case sum != deb.SHA256:
			b.say("the package %s has changed on this disk: it is fetched anew", label(deb))
			missing = append(missing, deb)
		}
	}
	return missing, nil
}

func (b Builder) fetch(ctx context.Context, a apt, w Want, missing []origin.Deb) error {
	if len(missing) == 0 {
		return nil
	}
	b.stage("%s: downloading %d packages", w.Name, len(missing))
	if err := a.download(ctx, missing); err != nil {
		return err
	}
	return b.take(ctx, filepath.Join(a.dir, "debs"), missing)
}

// take moves downloaded packages into the cache, once they are what they must
// be.
func (b Builder) take(ctx context.Context, from string, debs []origin.Deb) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	got := map[string]string{} // file by digest
	for _, entry := range entries {
		file := filepath.Join(from, entry.Name())
		sum, _, err := hash(ctx, file)
		if err != nil {
			return err
		}
		got[sum] = file
	}
	for _, deb := range debs {
		file, ok := got[deb.SHA256]
		if !ok {
			return &IntegrityError{What: fmt.Sprintf("the package %s that the archive has is not the one of bake.lock, SHA-256 %s", label(deb), deb.SHA256),
				Hint: "one version of a package has one content: find out who changed it"}
		}
		if err := errors.Join(os.Chmod(file, 0o644), syncFile(file)); err != nil {
			return err
		}
		if err := os.Rename(file, b.debFile(deb.SHA256)); err != nil {
			return err
		}
	}
	return nil
}

// work locks the cache and makes a directory to work in, which done removes.
func (b Builder) work(ctx context.Context) (dir string, done func() error, err error) {
	for _, sub := range []string{"", "debs", "disk"} {
		if err := os.MkdirAll(filepath.Join(b.Dir, sub), 0o700); err != nil {
			return "", nil, err
		}
	}
	if err := ownDir(b.Dir); err != nil {
		return "", nil, err
	}
	if full, err := filepath.Abs(b.Dir); err != nil || !plainPath.MatchString(full) {
		return "", nil, &DirError{fmt.Errorf("apt cannot work in %q: set XDG_CACHE_HOME to a path of letters, digits and . _ + @ -", full)}
	}
	lock, err := os.OpenFile(filepath.Join(b.Dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return "", nil, errors.Join(err, lock.Close())
		}
		select {
		case <-ctx.Done():
			return "", nil, errors.Join(context.Cause(ctx), lock.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
	for _, sub := range []string{"", "disk"} { // what a killed run left
		left, _ := filepath.Glob(filepath.Join(b.Dir, sub, workPrefix+"*"))
		for _, path := range left {
			if err := os.RemoveAll(path); err != nil {
				return "", nil, errors.Join(err, lock.Close())
			}
		}
	}
	if dir, err = os.MkdirTemp(b.Dir, workPrefix+"*"); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), lock.Close()) }, nil
}

// plainPath is one that apt takes for one path wherever it stands.
var plainPath = lazy.Regexp(`^[A-Za-z0-9/._+@-]+$`)

// ownDir refuses a cache that somebody else could have filled.
func ownDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(stat.Uid) != os.Geteuid() {
		return &DirError{fmt.Errorf("%s is no directory of your own: set XDG_CACHE_HOME to one", dir)}
	}
	return os.Chmod(dir, 0o700)
}

func hash(ctx context.Context, path string) (string, int64, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, patient{ctx, file})
	return hex.EncodeToString(sum.Sum(nil)), size, err
}

// patient reads until its context ends.
type patient struct {
	ctx context.Context
	io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.Reader.Read(b)
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
