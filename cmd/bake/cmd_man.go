package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
)

func manCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "man",
		Usage:     "print a manual page: bake(1), or that of a command",
		ArgsUsage: "[COMMAND]",
		Description: `For man -l: bake man deploy > deploy.1. The packages of bake have all pages in place;
--output writes them to a directory.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "directory to write all pages to, made if it is not there"},
		},
		Action: func(c *cli.Context) error {
			pages := manPages(c.App)
			switch {
			case c.NArg() > 1 || c.NArg() == 1 && c.IsSet("output"):
				return usageError{errors.New("name at most one command, or --output for all")}
			case c.IsSet("output"):
				return runManAll(a, pages, c.String("output"))
			}
			name := "bake.1"
			if c.NArg() == 1 {
				name = "bake-" + c.Args().First() + ".1"
			}
			if pages[name] == "" {
				var known []string
				for _, command := range c.App.VisibleCommands() {
					known = append(known, command.Name)
				}
				return usageError{fmt.Errorf("unknown command %q: %s", c.Args().First(), diag.DidYouMean(c.Args().First(), known))}
			}
			_, err := io.WriteString(a.Stdout, pages[name])
			return err
		},
	}
}

func runManAll(a *app, pages map[string]string, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(pages[name]), 0o644); err != nil {
			return err
		}
		paths = append(paths, path)
	}
	if a.json {
		return a.printJSON(paths)
	}
	return a.printLines(paths)
}
