//go:build e2e

package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/vm"
)

// keptHost has a state disk and, in place of OpenClaw, a service that is no more than
// its sandbox and its state directory.
const keptHost = `host: zap
base: debian:13
machine: {vcpus: 2, memory: 2GiB, disk: 10GiB, state: 1GiB}
admin:
  name: ops
  keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example
layers:
  - attest: {on_failure: ssh} # for whoever must find out why
  - ssh
  - ufw: {allow_tcp: [22]}
  - service-hardening
  - keeper
`

const keeper = `layer: keeper
summary: Stand in for an agent that keeps something.
threat: none
requires: [service-hardening]
state: [/var/lib/openclaw: 782]
files:
  /etc/systemd/system/openclaw.service: {when: boot}
cloud-config:
  bootcmd:
    - |
      getent group openclaw || groupadd --system --gid 782 openclaw
      getent passwd openclaw || useradd --system --uid 782 --gid 782 --no-create-home openclaw
checks:
  inside:
    - claim: Its user has the number that its state belongs to.
      run: id -u openclaw
      is: 782
      falsify: sed -i '/^openclaw/s/782/783/' /etc/passwd
`

const keeperUnit = `[Service]
User=openclaw
StateDirectory=openclaw
StateDirectoryMode=0700
ExecStart=/bin/sh -c 'date >> /var/lib/openclaw/starts; exec sleep infinity'
`

func newKeptLab(t *testing.T, release string) lab {
	l := newLab(t, release)
	l.write(t, "hosts/zap.yaml", strings.Replace(keptHost, "debian:13", strings.Replace(release, "-", ":", 1), 1))
	l.write(t, "layers/keeper/layer.yaml", keeper)
	l.write(t, "layers/keeper/files/etc/systemd/system/openclaw.service", keeperUnit)
	return l
}

// TestFullState has every claim hold on an empty disk, and fail when it is made wrong.
func TestFullState(t *testing.T) {
	for release, options := range map[string][]string{"debian-13": {"--falsify"}, "debian-12": nil} {
		t.Run(release, func(t *testing.T) {
			code, report := newKeptLab(t, release).verified(t, "zap", options...)
			if code != 0 {
				t.Errorf("exit %d", code)
			}
			n := 0
			for _, result := range report.Results {
				if !result.OK {
					t.Errorf("%s: %s: %s", result.Layer, result.Claim, result.Got)
				}
				if result.Layer != "state" {
					continue
				}
				if n++; len(options) > 0 && (result.Falsified == nil || !*result.Falsified) {
					t.Errorf("%s: was not falsified: %s", result.Claim, result.After)
				}
			}
			if n < 5 {
				t.Errorf("%d claims of the layer state", n)
			}
		})
	}
}

// TestFullStateSurvives puts one state disk into one generation of a host after the
// other, and grows it in between.
func TestFullStateSurvives(t *testing.T) {
	l := newKeptLab(t, "debian-13")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Minute)
	defer cancel()
	disk := filepath.Join(t.TempDir(), "state.qcow2")
	command(t, "qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
	with := func(s *vm.Spec) { s.StateDisk = disk }

	const facts = `cat /etc/ssh/ssh_host_*_key.pub | cut -d' ' -f1,2
sha256sum < /var/lib/openclaw/memory; stat -c '%u:%g %a' /var/lib/openclaw /var/lib/openclaw/memory
findmnt -no SOURCE /var/lib/openclaw | sed 's,/dev/[a-z]*,,'`
	var first string
	var generations []string
	for i, change := range []string{"", "  - sysctl\n"} {
		l.write(t, "hosts/zap.yaml", keptHost+change)
		code, out := l.bake(t, "image", "--host", "zap", "--base", l.base)
		if code != 0 {
			t.Fatalf("bake image: exit %d", code)
		}
		generations = append(generations, strings.TrimSpace(out))
		h := begin(ctx, t, l, with)
		if verdict := h.verdicts(t, 1); !verdict.OK {
			h.enter(t)
			said, err := h.try("grep -B 4 -A 4 '\"ok\": false' /var/lib/bake/report.json")
			t.Fatalf("generation %d stayed shut: %+v\n%s%v", i+1, verdict, said, err)
		}
		h.enter(t)
		h.demandStarts(t, []string{"1", "3"}[i])
		if i == 0 {
			h.run(t, "head -c 100000 /dev/urandom | install -o openclaw -g openclaw -m 0600 /dev/stdin /var/lib/openclaw/memory")
			if verdict := h.again(t, 2); !verdict.OK { // and over a reboot
				h.enter(t)
				said, err := h.try("grep -B 4 -A 4 '\"ok\": false' /var/lib/bake/report.json")
				t.Fatalf("after a reboot: %+v\n%s%v", verdict, said, err)
			}
			h.enter(t)
			h.demandStarts(t, "2")
		}
		got := h.run(t, facts)
		t.Logf("generation %d:\n%s", i+1, got)
		if first == "" {
			first = got
		} else if got != first {
			t.Errorf("generation %d has\n%s\nthe first had\n%s", i+1, got, first)
		}
		t.Log(h.run(t, "df -h --output=source,size,target /var/lib/bake/state | tail -n 1"))
		if size := h.run(t, "df -m --output=size /var/lib/bake/state | tail -n 1"); i == 1 && len(size) < 4 {
			t.Errorf("a disk that has grown to 2 GiB has a file system of %s MiB", size)
		}
		h.run(t, "sync")
		if err := h.PowerDown(ctx); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		command(t, "qemu-img", "resize", "-q", disk, "2G")
	}
	if generations[0] == generations[1] {
		t.Errorf("there was one generation, %s", generations[0])
	}
}

// demandStarts waits until the service has started that often, on whatever root disk.
func (h *house) demandStarts(t *testing.T, n string) {
	t.Helper()
	h.await(t, n+" starts of the service", func() (bool, error) {
		got, err := h.try("cat /var/lib/openclaw/starts | wc -l")
		return got == n, err
	})
}

// TestFullStateRefused gives the machine disks that are not its own. It stays shut, says
// why, and writes not a byte.
func TestFullStateRefused(t *testing.T) {
	l := newKeptLab(t, "debian-13")
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	for name, test := range map[string]struct {
		make string
		says string
	}{
		"another host's":      {"mkdir tree; echo zip > tree/host; mke2fs -q -t ext4 -L bakestate -d tree raw 64M", " is the state of the host zip: it was not touched"},
		"another file system": {"mkdir tree; echo mine > tree/thesis; mke2fs -q -t ext4 -L thesis -d tree raw 64M", " has ext4 labelled 'thesis', where ext4 labelled 'bakestate' is wanted: it was not touched"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
			defer cancel()
			dir := t.TempDir()
			command(t, "/bin/sh", "-c", "set -e; cd "+dir+"; "+test.make+"; qemu-img convert -f raw -O qcow2 raw state.qcow2")
			disk := filepath.Join(dir, "state.qcow2")
			h := begin(ctx, t, l, func(s *vm.Spec) { s.StateDisk = disk })
			if verdict := h.verdicts(t, 1); verdict.OK || !strings.HasPrefix(verdict.First, "state: ") {
				t.Errorf("%+v", verdict)
			}
			if !strings.Contains(h.Console(), "bake: state: /dev/vd") || !strings.Contains(h.Console(), test.says) {
				t.Error("the console does not say why")
			}
			h.enter(t) // as the host file asks, by keys of this once
			got, err := h.try("touch /run/bake/attested; systemctl start openclaw.service 2>&1")
			if err == nil {
				t.Errorf("the service started without its state: %s", got)
			}
			t.Log(err)
			if got := h.run(t, "ls -A /var/lib/openclaw 2> /dev/null | wc -l; findmnt -nl | grep -c bake/state || :"); got != "0\n0" {
				t.Errorf("files and mounts: %s", got)
			}
			if err := h.PowerDown(ctx); err != nil {
				t.Fatal(err)
			}
			command(t, "qemu-img", "compare", filepath.Join(dir, "raw"), disk)
		})
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
