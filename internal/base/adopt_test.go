package base

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/origin"
)

// lockOf has ubuntu:24.04 pinned to a digest of that digit, and a set of packages for
// it in that version.
func lockOf(t *testing.T, digit, version string) (l origin.Lock) {
	t.Helper()
	sum := strings.Repeat(digit, 64)
	err := l.Set(origin.Target{Reference: "ubuntu:24.04", Arch: "amd64", URL: "https://x.example/" + digit + ".img", Name: digit + ".img",
		Algorithm: "sha256", Digest: sum, Trust: "test"})
	if err == nil {
		err = l.SetDebs(origin.Set{Reference: "ubuntu:24.04", Image: sum, Arch: "amd64", Packages: []string{"ufw"},
			Debs: []origin.Deb{{Name: "ufw", Version: version, Arch: "all", SHA256: strings.Repeat("e", 64), Size: 1}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAdopt(t *testing.T) {
	yes, no := true, false
	for name, test := range map[string]struct {
		there, since, from [2]string // digit and version; "" for no lock
		image, set         bool
		want               [2]string
		changes            int
	}{
		"both":                         {[2]string{"a", "1"}, [2]string{"a", "1"}, [2]string{"b", "2"}, yes, yes, [2]string{"b", "2"}, 2},
		"the first time":               {[2]string{}, [2]string{}, [2]string{"b", "2"}, yes, yes, [2]string{"b", "2"}, 2},
		"neither":                      {[2]string{"a", "1"}, [2]string{"a", "1"}, [2]string{"b", "2"}, no, no, [2]string{"a", "1"}, 0},
		"nothing is new":               {[2]string{"a", "1"}, [2]string{"a", "1"}, [2]string{"a", "1"}, yes, yes, [2]string{"a", "1"}, 0},
		"packages alone":               {[2]string{"a", "1"}, [2]string{"a", "1"}, [2]string{"a", "2"}, no, yes, [2]string{"a", "2"}, 1},
		"packages of an image not had": {[2]string{"a", "1"}, [2]string{"a", "1"}, [2]string{"b", "2"}, no, yes, [2]string{"a", "1"}, 0},
		"moved by somebody meanwhile":  {[2]string{"c", "3"}, [2]string{"a", "1"}, [2]string{"b", "2"}, yes, yes, [2]string{"c", "3"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			lock := func(of [2]string) origin.Lock {
				if of[0] == "" {
					return origin.Lock{}
				}
				return lockOf(t, of[0], of[1])
			}
			d := Depot{Config: t.TempDir()}
			if err := lock(test.there).Write(d.lockFile()); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Stat(d.lockFile())
			changes, err := d.Adopt(t.Context(), lock(test.from), lock(test.since),
				func(origin.Target) bool { return test.image }, func(origin.Set) bool { return test.set })
			if err != nil || len(changes) != test.changes {
				t.Errorf("%q, %v", changes, err)
			}
			got, err := origin.ReadLock(d.lockFile())
			if err != nil || len(got.Changes(lock(test.want))) != 0 || len(lock(test.want).Changes(got)) != 0 {
				t.Errorf("%v: %q", err, got.Changes(lock(test.want)))
			}
			if after, _ := os.Stat(d.lockFile()); os.SameFile(before, after) != (test.changes == 0) {
				t.Errorf("written: %v", !os.SameFile(before, after))
			}
		})
	}
}

// What another configuration pins stays, and no longer.
func TestPruneOthers(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, digit := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(cache, strings.Repeat(digit, 64)+".qcow2"), nil, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	d := Depot{Cache: cache, Copies: filepath.Join(t.TempDir(), "none"), Config: t.TempDir()}
	other := filepath.Join(t.TempDir(), "bake.lock")
	if err := lockOf(t, "b", "1").Write(other); err != nil {
		t.Fatal(err)
	}
	d.Others = []string{other, filepath.Join(t.TempDir(), "absent")}
	users := func() (map[string][]string, error) {
		return map[string][]string{strings.Repeat("a", 64): {"zap/1"}}, nil
	}
	removed, err := d.Prune(t.Context(), users, true)
	if err != nil || len(removed) != 1 || removed[0].SHA256 != strings.Repeat("c", 64) {
		t.Errorf("%+v, %v", removed, err)
	}
	d.Others = nil
	if removed, err := d.Prune(t.Context(), users, true); err != nil || len(removed) != 2 {
		t.Errorf("%+v, %v", removed, err)
	}
	if err := os.WriteFile(other, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Others = []string{other}
	if _, err := d.Prune(t.Context(), users, true); err == nil {
		t.Error("a lock that cannot be read was taken for one that pins nothing")
	}
}
