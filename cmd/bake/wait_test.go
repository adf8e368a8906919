package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"bake/internal/nightly"
)

// TestWindow: what is proven waits for the time at which a machine may be changed, is
// deployed in the first night in it, and once. There is no libvirt here that has the
// machine: that a deployment was tried shows in its failure.
func TestWindow(t *testing.T) {
	s := newSleep(t)
	s.host("zip", "own")
	s.write(t, "nightly.yaml", "deploy: {zap: \"Sat,Sun 02:00-05:00\", own: never}\n", 0o644)
	t.Cleanup(func() { clock = time.Now })
	on := func(day int) { clock = func() time.Time { return time.Date(2026, 3, day, 3, 30, 0, 0, time.UTC) } } // the 6th is a Friday
	verdicts := func(code int) nightly.Night {
		t.Helper()
		return s.must(code, nil)
	}
	on(6)
	n := verdicts(0)
	if got := s.verdicts(n); got != "own promoted, zap promoted, zip promoted" || len(n.Hosts[1].Notes) != 1 || !strings.Contains(n.Hosts[1].Notes[0], "waits to be deployed: Sat,Sun 02:00-05:00") {
		t.Errorf("%s, %q", got, n.Hosts[1].Notes)
	}
	if n = verdicts(0); s.verdicts(n) != "own unchanged, zap unchanged, zip unchanged" || len(n.Hosts[1].Notes) != 1 {
		t.Errorf("%s, %q", s.verdicts(n), n.Hosts[1].Notes)
	}
	if o := s.night(); !strings.Contains(o.stdout, "note: generation "+s.current("zap")+" waits to be deployed") {
		t.Errorf("%s", o.stdout)
	}

	// Another takes its place before the window opens.
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	was := s.current("zap")
	if n = verdicts(0); !strings.Contains(s.verdicts(n), "zap promoted") || s.current("zap") == was || !strings.Contains(n.Hosts[1].Notes[0], s.current("zap")) {
		t.Errorf("%s, %q", s.verdicts(n), n.Hosts[1].Notes)
	}

	on(7)
	if n = verdicts(4); s.verdicts(n) != "own unchanged, zap undeployed, zip unchanged" || n.Hosts[1].Stage != "deploy" || len(n.Hosts[1].Notes) != 0 {
		t.Errorf("%s, %+v", s.verdicts(n), n.Hosts[1])
	}
	on(9) // what was tried does not wait: the machine is only looked at, which fails here
	if n = verdicts(4); s.verdicts(n) != "own unchanged, zap undeployed, zip unchanged" {
		t.Errorf("%s, %+v", s.verdicts(n), n.Hosts[1])
	}

	s.write(t, "nightly.yaml", "deploy: {zop: always}\n", 0o644)
	if o := s.night(); o.code != 3 || !strings.Contains(o.stderr, `deploy: there is no host file for "zop"`) {
		t.Errorf("%+v", o)
	}
}

// waits is waiting.json, which there must be one of.
func (s *sleep) waits() (path, content string) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "state/bake/nightly/*/"+waitingName))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%q, %v", found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		s.t.Fatal(err)
	}
	return found[0], string(text)
}

// A list of what waits that a power cut has emptied is no reason never to deploy again.
func TestWaitingDamaged(t *testing.T) {
	s := newSleep(t)
	s.write(t, "nightly.yaml", "deploy: {zap: \"Sat,Sun 02:00-05:00\"}\n", 0o644)
	t.Cleanup(func() { clock = time.Now })
	clock = func() time.Time { return time.Date(2026, 3, 6, 3, 30, 0, 0, time.UTC) }
	s.must(0, nil)
	path, _ := s.waits()
	for _, content := range []string{"", "{", "[]", "\x00\x00"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		// That it waited is forgotten: the machine is looked at, and it is said.
		n := s.must(4, []string{"waiting.json is damaged"})
		if s.verdicts(n) != "zap undeployed" || strings.Contains(n.Hosts[0].Reason, "JSON") {
			t.Errorf("%q: %s, %s", content, s.verdicts(n), n.Hosts[0].Reason)
		}
	}
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	if n := s.must(0, nil); s.verdicts(n) != "zap promoted" || len(n.Hosts[0].Notes) != 1 {
		t.Errorf("%s, %q", s.verdicts(n), n.Hosts[0].Notes)
	}
}

// TestDeployAfterBreak: a night that broke off when it had promoted a generation, and before it
// deployed it, is made up for by the next, and no generation that was not promoted is.
func TestDeployAfterBreak(t *testing.T) {
	s := newSleep(t)
	s.write(t, "nightly.yaml", "deploy: {zap: \"Sat,Sun 02:00-05:00\"}\n", 0o644)
	t.Cleanup(func() { clock = time.Now })
	friday := func() time.Time { return time.Date(2026, 3, 6, 3, 30, 0, 0, time.UTC) }
	breaks := func() time.Time {
		at, _, _, _ := runtime.Caller(1)
		if strings.HasSuffix(runtime.FuncForPC(at).Name(), ".comeTo") {
			panic("the night breaks off")
		}
		return friday()
	}
	waits := func(why string) {
		t.Helper()
		clock = friday
		if n := s.must(0, nil); s.verdicts(n) != "zap unchanged" || len(n.Hosts[0].Notes) != 1 || !strings.Contains(n.Hosts[0].Notes[0], s.current("zap")+" waits") {
			t.Errorf("%s: %s, %q", why, s.verdicts(n), n.Hosts[0].Notes)
		}
	}
	for i := range 2 {
		s.publish(changedImage(t, map[string]string{"etc/motd": fmt.Sprint(i)}), now.AddDate(0, 0, i-1))
		clock = breaks
		if n := s.must(1, []string{"the night breaks off"}); n.Hosts[0].Current != n.Hosts[0].Generation {
			t.Errorf("%+v", n.Hosts[0])
		}
		waits("after a break")
		waits("and then")
	}
	was := s.current("zap")
	s.boot = failing("zap")
	s.publish(changedImage(t, map[string]string{"etc/motd": "bad"}), now)
	s.must(7, nil)
	if _, text := s.waits(); !strings.Contains(text, was) {
		t.Errorf("what failed has taken the place of what waits: %s", text)
	}
}
