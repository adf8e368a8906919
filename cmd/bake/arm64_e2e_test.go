//go:build e2e

package main

import "testing"

// arm64Host has packages, which are those of its own processor.
const arm64Host = `host: zap
base: debian:13
machine: {arch: arm64, vcpus: 2, memory: 2GiB, disk: 10GiB}
admin:
  name: ops
  keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example
layers: [ssh, ufw, sysctl, fail2ban, vain]
`

// TestARM64 falsifies every claim of a machine for another processor than this one's.
func TestARM64(t *testing.T) {
	l := newLab(t, "arm64")
	l.write(t, "hosts/zap.yaml", arm64Host)
	l.write(t, "layers/vain/layer.yaml", vain)
	l.demandFalsified(t, "zap")
}

// TestARM64Up brings such a machine up under libvirt, and tries its claims there.
func TestARM64Up(t *testing.T) {
	h := newRackOf(t, "arm64")
	h.machine = ", arch: arm64"
	h.configure(t, 10, "")
	generation := h.image(t)
	up := h.do(t, 0, "up", "--generation", generation)
	if !up.Changed || !up.Attested || up.Generation != generation || len(up.Addresses) == 0 {
		t.Fatalf("%+v", up)
	}
	if got := h.ssh(t, up.Addresses[0], "uname -m"); got != "aarch64" {
		t.Errorf("its processor is %s", got)
	}
	h.live(t, 0)
	if again := h.do(t, 0, "up", "--generation", generation); again.Changed || !again.Attested {
		t.Errorf("up once more: %+v", again)
	}
	h.do(t, 0, "down")
}
