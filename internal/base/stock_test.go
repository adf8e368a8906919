package base

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bake/internal/image"
)

func nobodyStands() (map[string][]string, error) { return nil, nil }

// TestPrune: an image goes when it is neither pinned nor stood on nor held.
func TestPrune(t *testing.T) {
	d, ref, blob := stockedDepot(t, fit())
	prune := func(users func() (map[string][]string, error), dry bool, want int) {
		t.Helper()
		removed, err := d.Prune(t.Context(), users, dry)
		if err != nil || len(removed) != want {
			t.Fatalf("%d images, %v: want %d", len(removed), err, want)
		}
	}
	found, err := d.Obtain(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Prune(t.Context(), nobodyStands, false); !isDir(err) {
		t.Errorf("held: %v", err)
	}
	if err := found.Close(); err != nil {
		t.Fatal(err)
	}
	prune(nobodyStands, false, 0) // pinned

	if err := os.Remove(d.lockFile()); err != nil {
		t.Fatal(err)
	}
	prune(func() (map[string][]string, error) {
		if _, err := holdDir(t.Context(), d.Cache, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("the users are asked for while the cache is open: %v", err)
		}
		return map[string][]string{blob.SHA256: {"zap/1"}}, nil
	}, false, 0)
	unknown := errors.New("a generation that cannot be read")
	if _, err := d.Prune(t.Context(), func() (map[string][]string, error) { return nil, unknown }, false); !errors.Is(err, unknown) {
		t.Errorf("%v", err)
	}
	prune(nobodyStands, true, 1)
	if _, err := os.Stat(blob.Path); err != nil {
		t.Error(err)
	}
	left := filepath.Join(d.Cache, notePrefix+"1")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	prune(nobodyStands, false, 1)
	for _, path := range []string{blob.Path, filepath.Join(d.Cache, blob.SHA256+".json"), left} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	prune(nobodyStands, false, 0)
}

// TestStock: copies of one image are one, and what damages one is found.
func TestStock(t *testing.T) {
	d, ref, blob := stockedDepot(t, fit())
	found, err := d.Obtain(t.Context(), ref, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	if err := os.Mkdir(d.Copies, 0o700); err != nil {
		t.Fatal(err)
	}
	twin, err := image.Store{Dir: d.Copies}.Add(t.Context(), blob.Path)
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.Stock(func() (map[string][]string, error) {
		return map[string][]string{blob.SHA256: {"zap/1"}, "other": {"x"}}, nil
	})
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	s := &all[0]
	if len(s.Paths) != 2 || len(s.Pins) != 1 || len(s.Users) != 1 || s.Size != blob.Size || s.Added.IsZero() {
		t.Errorf("%+v", s)
	}
	if err := d.Verify(t.Context(), s); err != nil || s.Damaged {
		t.Errorf("%v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.Verify(ended, s); !errors.Is(err, context.Canceled) || s.Damaged {
		t.Errorf("%v, damaged %v", err, s.Damaged)
	}
	if err := errors.Join(os.Chmod(twin.Path, 0o644), os.WriteFile(twin.Path, []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(t.Context(), s); !isIntegrity(err) || !s.Damaged {
		t.Errorf("%v, damaged %v", err, s.Damaged)
	}
}

// TestOwnDir: a directory is closed to others, unless it is not bake's to close.
func TestOwnDir(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	for name, make := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink(target, path) },
		"file":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"another's": func(path string) error { return errors.Join(os.Mkdir(path, 0o755), os.Chown(path, 65534, 65534)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := make(path); errors.Is(err, fs.ErrPermission) {
				t.Skip(err) // only root gives directories away
			} else if err != nil {
				t.Fatal(err)
			}
			if err := ownDir(path); !isDir(err) {
				t.Errorf("%v", err)
			}
		})
	}
	if err := ownDir(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(os.Mkdir(target, 0o700), os.Chmod(target, 0o777), ownDir(target)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestHold: many may use a directory, one alone may prune it, and who waits for
// it does not wait for ever.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	first, err := Hold(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Hold(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	alone := func() error {
		hold, err := holdDir(t.Context(), dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			return err
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := Hold(ended, dir); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		return hold.Close()
	}
	if err := alone(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("%v", err)
	}
	if err := errors.Join(first.Close(), second.Close(), alone()); err != nil {
		t.Error(err)
	}
	if _, err := Hold(t.Context(), filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
