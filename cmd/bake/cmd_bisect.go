package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

type bisectOptions struct {
	host      string
	good, bad string
	from      fetchOptions
	boot      bootOptions
	again     bool // boot both ends, too
	dryRun    bool
}

func bisectCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "bisect",
		Usage: "find out what of a generation's inputs turned its claims red",
		Description: `Takes apart what the bad generation was made from that the good one was not: the base
image, each package, each layer of your own, each key of the host file. Then builds what
is in between, boots it and tries its claims, until the smallest set of changes is left
with which the same claims fail. What fails otherwise, or cannot be built, is neither
good nor bad.

All of it is done beside the host's generations, which stay as they are. What was tried
is kept until the answer is found: a run that was cut off is gone on with.`,
		Flags: append(append(append(hostFlags(), baseFlags()...), bootFlags()...),
			&cli.StringFlag{Name: "good", Value: "current", Usage: "generation whose claims held"},
			&cli.StringFlag{Name: "bad", Value: "latest", Usage: "generation of which a claim failed"},
			&cli.BoolFlag{Name: "again", Usage: "boot both first: their reports may be out of date"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what differs and what would be tried first"},
		),
		Action: func(c *cli.Context) error {
			o := bisectOptions{good: c.String("good"), bad: c.String("bad"), again: c.Bool("again"), dryRun: c.Bool("dry-run")}
			names, err := a.hosts(c)
			if err == nil {
				err = noArguments(c)
			}
			if err == nil && len(names) > 1 {
				err = usageError{errors.New("want one host")}
			}
			if err == nil {
				o.from, err = readBaseFlags(c)
			}
			if err == nil {
				o.boot, err = readBootFlags(c)
			}
			if err != nil {
				return err
			}
			o.host = names[0]
			return runBisect(c.Context, a, o)
		},
	}
}
