//go:build e2e

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/verify"
)

// A fault is a machine on which something goes wrong during the first boot.
type fault struct {
	layers  string              // of the host, after ssh and ufw
	bootcmd string              // shell, before any layer's own but the gate's
	files   string              // of the layer that does the damage: keys of its files
	more    string              // of the host file
	config  string              // more cloud-config of that layer
	fails   map[string][]string // claims that must not hold, by layer
	holds   map[string][]string // claims that must
	isDark  bool                // the network is not even up
	opens   string              // what answers in spite of it
}

var faults = map[string]fault{
	"ufw is missing": {
		bootcmd: "mv /usr/sbin/ufw /usr/sbin/ufw.away",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "ufw": {"UFW is active", "The kernel drops"}},
	},
	// The gate is the first to find out, so the way of the fault is before it.
	"there is no packet filter": {
		files: "  /usr/sbin/iptables-restore: {mode: \"0755\", when: boot}\n",
		fails: map[string][]string{"boot": {"cloud-init finished"}, "attest": {"The machine was shut", "The next boot"},
			"ufw": {"UFW is active"}},
		isDark: true,
	},
	"after.rules is corrupt": {
		bootcmd: "echo '-A nowhere -j NOTHING' >> /etc/ufw/after.rules",
		fails:   map[string][]string{"ufw": {"UFW loads the same rules"}},
	},
	"the package fail2ban is missing": {
		layers:  "  - fail2ban\n",
		more:    "payload: none\n",
		bootcmd: "printf 'Package: fail2ban\\nPin: release *\\nPin-Priority: -1\\n' > /etc/apt/preferences.d/99-fault",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures", "fail2ban starts"}},
	},
	"the same, and somebody wants to look": {
		layers:  "  - attest: {on_failure: ssh}\n  - fail2ban\n",
		more:    "payload: none\n",
		bootcmd: "printf 'Package: fail2ban\\nPin: release *\\nPin-Priority: -1\\n' > /etc/apt/preferences.d/99-fault",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures", "fail2ban starts"}},
		opens:   "22 accepted",
	},
	"docker does not start": {
		layers: "  - docker\n  - docker-user\n",
		bootcmd: `mkdir -p /etc/systemd/system/docker.service.d && printf '[Service]\nExecStart=\nExecStart=/bin/false\n' \
        > /etc/systemd/system/docker.service.d/99-fault.conf`,
		// Its unit has not failed: it is to be started again.
		fails: map[string][]string{"docker": {"Root in a container", "A port published"}},
	},
	// Not a failure of the machine: the share may come later.
	"the virtiofs share is absent": {
		layers: "  - virtiofs: {share: /srv/workspace}\n",
		holds:  map[string][]string{"virtiofs": {"/srv/workspace waits", "Where the share is missing", "A service with RequiresMountsFor"}},
		opens:  "22 accepted",
	},
	"there is no network": {
		layers: "  - fail2ban\n",
		more:   "network: {addresses: [10.0.2.15/24]}\npayload: none\n",
		fails:  map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures"}},
		holds:  map[string][]string{"ufw": {"UFW is active", "The firewall was closed before"}, "ssh": {"sshd takes no passwords"}},
	},
	"there is no network, but a payload": {
		layers: "  - fail2ban\n",
		more:   "network: {addresses: [10.0.2.15/24]}\n",
		holds:  map[string][]string{"payload": {"Every package", "The disk that they came from"}, "fail2ban": {"5 failures"}},
		opens:  "22 accepted",
	},
	"the payload is another one": {
		layers:  "  - fail2ban\n",
		bootcmd: "sed -i 's/^./x/' /usr/local/lib/bake/payload.sha256",
		fails: map[string][]string{"boot": {"No systemd unit has failed"}, "payload": {"Every package", "The disk that they came from"},
			"fail2ban": {"5 failures"}},
	},
	"the disk is full": {
		layers:  "  - fail2ban\n",
		more:    "payload: none\n",
		config:  "  growpart: {mode: \"off\"}\n  resize_rootfs: false\n",
		bootcmd: "df --output=avail -B 1M / | tail -n 1 | { read n; fallocate -l $((n - 20))M /filler; }",
		fails:   map[string][]string{"boot": {"cloud-init finished"}, "fail2ban": {"5 failures"}},
		holds:   map[string][]string{"ufw": {"UFW is active", "The firewall was closed before"}},
	},
	"the disk is too full for the payload": {
		layers:  "  - docker\n",
		config:  "  growpart: {mode: \"off\"}\n  resize_rootfs: false\n",
		bootcmd: "df --output=avail -B 1M / | tail -n 1 | { read n; fallocate -l $((n - 60))M /filler; }",
		fails: map[string][]string{"boot": {"No systemd unit has failed"}, "payload": {"Every package"},
			"docker": {"Root in a container"}},
		holds: map[string][]string{"ufw": {"UFW is active", "The firewall was closed before"}, "payload": {"The disk that they came from"}},
	},
}

// TestFullFault breaks the first boot in one way at a time. The machine must stay
// shut, and the report must name what is not as specified.
func TestFullFault(t *testing.T) {
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "debian-13")
			l.write(t, "hosts/hurt.yaml", f.host(t))
			l.write(t, "layers/fault/layer.yaml", f.layer())
			if f.files != "" {
				l.write(t, "layers/fault/files/usr/sbin/iptables-restore", "#!/bin/sh\nexit 1\n")
			}
			code, report := l.verified(t, "hurt", "--console")
			if want := map[bool]int{true: 7, false: 0}[len(f.fails) > 0]; code != want {
				t.Errorf("verify: exit %d, want %d", code, want)
			}
			demandShut(t, report, f)
			l.demandExplained(t, report)
			demandHeld(t, report, f.holds, true)
			demandHeld(t, report, f.fails, false)
			if _, err := os.Lstat(l.out + "/hurt/current"); (err == nil) != (len(f.fails) == 0) {
				t.Errorf("promoted to current: %v", err == nil)
			}
		})
	}
}

// demandShut wants nobody to get an answer, but for what the fault leaves open, and
// the guest's own verdict to name a claim that fails.
func demandShut(t *testing.T, report verify.Report, f fault) {
	t.Helper()
	ports := find(t, report, "ufw", "The listed TCP ports").Got
	t.Logf("from outside: %s", ports)
	if strings.Contains(ports, "network is not up") != f.isDark {
		t.Errorf("from outside: %s", ports)
	}
	if rest := strings.ReplaceAll(ports, f.opens+", ", ""); f.opens != "" && rest == ports ||
		strings.Contains(rest, "accepted") || strings.Contains(rest, "refused") {
		t.Errorf("from outside: %s", ports)
	}
	if len(f.fails) == 0 {
		return
	}
	for layer, starts := range f.fails {
		for _, start := range starts {
			if layer != "boot" && strings.HasPrefix(report.Attestation, layer+": "+start) {
				return
			}
		}
	}
	t.Errorf("the guest does not name the layer, but: %s", report.Attestation)
}

// demandExplained wants bake status to tell the same from the console alone.
func (l lab) demandExplained(t *testing.T, report verify.Report) {
	t.Helper()
	console := filepath.Join(l.config, "console.log")
	if err := os.Rename(l.stderr(), console); err != nil {
		t.Fatal(err)
	}
	code, text := l.bake(t, "status", "--host", "hurt", "--console", console, "--json")
	t.Log(text)
	if want := map[bool]int{true: 0, false: 7}[report.Attestation == "ok"]; code != want {
		t.Errorf("status: exit %d, want %d", code, want)
	}
	if report.Attestation != "ok" && !strings.Contains(text, strings.SplitN(report.Attestation, ": ", 2)[1]) {
		t.Errorf("status does not name the claim %s", report.Attestation)
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
	return strings.Replace(head, "host: zap", "host: hurt", 1) + "\n" + f.more +
		"layers:\n  - fault\n  - ssh\n  - ufw\n" + f.layers
}

func (f fault) layer() string {
	if f.bootcmd == "" {
		f.bootcmd = ":"
	}
	if f.files != "" {
		f.files = "files:\n" + f.files
	}
	return `layer: fault
summary: Something that goes wrong on the first boot.
threat: none
` + f.files + `cloud-config:
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
