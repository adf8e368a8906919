//go:build e2e

package main

import (
	"os"
	"strings"
	"testing"

	"bake/internal/verify"
)

// shut are the claims that hold however much else goes wrong: nobody gets in
// but an administrator with a key.
var shut = map[string][]string{
	"ufw": {"The kernel drops", "The listed TCP ports"},
	"ssh": {"sshd takes no passwords", "Root is refused"},
}

// A fault is a machine on which something goes wrong during the first boot.
type fault struct {
	layers  string              // of the host, after ssh and ufw
	bootcmd string              // shell, before any layer's own
	network string              // of the host file
	config  string              // more cloud-config of the layer that does the damage
	fails   map[string][]string // claims that must not hold, by layer
	holds   map[string][]string // claims that must, beside those of shut
	isDark  bool                // nothing answers at all, not even to be tried
}

var faults = map[string]fault{
	"ufw is missing": {
		bootcmd: "mv /usr/sbin/ufw /usr/sbin/ufw.away",
		fails:   map[string][]string{"ufw": {"UFW is active"}},
	},
	"there is no packet filter": {
		bootcmd: "rm /usr/sbin/ufw /usr/sbin/iptables /usr/sbin/ip6tables",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "ufw": {"UFW is active", "The listed TCP ports"}},
		isDark:  true,
	},
	"after.rules is corrupt": {
		bootcmd: "echo '-A nowhere -j NOTHING' >> /etc/ufw/after.rules",
		fails:   map[string][]string{"ufw": {"UFW loads the same rules"}},
	},
	"the package fail2ban is missing": {
		layers:  "  - fail2ban\n",
		bootcmd: "printf 'Package: fail2ban\\nPin: release *\\nPin-Priority: -1\\n' > /etc/apt/preferences.d/99-fault",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures", "fail2ban starts"}},
	},
	"docker does not start": {
		layers: "  - docker\n  - docker-user\n",
		bootcmd: `mkdir -p /etc/systemd/system/docker.service.d && printf '[Service]\nExecStart=\nExecStart=/bin/false\n' \
        > /etc/systemd/system/docker.service.d/99-fault.conf`,
		fails: map[string][]string{"boot": {"No systemd unit has failed"}, "docker": {"Root in a container", "A port published"}},
	},
	// Not a failure of the machine: the share may come later.
	"the virtiofs share is absent": {
		layers: "  - virtiofs: {share: /srv/workspace}\n",
		holds:  map[string][]string{"virtiofs": {"/srv/workspace waits", "Where the share is missing", "A service with RequiresMountsFor"}},
	},
	"there is no network": {
		layers:  "  - fail2ban\n",
		network: "network: {addresses: [10.0.2.15/24]}\n",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures"}},
		holds:   map[string][]string{"ufw": {"UFW is active", "The firewall was closed before"}},
	},
	"the disk is full": {
		layers:  "  - fail2ban\n",
		config:  "  growpart: {mode: \"off\"}\n  resize_rootfs: false\n",
		bootcmd: "df --output=avail -B 1M / | tail -n 1 | { read n; fallocate -l $((n - 20))M /filler; }",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures"}},
		holds:   map[string][]string{"ufw": {"UFW is active", "The firewall was closed before"}},
	},
}

// TestFullFault breaks the first boot in one way at a time. The machine must stay
// closed all the same, and the report must name what is not as specified.
func TestFullFault(t *testing.T) {
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "debian-13")
			l.write(t, "hosts/hurt.yaml", f.host(t))
			l.write(t, "layers/fault/layer.yaml", f.layer())
			code, report := l.verified(t, "hurt")
			if want := map[bool]int{true: 7, false: 0}[len(f.fails) > 0]; code != want {
				t.Errorf("verify: exit %d, want %d", code, want)
			}
			if got := find(t, report, "ufw", "The listed TCP ports").Got; strings.Contains(got, "network is not up") != f.isDark {
				t.Errorf("from outside: %s", got)
			}
			if !f.isDark {
				demandHeld(t, report, shut, true)
			}
			demandHeld(t, report, f.holds, true)
			demandHeld(t, report, f.fails, false)
			if _, err := os.Lstat(l.out + "/hurt/current"); (err == nil) != (len(f.fails) == 0) {
				t.Errorf("promoted to current: %v", err == nil)
			}
		})
	}
}

// host writes a host file: ssh and ufw, the fault's layers, and the layer that
// does the damage, which is placed first so that its bootcmd is.
func (f fault) host(t *testing.T) string {
	t.Helper()
	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(zap), "\nlayers:\n")
	if !ok {
		t.Fatal("zap has no layers")
	}
	return strings.Replace(head, "host: zap", "host: hurt", 1) + "\n" + f.network +
		"layers:\n  - fault\n  - ssh\n  - ufw\n" + f.layers
}

func (f fault) layer() string {
	if f.bootcmd == "" {
		f.bootcmd = ":"
	}
	return `layer: fault
summary: Something that goes wrong on the first boot.
threat: none
cloud-config:
` + f.config + `  bootcmd:
    - |
      ` + f.bootcmd + `
checks:
  inside:
    - claim: The first boot was meddled with.
      run: "true"
      exit: 0
      falsify: "true"
`
}

// demandHeld wants claims, known by their layer and first words, to hold or not to.
func demandHeld(t *testing.T, report verify.Report, claims map[string][]string, holds bool) {
	t.Helper()
	for layer, starts := range claims {
		for _, start := range starts {
			if result := find(t, report, layer, start); result.OK != holds {
				t.Errorf("%s: %s: held is %v: %s", layer, result.Claim, result.OK, result.Got)
			}
		}
	}
}
