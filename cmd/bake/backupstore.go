package main

// What there is to do with stores when no state is fetched.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bake/internal/backup"
	"bake/internal/notify"
)

// eachStore does something with every store of every host, in the host's place.
func (a *app) eachStore(ctx context.Context, o backupOptions, as backup.Role, do func(name string, plan backup.Plan, s backup.Store) error) error {
	var failed error
	for _, name := range o.hosts {
		failed = errors.Join(failed, a.hostStores(ctx, o, name, as, do))
	}
	return failed
}

func (a *app) hostStores(ctx context.Context, o backupOptions, name string, as backup.Role, do func(string, backup.Plan, backup.Store) error) (err error) {
	plan, err := a.backupPlan(ctx, o, name, as)
	if err != nil {
		return err
	}
	place, err := a.enterBackup(ctx, name, plan, o.wait)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Leave()) }()
	for _, s := range plan.Stores() {
		failed := do(name, plan, s)
		a.stage("")
		if failed != nil && ctx.Err() == nil {
			failed = fmt.Errorf("%s: %w", name, failed)
		}
		err = errors.Join(err, failed)
	}
	return err
}

// runBackupInit begins stores.
func runBackupInit(ctx context.Context, a *app, o backupOptions) error {
	return a.eachStore(ctx, o, backup.Writer, func(name string, plan backup.Plan, s backup.Store) error {
		isNew, err := s.Init(ctx)
		switch {
		case err != nil:
		case !isNew:
			a.say("%s: there was one already in %s", name, s)
		case s == backup.Store(plan.Restic):
			a.say("%s: there is a repository now, %s: print bake backup sheet --host %s, and put the password on it", name, s, name)
		default:
			a.say("%s: there is a directory for backups now, %s", name, s)
		}
		return err
	})
}

// runBackupList lists what can be restored. It disturbs no backup that is under way.
func runBackupList(ctx context.Context, a *app, o backupOptions) error {
	all := []backup.Snapshot{}
	var failed error // of one store: what the others have is shown
	for _, name := range o.hosts {
		plan, err := a.backupPlan(ctx, o, name, backup.Writer)
		if err != nil {
			return err
		}
		for _, s := range plan.Stores() {
			found, err := s.List(ctx, name)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
				continue
			}
			a.noteSnapshots(name, s.String(), found)
			all = append(all, found...)
		}
	}
	if a.json {
		return errors.Join(a.printJSON(all), failed)
	}
	rows := [][]string{{"HOST", "SNAPSHOT", "STATE OF", "AGE", "GENERATION", "STORE"}}
	for _, s := range all {
		rows = append(rows, []string{s.Host, s.ID, s.Time.Local().Format(time.DateTime), old(s.Time), s.Generation, s.Store})
	}
	return errors.Join(a.printLines(table(rows, 3)), failed)
}

// old is how old something is, in days or less.
func old(t time.Time) string {
	d := clock().Sub(t)
	if d >= 48*time.Hour {
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	}
	return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
}

// runBackupCheck reads stores through, and looks how old the newest backup is.
func runBackupCheck(ctx context.Context, a *app, o backupOptions) error {
	return a.eachStore(ctx, o, backup.Writer, func(name string, plan backup.Plan, s backup.Store) error {
		subset := o.subset
		if subset == "" {
			subset = plan.Subset
		}
		a.stage("%s: checking %s", name, s)
		if err := s.Check(ctx, subset); err != nil {
			return err
		}
		all, err := s.List(ctx, name)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return claimError{fmt.Errorf("there is no backup in %s", s)}
		}
		newest := all[len(all)-1]
		switch age := clock().Sub(newest.Time); {
		case plan.MaxAge > 0 && age > plan.MaxAge:
			return claimError{fmt.Errorf("the newest backup in %s is %s old, and max_age is %v", s, old(newest.Time), plan.MaxAge)}
		case age < -time.Minute:
			return claimError{fmt.Errorf("the newest backup in %s is of %s, which is still to come: one of two clocks was wrong, and nobody knows how old it is", s, newest.Time.Local().Format(time.DateTime))}
		}
		a.say("%s: %s is sound: %d backups, the newest is %s old", name, s, len(all), old(newest.Time))
		return nil
	})
}

// runBackupPrune removes what need not stay, and renews the locks of what does.
func runBackupPrune(ctx context.Context, a *app, o backupOptions) error {
	return a.eachStore(ctx, o, backup.Pruner, func(name string, plan backup.Plan, s backup.Store) error {
		a.stage("%s: pruning %s", name, s)
		removed, err := s.Prune(ctx, name, plan.Keep, o.dry)
		if err != nil {
			return err
		}
		what := map[bool]string{true: "would be removed", false: "removed"}[o.dry]
		for _, r := range removed {
			a.say("%s: %s: %s of %s in %s", name, what, r.ID, r.Time.Local().Format(time.DateTime), s)
		}
		a.say("%s: %d %s in %s", name, len(removed), what, s)
		if s != backup.Store(plan.Restic) || o.dry {
			return nil
		}
		bucket, err := plan.Bucket()
		if err != nil || bucket == nil {
			return err
		}
		renewed, err := bucket.Renew(ctx)
		if renewed > 0 {
			a.say("%s: renewed %d locks", name, renewed)
		}
		return err
	})
}

// runBackupUnlock removes locks.
func runBackupUnlock(ctx context.Context, a *app, o backupOptions) error {
	return a.eachStore(ctx, o, backup.Writer, func(_ string, _ backup.Plan, s backup.Store) error { return s.Unlock(ctx) })
}

// runBackupBucket judges a bucket, or makes it.
func runBackupBucket(ctx context.Context, a *app, o backupOptions) error {
	for _, name := range o.hosts {
		if err := a.bucket(ctx, name, o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (a *app) bucket(ctx context.Context, name string, o backupOptions) error {
	as := backup.Writer
	if o.create || o.revive {
		as = backup.Owner
	}
	plan, err := a.backupPlan(ctx, o, name, as)
	if err != nil {
		return err
	}
	b, err := plan.Bucket()
	switch {
	case err != nil:
		return err
	case b == nil:
		return usageError{errors.New("its repository is not on S3")}
	case o.policy != "":
		document, err := b.Policy(backup.Role(o.policy))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Stdout, "%s\n", document)
		return err
	case o.revive:
		changed, err := b.Revive(ctx, o.dry)
		a.say("%s: %d objects of %s %s", name, changed, b, map[bool]string{true: "would be as they were", false: "are as they were"}[o.dry])
		return err
	case o.create && o.lock.Days == 0: // what the judgement demands
		o.lock.Days, o.lock.AtLeast = max(30, plan.Keep.Need(o.config.HasPruner(name))), true
		return a.createBucket(ctx, name, b, o)
	case o.create:
		return a.createBucket(ctx, name, b, o)
	}
	return a.judgeBucket(ctx, b, plan, o.config.HasPruner(name))
}

func (a *app) createBucket(ctx context.Context, name string, b *backup.Bucket, o backupOptions) error {
	if o.dry {
		a.say("%s: the bucket %s would have versions, object lock and a lock of %d days", name, b, o.lock.Days)
		return nil
	}
	made, err := b.Create(ctx, o.lock)
	if err == nil {
		a.say("%s: the bucket %s %s", name, b, map[bool]string{true: "is new", false: "was there"}[made])
	}
	return err
}

// judgeBucket prints what a bucket is and is not.
func (a *app) judgeBucket(ctx context.Context, b *backup.Bucket, plan backup.Plan, renews bool) error {
	found, err := b.Check(ctx, plan.Keep.Need(renews))
	if err != nil {
		return err
	}
	bad := 0
	var lines []string
	for _, f := range found {
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
			bad++
		}
		if f.Said != "" {
			f.What += " (" + f.Said + ")"
		}
		lines = append(lines, mark+"  "+f.What)
	}
	if a.json {
		err = a.printJSON(found)
	} else {
		err = a.printLines(lines)
	}
	if bad > 0 {
		return errors.Join(err, claimError{fmt.Errorf("%d of %d things about the bucket %s are not as they must be", bad, len(found), b)})
	}
	return err
}

// runBackupInstall writes units.
func runBackupInstall(ctx context.Context, a *app, o backupOptions) error {
	told, err := notify.Read(a.config)
	if err != nil {
		return err
	}
	if len(o.unit.hosts) == 0 && o.unit.selector == "" {
		o.unit.more = []string{"--all"}
	}
	o.unit.more = append(o.unit.more, "--wait", "2h") // for a drill of the same night
	if o.prune {
		o.unit.more = append(o.unit.more, "--prune")
	}
	o.unit.metrics = told.Dirs(notify.Backup)
	for _, name := range o.hosts {
		o.unit.writes = append(o.unit.writes, o.config.Dirs(name)...)
	}
	return runInstall(ctx, a, nightOptions{unit: o.unit, isUserUnit: o.isUserUnit, dry: o.dry})
}

// runBackupSheet prints recovery sheets.
func runBackupSheet(ctx context.Context, a *app, o backupOptions) error {
	for _, name := range o.hosts {
		plan, err := a.backupPlan(ctx, o, name, backup.Writer)
		if err != nil {
			return err
		}
		sheet := backup.Sheet{Host: name, Printed: time.Now(), Bake: version(), Versions: map[string]string{}}
		for program, arg := range map[string]string{"restic": "version", "tar": "--version", "rsync": "--version"} {
			if out, err := a.Tools.Run(ctx, program, arg); err == nil { // one that is not there was not used
				sheet.Versions[program] = firstLine(string(out))
			}
		}
		for _, s := range plan.Stores() {
			all, err := s.List(ctx, name)
			if err != nil {
				a.warn("%s: what is in %s is not on the sheet: %v", name, s, err)
			}
			if len(all) > 0 {
				sheet.Newest = append(sheet.Newest, all[len(all)-1])
			}
		}
		if err := a.printLines(strings.Split(strings.TrimSuffix(o.config.Sheet(sheet), "\n"), "\n")); err != nil {
			return err
		}
	}
	return nil
}
