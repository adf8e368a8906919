//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/nightly"
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

// ofQEMU runs this machine's programs of QEMU, by the name that it is called by, with the
// loader and the libraries that they have here: of the container they need the kernel. How a
// machine is booted is written where the service may write and bake does not.
const ofQEMU = `#!/bin/sh
case "$*" in *pflash0=*) echo "boot: $*" >> /srv/metrics/boots ;; esac
case $0 in *qemu-system*) set -- -L /usr/share/qemu "$@" ;; esac
QEMU_MODULE_DIR=/opt/q exec /opt/q/ld-linux-x86-64.so.2 --library-path /opt/q "/opt/q/${0##*/}" "$@"
`

// inService is what the service does when a night is over and before systemd clears up: it
// shows what runs and what lies about in it then.
const inService = `#!/bin/sh
running=$(pgrep -u ops -af .)
echo "$running" | sed 's/^[0-9]*/runs:/'
find /tmp /var/tmp -mindepth 1 | sed 's/^/left: /'
`

// inContainer boots a Debian 12 by its own systemd, in a container of which nothing is left, and has
// it do what try says; what that printed is what is printed, and the records of its nights are left
// in nights. qemu-img is there, of this machine with its libraries; QEMU waits in /opt/q.
const inContainer = `set -e
cd "$1"; base=$2 program=$3
qemu-img convert -O raw "$base" raw.img
start=$(sfdisk --json raw.img | python3 -c 'import json, sys
print(max(json.load(sys.stdin)["partitiontable"]["partitions"], key=lambda p: p["size"])["start"] * 512)')
mkdir root; mount -o loop,offset="$start" raw.img root
mkdir -p root/srv/bake/hosts root/srv/metrics root/opt/q
cp "$program" root/usr/local/bin/bake; cp host.yaml root/srv/bake/hosts/zap.yaml; cp "$base" root/srv/bake/base.qcow2
printf 'notify: [{textfile: {path: /srv/metrics/bake.prom}}]\n' > root/srv/bake/nightly.yaml
for file in "$(command -v qemu-img)" "$(command -v qemu-system-x86_64)" /usr/lib/*/qemu/accel-tcg-x86_64.so; do
	test ! -e "$file" || cp -L $(ldd "$file" | grep -o '/[^ ]*') "$file" root/opt/q
done
cp of-qemu root/usr/local/bin/qemu-img; cp of-qemu root/opt/q/wrapper
cp try left root/usr/local/bin; chmod 755 root/usr/local/bin/* root/opt/q/*
binds=
for dir in /usr/share/qemu $(grep -ho '/usr/share/[^/"]*' /usr/share/qemu/firmware/*.json | sort -u); do
	test ! -d "$dir" || binds="$binds --bind-ro=$dir"
done
grep -q '^ops:' root/etc/passwd || chroot root useradd -m ops
chroot root chown -R ops: /srv/bake /srv/metrics
printf '[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/usr/local/bin/try\nStandardOutput=file:/srv/said\nStandardError=file:/srv/said\n' > root/etc/systemd/system/try.service
mkdir -p root/etc/systemd/system/multi-user.target.wants root/etc/systemd/system/bake-nightly.service.d
ln -sf ../try.service root/etc/systemd/system/multi-user.target.wants/
printf '[Service]\nExecStop=/usr/local/bin/left\n' > root/etc/systemd/system/bake-nightly.service.d/left.conf
for unit in cloud-init-local cloud-init cloud-config cloud-final systemd-networkd-wait-online; do ln -sf /dev/null root/etc/systemd/system/$unit.service; done
timeout 3000 systemd-nspawn -q -b -D root $binds --register=no --keep-unit --private-network -M bake-try > console 2>&1 || { tail -50 console; cat root/srv/said; exit 1; }
cat root/srv/said; mkdir nights; cp root/home/ops/.local/state/bake/nightly/*/*.json nights; umount root`

// TestFullNightlyContainer has a service as bake nightly install writes it do its nights under a
// real systemd, in all that confines it. Without QEMU a night fetches, builds, makes its first key,
// signs, and says what it lacks; with QEMU the next one boots, proves and promotes that; then
// nothing is new. The metrics are outside of bake's own directories.
func TestFullNightlyContainer(t *testing.T) {
	demandRoot(t)
	for _, program := range []string{"systemd-nspawn", "qemu-img", "qemu-system-x86_64", "sfdisk", "python3", "unshare", "ldd"} {
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
night() {
	echo "= $1"
	rm -f /srv/metrics/*
	systemctl start bake-nightly.service
	echo "status $(systemctl show -P ExecMainStatus bake-nightly.service)"
	journalctl -u bake-nightly.service -o cat --no-pager --cursor-file=/run/read
	grep exit_status /srv/metrics/bake.prom
	cat /srv/metrics/boots 2>/dev/null
}
night lacking
stat -c '%U %a %n' /home/ops/.local/share/bake/signing.key /srv/metrics/bake.prom /srv/bake/out/zap/latest/provenance.intoto.jsonl
cp /opt/q/wrapper /usr/local/bin/qemu-system-x86_64
night proving
night quiet
echo = after
readlink /srv/bake/out/zap/current
runuser -u ops -- env HOME=/home/ops bake --config /srv/bake --out /srv/bake/out attest verify --host zap
echo "status $?"
pgrep -af 'qemu[-]' || echo no QEMU runs
find / -xdev -name 'bake-vm-*'
poweroff
`
	for name, content := range map[string]string{"try": try, "left": inService, "of-qemu": ofQEMU,
		"host.yaml": strings.Replace(hostFixture, "disk: 1GiB", "disk: 4GiB", 1)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.Command("unshare", "-m", "sh", "-c", inContainer, "sh", dir, l.base, program).CombinedOutput()
	t.Logf("%s", output)
	if err != nil {
		t.Fatal(err)
	}
	demandNights(t, string(output), filepath.Join(dir, "nights"))
}

// demandNights judges what was said in the container, and the records of its three nights.
func demandNights(t *testing.T, said, records string) {
	t.Helper()
	var nights []nightly.Outcome
	for i, want := range []struct {
		code    int
		verdict nightly.Verdict
	}{{4, nightly.CouldNot}, {0, nightly.Promoted}, {0, nightly.Unchanged}} {
		var n nightly.Night
		text := mustRead(t, filepath.Join(records, fmt.Sprintf("%06d.json", i+1)))
		if err := json.Unmarshal([]byte(text), &n); err != nil || len(n.Hosts) != 1 {
			t.Fatalf("night %d: %v\n%s", i+1, err, text)
		}
		if n.Exit != want.code || n.Hosts[0].Verdict != want.verdict {
			t.Errorf("night %d: %+v", i+1, n)
		}
		nights = append(nights, n.Hosts[0])
	}
	proven := nights[1]
	if proven.Claims < 20 || proven.Failed != 0 || proven.Generation == "" || nights[2].Current != proven.Generation {
		t.Errorf("%+v, then %+v", proven, nights[2])
	}
	parts := strings.Split(said, "\n= ")
	if len(parts) != 5 {
		t.Fatalf("the container did not come to its end")
	}
	const alone = "\nruns: /bin/sh /usr/local/bin/left\nbake-nightly.service: Deactivated successfully.\n" // and nothing lies about
	for i, words := range [][]string{
		{"bake-nightly.timer is enabled\nactive"},
		{"lacking\n", "\nstatus 4\n", "bake: made a key to sign generations with", "bake: zap: generation ", "verify: qemu-system-x86_64 is not installed",
			"bake_nightly_last_exit_status 4\n", "ops 600 /home/ops/.local/share/bake/signing.key\nops 644 /srv/metrics/bake.prom\nops 600 "},
		{"proving\nstatus 0\n", "bake: zap: the guest has its verdict", "1 promoted", alone, "bake_nightly_last_exit_status 0\n", "boot: ",
			"/var/tmp/bake-vm-", "-sandbox on,"}, // QEMU, too, confines itself
		{"quiet\nstatus 0\n", "1 unchanged", alone, "bake_nightly_last_exit_status 0"},
		{"after\n" + proven.Generation + "\n", "zap: generation " + proven.Generation, " claims held, signed by ", "\nstatus 0\nno QEMU runs\n"},
	} {
		for _, want := range words {
			if !strings.Contains(parts[i], want) {
				t.Errorf("it does not say %q in\n%s", want, parts[i])
			}
		}
	}
	if strings.Contains(parts[3], "boot: ") || !strings.HasSuffix(said, "\nno QEMU runs\n") {
		t.Error("a quiet night booted, or an overlay is left")
	}
}
