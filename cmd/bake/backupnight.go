package main

// What backups came to, and who is told.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bake/internal/backup"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/notify"
)

// A backupRun is what one run came to for one host.
type backupRun struct {
	Host string `json:"host"`
	backup.Record
}

// runBackup backs hosts up, one after another, and tells of it.
func runBackup(ctx context.Context, a *app, o backupOptions) error {
	if o.dry {
		return a.dryBackup(ctx, o)
	}
	told, err := notify.Read(a.config)
	if err != nil {
		return err
	}
	sender := &notify.Sender{Config: told, Dir: a.config, Getenv: a.Getenv, Tools: a.Tools}
	if err := sender.Prepare(ctx); err != nil {
		return err
	}
	began := time.Now()
	unheard := sender.Start(ctx, notify.Backup)
	var runs []backupRun
	var failed error
	for _, name := range o.hosts {
		record, err := a.backupHost(ctx, name, o)
		if err == nil && o.prune {
			one := o
			one.hosts = []string{name}
			err = runBackupPrune(ctx, a, one)
		}
		if err != nil {
			if ctx.Err() != nil {
				err = errors.Join(errInterrupted, err)
			}
			record.Exit, record.Reason = exitCode(err), strings.TrimPrefix(firstLine(err.Error()), name+": ")
		}
		failed = errors.Join(failed, err)
		runs = append(runs, backupRun{name, record})
		if ctx.Err() != nil {
			break // the others were not tried, and what their last backup came to still holds
		}
	}
	lines := backupLines(runs)
	m := notify.Message{Job: notify.Backup, Summary: backupSummary(runs), Exit: exitCode(failed), Began: began, Ended: time.Now(), Content: runs,
		Metrics: a.backupMetrics}
	for _, line := range lines {
		m.Table += diag.Printable(line) + "\n"
	}
	for _, r := range runs {
		if r.Exit != 0 {
			m.Failed = append(m.Failed, r.Host)
		}
	}
	unheard = errors.Join(unheard, sender.Tell(context.WithoutCancel(ctx), m))
	if a.json {
		return errors.Join(a.printJSON(runs), failed, unheard)
	}
	return errors.Join(a.printLines(lines), failed, unheard)
}

// dryBackup says what would be done, with all that can be known beforehand.
func (a *app) dryBackup(ctx context.Context, o backupOptions) error {
	for _, name := range o.hosts {
		if _, err := host.Load(a.config, name, a.shelf()); err != nil {
			return err
		}
		plan, err := a.backupPlan(ctx, o, name, backup.Writer)
		if err != nil {
			return err
		}
		for _, store := range plan.Stores() {
			a.say("%s: its state would be fetched as %s and stored in %s", name, plan.User, store)
		}
	}
	return nil
}

func backupSummary(runs []backupRun) string {
	var bad []string
	for _, r := range runs {
		if r.Exit != 0 {
			bad = append(bad, r.Host)
		}
	}
	if len(bad) == 0 {
		return fmt.Sprintf("%d stored", len(runs))
	}
	return fmt.Sprintf("%d stored, %d failed (%s)", len(runs)-len(bad), len(bad), strings.Join(bad, ", "))
}

// backupLines are a line for each host and store.
func backupLines(runs []backupRun) []string {
	rows := [][]string{{"HOST", "SNAPSHOT", "STATE OF", "STATE", "NEW", "TIME", "STORE"}}
	var failed []string
	for _, r := range runs {
		took := r.Ended.Sub(r.Began).Round(time.Second)
		for _, s := range r.Saved {
			rows = append(rows, []string{r.Host, s.ID, s.Time.Local().Format(time.DateTime), amount(s.Bytes), amount(s.Added), took.String(), s.Store})
		}
		if r.Exit != 0 {
			failed = append(failed, fmt.Sprintf("%s failed: %s", r.Host, r.Reason))
		}
	}
	return append(table(rows, 3, 4, 5), failed...)
}

// backupMetrics are what the last backup of every host came to, in the text format.
func (a *app) backupMetrics() string {
	root, err := a.backupRoot()
	if err != nil {
		return ""
	}
	var out strings.Builder
	records := map[string]backup.Record{}
	for _, name := range host.Names(a.config) {
		if r, err := backup.ReadRecord(root, name); err == nil && !r.Began.IsZero() {
			records[name] = r
		}
	}
	for _, metric := range []struct {
		name, help string
		of         func(backup.Record) (float64, bool)
	}{
		{"bake_backup_last_end_timestamp_seconds", "When the last backup ended.", func(r backup.Record) (float64, bool) { return float64(r.Ended.Unix()), true }},
		{"bake_backup_last_exit_status", "Exit status of the last backup.", func(r backup.Record) (float64, bool) { return float64(r.Exit), true }},
		{"bake_backup_last_duration_seconds", "How long the last backup took.", func(r backup.Record) (float64, bool) { return max(r.Ended.Sub(r.Began).Seconds(), 0), true }},
		{"bake_backup_last_good_timestamp_seconds", "The moment whose state is stored, of the last good backup.",
			func(r backup.Record) (float64, bool) { return float64(r.LastGood.Unix()), !r.LastGood.IsZero() }},
		{"bake_backup_state_bytes", "Size of the state.", func(r backup.Record) (float64, bool) {
			if len(r.Saved) == 0 {
				return 0, false
			}
			return float64(r.Saved[0].Bytes), true
		}},
	} {
		head := fmt.Sprintf("# HELP %s %s\n# TYPE %s gauge\n", metric.name, metric.help, metric.name)
		for _, name := range host.Names(a.config) {
			r, ok := records[name]
			if !ok {
				continue
			}
			if value, ok := metric.of(r); ok {
				fmt.Fprintf(&out, "%s%s{host=%q} %.0f\n", head, metric.name, name, value)
				head = ""
			}
		}
	}
	return out.String()
}
