//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
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
  - openclaw-container: {image: "sha256:0000000000000000000000000000000000000000000000000000000000000000", port: 3000}
`

// isReady asks a gateway whether it is, and tells each new answer. It takes its time:
// under emulation each question costs the guest a second that the gateway could use.
func (h *house) isReady(t *testing.T, port string) func() (bool, error) {
	last := ""
	return func() (bool, error) {
		code, err := h.try("sleep 5\n" + getScript("127.0.0.1/"+port, "/readyz"))
		if code != last {
			last = code
			t.Logf("the gateway at %s answers %q", port, code)
		}
		return code == "200", err
	}
}

// awaitGateway waits for a gateway that may be started more than once: see the layer's
// program, openclaw again.
func (h *house) awaitGateway(t *testing.T, what, unit, port string) {
	t.Helper()
	isReady, last := h.isReady(t, port), error(nil)
	for range 3 {
		if last = h.until(what, isReady); !errors.Is(last, context.DeadlineExceeded) || h.ctx.Err() != nil {
			break
		}
	}
	if last != nil {
		t.Fatal(last)
	}
	t.Log(h.run(t, `unit=`+unit+`
echo "the machine attested at $(python3 -c 'import json; print(json.load(open("/var/lib/bake/report.json"))["moments"]["attested"] // 1000)') s"
echo "$unit started last at $(($(systemctl show -P ExecMainStartTimestampMonotonic $unit) / 1000000)) s, was ready before $(cut -d. -f1 /proc/uptime) s"
echo "$(journalctl -q -b -o cat -u $unit | grep -c 'Main process exited') starts were in vain" || :`))
}

// get asks the gateway, from the guest itself, with nothing but a shell, for the status
// that it answers with.
func (h *house) get(at, path string) (string, error) { return h.try(getScript(at, path)) }

func getScript(at, path string) string {
	return "bash 2>/dev/null <<'END' || :\n" +
		"exec 3<>/dev/tcp/" + at + " && printf 'GET " + path + ` HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' >&3 && head -n 1 <&3 | cut -d' ' -f2` +
		"\nEND\n"
}

// TestFullOpenClaw boots the real gateway on a machine that has never seen a network
// answer.
func TestFullOpenClaw(t *testing.T) {
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", clawHost)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(*vm.Spec) {})
	verdict := h.verdicts(t, 1)
	if !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	t.Logf("%d claims hold", verdict.Claims)
	h.enter(t)
	defer func() { // while the guest can still be asked
		if t.Failed() {
			said, err := h.try("systemctl status --no-pager -n 0 openclaw.service 2>&1; journalctl --no-pager -o cat -u openclaw.service | grep -v 'was not run because' | tail -n 60; free -m")
			t.Log(said, err)
		}
	}()
	h.awaitGateway(t, "the gateway's answer", "openclaw.service", "18789")
	for _, at := range [][2]string{{"127.0.0.1", "/healthz"}, {"127.0.0.1", "/readyz"}, {"::1", "/healthz"}} {
		if got, err := h.get(at[0]+"/18789", at[1]); got != "200" {
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
	if want := "NoNewPrivs: 1 CapBnd: 0000000000000000 Seccomp: 2\n/tmp /var/cache/openclaw /var/lib/openclaw /var/tmp /run/openclaw /run/shm"; !sameWords(writes, want) {
		t.Errorf("it can write to\n%s\nwant\n%s", writes, want)
	}

	h.demandAudit(t, "openclaw security audit --json")
	if out, err := h.try("openclaw config set gateway.port 1 2>&1"); err == nil {
		t.Errorf("its configuration was changed: %s", out)
	}
	t.Run("refused", h.testRefused)
	if verdict := h.again(t, 2); !verdict.OK {
		t.Fatalf("at the second boot: %+v", verdict)
	}
	h.enter(t)
	h.awaitGateway(t, "the gateway's answer after a reboot", "openclaw.service", "18789")
}

// testRefused ends the gateway as it ends itself: a refused configuration is final, a
// machine that was too slow is given more starts, so many and no more. A reboot makes
// it the gateway again.
func (h *house) testRefused(t *testing.T) {
	instead := func(words string) {
		h.run(t, `mkdir -p /run/systemd/system/openclaw.service.d
cat > /run/systemd/system/openclaw.service.d/99-test.conf <<'END'
[Service]
ExecStart=
ExecStart=/bin/sh -c 'echo "`+words+`"; exit 78'
END
systemctl daemon-reload
printf '\n\n\n' > /run/bake/openclaw.tries # three of the five were had
systemctl restart openclaw.service || :`)
	}
	ended := func() (bool, error) {
		got, err := h.try("systemctl show -P ActiveState openclaw.service openclaw-again.service | xargs")
		return got == "failed inactive", err
	}
	starts := func(since string) string {
		return h.run(t, "journalctl -q -o cat --since @"+since+" -u openclaw.service | grep -c 'Main process exited'; wc -l < /run/bake/openclaw.tries; journalctl -q -o cat --since @"+since+" -u openclaw-again.service | grep -c 'too slow for openclaw.service' || :")
	}
	since := h.run(t, "date +%s")
	instead("no such key: gatway")
	h.await(t, "the end of a gateway with a wrong configuration", ended)
	if got := starts(since); got != "1\n3\n0" {
		t.Errorf("a refused configuration: starts, tries counted, complaints:\n%s", got)
	}
	since = h.run(t, "sleep 1; date +%s")
	instead("state lease heartbeat did not become ready (phase=startup)")
	h.await(t, "the end of a gateway on a machine that stays too slow", func() (bool, error) {
		if done, err := ended(); !done {
			return false, err
		}
		got, err := h.try("wc -l < /run/bake/openclaw.tries")
		return got == "6", err
	})
	if got := starts(since); got != "3\n6\n1" {
		t.Errorf("a machine too slow: starts, tries counted, complaints:\n%s", got)
	}
}

// herald tells on the console what the gateway answers, for a machine that nobody can
// log in to. It has what a layer of a user's own has.
const herald = `layer: herald
summary: Tells what the gateway answers.
threat: none
files:
  /usr/local/lib/herald: {mode: "0755", when: boot}
  /etc/systemd/system/herald.service: {when: boot}
cloud-config:
  bootcmd:
    - |
      mkdir -p /etc/systemd/system/bake-attested.target.wants
      ln -sfn ../herald.service /etc/systemd/system/bake-attested.target.wants/herald.service
      systemctl daemon-reload
checks:
  inside:
    - claim: The herald waits for the machine to attest.
      run: systemctl show -P ActiveState herald.service
      is: inactive
      falsify: systemctl start herald.service
`

const heraldUnit = `[Unit]
After=openclaw.service
[Service]
ExecStart=/usr/local/lib/herald
`

const heraldScript = `#!/bin/bash
say() {
    until [ "$answer" = 200 ]; do
        sleep 2
        answer=$( (exec 3<>/dev/tcp/127.0.0.1/18789 && printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' "$1" >&3 && head -n 1 <&3 | cut -d' ' -f2) 2>/dev/null)
        if [ "$(systemctl is-active openclaw.service)" = failed ] && [ "$(cat /run/bake/openclaw.tries | wc -l)" -gt 5 ]; then
            journalctl --no-pager -o cat -n 20 -u openclaw.service
            answer=none
            break
        fi
    done
    echo "HERALD $1 $answer after $(cut -d. -f1 /proc/uptime) s"
    answer=
}
{
    echo "HERALD cards $(find /sys/class/net/*/device -maxdepth 0 2>/dev/null | wc -l), $(dpkg-query -W -f '${db:Status-Status} ' docker.io fail2ban | xargs), $(systemctl is-active docker fail2ban | xargs)"
    say /healthz
    say /readyz
} > /dev/console 2>&1
`

// TestFullNoCard boots the same machine with no network device at all: every claim
// that the guest itself can try holds, and the gateway answers.
func TestFullNoCard(t *testing.T) {
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", strings.Replace(clawHost, "network: {addresses: [10.0.2.15/24]}\n", "", 1)+"  - herald\n")
	l.write(t, "layers/herald/layer.yaml", herald)
	l.write(t, "layers/herald/files/etc/systemd/system/herald.service", heraldUnit)
	l.write(t, "layers/herald/files/usr/local/lib/herald", heraldScript)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(s *vm.Spec) { s.NoCard = true })
	verdict := h.verdicts(t, 1)
	if !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	t.Logf("%d claims hold", verdict.Claims)
	tells := func(t *testing.T, pattern, want string) {
		said, err := h.WaitConsole(ctx, regexp.MustCompile(pattern))
		if err != nil {
			t.Fatal(err)
		}
		t.Log(said[0])
		if said[1] != want {
			t.Errorf("%s, want %s", said[1], want)
		}
	}
	tells(t, `HERALD (cards [^\r\n]*)`, "cards 0, installed installed, active active")
	t.Run("gateway", func(t *testing.T) {
		tells(t, `HERALD /healthz (\w+) after \d+ s`, "200")
		tells(t, `HERALD /readyz (\w+) after \d+ s`, "200")
	})
}

// TestFullOpenClawFalsify has every claim about the gateway fail.
func TestFullOpenClawFalsify(t *testing.T) {
	l := newLab(t, "debian-13")
	host, _, ok := strings.Cut(clawHost, "  - fail2ban\n")
	if !ok {
		t.Fatal("the host has no fail2ban")
	}
	l.write(t, "hosts/zap.yaml", host+"  - service-hardening\n  - openclaw\n")
	code, report := l.verified(t, "zap", "--falsify")
	if code != 0 || report.Failed != 0 {
		t.Errorf("verify: exit %d, %d claims failed", code, report.Failed)
	}
	for _, result := range report.Results {
		if result.Layer == "openclaw" && (result.Falsified == nil || !*result.Falsified) {
			t.Errorf("%s: was not seen to fail: %s", result.Claim, result.After)
		}
	}
	find(t, report, "openclaw", "Its code is what was baked")
}

// TestFullContainer runs the tree of the payload in a container, of an image that is made
// there: the one that the host file names is nobody's.
func TestFullContainer(t *testing.T) {
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", strings.Replace(clawHost, "disk: 10GiB", "disk: 10GiB, state: 512MiB", 1)+`  - backup: {keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo backup"]}
`)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Minute)
	defer cancel()
	h := begin(ctx, t, l, func(s *vm.Spec) { s.State = 512 << 20 })
	if verdict := h.verdicts(t, 1); !verdict.OK {
		t.Fatalf("the machine stayed shut: %+v", verdict)
	}
	h.enter(t)
	patience := ""
	if isEmulated(t) {
		patience = "--change 'ENV NODE_OPTIONS=--require=/patience.cjs'"
	}
	h.run(t, `systemctl stop openclaw.service openclaw-container.service
cat > /patience.cjs <<'END'
`+patienceProgram+`END
lib=$(for program in /opt/openclaw/bin/node /bin/sh; do ldd $program | grep -o '/[^ ]*'; done | sort -u | sed 's,^/,,')
image=$(tar -C / -ch opt/openclaw bin/sh patience.cjs $lib | docker import `+patience+` --change 'WORKDIR /opt/openclaw/node_modules/openclaw' --change 'ENV PATH=/opt/openclaw/bin:/bin' -)
sed -i "s/^image=.*/image=$image/" /usr/local/lib/bake/openclaw-container
systemctl reset-failed openclaw-container.service || :
systemctl start --no-block openclaw-container.service`)
	defer func() {
		if t.Failed() {
			said, err := h.try("systemctl status --no-pager -n 40 openclaw-container.service 2>&1; docker ps -a; docker logs openclaw 2>&1 | tail")
			t.Log(said, err)
		}
	}()
	h.awaitGateway(t, "the container's answer", "openclaw-container.service", "3000")
	// What differs from the image are the places of its mounts, which Docker makes.
	if got := h.run(t, `pid=$(docker inspect -f '{{.State.Pid}}' openclaw)
grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/$pid/status | xargs
awk '$1 == "Uid:" { print ($2 >= 65536) }' /proc/$pid/status
docker port openclaw; docker diff openclaw | sort | xargs`); got != "CapBnd: 0000000000000000 NoNewPrivs: 1 Seccomp: 2\n1\n18789/tcp -> 127.0.0.1:3000\nA /run A /run/openclaw A /tmp A /var A /var/lib A /var/lib/openclaw" {
		t.Errorf("the container is\n%s", got)
	}
	if answer, err := h.Knock(h.ctx, 3000); err != nil || answer != vm.Silent {
		t.Errorf("from outside: %v, %v", answer, err)
	}
	h.demandAudit(t, "docker exec openclaw node openclaw.mjs security audit --json")
	t.Run("snapshot", h.testContainerSnapshot)
	ended := "journalctl -q -b -o cat -u openclaw-container.service | grep -c 'Main process exited' || :"
	before := h.run(t, ended+"\ndocker kill openclaw > /dev/null")
	h.awaitGateway(t, "the answer of a container that was killed", "openclaw-container.service", "3000")
	// The next one does not take the killed one's lease for another machine's.
	if after := h.run(t, ended); after != h.run(t, "echo $(("+before+" + 1))") {
		t.Errorf("%s had ended before it was killed, %s when there was an answer again:\n%s", before, after,
			h.run(t, "journalctl -q -b -o short-monotonic -u openclaw-container.service | grep -B 15 'Main process exited'"))
	}
}

// testContainerSnapshot: the container itself stands still for a snapshot of its state, and
// not only the engine's client, whose unit has its name.
func (h *house) testContainerSnapshot(t *testing.T) {
	const take = `scope=$(systemctl show -P ControlGroup "$(docker inspect -f 'docker-{{.Id}}.scope' openclaw)")
/usr/local/lib/bake/backup > /run/snapshot.tar 2> /run/said &
while kill -0 $! 2> /dev/null; do grep -h ^frozen /sys/fs/cgroup$scope/cgroup.events; done | sort -u | xargs
wait $! || cat /run/said
grep -h ^frozen /sys/fs/cgroup$scope/cgroup.events
tar -xOf /run/snapshot.tar .bake/manifest.json | python3 -c '
import json, sys
manifest = json.load(sys.stdin)
found = [d["integrity"] for d in manifest["databases"] if d["path"].startswith("var/lib/openclaw-container/")]
print(manifest["method"], "var/lib/openclaw-container" in manifest["roots"], len(found) > 0, set(found))'
rm /run/snapshot.tar`
	if got := h.run(t, take); got != "frozen 0 frozen 1\nfrozen 0\nfrozen True True {'ok'}" {
		t.Errorf("%s\n%s", got, h.run(t, "cat /run/said"))
	}
	h.awaitGateway(t, "the container's answer after a snapshot", "openclaw-container.service", "3000")
	h.run(t, "sed -i 's/^scope() {/&\\n    return/' /usr/local/lib/bake/openclaw-container")
	if got, _, _ := strings.Cut(h.run(t, take), "\n"); got != "frozen 0" {
		t.Errorf("without its scope the container was %s: the test sees nothing", got)
	}
	h.run(t, "sed -i '/^scope() {/{n;d}' /usr/local/lib/bake/openclaw-container")
}

// demandAudit wants OpenClaw itself to find nothing critical.
func (h *house) demandAudit(t *testing.T, command string) {
	t.Helper()
	var audit struct {
		Summary struct{ Critical, Warn, Info int } `json:"summary"`
	}
	text := h.run(t, command)
	if err := json.Unmarshal([]byte(text[max(strings.IndexByte(text, '{'), 0):]), &audit); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("security audit: %+v", audit.Summary)
	if audit.Summary.Critical != 0 {
		t.Errorf("critical findings:\n%s", text)
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
