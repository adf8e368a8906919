//go:build e2e

package main

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// lynisIndex is the hardening index that a machine with all layers is to have. It had 85 when
// this was last run, on Debian 13, and the plain image 64.
const lynisIndex = 85

// audited is what Lynis says of a machine.
type audited struct {
	index       int
	suggestions []string // "SSH-7408 Consider hardening SSH configuration: Port", sorted
}

// nothing is the layer of the plain machine: a host file must have one.
const nothing = `layer: nothing
summary: Leave everything as the image has it.
threat: none
checks:
  inside:
    - claim: There is a root directory.
      run: test -d /
      exit: 0
      falsify: exit 1
`

// TestFullLynis has Lynis judge a machine with all layers and one with none.
// Every suggestion that is left must be answered in layers/audit/README.md.
func TestFullLynis(t *testing.T) {
	all, err := os.ReadFile("../../testdata/e2e/hosts/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(all), "\nlayers:\n")
	machines := []lab{bakeForLynis(t, head+"\nlayers: [nothing]\n"), bakeForLynis(t, string(all))}
	var plain, baked audited
	t.Run("machines", func(t *testing.T) { // side by side: Lynis keeps one processor of a machine busy
		t.Run("plain", func(t *testing.T) {
			t.Parallel()
			plain = machines[0].audit(t, func(*house, *testing.T) {})
		})
		t.Run("baked", func(t *testing.T) {
			t.Parallel()
			baked = machines[1].audit(t, (*house).demandRemembered)
		})
	})
	t.Logf("hardening index: %d baked, %d plain; %d suggestions left of %d",
		baked.index, plain.index, len(baked.suggestions), len(plain.suggestions))
	if baked.index < lynisIndex || baked.index <= plain.index {
		t.Errorf("hardening index %d, want %d or more and more than without layers", baked.index, lynisIndex)
	}
	answers, err := os.ReadFile("../../layers/audit/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, suggestion := range baked.suggestions {
		id, _, _ := strings.Cut(suggestion, " ")
		t.Log(suggestion)
		if !strings.Contains(string(answers), id) {
			t.Errorf("not answered in layers/audit/README.md: %s", suggestion)
		}
	}
}

// bakeForLynis bakes a host that it is to judge.
func bakeForLynis(t *testing.T, host string) lab {
	t.Helper()
	l := newLab(t, "debian-13")
	l.write(t, "layers/nothing/layer.yaml", nothing)
	l.write(t, "hosts/zap.yaml", strings.Replace(host, "host: all", "host: zap", 1))
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	return l
}

// audit boots a machine and, after what comes first, runs Lynis in it.
func (l lab) audit(t *testing.T, first func(*house, *testing.T)) audited {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Minute)
	defer cancel()
	h := settle(ctx, t, l, newStreet(t))
	first(h, t)
	t.Log("\n" + h.run(t, `for unit in openclaw fail2ban docker containerd ssh; do
	systemctl cat $unit.service >/dev/null 2>&1 || continue
	echo "$unit: $(systemd-analyze security --no-pager $unit.service | tail -n 1)"
done`))
	report := h.run(t, `exec 3>&1 >&2
apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends lynis
lynis audit system --quick --no-colors --quiet || :
awk '/Performing test ID/ { id = $6 } /assigned partial/ { sub(/.*points /, ""); sub(/ *Currently having/, ""); print id, $0 }' /var/log/lynis.log >&3
cat /var/log/lynis-report.dat >&3`)
	points, report, _ := strings.Cut(report, "# Lynis Report")
	t.Logf("what costs points (of, then the sum up to there):\n%s", points)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	index := regexp.MustCompile(`(?m)^hardening_index=(\d+)$`).FindStringSubmatch(report)
	if index == nil {
		t.Fatal("Lynis gives no hardening index")
	}
	var a audited
	a.index, _ = strconv.Atoi(index[1])
	for _, found := range regexp.MustCompile(`(?m)^(?:suggestion|warning)\[\]=([^|]*)\|([^|]*)\|([^|]*)`).FindAllStringSubmatch(report, -1) {
		a.suggestions = append(a.suggestions, strings.TrimSpace(found[1]+" "+found[2]+" "+found[3]))
	}
	slices.Sort(a.suggestions)
	return a
}

// demandRemembered wants the layer aide to have taken the system as it attested, to tell of
// what is added, and to take what an upgrade changes only if all was well before.
func (h *house) demandRemembered(t *testing.T) {
	t.Helper()
	h.await(t, "what AIDE remembers", func() (bool, error) {
		state, err := h.try("test -s /var/lib/aide/aide.db && systemctl is-active bake-aide.service || :")
		return state == "inactive", err
	})
	if got, want := h.run(t, `cd /etc/systemd/system
look() { systemctl start bake-aide.service 2> /dev/null && echo well || echo changed; }
look
echo > unasked.service
/usr/local/lib/bake/aide before > /dev/null || echo not well
/usr/local/lib/bake/aide after || echo not taken
look
journalctl -q -o cat -u bake-aide.service | grep -o '[^ ]*unasked.service$' | sort -u
rm unasked.service
/usr/local/lib/bake/aide before > /dev/null && echo > upgraded.service && /usr/local/lib/bake/aide after > /dev/null
look`), "well\nnot well\nnot taken\nchanged\n/etc/systemd/system/unasked.service\nwell"; got != want {
		t.Errorf("what AIDE says:\n%s\nwant:\n%s", got, want)
	}
}
