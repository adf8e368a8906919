package artifact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// aGeneration is one that was committed so many hours ago.
func aGeneration(t *testing.T, root string, digit string, hours int) Generation {
	t.Helper()
	g := mustBake(t, root, strings.Repeat(digit, 16))
	when := time.Now().Add(-time.Duration(hours) * time.Hour)
	if err := os.Chtimes(g.Path(manifestName), when, when); err != nil {
		t.Fatal(err)
	}
	return g
}

// fiveGenerations has 1 (the oldest) to 5, of which 4 is current and 5 latest.
func fiveGenerations(t *testing.T) string {
	root := t.TempDir()
	for i := 1; i <= 5; i++ {
		g := aGeneration(t, root, fmt.Sprint(i), 6-i)
		if i <= 4 {
			if err := g.Promote(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// there lists the first digits of the generations of zap.
func there(t *testing.T, root string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "zap", "????????????????"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	text := ""
	for _, path := range found {
		text += filepath.Base(path)[:1]
	}
	return text
}

func TestPrune(t *testing.T) {
	odd := func(g Generation) bool { return (g.Manifest.Generation[0]-'0')%2 == 1 }
	none := func(Generation) bool { return false }
	tests := map[string]struct {
		rule    Rule
		prepare func(root string) error
		want    string
	}{
		"all are kept":              {Rule{Keep: 9}, nil, "12345"},
		"the newest three":          {Rule{Keep: 3}, nil, "345"},
		"never latest and current":  {Rule{Keep: 0}, nil, "45"},
		"the unproven do not count": {Rule{Keep: 2, Proven: odd}, nil, "345"},
		"the unproven go":           {Rule{Keep: 3, Proven: odd}, nil, "1345"},
		"nothing is proven":         {Rule{Keep: 3, Proven: none}, nil, "45"},
		"dry":                       {Rule{Keep: 0, Dry: true}, nil, "12345"},
		"without current":           {Rule{Keep: 1}, func(root string) error { return os.Remove(filepath.Join(root, "zap/current")) }, "5"},
		"current is older than all": {Rule{Keep: 2}, func(root string) error { return point(root, "current", "1") }, "145"},
		"somebody's own link": {Rule{Keep: 1}, func(root string) error {
			return os.Symlink(strings.Repeat("2", 16), filepath.Join(root, "zap/running"))
		}, "245"},
		"a clock that went backwards": {Rule{Keep: 1}, func(root string) error { return touch(root, "1", time.Now().Add(100*time.Hour)) }, "145"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := fiveGenerations(t)
			if test.prepare != nil {
				if err := test.prepare(root); err != nil {
					t.Fatal(err)
				}
			}
			gone, err := Prune(t.Context(), root, "zap", test.rule)
			if err != nil {
				t.Fatal(err)
			}
			if got := there(t, root); got != test.want {
				t.Errorf("there is %s, want %s", got, test.want)
			}
			if want := 5 - len(test.want); !test.rule.Dry && len(gone.Generations) != want {
				t.Errorf("%d are said to be gone, want %d", len(gone.Generations), want)
			}
			if test.rule.Dry && len(gone.Generations) != 3 {
				t.Errorf("dry: %d would go", len(gone.Generations))
			}
			mustOpen(t, root, "latest")
			wantClean(t, root)
		})
	}
}

func point(root, link, digit string) error {
	return pointLink(filepath.Join(root, "zap"), link, strings.Repeat(digit, 16))
}

func touch(root, digit string, when time.Time) error {
	return os.Chtimes(filepath.Join(root, "zap", strings.Repeat(digit, 16), manifestName), when, when)
}

func pruneAll(root string) error {
	_, err := Prune(context.Background(), root, "zap", Rule{})
	return err
}

// What is not a generation is not touched, a draft of a dead run is removed.
func TestPruneLeaves(t *testing.T) {
	root := fiveGenerations(t)
	zap := filepath.Join(root, "zap")
	for _, dir := range []string{draftPrefix + "1", "notes", "6666666666666666"} {
		if err := os.Mkdir(filepath.Join(zap, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	spoil(t, filepath.Join(zap, strings.Repeat("2", 16), manifestName))
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(zap, "7777777777777777")); err != nil {
		t.Fatal(err)
	}
	if gone, err := Prune(t.Context(), root, "zap", Rule{Dry: true}); err != nil || gone.Drafts != 1 || len(gone.Damaged) != 2 {
		t.Errorf("%+v, %v", gone, err)
	}
	if gone, err := Prune(t.Context(), root, "zap", Rule{}); err != nil || gone.Drafts != 1 || len(gone.Generations) != 2 {
		t.Errorf("%+v, %v", gone, err)
	}
	if got := there(t, root); got != "24567" {
		t.Errorf("there is %s", got)
	}
	if _, err := os.Stat(filepath.Join(zap, "notes")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if _, err := Prune(t.Context(), root, "..", Rule{}); err == nil {
		t.Error("a host named .. was pruned")
	}
	if gone, err := Prune(t.Context(), root, "zip", Rule{}); err != nil || len(gone.Generations) != 0 {
		t.Errorf("a host without generations: %+v, %v", gone, err)
	}
}

// TestPruneCrash kills a run at every step: what has a name is whole, and the next
// run removes the rest.
func TestPruneCrash(t *testing.T) {
	var steps []string
	for at := 1; ; at++ {
		root := fiveGenerations(t)
		where, killed := crash(t, "prune", root, at)
		if !killed {
			break
		}
		steps = append(steps, where)
		for _, digit := range there(t, root) {
			mustOpen(t, root, strings.Repeat(string(digit), 16))
		}
		mustOpen(t, root, "latest")
		mustOpen(t, root, "current")
		if err := pruneAll(root); err != nil {
			t.Fatal(err)
		}
		if got := there(t, root); got != "45" {
			t.Errorf("killed before %q: there is %s", where, got)
		}
		wantClean(t, root)
	}
	if len(steps) != 5 {
		t.Errorf("killed before each of %q", steps)
	}
}

func TestBefore(t *testing.T) {
	all := func(Generation) bool { return true }
	but := func(digit byte) func(Generation) bool {
		return func(g Generation) bool { return g.Manifest.Generation[0] != digit }
	}
	for name, test := range map[string]struct {
		of     string
		proven func(Generation) bool
		want   string
	}{
		"the newest":                {"5", all, "4"},
		"one between":               {"3", all, "2"},
		"the first":                 {"1", all, ""},
		"one that failed is passed": {"5", but('4'), "3"},
		"none is proven":            {"5", func(Generation) bool { return false }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := fiveGenerations(t)
			if err := os.MkdirAll(filepath.Join(root, "zap", "0123456789abcdef"), 0o700); err != nil { // of which nothing can be read
				t.Fatal(err)
			}
			g, err := Open(root, "zap", strings.Repeat(test.of, 16))
			if err != nil {
				t.Fatal(err)
			}
			if before, ok := g.Before(test.proven); ok != (test.want != "") || ok && before.Manifest.Generation != strings.Repeat(test.want, 16) {
				t.Errorf("%q, %v", before.Manifest.Generation, ok)
			}
		})
	}
}
