package main

// What a night is about, and what keeps it from beginning.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/label"
	"bake/internal/nightly"
	"bake/internal/notify"
)

// nightHosts are the hosts of a night: all, unless some are named. One whose labels cannot be
// read may be one that a selector means: it is taken for one, so that the others have their night.
func (a *app) nightHosts(c *cli.Context) ([]string, error) {
	if !c.IsSet("selector") && !c.Bool("all") && len(c.StringSlice("host")) == 0 {
		return host.Names(a.config), nil
	}
	if !c.IsSet("selector") || c.Bool("all") || len(c.StringSlice("host")) > 0 {
		return a.hosts(c)
	}
	wanted, err := label.Parse(c.String("selector"))
	if err != nil {
		return nil, usageError{fmt.Errorf("--selector: %w", err)}
	}
	var names []string
	for _, name := range host.Names(a.config) {
		if labels, err := host.Labels(a.config, name); err != nil || wanted.Matches(labels) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, usageError{fmt.Errorf("--selector: no host in %s fits %q", filepath.Join(a.config, "hosts"), c.String("selector"))}
	}
	return names, nil
}

// strayDeploys says which hosts nightly.yaml deploys that there are not.
func (a *app) strayDeploys(config notify.Config) error {
	known := host.Names(a.config)
	var problems diag.List
	for _, name := range slices.Sorted(maps.Keys(config.Deploy)) {
		if !slices.Contains(known, name) {
			problems.Add(diag.Problem{Pos: diag.Position{File: filepath.Join(a.config, notify.FileName)}, Path: "deploy",
				Message: fmt.Sprintf("there is no host file for %q", name)})
		}
	}
	return problems.Err()
}

// beginNight takes the locks that keep two nights apart: that of the reports, and that of the
// directory of artifacts, which whoever keeps his reports elsewhere has in common with us.
func (a *app) beginNight(journal nightly.Journal) (entry *nightly.Entry, held io.Closer, err error) {
	if err := checkOut(a.out); err != nil {
		return nil, nil, err
	}
	if entry, err = journal.Begin(); err == nil {
		if held, err = holdOut(a.out); err != nil {
			err = errors.Join(err, entry.Close())
		}
	}
	var busy *nightly.BusyError
	if errors.As(err, &busy) {
		err = lackError{err}
	}
	return entry, held, err
}

// holdOut locks the directory of artifacts itself: nothing is written for it. Where the file
// system has no such locks the reports' has to do.
func holdOut(dir string) (io.Closer, error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(&nightly.BusyError{Path: dir}, file.Close())
	}
	return file, nil
}

// unbegun tells that there is no night, and why. Not of one that has to wait for another, which
// tells itself, nor when somebody has stopped this.
func unbegun(ctx context.Context, sender *notify.Sender, err error) error {
	var busy *nightly.BusyError
	if errors.As(err, &busy) || ctx.Err() != nil {
		return err
	}
	return both(err, sender.Send(ctx, nightly.Unbegun(time.Now(), exitCode(err), err.Error())))
}

// both joins two errors; one alone stays what it is, so that it is shown as that.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}

// pastNights are those before the one of a number, with the hosts that there still are.
func (a *app) pastNights(journal nightly.Journal, number int) []nightly.Night {
	nights, _ := journal.Nights(keptNights)
	nights = slices.DeleteFunc(nights, func(n nightly.Night) bool { return n.Number == number })
	known := map[string]bool{}
	for _, name := range host.Names(a.config) {
		known[name] = true
	}
	for i := range nights {
		nights[i].Hosts = slices.DeleteFunc(nights[i].Hosts, func(o nightly.Outcome) bool { return !known[o.Host] })
	}
	return nights
}

// checkOut says before anything is done that nothing could be written.
func checkOut(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return lackError{fmt.Errorf("the directory of artifacts %s cannot be written to: %w", dir, err)}
	}
	return nil
}
