package artifact

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared writes a file of a cache and says what it is.
func shared(t *testing.T, content string) (string, File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cached")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, File{SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(content))), Size: int64(len(content))}
}

func bakeShared(t *testing.T, root, generation, path string, is File) (Generation, error) {
	t.Helper()
	d, err := Begin(root, "zap")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	if err := d.Share(t.Context(), "payload.squashfs", path, is); err != nil {
		return Generation{}, err
	}
	return d.Commit(manifest(generation))
}

func TestShare(t *testing.T) {
	root := t.TempDir()
	path, is := shared(t, "payload")
	g, err := bakeShared(t, root, genA, path, is)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.Manifest.Files["payload.squashfs"]; got != is {
		t.Errorf("the manifest has %+v", got)
	}
	mine, _ := os.Stat(path)
	theirs, err := os.Stat(g.Path("payload.squashfs"))
	if err != nil || !os.SameFile(mine, theirs) {
		t.Errorf("it is a copy: %v", err)
	}
	mustOpen(t, root, genA)

	// Again, with the file that the generation has: that one is not read. With
	// another one it is, and what is damaged is exchanged.
	if err := os.WriteFile(path, []byte("daolyap"), 0o600); err != nil { // in the generation, too
		t.Fatal(err)
	}
	if _, err := bakeShared(t, root, genA, path, is); err != nil {
		t.Fatal(err)
	}
	wantIntegrity(t, g.Verify(t.Context()), g.Path("payload.squashfs"))
	whole, _ := shared(t, "payload")
	if _, err := bakeShared(t, root, genA, whole, is); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, root, genA)
}

// What cannot be the file is refused.
func TestShareRefused(t *testing.T) {
	path, is := shared(t, "payload")
	open, _ := shared(t, "payload")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		is   File
	}{{path, File{is.SHA256, 3}}, {open, is}, {link, is}, {path + "x", is}, {filepath.Dir(path), is}} {
		root := t.TempDir()
		if _, err := bakeShared(t, root, genA, test.path, test.is); err == nil {
			t.Errorf("%s, %+v: shared", test.path, test.is)
		}
		wantClean(t, root)
	}
}

// On another file system it is a copy, once.
func TestShareCopy(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "bake")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	root := t.TempDir()
	_, is := shared(t, "payload")
	path := filepath.Join(other, "cached")
	if err := os.WriteFile(path, []byte("payload"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(root, "probe")); err == nil {
		t.Skip("no second file system here")
	}
	var inodes []os.FileInfo
	for _, generation := range []string{genA, genB} {
		g, err := bakeShared(t, root, generation, path, is)
		if err != nil {
			t.Fatal(err)
		}
		mustOpen(t, root, generation)
		info, err := os.Stat(g.Path("payload.squashfs"))
		if err != nil || info.Mode() != 0o600 {
			t.Fatal(info, err)
		}
		inodes = append(inodes, info)
	}
	if !os.SameFile(inodes[0], inodes[1]) {
		t.Error("two generations have two copies")
	}
	if err := os.WriteFile(path, []byte("daolyap"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := t.TempDir()
	_, err = bakeShared(t, fresh, genA, path, is)
	if err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("a damaged file was copied: %v", err)
	}
}
