//go:build e2e

package openclaw

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestFullReal builds the real tree twice, in surroundings that differ.
func TestFullReal(t *testing.T) {
	p, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	var trees []Tree
	for _, umask := range []int{0o022, 0o077} {
		dir := os.Getenv("BAKE_OPENCLAW_KEEP")
		if dir == "" || umask != 0o022 {
			dir = t.TempDir()
		}
		t.Setenv("TMPDIR", t.TempDir())
		old := syscall.Umask(umask)
		tree, err := Depot{Dir: filepath.Join(dir, "cache"), Stage: func(s string) { t.Log(s) }}.Build(t.Context(), p, "amd64")
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Check(); err != nil {
			t.Error(err)
		}
		t.Logf("OpenClaw %s, Node %s, %d MiB, %s", p.OpenClaw, p.Node, tree.Size>>20, tree.Digest)
		trees = append(trees, tree)
	}
	if !says(t, trees[0].Dir, "state lease heartbeat did not become ready") {
		t.Error("the layers openclaw and openclaw-container know by words that are not in this release that a machine was too slow")
	}
	if trees[0].Digest != trees[1].Digest {
		t.Errorf("two trees differ: diff -r %s %s", trees[0].Dir, trees[1].Dir)
		t.Setenv("KEEP", "1")
	}
}

// says finds words in OpenClaw's own code.
func says(t *testing.T, tree, words string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(tree, "node_modules/openclaw/dist/*.mjs"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no code of OpenClaw's: %v", err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err != nil {
			t.Fatal(err)
		} else if bytes.Contains(text, []byte(words)) {
			return true
		}
	}
	return false
}
