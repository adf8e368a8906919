package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUpRefuses: what a hypervisor lacks or will not do is said, exit status 4, and
// there is no machine, and no secret, after that.
func TestUpRefuses(t *testing.T) {
	w := newWorkshop(t)
	demandRoot(t)
	demand(t, "libvirtd")
	small, sealed := filepath.Join(w.dir, "small"), filepath.Join(w.dir, "sealed")
	for dir, option := range map[string]string{small: "size=64k", sealed: "ro"} { // before libvirtd, which sees no later ones
		w.write(t, filepath.Base(dir)+"/.keep", "", 0o644)
		if out, err := exec.Command("mount", "-t", "tmpfs", "-o", option, "tmpfs", dir).CombinedOutput(); err != nil {
			t.Skipf("no file systems to be had: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("umount", "-l", dir).Run() })
	}
	startLibvirt(t, filepath.Join(w.dir, "l"))
	socket := w.dir + "/l/run/libvirt-sock"
	uri := "qemu:///system?socket=" + socket
	virsh := func(args ...string) {
		t.Helper()
		w.tool(t, "virsh", append([]string{"-q", "-c", uri}, args...)...)
	}
	w.write(t, "theirs.xml", "<domain type='qemu'><name>zap</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>", 0o644)
	w.write(t, "asleep.xml", "<pool type='dir'><name>asleep</name><target><path>"+w.dir+"/asleep/zap</path></target></pool>", 0o644)
	w.write(t, "asleep/zap/.keep", "", 0o644)
	for _, test := range []struct {
		name    string
		machine string // more of the host file's machine
		more    string // and of the host file
		args    []string
		as      uint32 // user
		shut    bool   // the socket is for root
		before  []string
		after   []string
		want    string
	}{
		{name: "libvirtd is down", args: []string{"--connect", "qemu:///system?socket=" + w.dir + "/nobody"}, want: "is libvirtd running"},
		{name: "libvirt does not want them", as: 65534, want: "Unable to get system bus connection: Could not connect: No such file or directory: is libvirtd running, and may you use its socket (the group libvirt)?"},
		{name: "may not talk to libvirt", as: 65534, shut: true, want: "permission denied: is libvirtd running, and may you use its socket (the group libvirt)?"},
		{name: "no room", machine: "images: " + small, want: small},
		{name: "may not write there", machine: "images: " + sealed + "/images", want: "Read-only file system"},
		{name: "a pool that is asleep", machine: "images: " + w.dir + "/asleep", before: []string{"pool-define", w.dir + "/asleep.xml"},
			after: []string{"pool-undefine", "asleep"}, want: "has a pool asleep over " + w.dir + "/asleep/zap that is not active: virsh pool-start asleep"},
		{name: "the name is taken", before: []string{"define", w.dir + "/theirs.xml"}, after: []string{"undefine", "zap"}, want: "has a domain zap that bake has not made"},
		{name: "no such network", more: "network: {attach: {network: nowhere}}\n", want: `has no network "nowhere"`},
		{name: "no such filter", more: "network: {filter: nowhere}\n", want: `has no filter "nowhere"`},
		{name: "an address of another network", more: "network: {reserve: 192.0.2.9}\n", want: "it gives no address of that network"},
		{name: "no such disk", machine: "disks: [{name: x, path: /nowhere, format: raw}]", want: "/nowhere is not there"},
		{name: "no such device", machine: `devices: [{pci: "00ff:ff:1f.7"}]`, more: "network: {isolated: false}\n", want: "starting zap on"},
		{name: "no huge pages", machine: "memory: 1TiB, hugepages: 1GiB", more: "network: {isolated: false}\n", want: "starting zap on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			machine := "machine: {disk: 1GiB"
			if !strings.Contains(test.machine, "images:") {
				machine += ", images: " + w.dir + "/images"
			}
			if test.machine != "" {
				machine += ", " + test.machine
			}
			w.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "machine: {disk: 1GiB}", machine+"}", 1)+test.more, 0o644)
			bake := func(args ...string) *exec.Cmd {
				return exec.Command(w.bake, append([]string{"--config", w.dir, "--out", filepath.Join(w.dir, "out")}, args...)...)
			}
			if out, err := bake("image", "--host", "zap").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if test.before != nil {
				virsh(test.before...)
				defer virsh(test.after...)
			}
			args := append([]string{"up", "--host", "zap", "--generation", "latest", "--accel", "tcg"}, test.args...)
			if test.args == nil {
				args = append(args, "--connect", uri)
			}
			cmd := bake(args...)
			if test.shut {
				chmod(t, filepath.Dir(socket), 0o700)
				defer chmod(t, filepath.Dir(socket), 0o755)
			}
			if test.as != 0 {
				own(t, filepath.Join(w.dir, "out"), int(test.as))
				defer own(t, filepath.Join(w.dir, "out"), 0)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: test.as, Gid: test.as}}
			}
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(string(out), test.want) {
				t.Errorf("exit status %d, %v, want 4 and %q: %s", code, err, test.want, out)
			}
			if test.args != nil {
				return
			}
			if out, err := bake("list", "--connect", uri).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("there is a machine: %v: %s", err, out)
			}
			if left, _ := filepath.Glob(w.dir + "/*/zap/secrets.iso*"); len(left) > 1 { // of out
				t.Errorf("left: %v", left)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Error(err)
	}
}

// own gives a tree to a user.
func own(t *testing.T, root string, user int) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, user, user)
	})
	if err != nil {
		t.Error(err)
	}
}
