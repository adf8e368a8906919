package image

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bake/internal/tool"
)

const gib = 1 << 30

// draft makes out/zap/<name> beside the store and returns the disk's path in it.
func draft(t *testing.T, s Store, name string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(s.Dir), "zap", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "disk.qcow2")
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestOverlay(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	disk := draft(t, s, ".draft-1")
	if err := s.Overlay(t.Context(), blob, disk, 60*gib); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(disk); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	overlay := read(t, disk)
	if size, err := VirtualSize(bytes.NewReader(overlay), int64(len(overlay))); err != nil || size != 60*gib {
		t.Errorf("%d bytes, %v", size, err)
	}
	if _, err := VirtualSize(strings.NewReader("no image"), 8); err == nil {
		t.Error("what is no image has a size")
	}
	if want := []byte("../../.base/" + blob.SHA256 + ".qcow2"); !bytes.Contains(read(t, disk), want) {
		t.Errorf("the overlay does not name %s", want)
	}

	// The tree moves as a whole, and the draft becomes a generation.
	out := filepath.Dir(s.Dir)
	if err := os.Rename(filepath.Dir(disk), out+"/zap/0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(filepath.Dir(out), "moved")
	if err := os.Rename(out, moved); err != nil {
		t.Fatal(err)
	}
	info, err := s.Tools.Run(t.Context(), "qemu-img", "info", "-f", "qcow2", "--backing-chain",
		moved+"/zap/0123456789abcdef/disk.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"virtual size: 60 GiB", "virtual size: 1 GiB", "backing file format: qcow2"} {
		if !strings.Contains(string(info), want) {
			t.Errorf("qemu-img info lacks %q:\n%s", want, info)
		}
	}
}

func TestOverlayIsReproducible(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	var first []byte
	for _, change := range []map[string]string{nil, {"TZ": "Asia/Tokyo", "TMPDIR": t.TempDir(), "LC_ALL": "de_DE.UTF-8"}} {
		for key, value := range change {
			t.Setenv(key, value)
		}
		disk := draft(t, s, "run"+change["TZ"][:min(4, len(change["TZ"]))])
		if err := s.Overlay(t.Context(), blob, disk, 60*gib); err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = read(t, disk)
		} else if !bytes.Equal(first, read(t, disk)) {
			t.Error("the same inputs gave other bytes")
		}
	}
	other := draft(t, s, "other")
	if err := s.Overlay(t.Context(), blob, other, 61*gib); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, read(t, other)) {
		t.Error("another size gave the same bytes")
	}
}

func TestOverlayRefuses(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	taken := draft(t, s, "taken")
	if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	linked := draft(t, s, "real/deeper")
	link := filepath.Join(filepath.Dir(s.Dir), "zap", "link")
	if err := os.Symlink(filepath.Dir(linked), link); err != nil {
		t.Fatal(err)
	}
	gone := blob
	gone.Path += ".gone"
	tests := map[string]struct {
		blob Blob
		path string
		size int64
		want string
	}{
		"too small": {blob, draft(t, s, "a"), gib / 2, "a disk of 0.5 GiB is smaller than the base image's, which has 1 GiB"},
		"negative":  {blob, draft(t, s, "a"), -1, "smaller"},
		"too large": {blob, draft(t, s, "a"), maxVirtual + 1, "16 TiB"},
		"exists":    {blob, taken, gib, "file exists"},
		"no base":   {gone, draft(t, s, "a"), gib, "no such file"},
		"symlink":   {blob, filepath.Join(link, "disk.qcow2"), gib, "symbolic link"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := s.Overlay(t.Context(), test.blob, test.path, test.size)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if _, err := os.Lstat(test.path); test.path != taken && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left a file: %v", err)
			}
		})
	}
	if string(read(t, taken)) != "precious" {
		t.Error("an existing file was overwritten")
	}
}

// pretend returns a box whose qemu-img is a shell script.
func pretend(t *testing.T, script string) tool.Box {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/qemu-img", []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return tool.Box{Getenv: func(key string) string {
		if key == "PATH" {
			return bin + ":" + os.Getenv("PATH")
		}
		return ""
	}}
}

// TestOverlayFails: with a qemu-img that fails, nothing is left.
func TestOverlayFails(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	disk := draft(t, s, "a")
	gone := func() {
		t.Helper()
		if _, err := os.Lstat(disk); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left a file: %v", err)
		}
	}
	s.Tools = pretend(t, "echo 'qemu-img: disk.qcow2: Could not resize image: No space left on device' >&2; exit 1")
	err := s.Overlay(t.Context(), blob, disk, gib)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("error %v", err)
	}
	gone()

	s.Tools = pretend(t, `[ "$1" = create ] || { echo broken >&2; exit 2; }`)
	if err := s.Overlay(t.Context(), blob, disk, gib); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("an overlay that does not pass the check: %v", err)
	}
	gone()

	s.Tools = deaf()
	var missing *tool.MissingError
	if err := s.Overlay(t.Context(), blob, disk, gib); !errors.As(err, &missing) || missing.Name != "qemu-img" {
		t.Errorf("error %v, want qemu-img to be missing", err)
	}
	gone()
}

// TestLimits asks a pretended qemu-img what it may do. The shell counts address
// space in KiB and file sizes in blocks of 512 bytes; the last number is of arenas.
func TestLimits(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	s.Tools = pretend(t, `echo "$1 $(ulimit -v) $(ulimit -t) $(ulimit -f) $MALLOC_ARENA_MAX" >&2; exit 1`)
	for want, err := range map[string]error{
		"create 1048576 60 131072 1": s.Overlay(t.Context(), blob, draft(t, s, "a"), gib),
		"check 1048576 60 0 1":       s.qemuCheck(t.Context(), blob.Path),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestFull runs TestOnFull on a file system of 512 KiB, in a mount namespace of
// its own.
func TestFull(t *testing.T) {
	need(t, "unshare", "mount", "prlimit", "qemu-img")
	dir := t.TempDir()
	script := `mount -t tmpfs -o size=512k full "$0" || exit 99; exec "$@"`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, dir,
		os.Args[0], "-test.run=^TestOnFull$", "-test.v")
	cmd.Env = append(os.Environ(), "BAKE_TEST_FULL="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "TestOnFull") {
		t.Skipf("this machine does not let us mount a small file system: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestOnFull") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestOnFull(t *testing.T) {
	dir := os.Getenv("BAKE_TEST_FULL")
	if dir == "" {
		t.Skip("TestFull runs this on a small file system")
	}
	s := Store{Dir: dir + "/out/.base"}
	blob := mustAdd(t, s, write(t, plain())) // 256 KiB of 512
	big := write(t, append(plain(), make([]byte, gib>>10)...))
	if _, err := s.Add(t.Context(), big); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("adding: %v, want no space left", err)
	}
	if err := os.WriteFile(dir+"/rest", make([]byte, 240<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := draft(t, s, "a")
	if err := s.Overlay(t.Context(), blob, disk, 60*gib); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("creating the disk: %v, want no space left", err)
	}
	left, _ := filepath.Glob(dir + "/out/*/*/disk.qcow2")
	fresh, _ := filepath.Glob(dir + "/out/.base/" + newPrefix + "*")
	if len(left)+len(fresh) != 0 {
		t.Errorf("left behind: %v %v", left, fresh)
	}
}
