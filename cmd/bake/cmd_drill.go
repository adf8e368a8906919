package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/backup"
)

// drillOptions say what is rehearsed.
type drillOptions struct {
	hosts      []string
	generation string
	pick       pick
	boot       bootOptions
	maxAge     time.Duration // of the last proof: only look; 0 is a drill
	config     backup.Config
}

func drillCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "drill",
		Usage: "prove that a backup can be restored, in a throwaway machine",
		Description: `The newest backup, or the one that is asked for, is fetched, verified and restored
into a machine that is made from the host's generation for this alone and reaches
nobody: a second gateway must not answer anybody's messages. There the tree must be
what the manifest says, each database sound, the gateway ready, and the claims must
hold. Then the machine is gone.

OUT/HOST/drill.json has what came of it, and when a restore was proven last. With
--max-age nothing is rehearsed: an older proof, or none, is exit status 7.`,
		Flags: append(append(append(hostFlags(), pickFlags()...),
			&cli.StringFlag{Name: "generation", Value: "current", Usage: "generation to restore into: current, latest or a name"},
			&cli.StringFlag{Name: "max-age", Usage: "only look whether the last proof is younger than this, such as 8d"}),
			bootFlags()...),
		Action: func(c *cli.Context) error {
			o, err := readDrill(a, c)
			if err != nil {
				return err
			}
			return runDrill(c.Context, a, o)
		},
	}
}

func readDrill(a *app, c *cli.Context) (o drillOptions, err error) {
	o.generation = c.String("generation")
	if err = noArguments(c); err == nil {
		o.hosts, err = a.hosts(c)
	}
	if err == nil {
		o.pick, err = readPick(c)
	}
	if err == nil {
		o.boot, err = readBootFlags(c)
	}
	if err != nil {
		return o, err
	}
	if text := c.String("max-age"); text != "" {
		if o.maxAge, err = backup.ParseTime(text); err != nil || o.maxAge <= 0 {
			return o, usageError{fmt.Errorf("--max-age %q: want a time such as 8d or 36h", text)}
		}
	}
	if len(o.hosts) > 1 && (o.pick.dir != "" || o.pick.snapshot != "") {
		return o, usageError{errors.New("--from and --snapshot are of one host, there are several")}
	}
	if o.pick.dir == "" && o.maxAge == 0 {
		o.config, err = backup.Read(a.config)
	}
	return o, err
}

func runDrill(ctx context.Context, a *app, o drillOptions) error {
	var failed error
	var all []drill
	for _, name := range o.hosts {
		d, err := a.readDrill(name)
		switch {
		case err != nil:
		case o.maxAge > 0:
			err = d.tooOld(name, o.maxAge)
		default:
			d, err = a.drill(ctx, name, o)
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			return failed
		}
		all = append(all, d)
	}
	if a.json {
		return errors.Join(a.printJSON(all), failed)
	}
	var lines []string
	for _, d := range all {
		lines = append(lines, d.lines()...)
	}
	return errors.Join(a.printLines(lines), failed)
}
