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
