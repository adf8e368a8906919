package vm

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"bake/internal/tool"
)

// The answers of a monitor to a job, to be filled with its id.
const (
	taken     = `{"return": {}, "id": %d}`
	running   = `{"return": [{"id": "other", "status": "concluded"}, {"id": "job1", "status": "running"}], "id": %d}`
	succeeded = `{"return": [{"id": "job1", "status": "concluded", "type": "snapshot-save"}], "id": %d}`
	failed    = `{"return": [{"id": "job1", "status": "concluded", "error": "no room"}], "id": %d}`
	lost      = `{"return": [], "id": %d}`
)

func TestSnapshotJobs(t *testing.T) {
	for _, test := range []struct {
		name   string
		script []string
		fails  string
	}{
		{"at once", []string{taken, succeeded, taken}, ""},
		{"after a while", []string{taken, running, running, succeeded, taken}, ""},
		{"job fails", []string{taken, failed, taken}, "no room"},
		{"job fails and stays", []string{taken, failed, `{"error": {"desc": "stuck"}, "id": %d}`}, "no room"},
		{"job is lost", []string{taken, lost}, "has lost job1"},
		{"old QEMU", []string{`{"error": {"class": "CommandNotFound", "desc": "not been found"}, "id": %d}`}, "snapshot-save: not been found"},
		{"no list", []string{taken, `{"return": "x", "id": %d}`}, "cannot unmarshal"},
		{"QEMU hangs up", []string{taken, running}, "the monitor has closed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := &Machine{monitor: scripted(t, test.script...), child: &process{}}
			err := m.Snapshot(context.Background(), "up")
			if (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("Snapshot: %v; want %q", err, test.fails)
			}
		})
	}
}

// A machine that was restored writes again what it wrote after the snapshot.
func TestSnapshotAndRestore(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	m, err := Start(ctx, tool.Box{}, bare(emptyImage(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Snapshot(ctx, "begin"); err != nil {
		t.Fatal(err)
	}
	if before := m.Console(); strings.Contains(before, "BdsDxe") {
		t.Fatalf("the firmware was done before the snapshot: %s", before)
	}
	said, err := m.WaitConsole(ctx, regexp.MustCompile(`BdsDxe: [^\n]*`))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(ctx, "begin"); err != nil {
		t.Fatal(err)
	}
	again := strings.Repeat(`(?s:.*)`+regexp.QuoteMeta(said[0]), 2)
	if _, err := m.WaitConsole(ctx, regexp.MustCompile(again)); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	m, err := Start(context.Background(), tool.Box{}, bare(emptyImage(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx := context.Background()
	if err := m.Restore(ctx, "never"); err == nil || !strings.Contains(err.Error(), "restoring the snapshot never: ") {
		t.Errorf("Restore of nothing: %v", err)
	}
	if err := m.Snapshot(ctx, "once"); err != nil {
		t.Fatal(err)
	}
	if err := m.Snapshot(ctx, "once"); err == nil || !strings.Contains(err.Error(), "taking a snapshot: ") {
		t.Errorf("Snapshot under a name that is taken: %v", err)
	}
	m.Close()
	if err := m.Snapshot(ctx, "late"); err == nil || !strings.Contains(err.Error(), "was closed") {
		t.Errorf("Snapshot after Close: %v", err)
	}
}
