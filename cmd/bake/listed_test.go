package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/backup"
)

// TestSnapshotsAreCompleted: what a backup has stored and what a list has shown is what
// a shell offers afterwards, without a word to any store.
func TestSnapshotsAreCompleted(t *testing.T) {
	w := newVault(t, 1<<10)
	complete := func() []string {
		t.Helper()
		cmd := w.backup()
		cmd.Args = append([]string{cmd.Path}, "complete", "--", "restore", "--host", "zap", "--snapshot", "")
		o := finish(t, cmd)
		if o.code != 0 || o.stderr != "" {
			t.Fatalf("%+v", o)
		}
		return strings.Fields(o.stdout)
	}
	if got := complete(); len(got) != 0 {
		t.Errorf("before there is one: %q", got)
	}
	w.expect(t, w.backup(), 0)
	saved := complete()
	if len(saved) != 2 { // in the repository and in the tree
		t.Fatalf("after a backup: %q", saved)
	}
	seen := filepath.Join(w.dir, "state/bake/backup/zap", listedName)
	content, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(seen); err != nil || info.Mode() != 0o600 || strings.Contains(string(content), "correct horse") {
		t.Errorf("%v, %v, %s", info.Mode(), err, content)
	}
	w.tool(t, "rm", seen)
	if got := complete(); len(got) != 0 {
		t.Errorf("when nothing is known: %q", got)
	}
	if o := finish(t, w.backup("list")); o.code != 0 || !strings.Contains(o.stdout, saved[0]) || !strings.Contains(o.stdout, saved[1]) {
		t.Fatalf("%+v, want %q", o, saved)
	}
	w.write(t, "bin/restic", "#!/bin/sh\ntouch "+w.dir+"/asked\nsleep 1000\n", 0o755)
	if got := complete(); strings.Join(got, " ") != strings.Join(saved, " ") {
		t.Errorf("after a list: %q, want %q", got, saved)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "asked")); err == nil {
		t.Error("a store was asked")
	}
}

// What one store has takes the place of what it had, and of nothing else.
func TestNoteSnapshots(t *testing.T) {
	dir := t.TempDir()
	a := &app{env: env{Getenv: func(name string) string { return map[string]string{"XDG_STATE_HOME": dir}[name] }}}
	a.noteSnapshots("zap", "s3", []backup.Snapshot{{ID: "a", Store: "s3"}, {ID: "b", Store: "s3"}})
	a.noteSnapshots("zap", "/srv", []backup.Snapshot{{ID: "c", Store: "/srv"}})
	a.noteSaved("web", backup.Snapshot{ID: "w", Store: "s3"})
	a.noteSnapshots("zap", "s3", []backup.Snapshot{{ID: "b", Store: "s3"}})
	for host, want := range map[string]string{"zap": "c b", "web": "w", "none": "", "../zap": "c b"} {
		if got := strings.Join(a.listedSnapshots([]string{host}), " "); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if got := len(a.listedSnapshots(nil)); got != 3 {
		t.Errorf("%d of all hosts", got)
	}
}
