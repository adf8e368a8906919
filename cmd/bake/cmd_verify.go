package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/verify"
)

type verifyOptions struct {
	hosts      []string
	generation string // "" for what suits the kind of verification
	boot       bootOptions
	live       *liveOptions // nil for a throwaway machine
}

func verifyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "try every claim, inside and outside: of what was baked, or of the machine that is at work",
		Description: `With --boot it boots a generation in a throwaway machine, which is how a generation
becomes the current one.

Without, it goes to the host's machine by ssh, as bake ssh does, and tries the claims
of the generation that runs there: those about its inside as root, those about its
ports from here. Claims about logins are left out: failed ones would have fail2ban
shut you out. Where libvirt is asked, what it runs must be what was baked, too. What
does not hold any more is exit status 7.`,
		Flags: append(append(hostFlags(),
			&cli.BoolFlag{Name: "boot", Usage: "boot the generation in a throwaway machine"},
			&cli.BoolFlag{Name: "falsify", Usage: "with --boot: break every claim in turn, on a snapshot, and demand that it fails"},
			&cli.BoolFlag{Name: "exposure", Usage: "with --boot: ask from power-on what the guest answers, print a timeline"},
			&cli.StringFlag{Name: "generation", Usage: "generation to verify: latest, current or a name (default: latest; of a machine at work the one that libvirt says, or current)"},
			&cli.StringFlag{Name: "address", Usage: "without --boot: address of the machine (default: what libvirt says, or the host file's first static one)"},
			&cli.StringFlag{Name: "identity", Usage: "without --boot: file of the key to log in with (default: your ssh's)"},
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "without --boot: libvirt URI to ask (default: domain.uri of the host file, if it has one)"}),
			bootFlags()...),
		Action: func(c *cli.Context) error {
			o := verifyOptions{generation: c.String("generation")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			if err == nil {
				o.live, err = readLiveFlags(c)
			}
			if err == nil {
				o.boot, err = readBootFlags(c)
			}
			if err != nil {
				return err
			}
			if o.live != nil {
				return runLive(c.Context, a, o)
			}
			o.generation = cmp.Or(o.generation, "latest")
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
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		return err
	}
	_, err := io.WriteString(a.Stdout, a.paint(text.String()))
	return err
}
