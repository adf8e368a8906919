package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// volumeImage is an image that is nothing but one file system.
func volumeImage(t testing.TB, content []byte) (*Image, error) {
	t.Helper()
	d := &disk{
		content: bytes.NewReader(content), size: int64(len(content)), format: "raw",
		budget: &budget{t.Context(), mostRead},
	}
	v, err := mount(d, 0, d.size)
	return &Image{name: "volume", disk: d, root: v}, err
}

// TestVolumes reads file systems of many kinds; debugfs judges.
func TestVolumes(t *testing.T) {
	tree := guest()
	dir := plant(t, tree)
	tests := map[string][]string{
		"Ubuntu 24.04":        noble,
		"Debian 12":           {"-t", "ext4", "-b", "4096"},
		"1 KiB blocks":        {"-t", "ext4", "-b", "1024"},
		"2 KiB, 128 B inodes": {"-t", "ext4", "-b", "2048", "-I", "128"},
		"without checksums":   {"-t", "ext4", "-O", "^metadata_csum,^64bit"},
		"checksummed groups":  {"-t", "ext4", "-O", "^metadata_csum,uninit_bg"},
		"without flex_bg":     {"-t", "ext4", "-b", "1024", "-O", "^flex_bg"},
		"many groups":         {"-t", "ext4", "-b", "1024", "-g", "256", "-O", "^resize_inode"},
		"bigalloc":            {"-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"},
		"without a journal":   {"-t", "ext4", "-O", "^has_journal"},
		"without entry types": {"-t", "ext4", "-O", "^filetype"},
		"large_dir, ea_inode": {"-t", "ext4", "-O", "large_dir,ea_inode"},
		"sparse_super2":       {"-t", "ext4", "-O", "sparse_super2,^resize_inode"},
		"known, unused":       {"-t", "ext4", "-O", "encrypt,casefold"},
	}
	for name, options := range tests {
		t.Run(name, func(t *testing.T) {
			content := pack(t, dir, 24*mib, options...)
			for _, indexed := range []bool{false, true} {
				path := filepath.Join(t.TempDir(), "fs")
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				if indexed { // directories get their hash trees; exit status 1 says that something changed
					out, err := exec.Command(find(t, "e2fsck"), "-fyD", path).CombinedOutput()
					var exit *exec.ExitError
					if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
						t.Fatalf("%v: %s", err, out)
					}
					if tree := feed(t, "htree_dump /opt/many\n", "debugfs", path); !strings.Contains(tree, "Root node dump") {
						t.Fatalf("no hash tree to be read: %.300s", tree)
					}
				}
				judgeVolume(t, path, tree)
			}
		})
	}
}

// judgeVolume reads a file system as whole and compares with debugfs.
func judgeVolume(t *testing.T, path string, tree map[string]string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := volumeImage(t, content)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	var script strings.Builder
	judged := []string{"opt/noise", "opt/exact", "opt/empty", "opt/many/a-file-with-a-long-name-0699", "usr/lib/os-release", "var/lib/dpkg/status"}
	for i, name := range judged {
		fmt.Fprintf(&script, "dump /%s %s/%d\n", name, out, i)
	}
	feed(t, script.String(), "debugfs", path)
	for i, name := range judged {
		want, err := os.ReadFile(filepath.Join(out, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := image.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v, %d bytes; debugfs has %d", name, err, len(got), len(want))
		}
	}
	for name, want := range tree {
		if strings.HasPrefix(want, "-> ") {
			continue
		}
		if got, err := image.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if got, err := image.ReadFile("opt/up"); err != nil || string(got) != "ubuntu\n" {
		t.Errorf("through a link: %q, %v", got, err)
	}
	names, err := image.ReadDir("/opt/many")
	if err != nil || len(names) != 700 {
		t.Errorf("%d names, %v", len(names), err)
	}
}

// TestSparse: what no block backs reads as zeros, and what was allocated but
// never written does, too.
func TestSparse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "fs")
	if err := os.WriteFile(path, fileSystem(t, map[string]string{"x": strings.Repeat("y", 9000)}, 8*mib, "-t", "ext4", "-b", "1024"), 0o600); err != nil {
		t.Fatal(err)
	}
	feed(t, "punch /x 2 4\nfallocate /x 3 3\n", "debugfs", "-w", path)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := volumeImage(t, content)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("y", 2048) + strings.Repeat("\x00", 3072) + strings.Repeat("y", 9000-5120)
	if got, err := image.ReadFile("x"); err != nil || string(got) != want {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestFragments: a file in many extents, whose tree has more than one level.
func TestFragments(t *testing.T) {
	noise := make([]byte, 3000<<10)
	source := rand.NewChaCha8([32]byte{2})
	_, _ = source.Read(noise)
	path := filepath.Join(t.TempDir(), "fs")
	if err := os.WriteFile(path, fileSystem(t, map[string]string{"x": string(noise)}, 16*mib, "-t", "ext4", "-b", "1024"), 0o600); err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for block := 1; block < 3000; block += 2 {
		fmt.Fprintf(&script, "punch /x %d %d\n", block, block)
		clear(noise[block<<10 : (block+1)<<10])
	}
	feed(t, script.String(), "debugfs", "-w", path)
	if out := feed(t, "ex /x\n", "debugfs", path); !strings.Contains(out, " 1/ 2") {
		t.Fatalf("the tree is too flat to test anything: %.300s", out)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image, err := volumeImage(t, content)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := image.ReadFile("x"); err != nil || !bytes.Equal(got, noise) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestVolumeRefuses: what is not read is refused, not read wrongly.
func TestVolumeRefuses(t *testing.T) {
	tree := map[string]string{"x": strings.Repeat("x", 20000), "tiny": "tiny"}
	plain := fileSystem(t, tree, 8*mib, "-t", "ext4", "-b", "1024", "-O", "^metadata_csum")
	at := func(offset int, value ...byte) []byte {
		content := bytes.Clone(plain)
		copy(content[superAt+offset:], value)
		return content
	}
	tests := map[string]struct {
		content       []byte
		file, problem string
	}{
		"ext2":                 {fileSystem(t, tree, 8*mib, "-t", "ext2"), "x", "block map"},
		"ext3":                 {fileSystem(t, tree, 8*mib, "-t", "ext3"), "x", "block map"},
		"inline data":          {fileSystem(t, tree, 8*mib, "-t", "ext4", "-O", "inline_data", "-I", "256"), "tiny", "inline_data"},
		"meta_bg":              {fileSystem(t, tree, 8*mib, "-t", "ext4", "-O", "meta_bg,^resize_inode"), "", "features"},
		"no magic":             {at(0x38, 0), "", "no ext4"},
		"unknown feature":      {at(0x63, 0x80), "", "features"},
		"block size":           {at(0x18, 7), "", "blocks of 2^17"},
		"block size, overflow": {at(0x18, 0xff, 0xff, 0xff, 0xff), "", "blocks of 2^"},
		"inode size 0":         {at(0x58, 0, 0), "", "inodes of 0"},
		"inode size 300":       {at(0x58, 0x2c, 1), "", "inodes of 300"},
		"inodes per group 0":   {at(0x28, 0, 0, 0, 0), "", "impossible geometry"},
		"first block":          {at(0x14, 2), "", "impossible geometry"},
		"no blocks":            {at(4, 0, 0, 0, 0, 0), "", "impossible geometry"},
		"too many blocks":      {at(4, 0, 0, 0, 0x7f), "", "truncated"},
		"no inodes":            {at(0, 0, 0, 0, 0), "x", "inode 2 of 0"},
		"cut":                  {plain[:4*mib], "", "truncated"},
		"tiny":                 {plain[:1500], "", "too small"},
	}
	for name, test := range tests {
		image, err := volumeImage(t, test.content)
		if err == nil && test.file != "" {
			_, err = image.ReadFile(test.file)
		}
		if err == nil || !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %v, not %q", name, err, test.problem)
		}
	}
}

// TestDirty: a file system that was in use is read, and the findings say so.
func TestDirty(t *testing.T) {
	content := fileSystem(t, map[string]string{"etc/os-release": "ID=debian\n"}, 4*mib, "-t", "ext4", "-O", "^metadata_csum")
	content[superAt+0x60] |= incompatRecover
	f, err := Look(t.Context(), rawDisk(t, 8, part{1, 1, 4, typeRoot, content}))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Notes) != 1 || !strings.Contains(f.Notes[0], "journal") {
		t.Errorf("notes %q", f.Notes)
	}
}
