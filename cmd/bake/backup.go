package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/archive"
	"bake/internal/backup"
	"bake/internal/host"
	"bake/internal/notify"
	"bake/internal/secret"
)

// readBackup returns what a command line and backup.yaml say.
func (a *app) readBackup(c *cli.Context) (word string, o backupOptions, err error) {
	if word, err = checkWords(c, backupWords); err != nil {
		return word, o, err
	}
	if o.hosts, err = a.hosts(c); err != nil {
		return word, o, err
	}
	known := host.Names(a.config)
	for _, name := range o.hosts {
		if !slices.Contains(known, name) {
			return word, o, &host.UnknownError{Name: name, Dir: filepath.Join(a.config, "hosts"), Known: known}
		}
	}
	o.address, o.uri, o.identity, o.subset = c.String("address"), c.String("connect"), c.String("identity"), c.String("subset")
	o.dry, o.prune, o.isUserUnit = c.Bool("dry-run"), c.Bool("prune"), c.Bool("user")
	o.wait = c.Duration("wait")
	o.create, o.revive, o.policy = c.Bool("create"), c.Bool("revive"), c.String("policy")
	o.lock = backup.Lock{Days: c.Uint("days"), Compliance: c.Bool("compliance")}
	switch {
	case o.subset != "" && !backup.IsSubset(o.subset):
		return word, o, usageError{fmt.Errorf("--subset %q: want a part such as 5%% or an amount such as 1G", o.subset)}
	case o.wait < 0:
		return word, o, usageError{fmt.Errorf("--wait %v: want a time such as 90m", o.wait)}
	case o.address != "" && !isAddress(o.address):
		return word, o, usageError{fmt.Errorf("--address %q: want an IP address or a name", o.address)}
	case o.address != "" && len(o.hosts) > 1:
		return word, o, usageError{errors.New("--address is of one machine, there are several hosts")}
	case o.policy != "" && o.policy != string(backup.Writer) && o.policy != string(backup.Pruner):
		return word, o, usageError{fmt.Errorf("--policy %q: want writer or pruner", o.policy)}
	case c.IsSet("days") && o.lock.Days < 1 || o.lock.Days > 36500:
		return word, o, usageError{fmt.Errorf("--days %d: want 1 to 36500", o.lock.Days)}
	case (c.IsSet("days") || o.lock.Compliance) && !o.create:
		return word, o, usageError{errors.New("--days and --compliance go with --create")}
	case o.create && o.revive, (o.create || o.revive) && o.policy != "":
		return word, o, usageError{errors.New("--create, --revive and --policy exclude each other")}
	case o.uri != "":
		err = checkURI(o.uri)
	}
	if err == nil {
		o.config, err = backup.Read(a.config)
	}
	o.unit = unitOptions{word: notify.Backup, about: "Store the state of machines", hosts: c.StringSlice("host"), selector: c.String("selector"), at: c.String("at"),
		user: c.String("run-as"), onFailure: c.String("on-failure"), dir: c.String("unit-dir")}
	return word, o, err
}

// backupRoot is where backups are made ready.
func (a *app) backupRoot() (string, error) {
	if dir := a.stateDir(); dir != "" {
		return filepath.Join(dir, "backup"), nil
	}
	return "", lackError{errors.New("there is no directory to make backups ready in: set HOME or XDG_STATE_HOME")}
}

// backupPlan finds the stores of a host, as a role sees them.
func (a *app) backupPlan(ctx context.Context, o backupOptions, name string, as backup.Role) (backup.Plan, error) {
	plan, err := o.config.Plan(ctx, name, as, secret.Finder{Dir: a.config, Getenv: a.Getenv, Tools: a.Tools})
	if err != nil || plan.Restic == nil {
		return plan, err
	}
	if dir := a.cacheDir(); dir != "" {
		plan.Restic.Cache = filepath.Join(dir, "restic")
	}
	plan.Restic.Progress = a.meter(name + ": storing").tell
	return plan, nil
}

// enterBackup takes the lock of a host's backups, and waits for it for as long as it may.
func (a *app) enterBackup(ctx context.Context, name string, plan backup.Plan, wait time.Duration) (*backup.Place, error) {
	root, err := a.backupRoot()
	if err != nil {
		return nil, err
	}
	place, err := backup.Enter(root, name)
	if busy := (*backup.BusyError)(nil); wait > 0 && errors.As(err, &busy) {
		a.say("%s: %v: waiting for it", name, busy)
		place, err = waitForPlace(ctx, root, name, wait)
	}
	if busy := (*backup.BusyError)(nil); errors.As(err, &busy) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err == nil && plan.Restic != nil {
		plan.Restic.Hold = place.Hold()
	}
	return place, err
}

// waitForPlace asks again until the place is free, or its time is over.
func waitForPlace(ctx context.Context, root, name string, wait time.Duration) (place *backup.Place, err error) {
	over := time.After(wait)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	for {
		place, err = backup.Enter(root, name)
		if busy := (*backup.BusyError)(nil); !errors.As(err, &busy) {
			return place, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-over:
			return nil, err
		case <-again.C:
		}
	}
}

// backupHost fetches the state of one machine and stores it. What is returned is what
// came of it, whatever the error.
func (a *app) backupHost(ctx context.Context, name string, o backupOptions) (record backup.Record, err error) {
	began := clock().UTC()
	record.Began = began.Truncate(time.Second)
	h, err := host.Load(a.config, name, a.shelf())
	if err != nil {
		return record, err
	}
	plan, err := a.backupPlan(ctx, o, name, backup.Writer)
	if err != nil {
		return record, err
	}
	place, err := a.enterBackup(ctx, name, plan, o.wait)
	if err != nil {
		return record, err
	}
	defer func() {
		record.Ended, record.Exit = clock().UTC().Truncate(time.Second), exitCode(err)
		if err != nil {
			record.Reason = strings.TrimPrefix(firstLine(err.Error()), name+": ")
		}
		err = errors.Join(err, place.Write(record), place.Leave())
	}()
	root, err := a.backupRoot()
	if err != nil {
		return record, err
	}
	before, err := backup.ReadRecord(root, name)
	if err != nil {
		a.warn("%s: what its last backup came to cannot be read: %v", name, err)
	}
	record.LastGood = before.LastGood
	stage, err := place.Stage()
	if err != nil {
		return record, err
	}
	manifest, err := a.fetchState(ctx, h, plan, o, stage)
	if err != nil {
		return record, fmt.Errorf("%s: %w", name, err)
	}
	job := backup.Job{Dir: stage, Host: name, Generation: a.generationOf(name, manifest.Instance), Time: a.dateOf(name, manifest, began)}
	record.Saved, err = a.saveState(ctx, plan, job)
	if err = errors.Join(err, damagedDatabase(name, manifest)); err == nil {
		record.LastGood = job.Time
	}
	return record, err
}

// dateOf is the moment whose state a backup has, by this machine's clock. The other says
// it, too, but what is pruned, what is the newest and what is too old follows from it:
// who could choose would have all that is kept pruned by a few backups of years to come.
func (a *app) dateOf(name string, m archive.Manifest, began time.Time) time.Time {
	at := m.Frozen.UTC()
	if at.Before(began) {
		at = began
	}
	if now := clock().UTC(); at.After(now) {
		at = now
	}
	if wrong := m.Frozen.Sub(at); wrong.Abs() > time.Minute {
		a.warn("%s: its clock is wrong by %v: the backup has the time of this machine", name, wrong.Round(time.Second))
	}
	return at
}

// saveState stores a backup everywhere: what one store cannot, the other may.
func (a *app) saveState(ctx context.Context, plan backup.Plan, job backup.Job) (all []backup.Snapshot, err error) {
	for _, store := range plan.Stores() {
		a.stage("%s: storing in %s", job.Host, store)
		saved, failed := store.Save(ctx, job)
		a.stage("")
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", job.Host, failed))
			continue
		}
		all = append(all, saved)
		a.noteSaved(job.Host, saved)
		a.say("%s: %s in %s: state of %s, %s, %s of it new", job.Host, saved.ID, store, saved.Time.Local().Format(time.DateTime), amount(saved.Bytes), amount(saved.Added))
	}
	return all, err
}
