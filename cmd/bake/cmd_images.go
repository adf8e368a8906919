package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
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
	all, err := a.stock(a.stores())
	if err != nil {
		return err
	}
	var damaged error
	if o.verify {
		for i := range all {
			for _, kept := range all[i].kept {
				a.stage("verifying %s", kept.blob.Path)
				err := kept.store.Verify(ctx, all[i].SHA256)
				if ctx.Err() != nil {
					return err
				}
				all[i].Damaged = all[i].Damaged || err != nil
				damaged = errors.Join(damaged, err)
			}
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
func (a *app) printStock(all []stocked) error {
	if a.json {
		return a.printJSON(all)
	}
	if len(all) == 0 {
		a.say("there are no base images here")
		return nil
	}
	lines := []string{fmt.Sprintf("%-24s %-14s %-12s %10s %5s  %s", "REFERENCE", "SERIAL", "SHA256", "SIZE", "AGE", "USED BY")}
	for _, s := range all {
		references := s.References
		if len(references) == 0 {
			references = []string{"-"}
		}
		used := strings.Join(s.Generations, " ")
		if s.Damaged {
			used = strings.TrimSpace(used + " DAMAGED")
		}
		for _, reference := range references {
			serial := s.serials[reference]
			if serial == "" {
				serial = "-"
			}
			line := fmt.Sprintf("%-24s %-14s %-12s %10s %5s  %s", reference, serial, s.SHA256[:12], amount(s.Size), age(time.Since(s.Added)), used)
			lines = append(lines, strings.TrimRight(line, " "))
		}
	}
	return a.printLines(lines)
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
