package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
)

type imageOptions struct {
	hosts []string
	base  string         // image file that takes the place of the host file's base
	known *artifact.Base // of an image that is in the store already: what to say of it
	from  fetchOptions
	disk  diskForm
	boot  *bootOptions // how to verify what was baked; nil for not at all
}

func imageCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "image",
		Usage: "bake a host: disk, seed, libvirt XML and manifest as one generation",
		Flags: append(append(append(hostFlags(), baseFlags()...),
			&cli.StringFlag{Name: "base", Usage: "qcow2 image to use instead of the host file's base"},
			&cli.BoolFlag{Name: "flatten", Usage: "make a disk that needs no base image beside it"},
			&cli.BoolFlag{Name: "compress", Usage: "with --flatten: compress it with zstd"},
			&cli.StringFlag{Name: "format", Value: "qcow2", Usage: "qcow2, or raw: flatten, and write disk.raw beside disk.qcow2"},
			&cli.BoolFlag{Name: "boot", Usage: "then verify it in a throwaway machine, as bake verify --boot does"}),
			bootFlags()...),
		Action: func(c *cli.Context) error {
			o := imageOptions{base: c.String("base")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			if err == nil {
				o.from, err = readBaseFlags(c)
			}
			if err == nil {
				o.disk, err = readDiskFlags(c)
			}
			if err == nil {
				o.boot, err = readImageBootFlags(c)
			}
			if err != nil {
				return err
			}
			return runImage(c.Context, a, o)
		},
	}
}

func readDiskFlags(c *cli.Context) (diskForm, error) {
	form := diskForm{raw: c.String("format") == "raw", compress: c.Bool("compress")}
	form.flat = c.Bool("flatten") || form.raw
	switch format := c.String("format"); {
	case format != "raw" && format != "qcow2":
		return form, usageError{fmt.Errorf("--format %q: want qcow2 or raw", format)}
	case form.compress && !form.flat:
		return form, usageError{errors.New("--compress goes with --flatten: an overlay has next to nothing to compress")}
	}
	return form, nil
}

func runImage(ctx context.Context, a *app, o imageOptions) error {
	all, err := a.ready(ctx, o.hosts, readiness{images: true, secrets: true})
	if err != nil {
		return err
	}
	var baked []artifact.Generation
	for _, h := range all {
		generation, secrets, err := a.bake(ctx, h, o)
		if err != nil {
			return err
		}
		baked = append(baked, generation)
		a.warnOfLoss(h.Host)
		a.say("%s: generation %s, %s", h.Name, generation.Manifest.Generation, a.standing(generation, o.boot != nil))
		if err := a.printProduct(h.Name, generation.Dir, secrets); err != nil {
			return err
		}
	}
	if o.boot == nil {
		return nil
	}
	return a.bootAll(ctx, baked, *o.boot)
}

// standing says whether the generation has passed verification.
func (a *app) standing(g artifact.Generation, boots bool) string {
	current, err := artifact.Open(a.out, g.Manifest.Host, "current")
	if err == nil && current.Manifest.Generation == g.Manifest.Generation {
		return "verified before"
	}
	if boots {
		return "not verified yet"
	}
	return fmt.Sprintf("not verified yet: bake verify --host %s --boot", g.Manifest.Host)
}
