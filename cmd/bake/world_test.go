package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the world can do to bake image and bake seed: a program that is missing,
// a disk that is full, a directory that is closed, a base image that is none.

func TestMissingProgram(t *testing.T) {
	w := newWorkshop(t)
	for _, program := range []struct{ name, hint string }{
		{"qemu-img", "qemu-utils (apt-get install qemu-utils)"},
		{"prlimit", "util-linux (apt-get install util-linux)"},
	} {
		bin := t.TempDir() // every program but this one
		for _, name := range []string{"qemu-img", "prlimit"} {
			if path, err := exec.LookPath(name); err == nil && name != program.name {
				if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, path := range []string{bin, "", "relative", "."} {
			cmd := w.command("image", "--host", "zap")
			cmd.Env = []string{"PATH=" + path}
			if path == bin {
				w.expect(t, cmd, 4, "bake: ", program.name+" is not installed: it is in the package "+program.hint)
			} else {
				w.expect(t, cmd, 4, "is not installed")
			}
		}
	}
	checkClean(t, filepath.Join(w.dir, "out"))

	cmd := w.command("seed", "--host", "zap") // needs no program at all
	cmd.Env = []string{"PATH="}
	w.expect(t, cmd, 0)
}

// inMount runs bake with a file system of its own mounted on a directory of the
// workshop, as no other process sees it, and then lists that directory.
func (w workshop) inMount(t *testing.T, options, on string, args ...string) outcome {
	t.Helper()
	demandRoot(t)
	demand(t, "unshare")
	if err := os.MkdirAll(filepath.Join(w.dir, on), 0o755); err != nil {
		t.Fatal(err)
	}
	const script = `options=$1 on=$2; shift 2
mount -t tmpfs -o "$options" none "$on" || exit 99
TMPDIR=${USE_TMPDIR:-/tmp} "$@" >stdout
code=$?
find "$on" -mindepth 1
exit $code`
	cmd := exec.Command("unshare", append([]string{"-m", "sh", "-c", script, "sh", options, on, w.bake}, args...)...)
	cmd.Dir = w.dir
	if on == "tmp" {
		cmd.Env = append(os.Environ(), "USE_TMPDIR="+filepath.Join(w.dir, on))
	}
	return finish(t, cmd)
}

// leftovers returns what a failed run may not leave: all but directories of a
// host, locks and vetted base images.
func leftovers(listing string) []string {
	var left []string
	for path := range strings.Lines(listing) {
		path = strings.TrimSpace(path)
		name := filepath.Base(path)
		switch {
		case name == ".lock", name == ".base", name == ".known.json", name == "zap":
		case filepath.Base(filepath.Dir(path)) == ".base" && len(name) == 64+len(".qcow2"):
		default:
			left = append(left, path)
		}
	}
	return left
}

func TestFullDisk(t *testing.T) {
	w := newWorkshop(t)
	for _, command := range []string{"image", "seed"} {
		full, fits := 0, 0
		for _, kib := range []int{8, 16, 32, 64, 128, 200, 256, 300, 400, 420, 440, 460, 480, 500, 512, 600, 1024, 8192} {
			o := w.inMount(t, fmt.Sprintf("size=%dk", kib), "out", command, "--host", "zap")
			switch {
			case o.code == 0:
				fits++
			case o.code != 4 || !strings.Contains(o.stderr, "no space left on device"):
				t.Errorf("%s on %d KiB: exit status %d\n%s", command, kib, o.code, o.stderr)
			default:
				full++
				if left := leftovers(o.stdout); left != nil {
					t.Errorf("%s on %d KiB leaves %q", command, kib, left)
				}
			}
		}
		if full == 0 || fits == 0 {
			t.Errorf("%s: %d sizes too small, %d large enough: nothing was tried", command, full, fits)
		}
	}
	for _, inodes := range []int{2, 3, 4, 5, 6} { // the root directory is one
		o := w.inMount(t, fmt.Sprintf("nr_inodes=%d", inodes), "out", "image", "--host", "zap")
		if left := leftovers(o.stdout); o.code != 4 || left != nil {
			t.Errorf("%d inodes: exit status %d, leaves %q\n%s", inodes, o.code, left, o.stderr)
		}
	}
	o := w.inMount(t, "nr_inodes=1", "tmp", "seed", "--host", "zap")
	if o.code != 4 || !strings.Contains(o.stderr, "no space left on device") {
		t.Errorf("a full TMPDIR: exit status %d\n%s", o.code, o.stderr)
	}
}

func TestReadOnlyOut(t *testing.T) {
	w := newWorkshop(t)
	for _, command := range []string{"image", "seed"} {
		o := w.inMount(t, "ro", "out", command, "--host", "zap")
		if o.code != 4 || !strings.Contains(o.stderr, "read-only file system") || o.stdout != "" {
			t.Errorf("%s: exit status %d\n%s%s", command, o.code, o.stderr, o.stdout)
		}
	}
}

func TestClosedOut(t *testing.T) {
	w := newWorkshop(t)
	closed := filepath.Join(w.dir, "closed")
	if err := os.Mkdir(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	w.write(t, "file", "not a directory\n", 0o644)
	for _, command := range []string{"image", "seed"} {
		cmd := w.command(command, "--host", "zap", "--out", "closed")
		if os.Geteuid() == 0 {
			w.as(t, cmd, nobody, "home")
		}
		w.expect(t, cmd, 4, "closed/zap: permission denied")
		w.expect(t, w.command(command, "--host", "zap", "--out", "file"), 4, "not a directory")
	}
	if entries, err := os.ReadDir(closed); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestUnreadableHostFile(t *testing.T) {
	w := newWorkshop(t)
	if err := os.Chmod(filepath.Join(w.dir, "hosts/zap.yaml"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := w.command("seed", "--host", "zap", "--out", "home/out")
	if os.Geteuid() == 0 {
		w.as(t, cmd, nobody, "home")
	}
	w.expect(t, cmd, 4, "hosts/zap.yaml: permission denied")
}

// TestRefusedBase: 4 when there is no file to look at, 5 when there is one and
// its bytes must not become a disk, 3 when the host file asks for too small a
// disk.
func TestRefusedBase(t *testing.T) {
	w := newWorkshop(t)
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "child.qcow2")
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "split.qcow2", "64M")
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "large.qcow2", "2G")
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", "huge.qcow2", "17T")
	w.tool(t, "qemu-img", "create", "-q", "-f", "raw", "disk.raw", "1M")
	w.tool(t, "qemu-img", "create", "-q", "-f", "vmdk", "disk.vmdk", "1M")
	w.tool(t, "truncate", "-s", "8T", "hole")
	w.tool(t, "mkfifo", "fifo")
	w.tool(t, "ln", "-s", "base.qcow2", "link.qcow2")
	w.write(t, "page.html", "<!DOCTYPE html><title>404</title>", 0o644)
	w.write(t, "empty", "", 0o644)
	base, err := os.ReadFile(filepath.Join(w.dir, "base.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "short.qcow2", string(base[:100]), 0o644)
	w.write(t, "cut.qcow2", string(base[:70000]), 0o644)
	tests := []struct {
		base string
		code int
		says string
	}{
		{"absent.qcow2", 4, "no such file or directory"},
		{"absent/base.qcow2", 4, "no such file or directory"},
		{"base.qcow2/x", 4, "not a directory"},
		{`json:{"driver":"file","filename":"/etc/passwd"}`, 4, "no such file or directory"},
		{"nbd://127.0.0.1/x", 4, "no such file or directory"},
		{"hosts", 5, "is not a regular file"},
		{"fifo", 5, "is not a regular file"},
		{"/dev/zero", 5, "is not a regular file"},
		{"empty", 5, "not a qcow2 image: it is empty"},
		{"page.html", 5, "not a qcow2 image: it looks like an HTML page"},
		{"disk.raw", 5, "not a qcow2 image: it starts with zeros"},
		{"disk.vmdk", 5, "not a qcow2 image: it looks like VMDK"},
		{"hole", 5, "not a qcow2 image: it starts with zeros"},
		{"short.qcow2", 5, "truncated"},
		{"cut.qcow2", 5, "truncated"},
		{"child.qcow2", 5, `it has the backing file "base.qcow2": a base image must stand alone`},
		{"split.qcow2", 5, "external data file"},
		{"huge.qcow2", 5, "more than 16 TiB is refused"},
		{"large.qcow2", 3, "machine.disk: 1024 MiB is smaller than the base image large.qcow2, which has 2048 MiB"},
		{"link.qcow2", 0, ""},
	}
	for _, test := range tests {
		w.expect(t, w.command("image", "--host", "zap", "--base", test.base), test.code, test.says)
		checkClean(t, filepath.Join(w.dir, "out"))
		if _, err := os.Lstat(filepath.Join(w.dir, "out/zap/latest")); (err == nil) != (test.code == 0) {
			t.Errorf("%s: latest: %v", test.base, err)
		}
	}
}

// TestDamagedStore: what was vetted once is not trusted for ever.
func TestDamagedStore(t *testing.T) {
	w := newWorkshop(t)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	stored, err := filepath.Glob(filepath.Join(w.dir, "out/.base/*.qcow2"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("%q, %v", stored, err)
	}
	if err := os.Chmod(stored[0], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(stored[0], 1<<16); err != nil {
		t.Fatal(err)
	}
	w.expect(t, w.command("image", "--host", "zap"), 5, "is damaged: its SHA-256 should be ")
}

// TestHalfWritten: what is wrong with the second host is found when the first one is baked, and
// nobody says then that nothing was written.
func TestHalfWritten(t *testing.T) {
	w := newWorkshop(t)
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "2G")
	for name, disk := range map[string]string{"a": "2GiB", "b": "1GiB"} {
		w.write(t, "hosts/"+name+".yaml", "payload: none\n"+strings.NewReplacer("host: zap", "host: "+name, "disk: 1GiB", "disk: "+disk).Replace(hostFixture), 0o644)
	}
	o := finish(t, w.command("image", "--host", "a", "--host", "b"))
	if o.code != 3 || !strings.Contains(o.stdout, "out/a/") || !strings.Contains(o.stderr, "\nhosts/b.yaml: error: ") || !strings.HasSuffix(o.stderr, "\nbake: 1 problem\n") {
		t.Errorf("exit status %d, %s\n%s", o.code, o.stdout, o.stderr)
	}
	if o = finish(t, w.command("image", "--host", "b")); o.code != 3 || !strings.HasSuffix(o.stderr, "bake: 1 problem, nothing was written\n") {
		t.Errorf("exit status %d\n%s", o.code, o.stderr)
	}
}
