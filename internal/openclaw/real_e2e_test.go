//go:build e2e

package openclaw

import (
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
	if trees[0].Digest != trees[1].Digest {
		t.Errorf("two trees differ: diff -r %s %s", trees[0].Dir, trees[1].Dir)
		t.Setenv("KEEP", "1")
	}
}
