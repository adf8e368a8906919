package seed

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReplace(t *testing.T) {
	for _, f := range formats {
		dir := t.TempDir()
		path := filepath.Join(dir, "seed")
		if err := Write(path, f, sample()); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		next := marked()
		next.NetworkConfig = nil
		if err := Write(path, f, next); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		wantSeed(t, path, f, next)
		wantEntries(t, dir, "seed")
		wantPrivate(t, dir)
	}
}

func TestRefusesToReplace(t *testing.T) {
	link := func(to string) func(string) error {
		return func(path string) error { return os.Symlink(to, path) }
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	within := func(make func(dir string) error) func(string) error {
		return func(path string) error { return errors.Join(os.Mkdir(path, 0o755), make(path)) }
	}
	for name, test := range map[string]struct {
		there   func(path string) error
		formats []Format
	}{
		"symlink to file":    {link(victim), formats},
		"symlink to dir":     {link(filepath.Dir(victim)), formats},
		"dangling symlink":   {link("nowhere"), formats},
		"fifo":               {func(path string) error { return syscall.Mkfifo(path, 0o600) }, formats},
		"file for a dir":     {func(path string) error { return os.WriteFile(path, nil, 0o600) }, []Format{Dir}},
		"dir for an image":   {within(func(string) error { return nil }), []Format{ISO, VFAT}},
		"foreign file":       {within(func(d string) error { return os.WriteFile(d+"/notes", nil, 0o600) }), formats},
		"subdirectory":       {within(func(d string) error { return os.Mkdir(d+"/user-data", 0o700) }), formats},
		"symlink in its dir": {within(func(d string) error { return os.Symlink(victim, d+"/user-data") }), formats},
	} {
		for _, f := range test.formats {
			dir := t.TempDir()
			path := filepath.Join(dir, "seed")
			if err := test.there(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			err := Write(path, f, marked())
			if err == nil || !strings.Contains(err.Error(), "refusing to replace") {
				t.Errorf("%s, %s: %v, want a refusal", name, f, err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("%s, %s: what was there is gone", name, f)
			}
			wantEntries(t, dir, "seed")
			wantNoCanary(t, dir)
		}
	}
	if b, _ := os.ReadFile(victim); string(b) != "mine" {
		t.Errorf("the link's target holds %q", b)
	}
}

// A file that appears in the earlier directory at the last moment is not ours
// to delete.
func TestRemoveDirSparesForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"user-data", "notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeDir(dir); err == nil {
		t.Error("no error for a directory that is not empty")
	}
	wantEntries(t, dir, "notes")
	if err := removeDir(filepath.Join(dir, "none")); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
}
