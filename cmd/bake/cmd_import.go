package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/adopt"
	"bake/internal/cloudinit"
	"bake/internal/host"
)

type importOptions struct {
	file, name, key, version string
	check, partial, dryRun   bool
}

func importCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "turn foreign user-data into a host file and layers, or say what cloud-init makes of it",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "name of the host (default: the file's, without its extension)"},
			&cli.StringFlag{Name: "key", Usage: "public key of the admin (default: ~/.ssh/id_ed25519.pub)"},
			&cli.StringFlag{Name: "cloud-init", Usage: "the version that would read the file, such as 22.4.2 (default: the newest known)"},
			&cli.BoolFlag{Name: "check", Usage: "write nothing: say what becomes of each part, and what is lost; exit 3 if anything is"},
			&cli.BoolFlag{Name: "partial", Usage: "leave out what cannot be carried, instead of writing nothing"},
			&cli.BoolFlag{Name: "dry-run", Usage: "name the files and write none"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError{errors.New("name the file: bake import FILE")}
			}
			file := c.Args().First()
			o := importOptions{file: file, name: c.String("name"), key: c.String("key"), version: c.String("cloud-init"),
				check: c.Bool("check"), partial: c.Bool("partial"), dryRun: c.Bool("dry-run")}
			if o.name == "" {
				base := filepath.Base(file)
				o.name = strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))
			}
			return runImport(c.Context, a, o)
		},
	}
}

func runImport(_ context.Context, a *app, o importOptions) error {
	data, err := readForeign(o.file)
	if err != nil {
		return err
	}
	result, err := cloudinit.Merge(o.file, data, cloudinit.Options{Version: o.version})
	if err != nil {
		return err
	}
	if o.check {
		return a.checkForeign(result)
	}
	if !host.IsName(o.name) {
		return usageError{fmt.Errorf("%q is no name for a host: give one with --name", o.name)}
	}
	key, err := a.adminKey(o.key)
	if err != nil {
		return err
	}
	plan, err := adopt.Make(result, adopt.Host{Name: o.name, Key: key})
	if err != nil {
		return err
	}
	return a.writeAdopted(o, result, plan, key)
}
