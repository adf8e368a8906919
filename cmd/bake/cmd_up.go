package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"bake/internal/deploy"
)

func upCommand(a *app) *cli.Command {
	return deployCommandOf(a, "up", "make a host's machine run under libvirt, and wait until it has attested",
		`Where there is no machine the generation is put on the hypervisor, defined and
started. A machine that is there is started if it is off; one that a killed bake
deploy has left half done is brought to its end. A machine that runs and has
attested stays as it is, whatever generation it is: bake deploy changes that.

The generation is current, the last that passed bake verify --boot.`,
		a.parcelUp, (*deploy.Deployment).Up)
}

func deployCommand(a *app) *cli.Command {
	return deployCommandOf(a, "deploy", "put a generation in the place of the one that runs, or put that back if it does not attest",
		`What the generation needs is put on the hypervisor; then the machine shuts down,
with time for OpenClaw to finish, and starts as the new generation, on a new root
disk and the same state disk. If that has not attested by the deadline, the
generation before is started again from its own root disk; when that has attested
the exit status is 7. One that could not be defined or started costs the machine
no more than the time.

Of generations on the hypervisor two stay: the one that runs and the one before,
for bake rollback.`,
		a.parcel, (*deploy.Deployment).Deploy)
}

// deployCommandOf is a command that does something with a generation, once it is collected.
func deployCommandOf(a *app, name, usage, description string,
	collect func(context.Context, *machine, string) (deploy.Generation, error),
	do func(*deploy.Deployment, context.Context, deploy.Generation) (deploy.Outcome, error)) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, Description: description,
		Flags: append(libvirtFlags(), &cli.StringFlag{Name: "generation", Value: "current", Usage: "current, latest or a generation's name"}),
		Action: func(c *cli.Context) error {
			o, err := a.readLibvirtFlags(c)
			if err != nil {
				return err
			}
			return runMachine(c.Context, a, o, func(m *machine) (deploy.Outcome, error) {
				g, err := collect(c.Context, m, c.String("generation"))
				if err != nil {
					return deploy.Outcome{}, err
				}
				return do(m.Deployment, c.Context, g)
			})
		},
	}
}

func rollbackCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "rollback",
		Usage: "put the generation back that ran before the last bake deploy",
		Description: `It starts from the root disk that it had, and must attest as in bake deploy. What
has happened to the state disk since stays.`,
		Flags: libvirtFlags(),
		Action: func(c *cli.Context) error {
			o, err := a.readLibvirtFlags(c)
			if err != nil {
				return err
			}
			return runMachine(c.Context, a, o, func(m *machine) (deploy.Outcome, error) { return m.Rollback(c.Context) })
		},
	}
}

// runMachine does something to a host's machine and says what came of it.
func runMachine(ctx context.Context, a *app, o libvirtOptions, do func(*machine) (deploy.Outcome, error)) (err error) {
	m, err := a.reach(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	out, err := do(m)
	a.stage("")
	return a.tellOutcome(m, out, err)
}
