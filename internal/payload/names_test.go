package payload

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Which packages there are is known once apt has read the lists, and no sooner.
func TestNames(t *testing.T) {
	w := newWorld(t, nil)
	want := w.want("alpha")
	want.SHA256 = strings.Repeat("a", 64)
	if _, ok := w.b.Names(want.SHA256); ok {
		t.Error("names before anything was read")
	}
	bake(t, w.b, want)
	names, ok := w.b.Names(want.SHA256)
	if !ok {
		t.Fatal("no names")
	}
	for name, is := range map[string]bool{"alpha": true, "beta": true, "alph": false, "alphaa": false, "": false, "zzz": false, "0": false} {
		if names.Has(name) != is {
			t.Errorf("%q: %v", name, !is)
		}
	}
	if err := w.b.DropNames(want.SHA256); err != nil {
		t.Error(err)
	}
	if _, ok := w.b.Names(want.SHA256); ok {
		t.Error("names of an image that is gone")
	}
	if err := w.b.DropNames(want.SHA256); err != nil {
		t.Error(err)
	}
}

// What a package provides can be installed by that name.
func TestReadNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	text := "Package: exim4\nVersion: 1\nProvides: mail-transport-agent, default-mta (= 1), libx:any\nDescription: Package: no\n\nPackage: ed\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	if err := readNames(path, all); err != nil || strings.Join(sortedKeys(all), " ") != "default-mta ed exim4 libx mail-transport-agent" {
		t.Errorf("%v, %v", all, err)
	}
	n := Names{[]byte("a\nb\n")}
	if !n.Has("a") || !n.Has("b") || n.Has("c") || n.Has("") || (Names{}).Has("a") {
		t.Error("not those that are there")
	}
}
