package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

func downCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "shut a host's machine down",
		Description: `Presses its power button and waits. A machine that is off is no error: bake up
starts it again.`,
		Flags: append(libvirtFlags(), &cli.BoolFlag{Name: "force", Usage: "cut it off if it has not shut down in time"}),
		Action: func(c *cli.Context) error {
			o, err := a.readLibvirtFlags(c)
			if err != nil {
				return err
			}
			return runDown(c.Context, a, o, c.Bool("force"))
		},
	}
}

func runDown(ctx context.Context, a *app, o libvirtOptions, force bool) (err error) {
	m, err := a.reach(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	out, err := m.Down(ctx, force)
	switch {
	case err != nil, o.dryRun:
		return err
	case a.json:
		return a.printJSON(out)
	case out.Changed:
		return a.printLines([]string{fmt.Sprintf("%s: generation %s is off", o.host, out.Generation)})
	}
	return a.printLines([]string{fmt.Sprintf("%s: generation %s was off, nothing to do", o.host, out.Generation)})
}

func destroyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "destroy",
		Usage: "take a host's machine and its disks off its hypervisor, but not its state disk",
		Description: `Wants the host's name once more, in --yes: bake destroy --host zap --yes zap. A
machine that runs is cut off. The state disk stays, and the next bake up uses it,
unless --destroy-state has the name as well. What was baked stays in the out
directory; base images stay on the hypervisor.`,
		Flags: append(libvirtFlags(),
			&cli.StringFlag{Name: "yes", Usage: "the host's name: yes, destroy its machine"},
			&cli.StringFlag{Name: "destroy-state", Usage: "the host's name: yes, destroy its state, too"}),
		Action: func(c *cli.Context) error {
			o, err := a.readLibvirtFlags(c)
			if err != nil {
				return err
			}
			state := c.String("destroy-state")
			switch {
			case c.String("yes") != o.host && !o.dryRun:
				return usageError{fmt.Errorf("nothing was destroyed: say --yes %s", o.host)}
			case state != "" && state != o.host:
				return usageError{fmt.Errorf("nothing was destroyed: --destroy-state %q is not %q", state, o.host)}
			}
			return runDestroy(c.Context, a, o, state != "")
		},
	}
}

func runDestroy(ctx context.Context, a *app, o libvirtOptions, state bool) (err error) {
	m, err := a.reach(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return m.Destroy(ctx, state)
}
