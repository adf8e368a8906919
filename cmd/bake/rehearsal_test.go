package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/backup"
	"bake/internal/nightly"
)

// drillNights are nights whose drills are written down, and whose clock is set.
type drillNights struct {
	*sleep
	calls int
	err   error // of a drill; nil: it is proven
}

func newDrillNights(t *testing.T) *drillNights {
	n := &drillNights{sleep: newSleep(t)}
	was := rehearsal
	t.Cleanup(func() { clock, rehearsal = time.Now, was })
	rehearsal = func(_ *app, _ context.Context, name string, o drillOptions) (drill, error) {
		n.calls++
		if name != "zap" || o.generation != "current" {
			t.Errorf("a drill of %s, generation %s", name, o.generation)
		}
		last, err := (&app{out: filepath.Join(n.dir, "out")}).readDrill(name)
		d := drill{Host: name, Began: clock(), Proven: last.Proven}
		if n.err == nil {
			d.OK, d.Proven, d.RPO, d.RTO = true, clock(), 7200, 150
		}
		err = errors.Join(n.err, err)
		n.write(t, "out/zap/"+drillFile, fmt.Sprintf(`{"host": "zap", "ok": %v, "last_proven": %q, "rpo_seconds": %v, "rto_seconds": %v}`, d.OK, d.Proven.Format(time.RFC3339), d.RPO, d.RTO), 0o644)
		return d, err
	}
	n.host("zip")
	n.write(t, "backup.yaml", "hosts:\n  zap: {tree: /srv/nowhere, drill: {every: 7d, alarm: 20d}}\n", 0o644)
	return n
}

// on sets the clock to three o'clock on a day of November.
func (n *drillNights) on(day int) { clock = func() time.Time { return november(day) } }

func november(day int) time.Time { return time.Date(2026, 11, day, 3, 0, 0, 0, time.UTC) }

// TestNightlyDrill: a night rehearses a restore when a week has gone since the last, says
// what came of it in its table, its report and its metrics, and is red when none was
// proven for too long.
func TestNightlyDrill(t *testing.T) {
	n := newDrillNights(t)
	n.write(t, "nightly.yaml", "notify: [{textfile: {path: bake.prom}}]\n", 0o644)
	var failed error = claimError{errors.New("zap: the machine refused: no")}
	for _, test := range []struct {
		day    int
		err    error
		code   int
		tried  bool
		proven int // day
		late   bool
		said   string // in the table
	}{
		{1, nil, 0, true, 1, false, "restore: proven, RPO 2h0m0s, RTO 2m30s"},
		{2, failed, 0, false, 1, false, "1 unchanged"},
		{8, nil, 0, true, 8, false, "restore: proven"},
		{14, failed, 0, false, 8, false, "1 unchanged"},
		{15, failed, 7, true, 8, false, "restore: not proven: zap: the machine refused: no; proven last: "},
		{16, lackError{errors.New("there is no backup")}, 4, true, 8, false, "no restore of 1 proven (zap)"},
		{17, fmt.Errorf("zap: %w", &backup.BusyError{PID: "7"}), 0, false, 8, false, "restore: not rehearsed tonight: another bake works on its backups, process 7"},
		{28, fmt.Errorf("zap: %w", &backup.BusyError{}), 0, false, 8, false, "restore: not rehearsed tonight"},
		{29, fmt.Errorf("zap: %w", &backup.BusyError{}), 7, false, 8, true, "a restore was proven last 21 days ago"},
		{30, failed, 7, true, 8, true, "the machine refused: no"},
		{31, nil, 0, true, 31, false, "restore: proven"},
	} {
		n.on(test.day)
		n.err = test.err
		before := n.calls
		o := n.night("--host", "zap")
		isBusy := test.err != nil && strings.Contains(test.err.Error(), "another bake")
		if o.code != test.code || !strings.Contains(o.stdout, test.said) || (n.calls > before) != (test.tried || isBusy) {
			t.Errorf("day %d: exit status %d, %d drills\n%s%s", test.day, o.code, n.calls-before, o.stdout, o.stderr)
		}
		all, err := (nightly.Journal{Dir: n.journal()}).Nights(1)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		host := all[0].Hosts[0]
		d := host.Drill
		if d == nil || d.Tried != test.tried || d.IsLate != test.late || !d.Proven.Equal(november(test.proven)) || (d.Reason == "") != (test.code == 0) || !host.Verdict.IsGood() || host.Exit != test.code {
			t.Errorf("day %d: %+v, %+v", test.day, host, d)
		}
		metrics, err := os.ReadFile(filepath.Join(n.dir, "bake.prom"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			fmt.Sprintf("bake_nightly_host_restore_proven_timestamp_seconds{host=\"zap\"} %d\n", november(test.proven).Unix()),
			fmt.Sprintf("bake_nightly_host_restore_ok{host=\"zap\"} %d\n", map[bool]int{true: 1}[test.code == 0]),
			"bake_nightly_host_ok{host=\"zap\"} 1\n",
		} {
			if !strings.Contains(string(metrics), want) {
				t.Errorf("day %d: no %s in\n%s", test.day, want, metrics)
			}
		}
	}
	if o := n.night("status"); !strings.Contains(o.stdout, "zap                  P===rr==rr=\n") {
		t.Errorf("%s", o.stdout)
	}
}

// journal is where the reports of these nights are.
func (n *drillNights) journal() string {
	n.t.Helper()
	all, err := filepath.Glob(filepath.Join(n.dir, "state/bake/nightly/*"))
	if err != nil || len(all) != 1 {
		n.t.Fatalf("%q, %v", all, err)
	}
	return all[0]
}

// TestNightlyDrillConfig: hosts of which nothing is said are not rehearsed, a night that
// only asks says what is due, and what is wrong in backup.yaml is known before anything.
func TestNightlyDrillConfig(t *testing.T) {
	n := newDrillNights(t)
	n.on(1)
	if all := n.must(0, nil); all.Hosts[1].Drill != nil || all.Hosts[0].Drill == nil || n.calls != 1 {
		t.Errorf("%+v", all.Hosts)
	}
	n.on(9)
	if all := n.must(0, nil, "--dry-run"); n.calls != 1 || len(all.Hosts[0].Notes) != 1 || all.Hosts[0].Notes[0] != "a restore would be rehearsed" {
		t.Errorf("%+v", all.Hosts)
	}
	n.write(t, "out/zap/"+drillFile, "not JSON", 0o644)
	if all := n.must(7, []string{"reading out/zap/drill.json"}); all.Hosts[0].Drill.Reason == "" || all.Hosts[1].Exit != 0 {
		t.Errorf("%+v", all.Hosts[0])
	}
	asked := n.total()
	n.write(t, "backup.yaml", "hosts: {zap: {drill: {every: 30d, alarm: 7d}}}\n", 0o644)
	if o := n.night(); o.code != 3 || !strings.Contains(o.stderr, "backup.yaml:1:") || !strings.Contains(o.stderr, "want more than every") || n.total() != asked {
		t.Errorf("%d %s", o.code, o.stderr)
	}
}

// TestNightlyDrillFails: with the drill that there is, and no backup, the night is red and
// the generation promoted.
func TestNightlyDrillFails(t *testing.T) {
	s := newSleep(t)
	s.write(t, "backup.yaml", fmt.Sprintf("default: {tree: %s/tree, drill: {every: 7d, alarm: 30d}}\n", s.dir), 0o644)
	n := s.must(7, []string{"there is no repository", "zap: no restore was ever proven"})
	d := n.Hosts[0].Drill
	if s.verdicts(n) != "zap promoted" || d == nil || !d.Tried || !d.IsLate || !strings.Contains(d.Reason, "there is no repository") || !strings.Contains(d.Reason, "no restore was ever proven") {
		t.Errorf("%+v, %+v", n.Hosts[0], d)
	}
	if kept, err := (&app{out: filepath.Join(s.dir, "out")}).readDrill("zap"); err != nil || kept.OK || kept.Reason == "" {
		t.Errorf("%+v, %v", kept, err)
	}

	// While somebody else works on its backups there is no drill, and nothing is kept of it.
	kept, err := os.ReadFile(filepath.Join(s.dir, "out/zap", drillFile))
	if err != nil {
		t.Fatal(err)
	}
	place, err := backup.Enter(filepath.Join(s.dir, "state/bake/backup"), "zap")
	if err != nil {
		t.Fatal(err)
	}
	n = s.must(7, []string{"no restore was ever proven"})
	if d := n.Hosts[0].Drill; d == nil || d.Tried || !strings.Contains(d.Postponed, "another bake works on its backups") || strings.Contains(d.Reason, "no repository") {
		t.Errorf("%+v", d)
	}
	if now, err := os.ReadFile(filepath.Join(s.dir, "out/zap", drillFile)); err != nil || string(now) != string(kept) {
		t.Errorf("%s, %v", now, err)
	}
	if err := place.Leave(); err != nil {
		t.Fatal(err)
	}
}
