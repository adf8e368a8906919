package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"bake/internal/base"
	"bake/internal/inspect"
	"bake/internal/origin"
)

func inspectCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "look inside a base image without booting it: a file, a reference, or a host's",
		ArgsUsage: "[IMAGE|REF]",
		Flags: append(append(hostFlags(), baseFlags()...), archFlag(),
			&cli.BoolFlag{Name: "sbom", Usage: "print the installed packages as CycloneDX JSON"}),
		Action: func(c *cli.Context) error {
			o, err := readBaseFlags(c)
			if err != nil {
				return err
			}
			o.Transient = true // looking pins nothing
			w, path, err := a.subject(c)
			if err != nil {
				return err
			}
			return runInspect(c.Context, a, w, path, c.Bool("sbom"), o.Options)
		},
	}
}

// subject is what a command line wants to look at: a file when path is set, a
// reference otherwise.
func (a *app) subject(c *cli.Context) (w wanted, path string, err error) {
	if !c.Args().Present() {
		names, err := a.hosts(c)
		if err != nil {
			return w, "", err
		}
		if len(names) > 1 {
			return w, "", usageError{errors.New("want one host to look at the base image of")}
		}
		ready, err := a.prepare(names)
		if err != nil {
			return w, "", err
		}
		h := ready[0]
		if h.Ref.Kind != origin.File {
			return wanted{h.Ref, h.Mirrors}, "", nil
		}
		if filepath.IsAbs(h.Ref.Path) {
			return w, h.Ref.Path, nil
		}
		return w, filepath.Join(filepath.Dir(h.File), h.Ref.Path), nil
	}
	text := c.Args().First()
	if c.NArg() > 1 || c.IsSet("host") || c.Bool("all") {
		return w, "", usageError{errors.New("want one image, one reference or one host")}
	}
	if _, err := os.Stat(text); err == nil {
		return w, text, nil
	}
	ref, err := origin.Parse(text, c.String("arch"))
	if ref.Kind == origin.File {
		return w, text, err
	}
	return wanted{ref, nil}, "", err
}

func runInspect(ctx context.Context, a *app, w wanted, path string, sbom bool, o base.Options) error {
	findings, err := a.findings(ctx, w, path, o)
	a.stage("")
	switch {
	case err != nil:
		return err
	case sbom:
		content, err := findings.SBOM()
		if err != nil {
			return err
		}
		_, err = a.Stdout.Write(content)
		return err
	case a.json:
		return a.printJSON(findings)
	}
	return a.printLines(describe(findings))
}

func (a *app) findings(ctx context.Context, w wanted, path string, o base.Options) (inspect.Findings, error) {
	if path == "" {
		found, err := a.obtain(ctx, w, o)
		if err != nil {
			return inspect.Findings{}, err
		}
		return found.Findings, found.Close()
	}
	a.stage("looking inside %s", path)
	return base.Look(ctx, path)
}
