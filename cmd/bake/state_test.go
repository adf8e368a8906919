package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/verify"
)

// A layer with state says what a rebuild loses; the machine's disk for it is in the
// domain and in what verify boots.
func TestStateOfHost(t *testing.T) {
	w := newWorkshop(t)
	w.write(t, "layers/agent/layer.yaml", "layer: agent\nsummary: s\nthreat: none\nstate: [/var/lib/agent: 782, /srv/x]\n", 0o644)
	const warning = "bake: zap: a rebuild will lose /var/lib/agent, /srv/x: machine: {state: 20GiB} keeps it on a disk of its own\n"
	for _, test := range []struct {
		from, to string
		losing   bool
		state    int64
	}{
		{"sysctl", "sysctl", false, 0},
		{"sysctl", "agent", true, 0},
		{"sysctl", "state", false, -1},
		{"{disk: 1GiB}", "{disk: 1GiB, state: 3GiB}", false, 3 << 30},
	} {
		text := strings.Replace(hostFixture, test.from, test.to, 1)
		if test.state > 0 {
			text = strings.Replace(text, "sysctl", "agent", 1)
		}
		w.write(t, "hosts/zap.yaml", text, 0o644)
		o := finish(t, w.command("image", "--host", "zap"))
		if test.state < 0 {
			if o.code != 3 || !strings.Contains(o.stderr, "the machine has no disk that the layer could mount") {
				t.Errorf("%s: exit %d: %s", test.to, o.code, o.stderr)
			}
			continue
		}
		if o.code != 0 || strings.Contains(o.stderr, warning) != test.losing || strings.Contains(o.stderr, "will lose") != test.losing {
			t.Errorf("%s: exit %d: %s", test.to, o.code, o.stderr)
		}
		var plan verify.Plan
		latest := filepath.Join(w.dir, "out/zap/latest")
		claims, err := os.ReadFile(filepath.Join(latest, "claims.json"))
		if err == nil {
			err = json.Unmarshal(claims, &plan)
		}
		machine, _ := os.ReadFile(filepath.Join(latest, "domain.xml"))
		if err != nil || plan.State != test.state || strings.Contains(string(machine), "/zap/state.qcow2") != (test.state > 0) {
			t.Errorf("%s: %v, %d\n%s", test.to, err, plan.State, machine)
		}
	}
}
