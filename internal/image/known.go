package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	knownName   = ".known.json"
	knownSchema = "bake.known/1"
	settled     = 2 * time.Second // between the last change of a file and a hash that may be remembered
)

// identity tells one state of one file from any other.
type identity struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"` // nanoseconds since 1970
	Ctime  int64  `json:"ctime"`
}

func (i identity) file() string { return fmt.Sprintf("%d:%d", i.Device, i.Inode) }

// known is the content of .known.json.
type known struct {
	Schema  string              `json:"schema"`
	Sources map[string]sighting `json:"sources"` // by device and inode
	Stored  map[string]sighting `json:"stored"`  // by digest
}

// sighting is a state of a file that was hashed.
type sighting struct {
	identity
	SHA256      string `json:"sha256"`
	VirtualSize int64  `json:"virtual_size,omitempty"`
}

// open opens a regular file once: whatever happens to its name afterwards, this
// is the file. It does not hang on a FIFO.
func open(path string, flags int) (*os.File, identity, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return nil, identity{}, err
	}
	seen, err := identify(file)
	if err != nil {
		file.Close()
		return nil, identity{}, err
	}
	return file, seen, nil
}

func identify(file *os.File) (identity, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return identity{}, &fs.PathError{Op: "fstat", Path: file.Name(), Err: err}
	}
	return identityOf(&st, file.Name())
}

func identityOf(st *unix.Stat_t, path string) (identity, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return identity{}, &RefusedError{fmt.Errorf("%s is not a regular file", path)}
	}
	return identity{
		Device: uint64(st.Dev), Inode: st.Ino, Size: st.Size,
		Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}, nil
}

// recall reads what is known. A file that is missing or makes no sense is the
// same as knowing nothing.
func (s Store) recall() known {
	var k known
	data, err := os.ReadFile(filepath.Join(s.Dir, knownName))
	if err != nil || json.Unmarshal(data, &k) != nil || k.Schema != knownSchema {
		return known{}
	}
	return k
}

// source returns the digest of a source in this very state.
func (k known) source(seen identity) (string, bool) {
	s, ok := k.Sources[seen.file()]
	return s.SHA256, ok && s.identity == seen
}

// remembered returns a stored image whose state is one that was hashed.
func (s Store) remembered(sum string) (Blob, bool) {
	before, ok := s.recall().Stored[sum]
	if !ok || before.SHA256 != sum {
		return Blob{}, false
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.path(sum), &st); err != nil {
		return Blob{}, false
	}
	if seen, err := identityOf(&st, s.path(sum)); err != nil || seen != before.identity {
		return Blob{}, false
	}
	return Blob{Path: s.path(sum), SHA256: sum, Size: before.Size, VirtualSize: before.VirtualSize}, true
}

// check returns a stored image, hashed if need be. The lock is held.
func (s Store) check(ctx context.Context, sum string) (Blob, error) {
	if blob, ok := s.remembered(sum); ok {
		return blob, nil
	}
	start := s.clock()
	file, seen, err := open(s.path(sum), unix.O_NOFOLLOW)
	if err != nil {
		return Blob{}, err
	}
	defer file.Close()
	got, err := digest(ctx, io.Discard, file)
	if err != nil {
		return Blob{}, err
	}
	if got != sum {
		return Blob{}, &IntegrityError{Path: s.path(sum), Want: sum, Got: got}
	}
	if now, err := identify(file); err != nil || now != seen {
		return Blob{}, fmt.Errorf("%s changed while it was read", s.path(sum))
	}
	h, err := ReadHeader(file, seen.Size)
	if err != nil {
		return Blob{}, err
	}
	blob := Blob{Path: s.path(sum), SHA256: sum, Size: seen.Size, VirtualSize: int64(h.Size)}
	if !seen.settledBefore(start) {
		return blob, nil
	}
	return blob, s.remember(func(k *known) {
		k.Stored[sum] = sighting{identity: seen, SHA256: sum, VirtualSize: blob.VirtualSize}
	})
}

// settledBefore reports whether a change after start must show in the ctime,
// however coarse the file system's clock is.
func (i identity) settledBefore(start time.Time) bool {
	return start.Sub(time.Unix(0, i.Ctime)) > settled
}

func (s Store) rememberSource(seen identity, sum string, start time.Time) error {
	if !seen.settledBefore(start) {
		return nil
	}
	return s.remember(func(k *known) {
		k.Sources[seen.file()] = sighting{identity: seen, SHA256: sum}
	})
}

// remember changes what is known, and forgets images that are stored no more.
// The lock is held. Nothing is synced: losing this file costs a hash.
func (s Store) remember(change func(*known)) error {
	k := s.recall()
	k.Schema = knownSchema
	if k.Sources == nil {
		k.Sources = map[string]sighting{}
	}
	if k.Stored == nil {
		k.Stored = map[string]sighting{}
	}
	change(&k)
	for _, sightings := range []map[string]sighting{k.Sources, k.Stored} {
		for key, seen := range sightings {
			if _, err := os.Lstat(s.path(seen.SHA256)); err != nil {
				delete(sightings, key)
			}
		}
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", knownName, err)
	}
	file, err := os.CreateTemp(s.Dir, newPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if err := file.Chmod(0o600); err != nil {
		return err
	}
	if _, err := file.Write(append(data, '\n')); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(s.Dir, knownName))
}
