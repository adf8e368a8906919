//go:build e2e

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// overSSH puts a hypervisor behind OpenSSH's own server, in its namespaces, and
// returns its URI. Since it has a network of its own, ssh reaches the server by its
// input and output; the server's key is held against known_hosts as ever.
func (h *rack) overSSH(t *testing.T) (uri, known string) {
	t.Helper()
	home := t.TempDir()
	hostKey, user := filepath.Join(home, "host"), filepath.Join(home, "user")
	for _, key := range []string{hostKey, user} {
		command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	known = filepath.Join(home, "known_hosts")
	public, err := os.ReadFile(hostKey + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	real, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	sshd, err := filepath.Abs("../../testdata/lab/sshd")
	if err != nil {
		t.Fatal(err)
	}
	command(t, sshd, "--fetch") // here: there is no network where it runs
	server := fmt.Sprintf("nsenter --net --mount --target %d %s %s %s.pub", h.pid, sshd, hostKey, user)
	for name, content := range map[string]string{
		"known_hosts": "hv " + string(public),
		"ssh": fmt.Sprintf("#!/bin/sh\nexec %s -F none -i %s -o IdentitiesOnly=yes -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=/dev/null -o ProxyCommand='%s' \"$@\"\n",
			real, user, known, server),
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	return "qemu+ssh://root@hv/system", known
}

// TestFullRemote brings a machine up, and down, on a hypervisor behind a real sshd:
// every byte of it, its disk, its console and its verdict, goes by ssh.
func TestFullRemote(t *testing.T) {
	h := newRack(t)
	h.configure(t, 10, "")
	uri, known := h.overSSH(t)
	file := filepath.Join(h.config, "hosts/zap.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "hosts/zap.yaml", strings.Replace(string(text), "qemu:///system?socket="+h.dir+"/run/libvirt-sock", uri, 1))
	one := h.image(t)
	up := h.do(t, 0, "up", "--generation", one)
	if !up.Changed || !up.Attested || up.Generation != one || up.Claims < 20 || len(up.Addresses) == 0 {
		t.Errorf("%+v", up)
	}
	if again := h.do(t, 0, "up", "--generation", one); again.Changed || !again.Attested {
		t.Errorf("up once more: %+v", again)
	}
	h.do(t, 0, "down")

	// Another machine that says it is hv gets nothing.
	other := filepath.Join(t.TempDir(), "other")
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other)
	public, err := os.ReadFile(other + ".pub")
	if err == nil {
		err = os.WriteFile(known, []byte("hv "+string(public)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.do(t, 6, "up", "--generation", one)
	if said, err := os.ReadFile(h.stderr()); err != nil || !strings.Contains(string(said), "ost key") {
		t.Errorf("%s, %v", said, err)
	}
}
