package deploy

import (
	"errors"
	"testing"
)

// killed is what a run dies of at a step.
type killed struct{}

// TestKilled: a run that dies at any step is finished by bake up, on the state that
// was there.
func TestKilled(t *testing.T) {
	for name, bad := range map[string]bool{"good": false, "bad": true} {
		t.Run(name, func(t *testing.T) {
			total := 1
			for at := -1; at < total; at++ { // the first one lives

				m := newMemory()
				d := m.deployment()
				must(t)(d.Up(t.Context(), baked(t, one)))
				m.files[statePath] = "mine0000"
				m.bad[two] = bad
				steps := dieAt(at, func() { _, _ = d.Deploy(t.Context(), baked(t, two)) })
				total = max(total, steps)
				out, err := d.Up(t.Context(), baked(t, one))
				var failed *FailedError
				if err != nil && !(bad && errors.As(err, &failed) && failed.Back == one) {
					t.Fatalf("killed at step %d: %v", at, err)
				}
				if !m.machine.Running || m.machine.Trying || m.files[statePath] != "mine0000" {
					t.Fatalf("killed at step %d: %+v, state %q", at, m.machine, m.files[statePath])
				}
				if bad && m.machine.Generation != one {
					t.Errorf("killed at step %d: %s runs", at, m.machine.Generation)
				}
				previous := out.Previous
				if err != nil {
					previous = ""
				}
				m.runs(t, m.machine.Generation, previous)
			}
			if total < 10 {
				t.Errorf("there are only %d steps", total)
			}
		})
	}
}

// dieAt runs until a step and returns how many there were.
func dieAt(at int, run func()) (steps int) {
	defer func() {
		reached = func(string) {}
		if r := recover(); r != nil && r != (killed{}) {
			panic(r)
		}
	}()
	reached = func(string) {
		if steps++; steps-1 == at {
			panic(killed{})
		}
	}
	run()
	return steps
}
