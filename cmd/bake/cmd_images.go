package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/base"
)

type imagesOptions struct{ verify, prune, dry bool }

func imagesCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "images",
		Usage: "list the base images that are kept here, verify or prune them",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "verify", Usage: "hash every image again"},
			&cli.BoolFlag{Name: "prune", Usage: "remove what neither bake.lock nor a generation here uses"},
			&cli.BoolFlag{Name: "dry-run", Usage: "with --prune: only say what would be removed"}},
		Action: func(c *cli.Context) error {
			o := imagesOptions{c.Bool("verify"), c.Bool("prune"), c.Bool("dry-run")}
			err := noArguments(c)
			switch {
			case err != nil:
				return err
			case o.verify && o.prune:
				return usageError{errors.New("--verify and --prune exclude each other")}
			case o.dry && !o.prune:
				return usageError{errors.New("--dry-run goes with --prune")}
			}
			return runImages(c.Context, a, o)
		},
	}
}

func runImages(ctx context.Context, a *app, o imagesOptions) error {
	if o.prune {
		return a.prune(ctx, o.dry)
	}
	depot := a.depot()
	all, err := depot.Stock(a.generations)
	if err != nil {
		return err
	}
	var damaged error
	if o.verify {
		for i := range all {
			err := depot.Verify(ctx, &all[i])
			if ctx.Err() != nil {
				return err
			}
			damaged = errors.Join(damaged, err)
		}
		a.stage("")
	}
	if err := a.printStock(all); err != nil {
		return err
	}
	if o.verify && damaged == nil {
		a.say("%d images, all as they should be", len(all))
	}
	return damaged
}

// printStock prints a table, or JSON.
func (a *app) printStock(all []base.Stocked) error {
	if a.json {
		return a.printJSON(viewStock(all))
	}
	if len(all) == 0 {
		a.say("there are no base images here")
		return nil
	}
	rows := [][]string{{"REFERENCE", "SERIAL", "SHA256", "SIZE", "AGE", "USED BY"}}
	for _, s := range all {
		used := strings.Join(s.Users, " ")
		if s.Damaged {
			used = strings.TrimSpace(used + " DAMAGED")
		}
		line := func(reference, serial string) {
			rows = append(rows, []string{reference, cmp.Or(serial, "-"), s.SHA256[:12], amount(s.Size), age(time.Since(s.Added)), used})
		}
		for _, pinned := range s.Pins {
			line(shortReference(pinned), pinned.Serial)
		}
		if len(s.Pins) == 0 {
			line("-", "-")
		}
	}
	return a.printLines(table(rows, 3, 4))
}

// age is a duration in its largest unit.
func age(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", max(d, 0)/time.Minute)
}
