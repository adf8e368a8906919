//go:build e2e

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestFullAgent has the claims of the layer guest-agent hold and fail, and asks the
// agent from where it matters: through libvirt, with the socket of its administrator.
func TestFullAgent(t *testing.T) {
	t.Run("claims", func(t *testing.T) {
		for _, release := range []string{"debian-12", "debian-13"} {
			t.Run(release, func(t *testing.T) {
				l := newLab(t, release)
				l.write(t, "hosts/zap.yaml", strings.Replace(agentHost, "debian:13", strings.Replace(release, "-", ":", 1), 1))
				code, report := l.verified(t, "zap", "--falsify")
				n := 0
				for _, result := range report.Results {
					if result.Layer != "guest-agent" {
						continue
					}
					if n++; !result.OK || result.Falsified == nil || !*result.Falsified {
						t.Errorf("%s: %s, after falsify: %s", result.Claim, result.Got, result.After)
					}
				}
				if code != 0 || n != 3 {
					t.Errorf("exit %d, %d claims of the layer guest-agent", code, n)
				}
			})
		}
	})
	t.Run("libvirt", func(t *testing.T) {
		h := newRack(t)
		h.configure(t, 10, "  - guest-agent\n")
		h.do(t, 0, "up", "--generation", h.image(t))
		for command, want := range map[string]string{
			`{"execute":"guest-ping"}`:          `{"return":{}}`,
			`{"execute":"guest-get-host-name"}`: `"zap"`,
			`{"execute":"guest-exec","arguments":{"path":"/usr/bin/id","capture-output":true}}`:                     "has been disabled",
			`{"execute":"guest-file-open","arguments":{"path":"/etc/shadow"}}`:                                      "has been disabled",
			`{"execute":"guest-set-user-password","arguments":{"username":"root","password":"eA","crypted":false}}`: "has been disabled",
		} {
			said, err := exec.Command("virsh", "-q", "-c", "qemu:///system?socket="+h.dir+"/run/libvirt-sock", "qemu-agent-command", "zap", command).CombinedOutput()
			t.Logf("%s: %s%v", command, said, err)
			if !strings.Contains(string(said), want) || (err == nil) != !strings.Contains(want, "disabled") {
				t.Errorf("%s: want %s", command, want)
			}
		}
	})
}

const agentHost = `host: zap
base: debian:13
machine: {vcpus: 2, memory: 1GiB, disk: 6GiB}
admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example]}
layers:
  - ssh
  - ufw: {allow_tcp: [22]}
  - guest-agent
`
