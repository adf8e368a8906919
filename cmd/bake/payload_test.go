package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/artifact"
)

// packing is a workshop whose host needs a package, with an apt that the test
// wrote: what apt itself does is tried in internal/payload.
type packing struct {
	workshop
	bin string // of the programs that bake finds first
}

// newPacking has a base image with a file system, and apt give out the package
// fail2ban, version 1.
func newPacking(t *testing.T) packing {
	for _, program := range []string{"mke2fs", "sfdisk", "dpkg-deb", "mksquashfs"} {
		t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
		demand(t, program)
	}
	p := packing{workshop: newWorkshop(t)}
	p.bin = filepath.Join(p.dir, "bin")
	p.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "sysctl", "fail2ban", 1), 0o644)
	p.write(t, "tree/etc/os-release", "ID=debian\nVERSION_ID=13\n", 0o644)
	p.write(t, "tree/var/lib/dpkg/status", "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n", 0o644)
	p.write(t, "tree/etc/apt/sources.list", "deb http://127.0.0.1:9/debian trixie main\n", 0o644)
	p.image(t)
	p.write(t, "bin/apt-config", "#!/bin/sh\n", 0o755)
	p.offer(t, "1")
	return p
}

// image makes a base image of the tree.
func (p packing) image(t *testing.T) {
	t.Helper()
	p.tool(t, "truncate", "-s", "16M", "disk.raw")
	p.tool(t, "sh", "-c", `echo 'label: gpt
start=1MiB, size=14MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4' | sfdisk --quiet disk.raw`)
	p.tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-L", "cloudimg-rootfs", "-E", "offset=1048576", "-d", "tree", "disk.raw", "14336k")
	p.tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "base.qcow2")
}

// deb makes a package file.
func (p packing) deb(t *testing.T, name, version string) (control, content string) {
	t.Helper()
	control = "Package: " + name + "\nVersion: " + version + "\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
	p.write(t, "deb/DEBIAN/control", control, 0o644)
	p.tool(t, "dpkg-deb", "--root-owner-group", "--build", "deb", name+".deb")
	bytes, err := os.ReadFile(filepath.Join(p.dir, name+".deb"))
	if err != nil {
		t.Fatal(err)
	}
	return control, string(bytes)
}

// offer has apt give out that version.
func (p packing) offer(t *testing.T, version string) {
	t.Helper()
	_, content := p.deb(t, "fail2ban", version)
	p.apt(t, fmt.Sprintf(`case "$*" in
*--print-uris*) echo "'http://x/y.deb' fail2ban_%s_all.deb %d SHA256:%x" ;;
download*) cp %s/fail2ban.deb . ;;
esac`, version, len(content), sha256.Sum256([]byte(content)), p.dir))
}

func (p packing) apt(t *testing.T, script string) {
	t.Helper()
	p.write(t, "bin/apt-get", "#!/bin/sh\n"+script+"\n", 0o755)
}

// command finds the programs of the test first, and keeps its cache in the
// workshop.
func (p packing) command(args ...string) *exec.Cmd {
	cmd := p.workshop.command(args...)
	cmd.Env = append(os.Environ(), "PATH="+p.bin+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+filepath.Join(p.dir, "cache"))
	return cmd
}

func (p packing) latest(t *testing.T) artifact.Generation {
	t.Helper()
	g, err := artifact.Open(filepath.Join(p.dir, "out"), "zap", "latest")
	if err == nil {
		err = g.Verify(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// files are those that would show a run that failed: none may appear.
func (p packing) files(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, pattern := range []string{"bake.lock", "out/zap/*", "cache/bake/payload/*/*", "cache/bake/payload/.work*"} {
		paths, err := filepath.Glob(filepath.Join(p.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			found[path] = true
		}
	}
	return found
}

func TestPayload(t *testing.T) {
	p := newPacking(t)
	p.expect(t, p.command("image", "--host", "zap"), 0, "fail2ban needs fail2ban, python3-systemd: 1 packages", "payload of 1 packages")
	g := p.latest(t)
	if g.Manifest.Payload == nil || strings.Join(g.Manifest.Payload.Packages, ",") != "fail2ban 1" || g.Manifest.Files[payloadName].Size == 0 {
		t.Fatalf("manifest: %+v", g.Manifest)
	}
	machine, err := os.ReadFile(g.Path("domain.xml"))
	if err != nil || !strings.Contains(string(machine), g.Manifest.Generation+"/"+payloadName) {
		t.Errorf("%v\n%s", err, machine)
	}
	words, err := os.ReadFile(g.Path("seed.iso"))
	if err != nil || !strings.Contains(string(words), g.Manifest.Files[payloadName].SHA256+"  /dev/disk/by-id/virtio-bake-payload") {
		t.Errorf("the seed does not know the payload: %v", err)
	}

	// The second time no program of apt's or squashfs's is run.
	for _, program := range []string{"apt-get", "apt-config", "dpkg-deb", "mksquashfs"} {
		p.write(t, "bin/"+program, "#!/bin/sh\nexit 99\n", 0o755)
	}
	p.expect(t, p.command("image", "--host", "zap", "--locked"), 0, "from the cache")
	if again := p.latest(t); again.Manifest.Generation != g.Manifest.Generation {
		t.Errorf("generations %s and %s", g.Manifest.Generation, again.Manifest.Generation)
	}

	// A pin moves when that is asked for, and not before.
	p.tool(t, "rm", "bin/dpkg-deb", "bin/mksquashfs")
	p.write(t, "bin/apt-config", "#!/bin/sh\n", 0o755)
	p.offer(t, "2")
	p.expect(t, p.command("image", "--host", "zap"), 0, "from the cache")
	o := finish(t, p.command("pull", "--host", "zap", "--update", "--json"))
	var view pullView
	if err := json.Unmarshal([]byte(o.stdout), &view); err != nil || o.code != 0 {
		t.Fatalf("%v\n%s", err, o.stderr)
	}
	if len(view.Changes) != 1 || view.Changes[0] != "file:base.qcow2 amd64, fail2ban python3-systemd: fail2ban 1 -> 2" {
		t.Errorf("changes %q", view.Changes)
	}
	p.expect(t, p.command("image", "--host", "zap"), 0)
	if again := p.latest(t); again.Manifest.Payload.Packages[0] != "fail2ban 2" || again.Manifest.Generation == g.Manifest.Generation {
		t.Errorf("%+v", again.Manifest)
	}
}

// Without a payload everything is as it was.
func TestNoPayload(t *testing.T) {
	p := newPacking(t)
	p.apt(t, "exit 99")
	p.expect(t, p.command("seed", "--host", "zap"), 0, "a seed alone brings no packages")
	words, err := os.ReadFile(filepath.Join(p.dir, "out/zap/seed.iso"))
	if err != nil || !strings.Contains(string(words), "\npackages:\n") {
		t.Errorf("the seed does not name packages: %v", err)
	}
	p.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "sysctl]", "fail2ban]\npayload: none", 1), 0o644)
	p.expect(t, p.command("image", "--host", "zap"), 0)
	if g := p.latest(t); g.Manifest.Payload != nil || len(g.Manifest.Files) != 6 {
		t.Errorf("%+v", g.Manifest)
	}
}

// A payload that cannot be is nobody's: nothing is kept or pinned.
func TestPayloadRefused(t *testing.T) {
	p := newPacking(t)
	before := p.files(t)
	offer := func(size int, sum string) string {
		return fmt.Sprintf(`case "$*" in
*--print-uris*) echo "'http://x/y.deb' fail2ban_1_all.deb %d SHA256:%s" ;;
download*) cp %s/fail2ban.deb . ;;
esac`, size, sum, p.dir)
	}
	for _, test := range []struct {
		apt  string
		code int
		says string
	}{
		{offer(7, strings.Repeat("ab", 32)), 5, "is not the one of bake.lock"},
		{`echo "E: The repository 'http://x trixie InRelease' is not signed." >&2; exit 100`, 5, "is not signed"},
		{`echo "E: Release file for http://x/InRelease is expired (invalid since 1h)." >&2; exit 100`, 5, "--allow-expired"},
		{`echo "E: Failed to fetch http://x  Could not connect to x" >&2; exit 100`, 6, "does not deliver"},
		{`case "$*" in install*) echo "E: Unable to locate package fail2ban" >&2; exit 100 ;; esac`, 3, "payload: none"},
		{`case "$*" in install*) echo "'http://x/y.deb' fail2ban_1_all.deb 7 MD5Sum:00" ;; esac`, 1, "no package with a SHA-256"},
		{`echo "E: of another kind" >&2; exit 100`, 1, "apt-get: E: of another kind"},
	} {
		p.apt(t, test.apt)
		words := strings.TrimPrefix(test.says, "apt-get: E: ")
		p.expect(t, p.command("image", "--host", "zap"), test.code, words)
		after := p.files(t)
		delete(after, filepath.Join(p.dir, "out/zap/.lock"))
		if !maps.Equal(before, after) {
			t.Errorf("%s: there is %v", test.says, after)
		}
		checkClean(t, filepath.Join(p.dir, "out"))
	}
	p.expect(t, p.command("image", "--host", "zap", "--locked"), 3, "the packages of host zap for file:base.qcow2 are not pinned", "bake pull --host zap")
	if err := os.Remove(filepath.Join(p.bin, "apt-get")); err != nil {
		t.Fatal(err)
	}
	cmd := p.command("image", "--host", "zap")
	bare := filepath.Join(p.dir, "bare")
	for _, program := range []string{"qemu-img", "prlimit"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skip(err)
		}
		p.tool(t, "mkdir", "-p", "bare")
		p.tool(t, "ln", "-sf", path, "bare/"+program)
	}
	cmd.Env = append(cmd.Env, "PATH="+bare)
	p.expect(t, cmd, 4, "apt-get is not installed: it is in the package apt", "payload: none")
}
