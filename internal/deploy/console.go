package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"time"

	"bake/internal/console"
	"bake/internal/hypervisor"
	"bake/internal/status"
)

const (
	lookEvery = 500 * time.Millisecond
	askEvery  = 5 * time.Second // whether it runs at all, where no event says that it does not
)

// Console waits for what a machine says of itself, on the console that libvirt
// logs.
type Console struct {
	At       *hypervisor.Hypervisor
	Host     Host
	Dir      string              // of this machine, for a copy, and nobody else's
	Deadline time.Duration       // for a boot
	Reached  func(console.Stage) // is told the stages of the boot; may be nil

	log *status.Log
}

// Log is the log that was read last, or a new one. Its Path is that of a copy.
func (c *Console) Log() *status.Log {
	if c.log == nil {
		c.log = c.open()
	}
	return c.log
}

// Name is where the hypervisor has the log.
func (c *Console) Name() string {
	return path.Join(c.Host.Images, c.Host.Name, "console.log")
}

func (c *Console) open() *status.Log {
	copied := &hypervisor.Console{From: c.At, Log: c.Name(), To: filepath.Join(c.Dir, c.Host.Name+".console.log")}
	return &status.Log{Path: copied.To, Name: c.Name(), Pull: copied.Pull, Reached: c.Reached}
}

// Close lets go of the copy.
func (c *Console) Close() error {
	if c.log == nil {
		return nil
	}
	return c.log.Close()
}

// Wait is a Deployment's Wait. It begins with the log as it is: a start makes a new
// one.
func (c *Console) Wait(ctx context.Context, generation string) (Verdict, error) {
	if err := c.Close(); err != nil {
		return Verdict{}, err
	}
	c.log = c.open()
	plan, err := c.plan(generation)
	if err != nil {
		return Verdict{}, err
	}
	late := fmt.Errorf("no verdict within %s", c.Deadline)
	waiting, cancel := context.WithTimeoutCause(ctx, c.Deadline, late)
	defer cancel()
	changed, err := c.At.Changes(waiting, c.Host.Name)
	if err != nil {
		return Verdict{}, err
	}
	asked := time.Now()
	c.log.Reached = nil // what was reached before anybody waited is no news
	for {
		if err := c.log.Look(); err != nil {
			return Verdict{}, err
		}
		c.log.Reached = c.Reached
		s := status.Of(c.Host.Name, c.log)
		if s.State == status.Unknown {
			if port, err := c.At.Read(path.Join(c.Host.Images, c.Host.Name, "report.json")); err == nil {
				s.NoteReport(port)
			}
		}
		switch {
		case s.State.IsFailed():
			return Verdict{Reason: s.String()}, nil
		case s.State == status.Attested && s.Plan != plan:
			return Verdict{Reason: "it has attested other claims than those of the generation: " + s.Plan}, nil
		case s.State == status.Attested:
			return Verdict{OK: true}, nil
		}
		if time.Since(asked) >= askEvery {
			asked = time.Now()
			m, err := c.At.Find(c.Host.Name)
			if err != nil {
				return Verdict{}, err
			}
			if m == nil || !m.Running {
				return Verdict{Reason: "it is off; the last that was heard of it: " + s.String()}, nil
			}
			if m.Restored && s.Boots == 0 {
				return Verdict{Reason: "it has gone on from a file in which it was suspended, and its console has no verdict of that boot: bake verify tries its claims, " +
					"bake down and bake up have it boot"}, nil
			}
		}
		select {
		case _, ok := <-changed: // it may be off
			if asked = (time.Time{}); !ok {
				changed = nil // as is the connection, which the next question finds out
			}
		case <-waiting.Done():
			if err := context.Cause(waiting); !errors.Is(err, late) {
				return Verdict{}, err
			}
			return Verdict{Reason: late.Error() + ": " + s.String()}, nil
		case <-time.After(lookEvery):
		}
	}
}

// plan is the digest of the claims that a generation makes of its machine.
func (c *Console) plan(generation string) (string, error) {
	data, err := c.At.Read(path.Join(c.Host.Images, c.Host.Name, generation, "claims.json"))
	if err != nil {
		return "", err
	}
	var claims struct {
		Attest string `json:"attest"`
	}
	if err := json.Unmarshal(data, &claims); err != nil {
		return "", fmt.Errorf("reading the claims of generation %s: %w", generation, err)
	}
	if claims.Attest == "" {
		return "", fmt.Errorf("generation %s makes no claims that its machine could attest", generation)
	}
	return claims.Attest, nil
}
