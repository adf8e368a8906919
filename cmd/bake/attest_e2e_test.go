//go:build e2e

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bake/internal/attest"
	"bake/internal/console"
	"bake/internal/seed"
	"bake/internal/tool"
	"bake/internal/vm"
)

// A machine over several boots: what it attests, and what tries to provision it
// again.

// verdicts waits until the guest's console has had n verdicts and returns the
// last.
func (h *house) verdicts(t *testing.T, n int) attest.Verdict {
	t.Helper()
	if n == 1 {
		h.outlive(t)
	}
	pattern := regexp.MustCompile(fmt.Sprintf(`(?s)(?:BAKE-RESULT v1 [^\n]* end\r?\n.*?){%d}`, n))
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Minute)
	defer cancel()
	if _, err := h.WaitConsole(ctx, pattern); err != nil {
		t.Fatalf("verdict %d: %v", n, err)
	}
	verdict, ok := attest.LastVerdict(h.Console())
	if !ok {
		t.Fatalf("verdict %d cannot be read", n)
	}
	return verdict
}

// outlive starts the machine anew, once, if its kernel has panicked before cloud-init
// began, under emulation: QEMU's own translation has been seen to run an int3 of which the
// kernel had made something else, and nothing of bake's had run.
func (h *house) outlive(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 20*time.Minute)
	defer cancel()
	seen, err := h.WaitConsole(ctx, regexp.MustCompile(`Cloud-init v\.|BAKE-RESULT v1|Kernel panic - not syncing.*`))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(seen[0], "Kernel") || !isEmulated(t) {
		return
	}
	t.Logf("once more, for nothing of bake's has run: %s%s", seen[0], console.Tail(strings.Split(h.Console(), "\n")))
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if h.Machine, err = vm.Start(h.ctx, tool.Box{}, h.spec); err != nil {
		t.Fatal(err)
	}
}

// isEmulated says whether machines have no KVM here.
func isEmulated(t *testing.T) bool {
	t.Helper()
	accel, _, err := vm.Accelerator(t.Context(), tool.Box{}, "", "amd64", os.Getenv("BAKE_ACCEL"))
	if err != nil {
		t.Fatal(err)
	}
	return accel == "tcg"
}

// again reboots the guest from inside and waits for its next verdict.
func (h *house) again(t *testing.T, n int) attest.Verdict {
	t.Helper()
	_, _ = h.try("systemctl reboot")
	h.client.Close()
	h.restarted(t, n)
	return h.verdicts(t, n)
}

// restarted waits until the kernel runs for the nth time. An emulated machine has once
// stopped for good when its firmware had begun the boot loader, before anything of bake's:
// it is reset, once, and the log says where its processors were.
func (h *house) restarted(t *testing.T, n int) {
	t.Helper()
	pattern := regexp.MustCompile(fmt.Sprintf(`(?s)(?:\[ *0\.0+\] Linux version .*?){%d}`, n))
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Minute)
	defer cancel()
	_, err := h.WaitConsole(ctx, pattern)
	if err == nil {
		return
	}
	if !strings.Contains(lastLine(h.Console()), "BdsDxe: starting") || !isEmulated(t) {
		t.Fatalf("boot %d: %v", n, err)
	}
	was, bad := h.Reset(h.ctx)
	if bad != nil {
		t.Fatal(bad)
	}
	t.Logf("boot %d stopped between the firmware and the boot loader: reset. Its processors:\n%s", n, was)
}

// overwrite puts other bytes where the guest's seed disk has its own, at its next
// look.
func overwrite(t *testing.T, path string, data []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || int64(len(data)) > info.Size() {
		t.Fatalf("%d bytes do not fit: %v", len(data), err)
	}
	if _, err := file.Write(append(data, make([]byte, info.Size()-int64(len(data)))...)); err != nil {
		t.Fatal(err)
	}
}

// hostileSeed is one that would let somebody in.
func hostileSeed(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := seed.Write(path, seed.ISO, seed.Seed{
		UserData: []byte(`#cloud-config
bootcmd: [[touch, /pwned-bootcmd]]
runcmd: [[touch, /pwned-runcmd]]
write_files: [{path: /pwned-file, content: x}]
users: [{name: mallory, sudo: "ALL=(ALL) NOPASSWD:ALL"}]
`),
		MetaData: []byte("instance-id: hostile-1\nlocal-hostname: pwned\ndsmode: local\n"),
	}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unchanged is what a second provisioning would change.
const unchanged = `sha256sum /etc/ssh/ssh_host_*_key.pub /etc/machine-id /etc/passwd /etc/shadow /etc/sudoers.d/*
hostname; iptables-save | sed -e '/^#/d' -e 's/\[[0-9:]*\]//'; ls -d /pwned* 2>/dev/null
grep -c 'Cloud-init v' /var/log/cloud-init.log; ls -l --time-style=+ /var/lib/cloud/instance`

func TestE2EAttest(t *testing.T) {
	l := newLab(t, "debian-13")
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	disk := filepath.Join(t.TempDir(), "seed.iso")
	data, err := os.ReadFile(filepath.Join(l.out, "zap/latest/seed.iso"))
	if err == nil {
		err = os.WriteFile(disk, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h := begin(ctx, t, l, func(s *vm.Spec) { s.Seed = disk })
	first := h.verdicts(t, 1)
	if !first.OK {
		t.Fatalf("first boot: %+v", first)
	}
	h.enter(t)
	if got := h.run(t, "stat -c '%a %U' "+attest.ReportFile+"; test -e /run/bake/attested && echo open"); got != "600 root\nopen" {
		t.Errorf("report and mark: %s", got)
	}
	before := h.run(t, unchanged)

	// Another seed under the same label, and a kernel argument that asks for it.
	overwrite(t, disk, hostileSeed(t))
	h.run(t, `mount /dev/disk/by-label/UEFI /mnt
sed -i "s/ console=tty1 /&cloud-init=enabled ds=nocloud /" /mnt/EFI/debian/grub.cfg
grep -q cloud-init=enabled /mnt/EFI/debian/grub.cfg
umount /mnt`)
	second := h.again(t, 2)
	h.enter(t)
	if got := h.run(t, "grep -o cloud-init=enabled /proc/cmdline"); got == "" {
		t.Error("the kernel has no such argument: nothing was tried")
	}
	if !second.OK || second.Plan != first.Plan || second.Claims != first.Claims {
		t.Errorf("with a hostile seed: %+v", second)
	}
	if after := h.run(t, unchanged); after != before {
		t.Errorf("a hostile seed changed the machine:\n%s\nbefore:\n%s", after, before)
	}

	// No seed at all, and claims that somebody has changed.
	overwrite(t, disk, nil)
	h.run(t, "sed -i 's/denies incoming/permits incoming/' /usr/local/lib/bake/claims.json && grep -q permits /usr/local/lib/bake/claims.json")
	third := h.again(t, 3)
	if third.OK || !strings.Contains(third.Refused, "not those that were baked") {
		t.Errorf("with other claims: %+v", third)
	}
	if answer, err := h.Knock(ctx, 22); err != nil || answer != vm.Silent {
		t.Errorf("a machine that refused its claims answers at port 22: %v, %v", answer, err)
	}
}

// TestFullTampered changes one byte of what a machine is made from: of the program or
// of the claims on the seed's disk, or of the disk with the packages. The machine
// refuses it and answers nobody.
func TestFullTampered(t *testing.T) {
	for name, c := range map[string]struct {
		file  string
		plug  func(s *vm.Spec, path string)
		mark  string // before the byte; "" is the middle of the file
		names string // what the verdict does
	}{
		"the program": {"seed.iso", func(s *vm.Spec, path string) { s.Seed = path }, "bake.attest-report/1", "not those that were baked"},
		"the claims":  {"seed.iso", func(s *vm.Spec, path string) { s.Seed = path }, "denies incoming packets", "not those that were baked"},
		"the payload": {payloadName, func(s *vm.Spec, path string) { s.Payload = path }, "", "payload: Every package that was baked"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "debian-13")
			zap, err := os.ReadFile(filepath.Join(l.config, "hosts/zap.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			l.write(t, "hosts/zap.yaml", string(zap)+"  - fail2ban\n")
			if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
				t.Fatalf("bake image: exit %d", code)
			}
			data, err := os.ReadFile(filepath.Join(l.out, "zap/latest", c.file))
			if err != nil {
				t.Fatal(err)
			}
			at := len(data) / 2
			if c.mark != "" {
				at = bytes.Index(data, []byte(c.mark))
			}
			if at < 0 {
				t.Fatalf("%s does not have %q", c.file, c.mark)
			}
			data[at] ^= 1
			disk := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(disk, data, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
			defer cancel()
			h := begin(ctx, t, l, func(s *vm.Spec) { c.plug(s, disk) })
			verdict := h.verdicts(t, 1)
			if verdict.OK || !strings.Contains(verdict.Refused+verdict.First, c.names) {
				t.Errorf("%+v", verdict)
			}
			t.Logf("%+v", verdict)
			if answer, err := h.Knock(ctx, 22); err != nil || answer != vm.Silent {
				t.Errorf("port 22 answers: %v, %v", answer, err)
			}
		})
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
