package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Receive takes a stream in and stores it as a snapshot in dir, which it makes, for
// its owner alone, if it is not there. Only what agrees with its manifest to the
// last byte is stored; of anything else nothing is left, but a snapshot that was in
// dir before goes as soon as a new one is whole.
func Receive(ctx context.Context, r io.Reader, dir string, limits Limits) (m Manifest, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, fmt.Errorf("receiving a snapshot: %w", err)
	}
	draft, err := os.CreateTemp(dir, ".state.tar.*") // 0600
	if err != nil {
		return m, fmt.Errorf("receiving a snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(draft.Name()))
		}
	}()
	to := &sink{Writer: draft}
	m, raw, err := scan(ctx, io.TeeReader(r, to), limits, nil)
	if to.failed != nil {
		err = fmt.Errorf("storing the stream: %w", to.failed)
	}
	if err == nil {
		err = draft.Sync()
	}
	if err := errors.Join(err, draft.Close()); err != nil {
		return Manifest{}, fmt.Errorf("receiving a snapshot: %w", err)
	}
	if err := commit(dir, draft.Name(), raw); err != nil {
		return Manifest{}, fmt.Errorf("receiving a snapshot: %w", err)
	}
	return m, nil
}

// sink tells its own failures from those of the stream.
type sink struct {
	io.Writer
	failed error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	if err != nil {
		s.failed = err
	}
	return n, err
}

// commit gives both files their names; that with the manifest's says that both are
// there.
func commit(dir, draft string, manifest []byte) error {
	file, err := os.CreateTemp(dir, ".manifest.json.*")
	if err != nil {
		return err
	}
	_, err = file.Write(manifest)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Remove(filepath.Join(dir, ManifestFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = os.Rename(draft, filepath.Join(dir, StateFile))
	}
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(dir, ManifestFile))
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Verify reads a snapshot again, all of it, and says whether it is what was
// received. Whoever can write to it can also write another manifest.
func Verify(ctx context.Context, dir string, limits Limits) (Manifest, error) {
	return each(ctx, dir, limits, nil)
}

// each verifies a snapshot and is given its members meanwhile.
func each(ctx context.Context, dir string, limits Limits, do func(member) error) (m Manifest, err error) {
	file, err := os.Open(filepath.Join(dir, StateFile))
	if err != nil {
		return m, fmt.Errorf("reading a snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	m, raw, err := scan(ctx, file, limits, do)
	if err != nil {
		return Manifest{}, fmt.Errorf("reading the snapshot %s: %w", dir, err)
	}
	beside, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return Manifest{}, fmt.Errorf("reading a snapshot: %w", err)
	}
	if !bytes.Equal(beside, raw) {
		return Manifest{}, fmt.Errorf("reading the snapshot %s: %w", dir, refuse("%s is not the manifest in %s", ManifestFile, StateFile))
	}
	return m, nil
}
