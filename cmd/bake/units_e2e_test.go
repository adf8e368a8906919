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
