package origin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bake/internal/diag"
)

func deb(name, version string) Deb {
	return Deb{name, version, "amd64", digestOf(name + version), 7}
}

func set(reference, image string, debs ...Deb) Set {
	return Set{reference, digestOf(image), "amd64", []string{debs[0].Name}, debs}
}

func withSets(t *testing.T, before Lock, sets ...Set) Lock {
	t.Helper()
	for _, s := range sets {
		if err := before.SetDebs(s); err != nil {
			t.Fatal(err)
		}
	}
	return before
}

func TestSets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bake.lock")
	a, b := set("debian:13", "one", deb("alpha", "1:1.0~rc1+x-2"), deb("beta", "2")), set("file:base.qcow2", "two", deb("gamma", "3"))
	lock := withSets(t, pinned(t, target("debian:13", "amd64", "20260722", "ab")), b, a)
	if err := lock.Write(file); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(file)
	read, err := ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Set{a, b} {
		if got, ok := read.Debs(s.Reference, s.Image, s.Arch, s.Packages); !ok || cmp.Diff(s.Debs, got) != "" {
			t.Errorf("%+v, %v", got, ok)
		}
		other := s
		other.Image = digestOf("another")
		if got, ok := read.Debs(other.Reference, other.Image, other.Arch, other.Packages); ok {
			t.Errorf("another image has %+v", got)
		}
	}
	if err := withSets(t, pinned(t, read.Pins()...), a, b, a).Write(file); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(file); string(second) != string(first) {
		t.Errorf("the order of pinning shows:\n%s", cmp.Diff(string(first), string(second)))
	}

	// Of one image every package has one version.
	more := set("debian:13", "one", deb("alpha", "9"), deb("zeta", "1"))
	more.Packages = []string{"alpha", "zeta"}
	var kept []string
	for _, d := range withSets(t, read, more).Kept("debian:13", digestOf("one"), "amd64") {
		kept = append(kept, d.Name+" "+d.Version)
	}
	if got := strings.Join(kept, ", "); got != "alpha 1:1.0~rc1+x-2, beta 2, zeta 1" {
		t.Error(got)
	}

	// What is for an image that the reference no longer means goes; a file is not
	// the only one of its name.
	moved := withSets(t, withSets(t, read, more), set("debian:13", "three", deb("alpha", "2"), deb("delta", "4")), set("file:base.qcow2", "four", deb("epsilon", "5")))
	if got := moved.Kept("debian:13", digestOf("one"), "amd64"); got != nil {
		t.Errorf("still there: %+v", got)
	}
	if got := moved.Kept("file:base.qcow2", digestOf("two"), "amd64"); len(got) != 1 {
		t.Errorf("gone: %+v", got)
	}
	both := withSets(t, moved, set("file:base.qcow2", "five", deb("epsilon", "6")))
	for image, version := range map[string]string{"four": "5", "five": "6"} {
		if got, ok := both.Debs("file:base.qcow2", digestOf(image), "amd64", []string{"epsilon"}); !ok || got[0].Version != version {
			t.Errorf("%s has %+v", image, got)
		}
	}
	want := []string{
		"debian:13 amd64, alpha: alpha 1:1.0~rc1+x-2 -> 2", "debian:13 amd64, alpha: delta new, 4", "debian:13 amd64, alpha: beta no longer needed, was 2",
		"file:base.qcow2 amd64, epsilon: new, 1 packages",
	}
	if diff := cmp.Diff(want, moved.Changes(read)); diff != "" {
		t.Error(diff)
	}
}

// A set that nobody can have written is refused where it stands.
func TestBrokenSets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bake.lock")
	good := `{"reference": "debian:13", "image": "` + digestOf("one") + `", "arch": "amd64", "packages": ["alpha"],` +
		` "debs": [{"name": "alpha", "version": "1", "arch": "all", "sha256": "` + digestOf("alpha") + `", "size": 7}]}`
	read := func(sets string) error {
		text := "{\n  \"schema\": \"bake.lock/1\",\n  \"images\": [],\n  \"packages\": [\n" + sets + "\n]\n}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadLock(file)
		return err
	}
	if err := read(good); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ from, to, says string }{
		{`"alpha"]`, `"beta", "alpha"]`, "not sorted"},
		{`"alpha"]`, `"alpha", "alpha"]`, "not sorted"},
		{`["alpha"]`, `[]`, "not sorted"},
		{`["alpha"]`, `["-o=Dir::Etc=x"]`, "no name of a package"},
		{`"name": "alpha"`, `"name": "../alpha"`, "no name of a package"},
		{`"version": "1"`, `"version": "1 --yes"`, "will not do"},
		{`"version": "1"`, `"version": "1", "extra": 1`, "unknown field"},
		{`"arch": "all"`, `"arch": "i386"`, "not that of the set"},
		{`"arch": "amd64"`, `"arch": "mips"`, "is unknown"},
		{digestOf("alpha"), "00", "no SHA-256"},
		{digestOf("one"), strings.ToUpper(digestOf("one")), "no SHA-256"},
		{`"size": 7`, `"size": 0`, "the size 0"},
		{`"size": 7}`, `"size": 7}, {"name": "alpha", "version": "2", "arch": "all", "sha256": "` + digestOf("x") + `", "size": 1}`, "a second time"},
		{`"debian:13"`, `""`, "reference"},
	} {
		text := strings.Replace(good, test.from, test.to, 1)
		if text == good {
			t.Fatalf("nothing to replace by %s", test.to)
		}
		err := read(text)
		var list diag.List
		if !errors.As(err, &list) || !strings.Contains(err.Error(), test.says) || list[0].Pos.Line < 5 {
			t.Errorf("%s: %v", test.to, err)
		}
	}
	if err := read(good + ",\n" + good); err == nil || !strings.Contains(err.Error(), "a second time") {
		t.Error(err)
	}
	if err := new(Lock).SetDebs(Set{}); err == nil {
		t.Error("an empty set is pinned")
	}
}
