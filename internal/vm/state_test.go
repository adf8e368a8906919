package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/tool"
)

// An empty disk of that size, which a snapshot holds and which goes away with the
// machine; or the caller's, which stays.
func TestState(t *testing.T) {
	ctx := context.Background()
	spec := bare(emptyImage(t))
	spec.State = 64 << 20
	own := filepath.Join(t.TempDir(), "own.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", own, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	given := bare(spec.Disk)
	given.StateDisk = own
	for name, spec := range map[string]Spec{"of its own": spec, "given": given} {
		m, err := Start(ctx, tool.Box{}, spec)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		temporary := m.scratch.path("state.qcow2")
		if _, err := os.Stat(temporary); (err == nil) != (name == "of its own") {
			t.Errorf("%s: %v", name, err)
		}
		raw, err := m.monitor.do(ctx, "query-block", nil)
		if err != nil || !strings.Contains(string(raw), `"virtual-size": `+map[string]string{"of its own": "67108864", "given": "1048576"}[name]) {
			t.Errorf("%s: %v\n%s", name, err, raw)
		}
		if err := m.Snapshot(ctx, "once"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if out, err := exec.Command("qemu-img", "snapshot", "-l", "-U", map[string]string{"of its own": temporary, "given": own}[name]).CombinedOutput(); err != nil || !strings.Contains(string(out), "once") {
			t.Errorf("%s: the snapshot does not hold it: %v\n%s", name, err, out)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(temporary); !os.IsNotExist(err) {
			t.Errorf("%s: %s is left: %v", name, temporary, err)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
}

// A disk that is not there is no machine, and makes none.
func TestStateRefuses(t *testing.T) {
	spec := bare(emptyImage(t))
	spec.StateDisk = filepath.Join(t.TempDir(), "absent.qcow2")
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err == nil {
		m.Close()
		t.Error("it started")
	}
	if _, err := os.Stat(spec.StateDisk); !os.IsNotExist(err) {
		t.Error(err)
	}
}
