//go:build bench

package main

import (
	"crypto/rand"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBenchBackup: the second backup of a state that did not change, from a machine that
// is as near as can be, beside restic and rsync on a tree that lies here already. bake
// receives the state, verifies it against its manifest and stores it; the others look
// at times and sizes, and neither of them knows what a machine writes meanwhile.
func TestBenchBackup(t *testing.T) {
	const files, size = 200, 256 << 10
	w := newVault(t, 1<<10)
	content := map[string][]byte{}
	for i := range files {
		body := make([]byte, size)
		_, _ = rand.Read(body)
		content[fmt.Sprintf("f%03d", i)] = body
	}
	for name, body := range content {
		w.write(t, "source/"+name, string(body), 0o600)
	}
	resend := func() { // the same state of another moment
		stream, err := stateOf("zap", time.Now(), content)
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, "stream", string(stream), 0o644)
	}
	theirs := append(w.backup().Env, "RESTIC_REPOSITORY="+filepath.Join(w.dir, "theirs"), "RESTIC_PASSWORD=x")
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Dir = theirs, w.dir
		return cmd
	}
	for _, cmd := range []*exec.Cmd{run("restic", "init"), run("restic", "backup", "source"), run("rsync", "-a", "source/", "copy")} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
	only := func(store string) string { // a configuration with one store
		dir := filepath.Join(w.dir, store)
		w.tool(t, "cp", "-a", "hosts", "word", "base.qcow2", dir)
		return dir
	}
	w.write(t, "restic/backup.yaml", fmt.Sprintf("default: {repository: %s/repo, password: {file: word}}\n", w.dir), 0o644)
	w.write(t, "tree-only/backup.yaml", fmt.Sprintf("default: {tree: %s/tree}\n", w.dir), 0o644)
	ours := map[string]string{"bake backup (restic)": only("restic"), "bake backup (tree)": only("tree-only")}
	commands := map[string]func() *exec.Cmd{
		"restic backup of the tree": func() *exec.Cmd { return run("restic", "backup", "source") },
		"restic backup --force":     func() *exec.Cmd { return run("restic", "backup", "--force", "source") },
		"rsync -a of the tree":      func() *exec.Cmd { return run("rsync", "-a", "source/", "copy") },
		"rsync -a --checksum":       func() *exec.Cmd { return run("rsync", "-a", "--checksum", "source/", "copy") },
	}
	for name, dir := range ours {
		commands[name] = func() *exec.Cmd {
			cmd := w.backup("--config", dir)
			cmd.Args[0] = w.bake
			return cmd
		}
	}
	resend()
	for name := range ours { // the first
		if out, err := commands[name]().CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	grown := func() int64 { return du(t, filepath.Join(w.dir, "repo")) }
	before := grown()
	usual := rounds
	rounds = 7
	defer func() { rounds = usual }()
	result := contest(t, func() { time.Sleep(1100 * time.Millisecond); resend() }, commands) // a tree has one backup a second
	show(t, fmt.Sprintf("second backup of %d MiB in %d files that did not change", files*size>>20, files), result, "bake backup (restic)")
	t.Logf("the repository grew by %d KiB a backup, of which the list of files has the most", (grown()-before)>>10/int64(rounds))
}

// du is what the files below a directory hold.
func du(t *testing.T, dir string) (size int64) {
	t.Helper()
	out, err := exec.Command("du", "-sb", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(strings.Fields(string(out))[0], &size); err != nil {
		t.Fatal(err)
	}
	return size
}
