package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/seed"
)

func explainCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "explain",
		Usage: "show where each part of a host's cloud-config comes from",
		Flags: append(hostFlags(),
			&cli.BoolFlag{Name: "user-data", Usage: "print the merged user-data itself"}),
		Action: func(c *cli.Context) error {
			err := noArguments(c)
			var names []string
			if err == nil {
				names, err = a.hosts(c)
			}
			if err != nil {
				return err
			}
			all, err := a.prepare(names)
			if err != nil {
				return err
			}
			for _, h := range all {
				if err := runExplain(a, h, c.Bool("user-data")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func runExplain(a *app, h ready, whole bool) error {
	if h.Offline {
		a.say("%s: bake image adds which packages the payload has, and its digest", h.Name)
	}
	if whole {
		_, err := a.Stdout.Write(h.words.UserData)
		return err
	}
	parts, err := seed.Explain(h.Host, h.words.Program)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(parts)
	}
	var out strings.Builder
	width := 0
	for _, part := range parts {
		width = max(width, len(part.Path))
	}
	for _, part := range parts {
		fmt.Fprintf(&out, "%-*s  %s\n", width, diag.Printable(part.Path), diag.Printable(part.From))
		if part.Text != "" {
			fmt.Fprintf(&out, "%-*s    %s\n", width, "", diag.Printable(part.Text))
		}
	}
	_, err = fmt.Fprint(a.Stdout, out.String())
	return err
}
