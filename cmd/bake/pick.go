package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/archive"
	"bake/internal/backup"
)

// pick says which backup is meant.
type pick struct {
	snapshot string    // an ID or its beginning, "" for the newest
	at       time.Time // the newest that is not newer; zero for any
	dir      string    // a directory with state.tar and manifest.json, instead of a store
}

func pickFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "snapshot", Usage: "backup to take, as bake backup list names it (default: the newest)"},
		&cli.StringFlag{Name: "at", Usage: "take the newest backup that is not newer than this: 2026-11-28, or with a time such as 2026-11-28T20:00"},
		&cli.StringFlag{Name: "from", Usage: "directory with state.tar and manifest.json, instead of what backup.yaml names"},
	}
}

func readPick(c *cli.Context) (p pick, err error) {
	p = pick{snapshot: c.String("snapshot"), dir: c.String("from")}
	if at := c.String("at"); at != "" {
		if p.at, err = readMoment(at); err != nil {
			return p, usageError{fmt.Errorf("--at: %w", err)}
		}
	}
	given := 0
	for _, is := range []bool{p.snapshot != "", !p.at.IsZero(), p.dir != ""} {
		if is {
			given++
		}
	}
	if given > 1 {
		return p, usageError{errors.New("--snapshot, --at and --from exclude each other")}
	}
	return p, nil
}

// readMoment reads a time of this machine's zone, unless it says another. A day means
// its end.
func readMoment(text string) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, text, time.Local); err == nil {
		return day.AddDate(0, 0, 1).Add(-time.Nanosecond), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time such as 2026-11-28 or 2026-11-28T20:00", text)
}

// choose finds the backup in a list, the oldest first.
func (p pick) choose(all []backup.Snapshot) (s backup.Snapshot, err error) {
	found := 0
	for _, candidate := range all {
		switch {
		case p.snapshot != "" && candidate.ID == p.snapshot:
			return candidate, nil
		case p.snapshot != "" && !strings.HasPrefix(candidate.ID, p.snapshot), !p.at.IsZero() && candidate.Time.After(p.at):
			continue
		}
		found++
		s = candidate
	}
	switch {
	case found == 0 && p.snapshot != "":
		return s, fmt.Errorf("there is no backup %s (%w)", p.snapshot, fs.ErrNotExist)
	case found == 0 && !p.at.IsZero():
		return s, fmt.Errorf("there is no backup from before %s (%w)", p.at.Format(time.DateTime), fs.ErrNotExist)
	case found == 0:
		return s, fmt.Errorf("there is no backup (%w)", fs.ErrNotExist)
	case found > 1 && p.snapshot != "":
		return s, usageError{fmt.Errorf("--snapshot %s: %d backups begin like that", p.snapshot, found)}
	}
	return s, nil
}

// withSnapshot fetches a backup of a host, verifies it to the last byte, and hands it
// on. It is gone afterwards.
func (a *app) withSnapshot(ctx context.Context, config backup.Config, name string, p pick, do func(dir string, m archive.Manifest) error) (err error) {
	var s backup.Snapshot
	dir, limits := p.dir, archive.Limits{Bytes: 1 << 44} // of what lies here already
	if dir == "" {
		plan, failed := a.backupPlan(ctx, backupOptions{config: config}, name, backup.Writer)
		if failed != nil {
			return failed
		}
		place, failed := a.enterBackup(ctx, name, plan, 0)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, place.Leave()) }() // of the result: a state that stays is told of
		limits.Bytes = plan.Size
		if dir, err = place.Stage(); err != nil {
			return err
		}
		if s, err = a.fetchBackup(ctx, plan, name, p, dir); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	a.stage("%s: verifying", name)
	m, err := archive.Verify(ctx, dir, limits)
	a.stage("")
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case m.Host != name:
		return &archive.RefusedError{Text: fmt.Sprintf("%s: the backup is of the state of %s", name, m.Host)}
	}
	if !s.Time.IsZero() && m.Frozen.Sub(s.Time).Abs() >= time.Second { // the machine's clock was wrong
		m.Frozen = s.Time
	}
	return do(dir, m)
}

// fetchBackup takes the newest backup of all stores, or the one that is asked for, from the
// first that can give it.
func (a *app) fetchBackup(ctx context.Context, plan backup.Plan, name string, p pick, dir string) (backup.Snapshot, error) {
	type offer struct {
		backup.Snapshot
		store backup.Store
	}
	var offers []offer
	var failed error
	for _, store := range plan.Stores() {
		all, err := store.List(ctx, name)
		var s backup.Snapshot
		if err == nil {
			a.noteSnapshots(name, store.String(), all)
			if s, err = p.choose(all); err != nil {
				err = fmt.Errorf("%s: %w", store, err)
			}
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		offers = append(offers, offer{s, store})
	}
	slices.SortStableFunc(offers, func(x, y offer) int { return y.Time.Compare(x.Time) })
	for _, o := range offers {
		a.stage("%s: fetching %s from %s", name, o.ID, o.store)
		err := o.store.Fetch(ctx, o.Snapshot, dir)
		a.stage("")
		if err == nil {
			if failed != nil {
				a.warn("%s: %s is taken from %s, as %v", name, o.ID, o.store, failed)
			}
			return o.Snapshot, nil
		}
		if failed = errors.Join(failed, err); ctx.Err() != nil {
			return o.Snapshot, err
		}
		// Half of it may be there.
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
			return o.Snapshot, errors.Join(failed, err)
		}
	}
	return backup.Snapshot{}, failed
}
