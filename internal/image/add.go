package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

const (
	newPrefix = ".new-" // of files that are not finished
	lockName  = ".lock"
	lockRetry = 50 * time.Millisecond
)

// Add vets the image at path, stores a copy of it and returns that. An image
// that is stored already costs two stat calls when nothing has changed, and a
// hash of whatever has. The user's file is only read.
//
// The error is a *RefusedError that says what is wrong with the image, or an
// *IntegrityError when the copy in the store has changed.
func (s Store) Add(ctx context.Context, path string) (Blob, error) {
	blob, err := s.add(ctx, path)
	if err != nil {
		return Blob{}, fmt.Errorf("base image %s: %w", path, err)
	}
	return blob, nil
}

func (s Store) add(ctx context.Context, path string) (Blob, error) {
	source, seen, err := open(path, 0)
	if err != nil {
		return Blob{}, err
	}
	defer source.Close()

	if sum, ok := s.recall().source(seen); ok {
		if blob, ok := s.remembered(sum); ok {
			return blob, nil
		}
	}
	if _, err := ReadHeader(source, seen.Size); err != nil {
		return Blob{}, err
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Blob{}, err
	}
	defer unlock()

	if sum, ok := s.recall().source(seen); ok { // perhaps by the run that had the lock
		blob, err := s.check(ctx, sum)
		if !errors.Is(err, fs.ErrNotExist) {
			return blob, err
		}
	}
	start := s.clock()
	blob, err := s.take(ctx, source, seen)
	if err != nil {
		return Blob{}, err
	}
	return blob, s.rememberSource(seen, blob.SHA256, start)
}

// Get returns a stored image by its digest, as Add does: hashed again unless it
// is known not to have changed. The error is an *IntegrityError when it has,
// and wraps fs.ErrNotExist when there is no such image.
func (s Store) Get(ctx context.Context, sum string) (Blob, error) {
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size || strings.ToLower(sum) != sum {
		return Blob{}, fmt.Errorf("base image: %q is no SHA-256", sum)
	}
	if blob, ok := s.remembered(sum); ok {
		return blob, nil
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return Blob{}, fmt.Errorf("base image %s: %w", sum, err)
	}
	defer unlock()
	blob, err := s.check(ctx, sum)
	if err != nil {
		return Blob{}, fmt.Errorf("base image %s: %w", sum, err)
	}
	return blob, nil
}

// lock makes the store's directory, holds its lock and removes what killed
// runs left behind.
func (s Store) lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		return nil, err
	}
	held := flock.New(filepath.Join(s.Dir, lockName))
	if _, err := held.TryLockContext(ctx, lockRetry); err != nil {
		return nil, fmt.Errorf("waiting for %s: %w", held.Path(), err)
	}
	left, err := filepath.Glob(filepath.Join(escape(s.Dir), newPrefix+"*"))
	if err != nil {
		_ = held.Close()
		return nil, err
	}
	for _, path := range left {
		_ = os.Remove(path) // what cannot be removed is in nobody's way
	}
	return func() { _ = held.Close() }, nil
}

// escape makes a directory's name safe as the fixed part of a glob pattern.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// take copies the source into the store under its digest, unless that is there
// already and whole. The lock is held.
func (s Store) take(ctx context.Context, source *os.File, seen identity) (Blob, error) {
	copied, err := s.begin()
	if err != nil {
		return Blob{}, err
	}
	defer copied.discard()
	sum, err := copyAndHash(ctx, copied.File, source)
	if err != nil {
		return Blob{}, fmt.Errorf("copying into %s: %w", s.Dir, err)
	}
	if now, err := identify(source); err != nil || now != seen {
		return Blob{}, errors.Join(errors.New("the file changed while it was read"), err)
	}
	if blob, err := s.check(ctx, sum); !errors.Is(err, fs.ErrNotExist) {
		return blob, err
	}
	return s.keep(ctx, copied, sum, seen.Size)
}

// Receive stores an image that came as a part of something else, vetted as Add does. The
// error is an *IntegrityError when the part has another digest than was wanted; then
// nothing is stored. One that is there already is not read again.
func (s Store) Receive(ctx context.Context, part *io.SectionReader, want string) (Blob, error) {
	blob, err := s.receive(ctx, part, want)
	if err != nil {
		return Blob{}, fmt.Errorf("base image %s: %w", want, err)
	}
	return blob, nil
}

func (s Store) receive(ctx context.Context, part *io.SectionReader, want string) (Blob, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return Blob{}, err
	}
	defer unlock()
	if blob, err := s.check(ctx, want); !errors.Is(err, fs.ErrNotExist) {
		return blob, err
	}
	copied, err := s.begin()
	if err != nil {
		return Blob{}, err
	}
	defer copied.discard()
	got, err := digest(ctx, copied, part)
	if err != nil {
		return Blob{}, fmt.Errorf("copying into %s: %w", s.Dir, err)
	}
	if got != want {
		return Blob{}, &IntegrityError{Path: "what came", Want: want, Got: got}
	}
	return s.keep(ctx, copied, want, part.Size())
}

// unfinished is a copy on its way into the store: a file that no digest names yet.
type unfinished struct{ *os.File }

func (s Store) begin() (unfinished, error) {
	file, err := os.CreateTemp(s.Dir, newPrefix+"*")
	return unfinished{file}, err
}

// discard closes the copy, and removes it unless it was kept.
func (u unfinished) discard() {
	_ = u.Close()
	_ = os.Remove(u.Name()) // fails when all went well: the name is gone
}

// keep vets a copy whose digest is known, and gives it its name.
func (s Store) keep(ctx context.Context, copied unfinished, sum string, size int64) (Blob, error) {
	h, err := s.vet(ctx, copied.File, size)
	if err != nil {
		return Blob{}, err
	}
	if err := s.publish(copied.File, sum); err != nil {
		return Blob{}, err
	}
	return Blob{Path: s.path(sum), SHA256: sum, Size: size, VirtualSize: int64(h.Size)}, nil
}

// vet judges the copy, not the source: these are the bytes that will be used.
func (s Store) vet(ctx context.Context, copied *os.File, size int64) (Header, error) {
	h, err := ReadHeader(copied, size)
	if err != nil {
		return Header{}, err
	}
	return h, s.qemuCheck(ctx, copied.Name())
}

// publish gives a finished copy its name.
func (s Store) publish(copied *os.File, sum string) error {
	if err := copied.Chmod(0o444); err != nil {
		return err
	}
	if err := copied.Sync(); err != nil {
		return err
	}
	if err := os.Rename(copied.Name(), s.path(sum)); err != nil {
		return err
	}
	return syncDir(s.Dir)
}

// copyAndHash fills an empty file with the source's bytes, by reflink if the
// file system can, and returns the SHA-256 of what is in it.
func copyAndHash(ctx context.Context, to, from *os.File) (string, error) {
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err == nil {
		return digest(ctx, io.Discard, to)
	}
	return digest(ctx, to, from)
}

// digest copies a file from its start and returns the SHA-256 of what it read.
func digest(ctx context.Context, to io.Writer, from io.ReaderAt) (string, error) {
	hash := sha256.New()
	both := io.MultiWriter(to, hash)
	buffer := make([]byte, 1<<20)
	for at := int64(0); ; {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := from.ReadAt(buffer, at)
		if _, err := both.Write(buffer[:n]); err != nil {
			return "", err
		}
		if at += int64(n); errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		} else if err != nil {
			return "", err
		}
	}
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
