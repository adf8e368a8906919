package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// digests hashes the files of zap's latest generation, but for the signature, which is
// of whoever baked it, and adds its name.
func digests(t *testing.T, out string) map[string]string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(filepath.Join(out, "zap", "latest"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{"generation": filepath.Base(dir)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() == "provenance.intoto.jsonl" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		found[entry.Name()] = hex.EncodeToString(sum[:])
	}
	return found
}

// TestReproducible bakes one host wherever, whenever and as whoever: the bytes
// are the same.
func TestReproducible(t *testing.T) {
	w := newWorkshop(t)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	want := digests(t, filepath.Join(w.dir, "out"))
	for _, name := range []string{"disk.qcow2", "seed.iso", "domain.xml", "claims.json", "manifest.json"} {
		if want[name] == "" {
			t.Errorf("the generation has no %s", name)
		}
	}
	for _, dir := range []string{"tmp/ä b", "elsewhere/deep/er", "moved/hosts"} {
		if err := os.MkdirAll(filepath.Join(w.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.write(t, "moved/hosts/zap.yaml", hostFixture, 0o644)
	w.tool(t, "cp", "base.qcow2", "moved/base.qcow2")
	w.tool(t, "touch", "-d", "2001-01-01", "moved/base.qcow2", "moved/hosts/zap.yaml")
	environment := func(pairs ...string) func(*exec.Cmd) {
		return func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), pairs...) }
	}
	tests := []struct {
		name   string
		args   []string
		change func(cmd *exec.Cmd)
	}{
		{"again", nil, nil},
		{"temporary directory", nil, environment("TMPDIR=" + filepath.Join(w.dir, "tmp/ä b"))},
		{"time zone", nil, environment("TZ=Pacific/Kiritimati")},
		{"locale", nil, environment("LC_ALL=tr_TR.UTF-8", "LANG=tr_TR.UTF-8", "LANGUAGE=tr")},
		{"home", nil, environment("HOME=/nonexistent", "XDG_CACHE_HOME=/nonexistent")},
		{"source date", nil, environment("SOURCE_DATE_EPOCH=1", "GOMAXPROCS=1")},
		{"next to no environment", nil, func(cmd *exec.Cmd) { cmd.Env = []string{"PATH=" + os.Getenv("PATH")} }},
		{"open umask", []string{"umask", "0"}, nil},
		{"closed umask", []string{"umask", "077"}, nil},
		{"working directory", nil, func(cmd *exec.Cmd) {
			cmd.Args = append(cmd.Args, "--config", w.dir)
			cmd.Dir = filepath.Join(w.dir, "elsewhere/deep/er")
		}},
		{"another copy of all", nil, func(cmd *exec.Cmd) { cmd.Dir = filepath.Join(w.dir, "moved") }},
		{"another user", nil, func(cmd *exec.Cmd) {
			if os.Geteuid() == 0 {
				w.as(t, cmd, nobody, "home")
			}
			cmd.Env = append(cmd.Environ(), keyVariable+"="+filepath.Join(w.dir, "home/signing.key"))
		}},
	}
	for i, test := range tests {
		out := filepath.Join(w.dir, fmt.Sprintf("home/out%d", i))
		cmd := w.command("image", "--host", "zap", "--out", out)
		if test.args != nil {
			script := strings.Join(test.args, " ") + `; exec "$@"`
			cmd = exec.Command("sh", append([]string{"-c", script, "sh"}, cmd.Args...)...)
			cmd.Dir = w.dir
		}
		if test.change != nil {
			test.change(cmd)
		}
		w.expect(t, cmd, 0)
		if got := digests(t, out); !maps.Equal(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", test.name, got, want)
		}
		checkModes(t, filepath.Join(out, "zap"))
	}
}

// checkModes demands that nobody but the owner can read a file or a directory.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if want := map[bool]os.FileMode{true: 0o700, false: 0o600}[entry.IsDir()]; info.Mode().Perm() != want {
			t.Errorf("%s has the mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDiffers is the other half: whatever a machine would notice gives another
// generation.
func TestDiffers(t *testing.T) {
	w := newWorkshop(t)
	seen := map[string]string{}
	bake := func(name string) {
		t.Helper()
		w.expect(t, w.command("image", "--host", "zap"), 0)
		generation := digests(t, filepath.Join(w.dir, "out"))["generation"]
		if other, twice := seen[generation]; twice {
			t.Errorf("%s gives the same generation as %s", name, other)
		}
		seen[generation] = name
	}
	bake("the host file")
	for _, change := range [][2]string{
		{"disk: 1GiB", "disk: 2GiB"}, {"disk: 1GiB", "disk: 1GiB, vcpus: 3"}, {"disk: 1GiB", "disk: 1GiB, tpm: true"}, {"disk: 1GiB", "disk: 1GiB, state: 1GiB"},
		{"disk: 1GiB", "disk: 1GiB, images: /srv"}, {"name: ops", "name: eve"}, {"ops@example", "eve@example"},
		{"ufw,", "ufw: {logging: high},"}, {"ssh, ufw", "ufw, ssh"}, {", sysctl", ""},
		{"layers:", "network: {mac: \"52:54:00:00:00:01\"}\nlayers:"},
		{"layers:", "network: {attach: {bridge: br0}}\nlayers:"},
		{"layers:", "cloud-config: {timezone: Etc/UTC}\nlayers:"},
	} {
		w.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, change[0], change[1], 1), 0o644)
		bake(change[1])
	}
	w.write(t, "hosts/zap.yaml", hostFixture, 0o644)
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "65M")
	bake("another base image")
}

// TestConcurrent starts many bakes at once: of ten hosts, which must all
// succeed, and of one host, of which each succeeds or says who works on it.
func TestConcurrent(t *testing.T) {
	w := newWorkshop(t)
	var commands []*exec.Cmd
	for i := range 10 {
		name := fmt.Sprintf("h%d", i)
		w.write(t, "hosts/"+name+".yaml", strings.Replace(hostFixture, "zap", name, 1), 0o644)
		commands = append(commands, w.command("image", "--host", name))
	}
	for range 10 {
		commands = append(commands, w.command("image", "--host", "zap"), w.command("seed", "--host", "zap", "-o", "one.iso"),
			w.command("seed", "--host", "zap", "-o", "one", "--format", "dir"))
	}
	outcomes := make([]outcome, len(commands))
	var group sync.WaitGroup
	for i, cmd := range commands {
		group.Go(func() { outcomes[i] = finish(t, cmd) })
	}
	group.Wait()
	won := 0
	for i, o := range outcomes {
		one := commands[i].Args[1] == "image" && i >= 10
		if one && o.code == 0 {
			won++
		}
		busy := one && o.code == 4 && strings.Contains(o.stderr, "another bake works on it")
		if o.code != 0 && !busy {
			t.Errorf("%q: exit status %d\n%s", commands[i].Args[1:], o.code, o.stderr)
		}
	}
	if won == 0 {
		t.Error("of ten bakes of one host none succeeded")
	}
	w.checkWhole(t, "latest")
	checkClean(t, w.dir)
	if left, err := filepath.Glob(filepath.Join(w.dir, ".one*")); err != nil || left != nil {
		t.Errorf("left behind: %q, %v", left, err)
	}
	w.tool(t, "cmp", "one.iso", "out/zap/latest/seed.iso")
}

// TestBusy holds a host's lock as another bake would.
func TestBusy(t *testing.T) {
	w := newWorkshop(t)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	lock, err := os.Open(filepath.Join(w.dir, "out/zap/.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	w.expect(t, w.command("image", "--host", "zap"), 4, "locking host zap: another bake works on it, process ")
	w.write(t, "hosts/web.yaml", strings.Replace(hostFixture, "zap", "web", 1), 0o644)
	w.expect(t, w.command("image", "--host", "web"), 0)
}

// TestOutBehindLink: an output directory may be a link, since all in it moves
// together; a link inside it would part the disk from its base image.
func TestOutBehindLink(t *testing.T) {
	w := newWorkshop(t)
	w.tool(t, "mkdir", "real")
	w.tool(t, "ln", "-s", "real", "out")
	w.expect(t, w.command("image", "--host", "zap"), 0)
	w.checkWhole(t, "latest")
	w.tool(t, "qemu-img", "check", "-q", "real/zap/latest/disk.qcow2")
	w.tool(t, "mv", "real", "moved")
	w.tool(t, "qemu-img", "check", "-q", "moved/zap/latest/disk.qcow2")

	w.tool(t, "rm", "-rf", "out")
	w.tool(t, "mkdir", "-p", "out", "other/zap")
	w.tool(t, "ln", "-s", "../other/zap", "out/zap")
	w.expect(t, w.command("image", "--host", "zap"), 1, "there is a symbolic link between the two")
	checkClean(t, filepath.Join(w.dir, "other"))
}

// TestBaseChangesDuringBake rewrites the base image while qemu-img looks at the
// copy: what was vetted is what is used.
func TestBaseChangesDuringBake(t *testing.T) {
	w := newWorkshop(t)
	real, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	w.expect(t, w.command("image", "--host", "zap", "--out", "before"), 0)
	w.write(t, "other.qcow2", "gone", 0o644)
	w.write(t, "tools/qemu-img", "#!/bin/sh\nmv -f other.qcow2 base.qcow2 2>/dev/null\nexec "+real+" \"$@\"\n", 0o755)
	cmd := w.command("image", "--host", "zap")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(w.dir, "tools")+":"+os.Getenv("PATH"))
	w.expect(t, cmd, 0)
	if before, after := digests(t, filepath.Join(w.dir, "before")), digests(t, filepath.Join(w.dir, "out")); !maps.Equal(before, after) {
		t.Errorf("the base image of %v got into %v", before, after)
	}
	w.checkWhole(t, "latest")
	w.expect(t, w.command("image", "--host", "zap"), 5, "not a qcow2 image")
}
