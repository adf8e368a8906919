//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bake/internal/vm"
)

// clawHost has a card, an address and nobody who answers on it: everything it installs
// comes from its payload.
const clawHost = `host: zap
base: debian:13
machine: {vcpus: 2, memory: 4GiB, disk: 10GiB}
network: {addresses: [10.0.2.15/24]}
admin:
  name: ops
  keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example
layers:
  - ssh
  - ufw
  - sysctl
  - fail2ban
  - docker
  - docker-user
  - service-hardening
  - openclaw
`

// get asks the gateway, from the guest itself, with nothing but a shell, for the status
// that it answers with.
func (h *house) get(address, path string) (string, error) {
	return h.try("bash 2>/dev/null <<'END' || :\n" +
		"exec 3<>/dev/tcp/" + address + "/18789 && printf 'GET " + path + ` HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3 && head -n 1 <&3 | cut -d' ' -f2` +
		"\nEND\n")
}

// TestFullOpenClaw boots the real gateway on a machine that has never seen a network
// answer.
func TestFullOpenClaw(t *testing.T) {
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", clawHost)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(*vm.Spec) {})
	if verdict := h.verdicts(t, 1); !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	h.enter(t)
	defer func() { // while the guest can still be asked
		if t.Failed() {
			said, err := h.try("systemctl status --no-pager -n 40 openclaw.service bake-payload.service 2>&1; free -m")
			t.Log(said, err)
		}
	}()
	attested := h.run(t, "cut -d' ' -f1 /proc/uptime")

	h.await(t, "the gateway's answer", func() (bool, error) {
		code, err := h.get("127.0.0.1", "/readyz")
		return code == "200", err
	})
	t.Logf("attested after less than %s s, ready after less than %s s", attested, h.run(t, "cut -d' ' -f1 /proc/uptime"))
	for _, at := range [][2]string{{"127.0.0.1", "/healthz"}, {"127.0.0.1", "/readyz"}, {"::1", "/healthz"}} {
		if got, err := h.get(at[0], at[1]); got != "200" {
			t.Errorf("%s%s: %s, %v", at[0], at[1], got, err)
		}
	}
	if got := h.run(t, "ss -Hltn sport = :18789 | awk '{ print $4 }' | sort | xargs"); got != "127.0.0.1:18789 [::1]:18789" {
		t.Errorf("it listens on %s", got)
	}
	if answer, err := h.Knock(ctx, 18789); err != nil || answer != vm.Silent {
		t.Errorf("from outside: %v, %v", answer, err)
	}
	t.Log(h.run(t, "systemd-analyze security --no-pager openclaw.service | tail -n 1; systemctl show -P MemoryCurrent openclaw.service"))

	// As it is: in its own namespaces, as its own user.
	writes := h.run(t, `pid=$(systemctl show -P MainPID openclaw.service)
grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/$pid/status | xargs
nsenter -t $pid -m -- setpriv --reuid openclaw --regid openclaw --clear-groups sh -c '
for dir in / /* /etc/* /var/* /var/lib/* /var/cache/* /opt/* /opt/openclaw/* /home/* /root /run/*; do
	(: > "$dir/.probe") 2>/dev/null && rm "$dir/.probe" && echo "$dir"
done; exit 0' | sort -u | xargs`)
	if want := "NoNewPrivs: 1 CapBnd: 0000000000000000 Seccomp: 2\n/tmp /var/cache/openclaw /var/lib/openclaw /var/tmp /run/openclaw"; !sameWords(writes, want) {
		t.Errorf("it can write to\n%s\nwant\n%s", writes, want)
	}

	var audit struct {
		Summary struct{ Critical, Warn, Info int } `json:"summary"`
	}
	text := h.run(t, "openclaw security audit --json")
	if err := json.Unmarshal([]byte(text[strings.IndexByte(text, '{'):]), &audit); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("security audit: %+v", audit.Summary)
	if audit.Summary.Critical != 0 {
		t.Errorf("critical findings:\n%s", text)
	}
	if out, err := h.try("openclaw config set gateway.port 1 2>&1"); err == nil {
		t.Errorf("its configuration was changed: %s", out)
	}
}

func sameWords(a, b string) bool {
	count := map[string]int{}
	for _, w := range strings.Fields(a) {
		count[w]++
	}
	for _, w := range strings.Fields(b) {
		count[w]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
