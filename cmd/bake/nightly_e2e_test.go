//go:build e2e

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/nightly"
)

// wrong has a claim that no machine keeps.
const wrong = `layer: wrong
summary: A change that does not work.
threat: none
checks:
  inside:
    - claim: A program is there that nobody installs.
      run: test -x /usr/local/bin/nobody-installs-this
      exit: 0
      falsify: "true"
`

// TestFullNightly has real nights: one that boots and promotes, one with nothing to
// do, a red one after a change that does not work, one after that was taken back.
func TestFullNightly(t *testing.T) {
	l := newLab(t, "debian-13")
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	metrics := filepath.Join(l.config, "bake.prom")
	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(zap), "base: debian:13", "base: "+l.base, 1)
	l.write(t, "hosts/zap.yaml", good)
	l.write(t, "layers/wrong/layer.yaml", wrong)
	l.write(t, "nightly.yaml", "boots: 1\nnotify: [{textfile: {path: bake.prom}}]\n")
	night := func(code int, want nightly.Verdict) nightly.Outcome {
		t.Helper()
		var n nightly.Night
		got, text := l.bake(t, "nightly", "--json", "--deadline", "45m")
		if err := json.Unmarshal([]byte(text), &n); err != nil || len(n.Hosts) != 1 {
			t.Fatalf("%v\n%s", err, text)
		}
		t.Log("\n" + text)
		if got != code || n.Hosts[0].Verdict != want {
			t.Fatalf("exit status %d, %s: want %d, %s", got, n.Hosts[0].Verdict, code, want)
		}
		return n.Hosts[0]
	}
	current := func() string {
		target, err := os.Readlink(filepath.Join(l.out, "zap", "current"))
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	first := night(0, nightly.Promoted)
	if first.Claims < 20 || first.Failed != 0 || current() != first.Generation {
		t.Errorf("%+v, current %s", first, current())
	}
	before := traces(t, filepath.Join(l.out, "zap"))
	if again := night(0, nightly.Unchanged); again.Generation != first.Generation || again.Seconds > first.Seconds {
		t.Errorf("%+v", again)
	}
	for path, is := range traces(t, filepath.Join(l.out, "zap")) {
		if before[path] != is {
			t.Errorf("a night with nothing to do has written %s", path)
		}
	}

	l.write(t, "hosts/zap.yaml", strings.TrimRight(good, "\n")+"\n  - wrong\n")
	red := night(7, nightly.Failed)
	if red.Failed < 1 || !strings.Contains(red.Reason, "nobody installs") || red.Current != first.Generation || current() != first.Generation || red.Generation == first.Generation {
		t.Errorf("%+v, current %s", red, current())
	}
	if text, err := os.ReadFile(metrics); err != nil || !strings.Contains(string(text), fmt.Sprintf("bake_nightly_host_claims_failed{host=\"zap\"} %d\n", red.Failed)) {
		t.Errorf("%v\n%s", err, text)
	}
	l.write(t, "hosts/zap.yaml", good)
	if back := night(0, nightly.Unchanged); back.Generation != first.Generation {
		t.Errorf("%+v", back)
	}
	if code, text := l.bake(t, "nightly", "status"); code != 0 || !strings.Contains(text, "F=") {
		t.Errorf("exit status %d\n%s", code, text)
	}
}

// TestFullNightDeploys: what a night has proven waits for its window, and comes to the
// machine at work in it, on the state that was there.
func TestFullNightDeploys(t *testing.T) {
	h := newRack(t)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	configure := func(swappiness int) {
		h.configure(t, swappiness, "")
		file := filepath.Join(h.config, "hosts/zap.yaml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h.write(t, "hosts/zap.yaml", strings.Replace(string(text), "base: debian:13", "base: "+h.base, 1))
	}
	configure(10)
	one := h.image(t)
	up := h.do(t, 0, "up", "--generation", one)
	if len(up.Addresses) == 0 {
		t.Fatalf("%+v", up)
	}
	h.ssh(t, up.Addresses[0], "echo mine | sudo tee /var/lib/bake/state/mine && sudo sync")

	configure(20)
	night := func(deploy string, want nightly.Verdict) nightly.Outcome {
		t.Helper()
		h.write(t, "nightly.yaml", "boots: 1\ndeploy: "+deploy+"\n")
		var n nightly.Night
		code, text := h.bake(t, "nightly", "--json", "--deadline", "45m")
		t.Log("\n" + text)
		if err := json.Unmarshal([]byte(text), &n); err != nil || len(n.Hosts) != 1 || code != 0 || n.Hosts[0].Verdict != want {
			t.Fatalf("exit status %d, %v, %+v", code, err, n.Hosts)
		}
		return n.Hosts[0]
	}
	at := func(swappiness string) {
		t.Helper()
		if got := h.ssh(t, up.Addresses[0], "cat /proc/sys/vm/swappiness; sudo cat /var/lib/bake/state/mine"); got != swappiness+"\nmine" {
			t.Errorf("the machine at work has %q", got)
		}
	}
	tomorrow := time.Now().Add(36 * time.Hour).Format("Mon")
	waits := night("{zap: \""+tomorrow+" 02:00-05:00\"}", nightly.Promoted)
	if waits.Deployed == waits.Generation || waits.Generation == one || !strings.Contains(strings.Join(waits.Notes, " "), "waits to be deployed") {
		t.Errorf("out of its window: %+v", waits)
	}
	at("10")
	if done := night("[zap]", nightly.Unchanged); done.Deployed != waits.Generation {
		t.Errorf("in it: %+v", done)
	}
	at("20")
	if again := night("[zap]", nightly.Unchanged); again.Deployed != waits.Generation {
		t.Errorf("once more: %+v", again)
	}
}
