package lint

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/seed"
)

// lintHost loads a host as bake does and checks it.
func lintHost(t *testing.T, dir, name string) []Finding {
	t.Helper()
	shelf := layer.Shelf{Builtin: os.DirFS("../../layers"), ShowBuiltin: "layers"}
	if _, err := os.Stat(filepath.Join(dir, "layers")); err == nil {
		shelf.User, shelf.UserOrigin = os.DirFS(filepath.Join(dir, "layers")), "layers"
	}
	h, err := host.Load(dir, name, shelf)
	if err != nil {
		t.Fatal(err)
	}
	config, err := seed.Config(h, []byte("program"))
	if err != nil {
		t.Fatal(err)
	}
	found := Host(h, config, newest())
	for i := range found {
		p := &found[i].Problem.Pos
		p.File = strings.TrimPrefix(strings.TrimPrefix(p.File, dir), "/")
	}
	return found
}

func at(f Finding) string {
	where := f.Problem.Pos.File
	if f.Problem.Pos.Line > 0 {
		where, _, _ = cut2(f.Problem.Pos.String())
	}
	if f.Allowed != "" {
		return "allowed " + f.Rule + " " + where
	}
	return f.Rule + " " + where
}

// cut2 takes the column away.
func cut2(position string) (string, string, bool) {
	i := strings.LastIndexByte(position, ':')
	return position[:i], position[i+1:], true
}

// TestWholes are hosts with contradictions between their parts: the archive's
// comment says what must be found where, and nothing else may be.
func TestWholes(t *testing.T) {
	paths, err := filepath.Glob("testdata/wholes/*.txtar")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for _, f := range archive.Files {
				name := filepath.Join(dir, f.Name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, f := range lintHost(t, dir, "x") {
				got = append(got, at(f))
			}
			want := strings.Split(strings.TrimSpace(string(archive.Comment)), "\n")
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("found\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
			}
		})
	}
}

// TestOurHosts: what bake brings along has no error, and host zap no warning.
func TestOurHosts(t *testing.T) {
	for _, dir := range []string{"../..", "../../testdata/e2e", "../../testdata/hosts/static", "../../testdata/hosts/secret"} {
		for _, name := range host.Names(dir) {
			for _, f := range lintHost(t, dir, name) {
				if f.Severity == Error && f.Allowed == "" || dir == "../.." {
					t.Errorf("%s/%s:\n%s", dir, name, show([]Finding{f}))
				}
			}
		}
	}
}

// TestRules walks all rules: each is documented, fires somewhere and stays silent
// somewhere else of the same kind.
func TestRules(t *testing.T) {
	fires, silent := map[string]bool{"invalid-file": true, "judge": true, "part-lost": true, "package-unavailable": true}, map[string]bool{}
	for _, dir := range []string{"faults", "clean"} {
		for _, f := range readCorpus(t, dir) {
			fired := map[string]bool{}
			for _, x := range check(t, f) {
				fired[x.Rule], fires[x.Rule] = true, true
			}
			for _, r := range Rules() {
				silent[r.ID] = silent[r.ID] || !fired[r.ID]
			}
		}
	}
	paths, _ := filepath.Glob("testdata/wholes/*.txtar")
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSpace(string(archive.Comment)), "\n") {
			fires[strings.Fields(strings.TrimPrefix(line, "allowed "))[0]] = true
		}
	}
	all := Rules()
	if !slices.IsSortedFunc(all, func(a, b Rule) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("the rules are not sorted by name")
	}
	for _, r := range all {
		for name, text := range map[string]string{"what": r.What, "why": r.Why, "fix": r.Fix, "source": r.Source} {
			if len(text) < 3 {
				t.Errorf("%s says not %s", r.ID, name)
			}
		}
		if r.Severity != Error && r.Severity != Warning {
			t.Errorf("%s has the severity %q", r.ID, r.Severity)
		}
		if !fires[r.ID] {
			t.Errorf("%s fires nowhere in the corpora", r.ID)
		}
		if !silent[r.ID] {
			t.Errorf("%s is silent nowhere", r.ID)
		}
	}
	if lines := strings.Count(rulesText, "\n") - 1; len(all) != lines {
		t.Errorf("%d rules of %d lines were read", len(all), lines)
	}
	t.Logf("%d rules", len(all))
}

func TestInvalid(t *testing.T) {
	found := Invalid(diag.List{{Pos: diag.Position{File: "x", Line: 1, Col: 1}, Message: "no"}})
	if len(found) != 1 || found[0].Rule != "invalid-file" || !Stops(found) {
		t.Errorf("%+v", found)
	}
}

func TestUnsupported(t *testing.T) {
	for _, text := range []string{"#!/bin/sh\n", "Content-Type: multipart/mixed\n", "\x1f\x8b\x08", "#cloud-config-archive\n- x\n"} {
		var unsupported *UnsupportedError
		if _, err := File("x", []byte(text)); !errors.As(err, &unsupported) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
