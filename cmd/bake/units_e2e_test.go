//go:build e2e

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/vm"
)

// TestFullNightlyUnits installs the units on a Debian 13 with systemd and has them run
// there. There is no QEMU in the guest, so the night ends by saying so; what is shown is
// that the service starts as it is, that bake can do in it what it has to, and what
// nobody can.
func TestFullNightlyUnits(t *testing.T) {
	l := newLab(t, "debian-13")
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	program := filepath.Join(t.TempDir(), "bake")
	if output, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(*vm.Spec) {})
	if verdict := h.verdicts(t, 1); !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	h.enter(t)
	if _, err := h.feed("sudo -n tee /usr/local/bin/bake >/dev/null", bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	host := strings.NewReplacer("base: debian:13", "base: ../base.qcow2").Replace(mustRead(t, filepath.Join(l.config, "hosts/zap.yaml")))
	if _, err := h.feed("sudo -n sh -c 'chmod 755 /usr/local/bin/bake; mkdir -p /srv/bake/hosts; cat > /srv/bake/hosts/zap.yaml'", strings.NewReader(host)); err != nil {
		t.Fatal(err)
	}
	said := h.run(t, `cd /srv/bake && truncate -s 1M base.qcow2 && printf 'notify: [{textfile: {path: bake.prom}}]\n' > nightly.yaml
chown -R ops:ops /srv/bake
bake nightly install --config /srv/bake --out /srv/bake/out --run-as ops --at 04:00 2>&1 >/dev/null
systemctl is-enabled bake-nightly.timer; systemctl is-active bake-nightly.timer
systemd-analyze security bake-nightly.service | tail -1
systemctl start bake-nightly.service 2>&1 || :
systemctl show -P ExecMainStatus bake-nightly.service`)
	t.Log(said)
	for _, want := range []string{"bake-nightly.timer is enabled\n", "\nenabled\nactive\n", "OK"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if !strings.HasSuffix(said, "\n5") { // what is no image at all is refused before QEMU is looked for
		t.Errorf("the night ended otherwise than it should")
	}
	logs := h.run(t, "bake nightly logs --config /srv/bake | cat; ls -l /home/ops/.local/state/bake/nightly/*/000001.json /srv/bake/bake.prom; grep exit_status /srv/bake/bake.prom")
	t.Log(logs)
	for _, want := range []string{"not a qcow2 image: it starts with zeros", "-rw------- 1 ops ops", "bake_nightly_last_exit_status 5"} {
		if !strings.Contains(logs, want) {
			t.Errorf("there is no %q", want)
		}
	}

	// What the service may do, and what it may not.
	h.run(t, `mkdir -p /etc/systemd/system/bake-nightly.service.d
cat > /etc/systemd/system/bake-nightly.service.d/try.conf <<'X'
[Service]
ExecStart=
ExecStart=/bin/sh -c 'try() { if eval "$$2" >/dev/null 2>&1; then echo "$$1 can"; else echo "$$1 cannot"; fi; }; \
	try out "touch /srv/bake/out/x"; try config "touch /srv/bake/x"; try cache "touch /home/ops/.cache/bake/x"; \
	try home "touch /home/ops/x"; try etc "touch /etc/x"; try var "touch /var/lib/x"; try tmp "touch /var/tmp/x"; \
	try namespace "unshare -U true"; try sudo "sudo -n true"; try memory "grep MemAvailable /proc/meminfo"; \
	try others "test -e /proc/1/cmdline"; try disks "head -c1 /dev/vda"; try null "head -c1 /dev/zero"'
X
systemctl daemon-reload; systemctl start bake-nightly.service`)
	got := h.run(t, "journalctl -u bake-nightly.service -o cat --since -5min | grep ' can'")
	want := "out can\nconfig can\ncache can\nhome cannot\netc cannot\nvar cannot\ntmp can\nnamespace cannot\nsudo cannot\nmemory can\nothers cannot\ndisks cannot\nnull can"
	if got != want {
		t.Errorf("the service:\n%s\nwant\n%s", got, want)
	}
	if left := h.run(t, "ls /var/tmp | grep '^x$' || :"); left != "" {
		t.Errorf("its /var/tmp is everybody's: %q", left)
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// inContainer boots a Debian 12 by its own systemd, in a container of which nothing is left, and has
// it do what try says; what that printed is what is printed. qemu-img is there, of this
// machine with its libraries, and QEMU is not.
const inContainer = `set -e
cd "$1"; base=$2 program=$3
qemu-img convert -O raw "$base" raw.img
start=$(sfdisk --json raw.img | python3 -c 'import json, sys
print(max(json.load(sys.stdin)["partitiontable"]["partitions"], key=lambda p: p["size"])["start"] * 512)')
mkdir root; mount -o loop,offset="$start" raw.img root
mkdir -p root/srv/bake/hosts root/srv/metrics root/opt/q
cp "$program" root/usr/local/bin/bake; cp host.yaml root/srv/bake/hosts/zap.yaml; cp "$base" root/srv/bake/base.qcow2
printf 'notify: [{textfile: {path: /srv/metrics/bake.prom}}]\n' > root/srv/bake/nightly.yaml
cp -L $(ldd "$(command -v qemu-img)" | grep -o '/[^ ]*') "$(command -v qemu-img)" root/opt/q
printf '#!/bin/sh\nexec /opt/q/ld-linux-x86-64.so.2 --library-path /opt/q /opt/q/qemu-img "$@"\n' > root/usr/local/bin/qemu-img
cp try root/usr/local/bin/try; chmod 755 root/usr/local/bin/*
grep -q '^ops:' root/etc/passwd || chroot root useradd -m ops
chroot root chown -R ops: /srv/bake /srv/metrics
printf '[Service]\nType=oneshot\nExecStart=/usr/local/bin/try\nStandardOutput=file:/srv/said\nStandardError=file:/srv/said\n' > root/etc/systemd/system/try.service
mkdir -p root/etc/systemd/system/multi-user.target.wants
ln -sf ../try.service root/etc/systemd/system/multi-user.target.wants/
for unit in cloud-init-local cloud-init cloud-config cloud-final systemd-networkd-wait-online; do ln -sf /dev/null root/etc/systemd/system/$unit.service; done
timeout 300 systemd-nspawn -q -b -D root --register=no --keep-unit --private-network -M bake-try > console 2>&1 || { tail -50 console; exit 1; }
cat root/srv/said; umount root`

// TestFullNightlyContainer has a service as bake nightly install writes it do a night under a real
// systemd, as far as one can without QEMU: it fetches, builds, makes its first key, signs, and
// writes the metrics outside of its own directories.
func TestFullNightlyContainer(t *testing.T) {
	demandRoot(t)
	for _, program := range []string{"systemd-nspawn", "qemu-img", "sfdisk", "python3", "unshare", "ldd"} {
		demand(t, program)
	}
	l, dir := newLab(t, "debian-12"), t.TempDir()
	program := filepath.Join(dir, "bake")
	if output, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	const try = `#!/bin/sh
bake nightly install --config /srv/bake --out /srv/bake/out --run-as ops --at 04:00 2>&1 >/dev/null
systemctl is-active bake-nightly.timer
systemctl start bake-nightly.service
systemctl show -P ExecMainStatus bake-nightly.service
journalctl -u bake-nightly.service -o cat --no-pager
stat -c '%U %a %n' /home/ops/.local/share/bake/signing.key /srv/metrics/bake.prom /srv/bake/out/zap/latest/provenance.intoto.jsonl
grep exit_status /srv/metrics/bake.prom
poweroff
`
	for name, content := range map[string]string{"try": try, "host.yaml": strings.Replace(hostFixture, "disk: 1GiB", "disk: 4GiB", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.Command("unshare", "-m", "sh", "-c", inContainer, "sh", dir, l.base, program).CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bake-nightly.timer is enabled\nactive\n", "\n4\n", "bake: made a key to sign generations with", "bake: zap: generation ",
		"verify: qemu-system-x86_64 is not installed", "ops 600 /home/ops/.local/share/bake/signing.key\nops 644 /srv/metrics/bake.prom\nops 600 ",
		"bake_nightly_last_exit_status 4\n"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}
