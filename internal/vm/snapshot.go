package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// writable are the disks that a snapshot holds, by node name. The others are
// read-only and stay as they are. A state disk of the caller's is left with its
// snapshots.
func (s Spec) writable() []string {
	if s.State == 0 && s.StateDisk == "" {
		return []string{rootDisk, varsDisk}
	}
	return []string{rootDisk, varsDisk, stateDisk}
}

// Snapshot keeps the whole machine as it is now, memory, devices and disks,
// under a name that is not yet taken. The guest stands still meanwhile: half a
// second for 2 GiB of memory, of which the used part goes to the scratch
// directory's disk. When ctx ends first, it may have been kept or not.
//
// Open connections should be closed before: the two sides of one that is used
// afterwards no longer agree after a Restore. The firmware should be through as
// well: under secure boot, QEMU 7.2 hangs when it is restored to the middle of it.
func (m *Machine) Snapshot(ctx context.Context, name string) error {
	err := m.transfer(ctx, "snapshot-save", name)
	if err != nil {
		return fmt.Errorf("taking a snapshot: %w", m.orDead(err))
	}
	return nil
}

// Restore puts the whole machine back to where Snapshot kept it, as often as
// wanted. It knows nothing of what happened since; its clock stands behind.
//
// Every connection made or used since Snapshot is dead, without a word: close
// it and log in again. Forwarded ports stay, and so does all that the guest has
// written on its console, which it may then write once more. After an error
// the machine's state is unknown: close it.
func (m *Machine) Restore(ctx context.Context, name string) error {
	err := m.transfer(ctx, "snapshot-load", name)
	if err != nil {
		return fmt.Errorf("restoring the snapshot %s: %w", name, m.orDead(err))
	}
	return nil
}

// transfer saves or loads. No port may be forwarded and no packet captured at
// the same time.
func (m *Machine) transfer(ctx context.Context, command, name string) error {
	m.forwards.Lock()
	defer m.forwards.Unlock()
	m.jobs++ // a job that was given up keeps its name
	id := fmt.Sprintf("job%d", m.jobs)
	if _, err := m.monitor.do(ctx, command, map[string]any{
		"job-id": id, "tag": name, "vmstate": rootDisk, "devices": m.writable,
	}); err != nil {
		return err
	}
	return m.monitor.wait(ctx, id)
}

// wait waits until a background job of QEMU has concluded, and returns what it
// failed with. The job is asked and not listened for: it blocks QEMU, so that
// the answer to the first question mostly is the last.
func (q *monitor) wait(ctx context.Context, id string) error {
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	for {
		raw, err := q.do(ctx, "query-jobs", nil)
		if err != nil {
			return err
		}
		var jobs []job
		if err := json.Unmarshal(raw, &jobs); err != nil {
			return fmt.Errorf("query-jobs: %w", err)
		}
		done, err := concluded(jobs, id)
		if done {
			_, bad := q.do(ctx, "job-dismiss", map[string]string{"id": id})
			return errors.Join(err, bad)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// job is one entry of the answer to query-jobs.
type job struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

func concluded(jobs []job, id string) (bool, error) {
	for _, j := range jobs {
		switch {
		case j.ID != id:
		case j.Status != "concluded":
			return false, nil
		case j.Error != "":
			return true, errors.New(j.Error)
		default:
			return true, nil
		}
	}
	return false, fmt.Errorf("query-jobs: QEMU has lost %s", id)
}
