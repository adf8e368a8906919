package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/archive"
	"bake/internal/artifact"
	"bake/internal/backup"
	"bake/internal/nightly"
	"bake/internal/tool"
)

// drillFile is beside a host's generations.
const drillFile = "drill.json"

// drill is what a rehearsal of a restore came to.
type drill struct {
	Host       string    `json:"host"`
	Began      time.Time `json:"began,omitzero"`
	OK         bool      `json:"ok"`
	Reason     string    `json:"reason,omitempty"` // why it is not
	Generation string    `json:"generation,omitempty"`
	StateOf    time.Time `json:"state_of,omitzero"`
	Digest     string    `json:"digest,omitempty"`      // of the state
	RPO        float64   `json:"rpo_seconds,omitempty"` // the state's age when the drill began
	RTO        float64   `json:"rto_seconds,omitempty"` // from its beginning to a machine that is ready
	Files      int       `json:"files,omitempty"`
	Bytes      int64     `json:"bytes,omitempty"`
	Databases  int       `json:"databases,omitempty"` // that are sound
	Gateway    string    `json:"gateway,omitempty"`
	Claims     int       `json:"claims,omitempty"`     // that held
	Proven     time.Time `json:"last_proven,omitzero"` // when a restore was, last
}

func (d drill) lines() []string {
	proven := "never"
	if !d.Proven.IsZero() {
		proven = d.Proven.Local().Format(time.DateTime)
	}
	if !d.OK {
		return []string{fmt.Sprintf("%s: no restore is proven: %s; proven last: %s", d.Host, cmp.Or(d.Reason, "nothing was rehearsed"), proven)}
	}
	return []string{
		fmt.Sprintf("%s: a restore is proven: %d files, %s, %d databases sound, %d claims hold", d.Host, d.Files, amount(d.Bytes), d.Databases, d.Claims),
		fmt.Sprintf("    RPO         %s", seconds(d.RPO)),
		fmt.Sprintf("    RTO         %s", seconds(d.RTO)),
		"    gateway     " + d.Gateway,
		"    proven      " + proven,
	}
}

// tooOld is the alarm.
func (d drill) tooOld(name string, limit time.Duration) error {
	err := nightly.DrillPolicy{Alarm: limit}.Check(d.Proven, clock())
	if err != nil {
		err = fmt.Errorf("%s: %w: bake drill --host %s", name, err, name)
	}
	return err
}

// readDrill reads what the last one came to.
func (a *app) readDrill(name string) (d drill, err error) {
	data, err := os.ReadFile(filepath.Join(a.out, name, drillFile))
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return drill{Host: name}, nil
	}
	if err != nil {
		return d, fmt.Errorf("reading %s: %w", filepath.Join(a.out, name, drillFile), err)
	}
	return d, nil
}

// drill rehearses the restore of one host, and keeps what came of it, unless it was kept
// from beginning.
func (a *app) drill(ctx context.Context, name string, o drillOptions) (d drill, err error) {
	d = drill{Host: name, Began: time.Now().UTC().Truncate(time.Millisecond)}
	err = a.withSnapshot(ctx, o.config, name, o.pick, func(dir string, m archive.Manifest) error {
		d.StateOf, d.Digest, d.Files, d.Bytes, d.RPO = m.Frozen, m.Digest, m.Count, m.Bytes, d.Began.Sub(m.Frozen).Seconds()
		return a.rehearse(ctx, &d, o, dir, m)
	})
	if busy := (*backup.BusyError)(nil); ctx.Err() != nil || errors.As(err, &busy) {
		return d, err // nothing was rehearsed
	}
	if d.OK = err == nil; err != nil {
		d.Reason = firstLine(err.Error())
	}
	kept := artifact.Keep(a.out, name, drillFile, func(old []byte) ([]byte, error) {
		var before drill
		if old != nil && json.Unmarshal(old, &before) == nil {
			d.Proven = before.Proven
		}
		if d.OK {
			d.Proven = d.Began
		}
		data, err := json.MarshalIndent(d, "", "  ")
		return append(data, '\n'), err
	})
	return d, errors.Join(err, kept)
}

// rehearse restores a backup into a throwaway machine and tries it.
func (a *app) rehearse(ctx context.Context, d *drill, o drillOptions, dir string, m archive.Manifest) error {
	generation, held, err := a.hold(ctx, d.Host, o.generation)
	if err != nil {
		return err
	}
	defer held.Close()
	d.Generation = generation.Manifest.Generation
	entered := false
	report, err := a.throwaway(ctx, generation, o.boot, func(ctx context.Context, client *ssh.Client) error {
		entered = true
		a.stage("%s: restoring the state of %s", d.Host, m.Frozen.Local().Format(time.DateTime))
		out, err := enact(ctx, client, dir, m)
		if err != nil {
			return fmt.Errorf("%s: %w", d.Host, err)
		}
		if left := out.leftOut(m); len(left) > 0 { // it would be missing after a restore, too
			return claimError{fmt.Errorf("%s: /%s and %d others of the backup are no state of %s: a restore leaves them out, and the drill is one again once the machine without them has a backup", d.Host, left[0], len(left)-1, d.Generation)}
		}
		d.Gateway, d.RTO = out.Gateway, time.Since(d.Began).Seconds()
		for _, database := range out.Databases {
			if database.Integrity == "ok" {
				d.Databases++
			}
		}
		a.say("%s: the state is in its place, gateway: %s", d.Host, out.Gateway)
		return nil
	})
	if err != nil {
		return err
	}
	d.Claims = heldClaims(report)
	if err := report.Err(); err != nil {
		return claimError{err}
	}
	if !entered {
		return claimError{fmt.Errorf("%s: nobody could log in to restore anything", d.Host)}
	}
	return nil
}

// enact restores a backup by a login, and waits for the gateway.
func enact(ctx context.Context, client *ssh.Client, dir string, m archive.Manifest) (out restored, err error) {
	file, err := os.Open(filepath.Join(dir, archive.StateFile))
	if err != nil {
		return out, err
	}
	defer file.Close()
	answer, err := order(ctx, client, guestRestore, file)
	if err == nil {
		out, err = readRestored(answer, m)
	}
	if err != nil {
		return out, err
	}
	answer, err = order(ctx, client, guestRestore+" ready "+strconv.Itoa(int(gatewayTime.Seconds())), nil)
	if err == nil {
		err = json.Unmarshal(answer, &out)
	}
	return out, err
}

// order has a command run by a login and returns what it prints.
func order(ctx context.Context, client *ssh.Client, command string, input *os.File) ([]byte, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	if input != nil {
		session.Stdin = input
	}
	said, out := &tool.Ending{Most: 4 << 10}, &heard{stop: func() { client.Close() }}
	session.Stderr, session.Stdout = said, out
	err = session.Run(command)
	var exit *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case out.isTooLong:
		return nil, claimError{errTooLong}
	case errors.As(err, &exit):
		return nil, claimError{fmt.Errorf("the machine refused: %s", cmp.Or(said.Lines(1), exit.Error()))}
	}
	return out.kept.Bytes(), err
}
