package main

// What bake rollout does beside driving: which hosts in which waves, where the record is,
// and what is said of it.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"bake/internal/publish"
	"bake/internal/rollout"
)

// rolloutDir is the directory of the record, if no other is named.
const (
	rolloutDir  = ".rollout"
	rolloutName = "rollout.json" // in a bucket
)

// bucketLedger is a record in a bucket.
type bucketLedger struct{ place *publish.Place }

// String is where it is.
func (l bucketLedger) String() string { return l.place.String() + "/" + rolloutName }

// Read is the bucket's.
func (l bucketLedger) Read(ctx context.Context) ([]byte, string, error) {
	return l.place.Record(ctx, rolloutName)
}

// Write is the bucket's, with the error that a rollout knows.
func (l bucketLedger) Write(ctx context.Context, content []byte, version string) (string, error) {
	now, err := l.place.SetRecord(ctx, rolloutName, content, version)
	if errors.Is(err, publish.ErrMoved) {
		err = errors.Join(rollout.ErrMoved, err)
	}
	return now, err
}

func (a *app) publishWays(plain bool) publish.Options {
	return publish.Options{Getenv: a.Getenv, PlainHTTP: plain, Agent: "bake/" + version()}
}

// ledger returns where the record is.
func (a *app) ledger(o rolloutOptions) (rollout.Ledger, error) {
	place := cmp.Or(o.state, filepath.Join(a.out, rolloutDir))
	if !strings.Contains(place, "://") {
		return rollout.Dir(place), nil
	}
	bucket, err := publish.Open(place, a.publishWays(o.plain))
	if err == nil && !bucket.HasConditions() {
		err = fmt.Errorf("%s: a registry cannot write under a condition, which the record needs", place)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--state: %w", err)}
	}
	return bucketLedger{bucket}, nil
}

// share reads a number, or a part of all.
func share(flag, text string, all, least int) (int, error) {
	digits, isShare := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(digits)
	if err != nil || n < least || isShare && n > 100 {
		return 0, usageError{fmt.Errorf("--%s %q: want a number from %d on, or a share such as 10%%", flag, text, least)}
	}
	if isShare {
		n = max(least, min(1, n), all*n/100)
	}
	return n, nil
}

// rollout begins a rollout, or goes on with one.
func (a *app) rollout(ctx context.Context, o rolloutOptions, ledger rollout.Ledger) error {
	job := &rollout.Job{Ledger: ledger, Name: driverName(), Lease: o.lease, Exit: exitCode,
		Say:      func(text string) { a.say("%s", text) },
		Machines: func(check func() error) rollout.Machines { return a.fleet(o, check) }}
	var is rollout.Record
	var err error
	switch {
	case o.resume:
		is, err = job.Resume(ctx)
	case o.back:
		is, err = job.Rollback(ctx)
	default:
		plan, failed := a.planRollout(ctx, o)
		if failed != nil {
			return failed
		}
		if o.dry {
			return a.printWaves(plan)
		}
		is, err = job.Start(ctx, plan, o.abandon)
	}
	a.stage("")
	err = rolloutError(ledger, err)
	if len(is.Hosts) > 0 {
		err = errors.Join(a.printRollout(&is), err)
	}
	return err
}

// planRollout finds out which generation each host shall have: all, before the first is
// touched.
func (a *app) planRollout(ctx context.Context, o rolloutOptions) (plan rollout.Record, err error) {
	most, err := share("max-unavailable", o.most, len(o.hosts), 1)
	if err != nil {
		return plan, err
	}
	canaries, err := share("canary", o.canaries, len(o.hosts), 0)
	if err != nil {
		return plan, err
	}
	var hosts []rollout.Host
	var failed error
	fleet := a.fleet(o, func() error { return nil })
	for _, name := range o.hosts {
		generation, err := fleet.Wanted(ctx, name)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
		}
		hosts = append(hosts, rollout.Host{Name: name, To: generation})
	}
	if failed != nil {
		return plan, failed
	}
	plan = rollout.Plan(hosts, most, canaries, o.budget)
	plan.Selector = o.selector
	return plan, nil
}

// driverName says to others who drives.
func driverName() string {
	who, where := "somebody", "a machine"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if name, err := os.Hostname(); err == nil {
		where = name
	}
	return fmt.Sprintf("%s@%s, process %d", who, where, os.Getpid())
}

// rolloutError gives what went wrong its exit status.
func rolloutError(ledger rollout.Ledger, err error) error {
	var (
		halted     *rollout.HaltedError
		busy       *rollout.BusyError
		lost       *rollout.LostError
		unfinished *rollout.UnfinishedError
	)
	switch {
	case errors.As(err, &halted) && halted.Exit == 7:
		return claimError{err}
	case errors.As(err, &unfinished):
		return usageError{err}
	case errors.Is(err, rollout.ErrNone):
		return lackError{fmt.Errorf("%s: %w", ledger, err)}
	case errors.As(err, &busy), errors.As(err, &lost):
		return lackError{err}
	}
	return err
}

// rolloutStatus says how far a rollout is.
func (a *app) rolloutStatus(ctx context.Context, ledger rollout.Ledger) error {
	is, err := rollout.Read(ctx, ledger)
	if err != nil {
		return rolloutError(ledger, err)
	}
	return a.printRollout(is)
}

func (a *app) printRollout(is *rollout.Record) error {
	if a.json {
		return a.printJSON(is)
	}
	rows := [][]string{{"HOST", "WAVE", "STATE", "WANTED", "BEFORE"}}
	for _, h := range is.Hosts {
		state := string(h.State)
		if h.Down && h.Reason != "" {
			state += ", down"
		}
		rows = append(rows, []string{h.Name, waveText(h.Wave), state, h.To, cmp.Or(h.From, "-"), firstLine(h.Reason)})
	}
	lines := append(table(rows), is.String())
	if is.Driver != nil {
		lines = append(lines, fmt.Sprintf("driven by %s, unless the last sign of life is older than %s", is.Driver.Name, is.Driver.Lease))
	}
	return a.printLines(lines)
}

func waveText(wave int) string {
	if wave == 0 {
		return "canary"
	}
	return strconv.Itoa(wave)
}

// printWaves shows what would be done.
func (a *app) printWaves(plan rollout.Record) error {
	if a.json {
		return a.printJSON(plan)
	}
	var rows [][]string
	for wave, names := range plan.Waves() {
		if len(names) > 0 {
			rows = append(rows, []string{waveText(wave), strconv.Itoa(len(names)), strings.Join(names, " ")})
		}
	}
	return a.printLines(table(rows, 1))
}
