package lint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// fault is one file with one mistake: RULE/NAME, and @LINE where it stands.
type fault struct {
	class, rule, name string
	line              int
	data              []byte
}

func readCorpus(t *testing.T, dir string) []fault {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no corpus in %s: %v", dir, err)
	}
	var all []fault
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			name, line, _ := strings.Cut(f.Name, "@")
			rule, _, _ := strings.Cut(name, "/")
			n, _ := strconv.Atoi(line)
			all = append(all, fault{strings.TrimSuffix(filepath.Base(path), ".txtar"), rule, name, n, f.Data})
		}
	}
	return all
}

// check is File with the findings of a rule on a line first.
func check(t *testing.T, f fault) []Finding {
	t.Helper()
	found, err := File(f.name, f.data)
	var unsupported *UnsupportedError
	if err != nil && !errors.As(err, &unsupported) {
		t.Fatal(err)
	}
	return found
}

func show(found []Finding) string {
	var out strings.Builder
	for _, f := range found {
		fmt.Fprintf(&out, "\t%s: %s: %s [%s]\n", f.Problem.Pos, f.Severity, f.Problem.Message, f.Rule)
	}
	return out.String()
}

// TestFaults runs the corpus of faults, which was written before the rules, and
// prints the recall of each class.
func TestFaults(t *testing.T) {
	all := readCorpus(t, "faults")
	if len(all) < 80 {
		t.Errorf("only %d faults", len(all))
	}
	type score struct{ found, all, placed, lines int }
	classes := map[string]*score{}
	for _, f := range all {
		s := classes[f.class]
		if s == nil {
			s = new(score)
			classes[f.class] = s
		}
		s.all++
		found := check(t, f)
		hits := slices.DeleteFunc(slices.Clone(found), func(x Finding) bool { return x.Rule != f.rule })
		if len(hits) == 0 {
			t.Errorf("%s/%s: the rule does not fire:\n%s", f.class, f.name, show(found))
			continue
		}
		s.found++
		if f.line == 0 {
			continue
		}
		s.lines++
		if !slices.ContainsFunc(hits, func(x Finding) bool { return x.Problem.Pos.Line == f.line }) {
			t.Errorf("%s/%s: not on line %d:\n%s", f.class, f.name, f.line, show(hits))
			continue
		}
		s.placed++
	}
	var names []string
	for name := range classes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		s := classes[name]
		t.Logf("%-10s %3d of %3d faults found, %3d of %3d on their line", name, s.found, s.all, s.placed, s.lines)
	}
}

// TestClean runs files in which nothing is wrong: cloud-init's documented shapes and
// whole machines. No rule may call anything in them an error.
func TestClean(t *testing.T) {
	all := readCorpus(t, "clean")
	if len(all) < 60 {
		t.Errorf("only %d files", len(all))
	}
	errors, warnings := map[string]int{}, map[string]int{}
	files := map[string]int{}
	for _, f := range all {
		files[f.class]++
		for _, x := range check(t, f) {
			if x.Severity == Error {
				errors[f.class]++
				t.Errorf("%s/%s:\n%s", f.class, f.name, show([]Finding{x}))
			} else {
				warnings[f.class]++
				if testing.Verbose() {
					t.Logf("%s/%s:\n%s", f.class, f.name, show([]Finding{x}))
				}
			}
		}
	}
	for class, n := range files {
		t.Logf("%-10s %3d clean files: %d errors, %d warnings", class, n, errors[class], warnings[class])
	}
}

// TestNine is the file with nine faults that cloud-init's own validator calls valid.
func TestNine(t *testing.T) {
	data, err := os.ReadFile("testdata/nine.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := check(t, fault{name: "nine.yaml", data: data})
	for _, want := range []struct {
		rule string
		line int
	}{
		{"users-group-unknown", 5}, {"file-owner-early", 10}, {"fail2ban-syntax", 14}, {"unit-directive", 23}, {"unit-exec-bare", 32},
		{"sudoers-syntax", 38}, {"mounts-space", 40}, {"ufw-syntax", 42}, {"cmd-unknown", 43},
	} {
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == want.rule && f.Problem.Pos.Line == want.line }) {
			t.Errorf("no %s on line %d:\n%s", want.rule, want.line, show(found))
		}
	}
}
