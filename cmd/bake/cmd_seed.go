package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"bake/internal/seed"
)

type seedOptions struct {
	hosts  []string
	format seed.Format
	output string // file or directory; "" for OUT/HOST/seed.iso
}

func seedCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "seed",
		Usage: "write the NoCloud seed of a host; needs no base image",
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "format", Value: string(seed.ISO), Usage: "iso, vfat or dir"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "where to write it (default: OUT/HOST/seed.iso, seed.img or seed/); secrets go beside it"},
		),
		Action: func(c *cli.Context) error {
			o := seedOptions{output: c.String("output")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			if err != nil {
				return err
			}
			if o.format, err = seed.ParseFormat(c.String("format")); err != nil {
				return usageError{fmt.Errorf("--format: %w", err)}
			}
			if o.output != "" && len(o.hosts) > 1 {
				return usageError{fmt.Errorf("--output names one seed, there are %d hosts", len(o.hosts))}
			}
			return runSeed(c.Context, a, o)
		},
	}
}

func runSeed(ctx context.Context, a *app, o seedOptions) error {
	all, err := a.ready(ctx, o.hosts, readiness{secrets: true})
	if err != nil {
		return err
	}
	for _, h := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if h.Offline {
			a.say("%s: a seed alone brings no packages: the machine installs them from the network", h.Name)
			h.Host = h.FromNetwork()
			if h.words, err = a.words(h.Host, nil); err != nil {
				return err
			}
		}
		path, secrets := o.output, besideSeed(o.output)
		if path == "" {
			file := map[seed.Format]string{seed.ISO: "seed.iso", seed.VFAT: "seed.img", seed.Dir: "seed"}[o.format]
			path, secrets = filepath.Join(a.out, h.Name, file), filepath.Join(a.out, h.Name, secretsName)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
		}
		before := seed.InstanceAt(path, o.format)
		if err := seed.Write(path, o.format, h.words); err != nil {
			return err
		}
		if secrets, err = a.writeSecrets(secrets, h); err != nil {
			return err
		}
		a.say("%s: instance %s, %d layers", h.Name, h.words.InstanceID(h.Host), len(h.Layers))
		if before == h.words.InstanceID(h.Host) {
			a.say("%s: the same words as the seed that was there: a machine that has run it does not run it again", h.Name)
		}
		if err := a.printProduct(h.Name, path, secrets); err != nil {
			return err
		}
	}
	return nil
}
