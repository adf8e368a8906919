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
	"strings"

	"golang.org/x/sys/unix"
)

// List returns the stored images by digest, in order, as the headers of the
// files describe them: nothing is hashed. A store that does not exist is empty.
func (s Store) List() ([]Blob, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing base images: %w", err)
	}
	var all []Blob
	for _, entry := range entries {
		sum, ok := strings.CutSuffix(entry.Name(), ".qcow2")
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != sha256.Size || !entry.Type().IsRegular() {
			continue
		}
		blob := Blob{Path: s.path(sum), SHA256: sum}
		if file, seen, err := open(blob.Path, unix.O_NOFOLLOW); err == nil {
			blob.Size = seen.Size
			if h, err := ReadHeader(file, seen.Size); err == nil { // damage is for Verify to report
				blob.VirtualSize = int64(h.Size)
			}
			_ = file.Close()
		}
		all = append(all, blob)
	}
	return all, nil
}

// Verify hashes a stored image again, whatever is remembered of it. The error
// is an *IntegrityError when it has changed, and wraps fs.ErrNotExist when there
// is none.
func (s Store) Verify(ctx context.Context, sum string) error {
	file, _, err := open(s.path(sum), unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("base image %s: %w", sum, err)
	}
	defer file.Close()
	got, err := digest(ctx, io.Discard, file)
	if err != nil {
		return fmt.Errorf("base image %s: %w", sum, err)
	}
	if got != sum {
		return &IntegrityError{Path: s.path(sum), Want: sum, Got: got}
	}
	return nil
}

// Remove removes a stored image. Whoever calls it knows that no overlay stands
// on it: the store does not. One that is not there is no error.
func (s Store) Remove(ctx context.Context, sum string) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("removing base image %s: %w", sum, err)
	}
	defer unlock()
	if err := os.Remove(s.path(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing base image %s: %w", sum, err)
	}
	return syncDir(s.Dir)
}
