package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
)

type imageOptions struct {
	hosts []string
	base  string // image file that takes the place of the host file's base
}

func imageCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "image",
		Usage: "bake a host: disk, seed, libvirt XML and manifest as one generation",
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "base", Usage: "qcow2 image to use instead of the host file's base"}),
		Action: func(c *cli.Context) error {
			o := imageOptions{base: c.String("base")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			if err != nil {
				return err
			}
			return runImage(c.Context, a, o)
		},
	}
}

func runImage(ctx context.Context, a *app, o imageOptions) error {
	all, err := a.prepare(o.hosts)
	if err != nil {
		return err
	}
	for _, h := range all {
		generation, err := a.bake(ctx, h, o.base)
		if err != nil {
			return err
		}
		a.say("%s: generation %s, %s", h.Name, generation.Manifest.Generation, a.standing(generation))
		if err := a.printPath(h.Name, generation.Dir); err != nil {
			return err
		}
	}
	return nil
}

// standing says whether the generation has passed verification.
func (a *app) standing(g artifact.Generation) string {
	current, err := artifact.Open(a.out, g.Manifest.Host, "current")
	if err == nil && current.Manifest.Generation == g.Manifest.Generation {
		return "verified before"
	}
	return fmt.Sprintf("not verified yet: bake verify --host %s --boot", g.Manifest.Host)
}
