package payload

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What was resolved counts as long as no list of the archives is another.
func TestNewest(t *testing.T) {
	w := newWorld(t, nil)
	const release = "InRelease"
	newest := func(names ...string) string {
		t.Helper()
		debs, err := w.b.Newest(t.Context(), w.want(names...), strings.Repeat("a", 64))
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, d := range debs {
			text += d.Name + " " + d.Version + " "
		}
		return text
	}
	first := newest("alpha")
	if first != "alpha 1:1.0~rc1+x beta 1:1.0~rc1+x " {
		t.Fatal(first)
	}
	// Nothing is run, one question is asked.
	tools, asked := w.b.Tools, len(w.asked)
	w.b.Tools = box(nil, t.TempDir())
	for range 2 {
		if got := newest("alpha"); got != first {
			t.Errorf("%s", got)
		}
	}
	if got := len(w.asked) - asked; got != 2 || !strings.HasSuffix(w.asked[asked], release) {
		t.Errorf("asked %q", w.asked[asked:])
	}
	// Other packages, another image and another mirror are other questions.
	var gone interface{ Error() string }
	if _, err := w.b.Newest(t.Context(), w.want("gamma"), strings.Repeat("a", 64)); err == nil || !errors.As(err, &gone) || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("error %v", err)
	}
	if _, err := w.b.Newest(t.Context(), w.want("alpha"), strings.Repeat("b", 64)); err == nil || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("error %v", err)
	}
	w.b.Tools = tools

	// A new version.
	var index strings.Builder
	w.deb(&index, "alpha", "2", "")
	w.publish(index.String(), w.key, "")
	if got := newest("alpha"); got != "alpha 2 " {
		t.Errorf("%s", got)
	}
	// Another list with a bad signature is refused, and what was known does not help.
	w.publish(index.String(), newKey(t), "")
	var bad *IntegrityError
	for range 2 {
		if _, err := w.b.Newest(t.Context(), w.want("alpha"), strings.Repeat("a", 64)); !errors.As(err, &bad) {
			t.Errorf("error %v", err)
		}
	}
	// So is one that has gone out of date without a change.
	w.publish(index.String(), w.key, "Valid-Until: "+time.Now().Add(4*time.Second).UTC().Format(time.RFC1123)+"\n")
	newest("alpha")
	until := time.Now().Add(6 * time.Second)
	for time.Now().Before(until) {
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := w.b.Newest(t.Context(), w.want("alpha"), strings.Repeat("a", 64)); !errors.As(err, &bad) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("error %v", err)
	}
}

// A list of before is signed as well as one of today, and says no day until which it counts.
func TestReplay(t *testing.T) {
	w := newWorld(t, nil)
	old := w.get("/debian/dists/trixie/InRelease")
	oldIndex := w.get("/debian/dists/trixie/main/binary-amd64/Packages")
	var index strings.Builder
	w.deb(&index, "alpha", "2:0.9", "")
	w.publish(index.String(), w.key, "")
	want := w.want("alpha")
	image := strings.Repeat("a", 64)
	pinned, err := w.b.Newest(t.Context(), want, image)
	if err != nil || pinned[0].Version != "2:0.9" {
		t.Fatalf("%+v, %v", pinned, err)
	}
	w.put("/debian/dists/trixie/InRelease", old)
	w.put("/debian/dists/trixie/main/binary-amd64/Packages", oldIndex)
	refused := func(what string, err error) {
		t.Helper()
		var bad *IntegrityError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), "a replay: bake.lock pins alpha 2:0.9, and the archives have the older 1:1.0~rc1+x") {
			t.Errorf("%s: %v", what, err)
		}
	}
	want.Before = pinned
	_, err = w.b.Newest(t.Context(), want, image)
	refused("the newest", err)
	_, err = w.b.Resolve(t.Context(), want, nil)
	refused("what is not pinned for this image", err)
	want.Before = nil
	if _, err := w.b.Newest(t.Context(), want, image); err != nil { // and is noted
		t.Errorf("on purpose: %v", err)
	}
	want.Before = pinned
	_, err = w.b.Newest(t.Context(), want, image)
	refused("what this machine has seen last", err)
}

// What was noted and cannot be read, or cannot be asked again, was never noted.
func TestNewestForgets(t *testing.T) {
	w := newWorld(t, nil)
	want := w.want("alpha")
	for range 2 {
		if _, err := w.b.Newest(t.Context(), want, ""); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(w.b.Dir, askedDir, "*.json"))
	if err != nil || len(files) != 1 || w.count("Packages") != 1 {
		t.Fatalf("%q, %v, %d", files, err, w.count("Packages"))
	}
	if err := os.WriteFile(files[0], []byte(`{"schema": "bake.asked/1", "debs": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if debs, err := w.b.Newest(t.Context(), want, ""); err != nil || names(debs) != "alpha beta" || w.count("Packages") != 2 {
		t.Errorf("%v, %v", debs, err)
	}
	old := time.Now().Add(-2 * forgotten)
	if err := os.Chtimes(files[0], old, old); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.b.Prune(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(files[0]); err != nil {
		t.Errorf("dry: %v", err)
	}
	if _, _, err := w.b.Prune(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(files[0]); err == nil {
		t.Error("an old note is kept")
	}
}

func TestReleases(t *testing.T) {
	w := newWorld(t, func(tree map[string]string) {
		tree["etc/apt/sources.list"] = "deb http://a.example/debian/ trixie main\ndeb http://a.example/debian trixie-updates main contrib\ndeb http://b.example/flat ./\ndeb http://b.example/flat sub/\n"
	})
	s, err := read(t.Context(), w.image)
	if err != nil {
		t.Fatal(err)
	}
	want := "http://a.example/debian/dists/trixie-updates/InRelease http://a.example/debian/dists/trixie/InRelease " +
		"http://b.example/flat/./InRelease http://b.example/flat/sub/InRelease " + w.url + "/debian/dists/trixie/InRelease"
	if got := strings.Join(s.releases(""), " "); !equalSets(got, want) {
		t.Errorf("%s, want %s", got, want)
	}
	if got := s.releases("http://m.example/x/"); got[0] != "http://m.example/x/debian/dists/trixie-updates/InRelease" {
		t.Errorf("%q", got)
	}
}

func equalSets(a, b string) bool {
	in := func(all, word string) bool { return strings.Contains(" "+all+" ", " "+word+" ") }
	for _, word := range strings.Fields(a) {
		if !in(b, word) {
			return false
		}
	}
	return len(strings.Fields(a)) == len(strings.Fields(b))
}
