package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
)

func diffCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "say what one generation of a host was made from that another was not",
		ArgsUsage: "[GENERATION [GENERATION]]",
		Description: `Compares what their manifests list: base image, packages, layers, secrets by name,
files. Without arguments the current generation is held against the latest one;
with one argument the current one against that.`,
		Flags: hostFlags(),
		Action: func(c *cli.Context) error {
			names, err := a.hosts(c)
			switch {
			case err != nil:
				return err
			case len(names) > 1:
				return usageError{fmt.Errorf("want one host, there are %d", len(names))}
			case c.Args().Len() > 2:
				return usageError{fmt.Errorf("unexpected argument %q: want two generations at most", c.Args().Get(2))}
			}
			pair := []string{"current", "latest"}
			switch words := c.Args().Slice(); len(words) {
			case 1:
				pair[1] = words[0]
			case 2:
				pair = words
			}
			return runDiff(a, names[0], pair[0], pair[1])
		},
	}
}

// diffView is what --json shows.
type diffView struct {
	Host    string   `json:"host"`
	From    string   `json:"from"` // generations
	To      string   `json:"to"`
	Changes []string `json:"changes"`
}

func runDiff(a *app, name, from, to string) error {
	was, err := artifact.Open(a.out, name, from)
	if err != nil {
		return err
	}
	is, err := artifact.Open(a.out, name, to)
	if err != nil {
		return err
	}
	view := diffView{name, was.Manifest.Generation, is.Manifest.Generation, append([]string{}, was.Manifest.Differences(is.Manifest)...)}
	if a.json {
		return a.printJSON(view)
	}
	if len(view.Changes) == 0 {
		a.say("%s: %s and %s were made from the same", name, view.From, view.To)
	}
	return a.printLines(view.Changes)
}
