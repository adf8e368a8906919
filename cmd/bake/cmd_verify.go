package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"bake/internal/verify"
)

type verifyOptions struct {
	hosts      []string
	generation string
	boot       bootOptions
}

func verifyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "boot what was baked and try every claim, inside and outside",
		Flags: append(append(hostFlags(),
			&cli.BoolFlag{Name: "boot", Usage: "boot the generation in a throwaway machine"},
			&cli.BoolFlag{Name: "falsify", Usage: "with --boot: break every claim in turn, on a snapshot, and demand that it fails"},
			&cli.BoolFlag{Name: "exposure", Usage: "with --boot: ask from power-on what the guest answers, print a timeline"},
			&cli.StringFlag{Name: "generation", Value: "latest", Usage: "generation to verify: latest, current or a name"}),
			bootFlags()...),
		Action: func(c *cli.Context) error {
			o := verifyOptions{generation: c.String("generation")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			if err == nil && !c.Bool("boot") {
				err = usageError{errors.New("this version verifies by booting only: add --boot")}
			}
			if err == nil {
				o.boot, err = readBootFlags(c)
			}
			if err != nil {
				return err
			}
			o.boot.falsify, o.boot.exposure = c.Bool("falsify"), c.Bool("exposure")
			return runVerify(c.Context, a, o)
		},
	}
}

func runVerify(ctx context.Context, a *app, o verifyOptions) error {
	var failed error
	for _, name := range o.hosts {
		_, report, err := a.boot(ctx, name, o.generation, o.boot)
		var claim claimError
		if isClaim := errors.As(err, &claim); err != nil && !isClaim {
			return errors.Join(failed, err)
		}
		failed = errors.Join(failed, err) // the other hosts are still worth a look
		if err := a.printReport(report); err != nil {
			return err
		}
	}
	return failed
}

func (a *app) printReport(report verify.Report) error {
	if a.json {
		return a.printJSON(report)
	}
	return report.WriteText(a.Stdout)
}
