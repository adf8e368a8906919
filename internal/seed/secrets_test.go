package seed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/secret"
)

// readSecrets reads a volume as the guest does.
func readSecrets(t *testing.T, path string) map[string]string {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files, err := decodeISO(secretsLabel, image, nil)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, f := range files {
		content[f.name] = string(f.data)
	}
	found := map[string]string{}
	for line := range strings.Lines(content["index"]) {
		name, of, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		found[of] = content[name]
	}
	if len(found) != len(files)-1 {
		t.Errorf("%d files and %d names", len(files), len(found))
	}
	return found
}

// Any number of secrets arrives, of any size and with any name: a directory of
// ISO 9660 has about 50 entries in a sector.
func TestWriteSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.iso")
	for _, n := range []int{1, 3, 47, 48, 49, 50, 51, 52, 53, 120, 1000} {
		var all []secret.Value
		want := map[string]string{}
		for i := range n {
			name := fmt.Sprintf("name-%d.%s", i, strings.Repeat("x_", 25))
			content := pattern(1 + i*37%5000)
			all, want[name] = append(all, secret.New(name, content)), string(content)
		}
		if err := WriteSecrets(path, all); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		got := readSecrets(t, path)
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%d: %s differs", n, name)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || len(got) != n {
			t.Errorf("%d secrets, want %d; %v, %v", len(got), n, info.Mode(), err)
		}
	}
	before := digest(t, path)
	if err := WriteSecrets(path, []secret.Value{secret.New("a", nil)}); err == nil || !strings.Contains(err.Error(), "secret a is empty") {
		t.Error(err)
	}
	if digest(t, path) != before {
		t.Error("a refused volume has changed the one that was there")
	}
	wantEntries(t, filepath.Dir(path), "secrets.iso")
}

// Without secrets there is no volume; what is no volume is left alone.
func TestWriteNoSecrets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secrets.iso")
	if err := WriteSecrets(path, nil); err != nil {
		t.Error(err)
	}
	one := []secret.Value{secret.New("a", []byte("b"))}
	for range 2 {
		if err := WriteSecrets(path, one); err != nil {
			t.Fatal(err)
		}
		if err := WriteSecrets(path, nil); err != nil {
			t.Error(err)
		}
		wantEntries(t, dir)
	}
	for name, make := range map[string]func() error{
		"a seed":       func() error { return Write(path, ISO, sample()) },
		"another file": func() error { return os.WriteFile(path, []byte("host: zap\n"), 0o600) },
		"a link":       func() error { return os.Symlink("elsewhere", path) },
		"a directory":  func() error { return os.Mkdir(path, 0o700) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		for _, all := range [][]secret.Value{nil, one} {
			if err := WriteSecrets(path, all); err == nil || !strings.Contains(err.Error(), "refusing to replace what is there") {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantEntries(t, dir, "secrets.iso")
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	// And the other way round: a seed does not take its place.
	if err := WriteSecrets(path, one); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, ISO, sample()); err == nil || !strings.Contains(err.Error(), "not an image labelled cidata") {
		t.Error(err)
	}
}

// What a run that was killed while it replaced a volume has left goes away, as
// nobody else would ever remove it.
func TestSecretsLeftovers(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".secrets.iso.OLD": time.Hour, ".secrets.iso.YOUNG": 0, ".seed.iso.OLD": time.Hour, "secrets.iso.x": time.Hour} {
		path, at := filepath.Join(dir, name), time.Now().Add(-age)
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	for _, all := range [][]secret.Value{nil, {secret.New("a", []byte("b"))}} {
		if err := WriteSecrets(filepath.Join(dir, "secrets.iso"), all); err != nil {
			t.Error(err)
		}
	}
	wantEntries(t, dir, ".secrets.iso.YOUNG", ".seed.iso.OLD", "secrets.iso", "secrets.iso.x")
}

// The library's stage in $TMPDIR, and its image, never have a secret in them.
func TestSecretsAreNotStaged(t *testing.T) {
	content := []byte("a secret of some length")
	files, err := secretFiles([]secret.Value{secret.New("a", content)})
	if err != nil {
		t.Fatal(err)
	}
	image, err := layOut(secretsLabel, files)
	if err != nil || bytes.Contains(image, content) {
		t.Errorf("%v", err)
	}
}

// What the kernel's tools say of the volume.
func TestSecretsByJudges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.iso")
	if err := WriteSecrets(path, []secret.Value{secret.New("a", []byte("first")), secret.New("b", []byte("second"))}); err != nil {
		t.Fatal(err)
	}
	if got := mustJudge(t, "blkid", "-o", "value", "-s", "LABEL", path); strings.TrimSpace(got) != "bakesecret" {
		t.Errorf("blkid: %q", got)
	}
	seed := filepath.Join(t.TempDir(), "seed.iso")
	if err := Write(seed, ISO, sample()); err != nil {
		t.Fatal(err)
	}
	uuid := func(path string) string { return mustJudge(t, "blkid", "-o", "value", "-s", "UUID", path) }
	if uuid(path) == uuid(seed) {
		t.Errorf("blkid: the seed has the UUID %q, too", uuid(path))
	}
	if got := mustJudge(t, "isoinfo", "-i", path, "-x", "/s001;1"); got != "second" {
		t.Errorf("isoinfo: %q", got)
	}
	if got := mustJudge(t, "isoinfo", "-i", path, "-x", "/index;1"); got != "s000 a\ns001 b\n" {
		t.Errorf("isoinfo: %q", got)
	}
}
