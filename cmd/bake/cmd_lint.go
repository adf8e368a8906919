package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/lint"
)

type lintOptions struct {
	hosts  []string
	files  []string
	sarif  bool
	judges bool
}

func lintCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "lint",
		Usage:     "find what will go wrong at boot, without booting",
		ArgsUsage: "[FILE...]",
		Description: `Holds the rules of docs/lint.md against the merged words of hosts, or against files
that bake has not made: user-data of any kind, network-config, meta-data. Errors that
the host file does not allow end with exit status 3.`,
		Flags: append(hostFlags(),
			&cli.BoolFlag{Name: "rules", Usage: "list all rules"},
			&cli.StringFlag{Name: "explain", Usage: "say what a `RULE` finds, why that matters, what to do, and where that is written"},
			&cli.BoolFlag{Name: "sarif", Usage: "print the findings as SARIF 2.1.0, for code review"},
			&cli.BoolFlag{Name: "judges", Usage: "also ask visudo, sshd, dockerd, systemd-analyze and iptables-restore, those that are installed"}),
		Action: func(c *cli.Context) error {
			o := lintOptions{files: c.Args().Slice(), sarif: c.Bool("sarif"), judges: c.Bool("judges")}
			rule := c.String("explain")
			switch {
			case c.Bool("rules") || rule != "":
				return runLintRules(a, rule)
			case len(o.files) > 0 && (c.Bool("all") || c.IsSet("selector") || len(c.StringSlice("host")) > 0):
				return usageError{errors.New("want hosts or files, not both")}
			case len(o.files) == 0:
				var err error
				if o.hosts, err = a.hosts(c); err != nil {
					return err
				}
			}
			return runLint(c, a, o)
		},
	}
}

func runLint(c *cli.Context, a *app, o lintOptions) error {
	var found []lint.Finding
	for _, name := range o.files {
		data, err := readForeign(name)
		if err != nil {
			return err
		}
		these, uncertain, err := lintFile(name, data)
		if err != nil {
			return err
		}
		for _, reason := range uncertain {
			a.say("not known here: %s", diag.Printable(reason))
		}
		if o.judges {
			these = append(these, lint.JudgeFile(c.Context, a.Tools, name, data)...)
		}
		found = append(found, these...)
	}
	these, err := a.lintHosts(c.Context, o.hosts, o.judges)
	if err != nil {
		return err
	}
	found = lint.Once(append(found, these...))
	if err := a.printFindings(found, o.sarif); err != nil {
		return err
	}
	if lint.Stops(found) {
		return foundError{lint.Summary(found)}
	}
	if !a.json && !o.sarif {
		a.say("%s", lint.Summary(found))
	}
	return nil
}

// runLintRules prints what rules there are, or one.
func runLintRules(a *app, only string) error {
	rules := lint.Rules()
	var names []string
	for _, r := range rules {
		names = append(names, r.ID)
		if r.ID == only {
			if a.json {
				return a.printJSON(r)
			}
			_, err := fmt.Fprintf(a.Stdout, "%s (%s)\n  what    %s\n  why     %s\n  fix     %s\n  source  %s\n", r.ID, r.Severity, r.What, r.Why, r.Fix, r.Source)
			return err
		}
	}
	switch {
	case only != "":
		return usageError{fmt.Errorf("unknown rule %q: %s", only, diag.DidYouMean(only, names))}
	case a.json:
		return a.printJSON(rules)
	}
	for _, r := range rules {
		if _, err := fmt.Fprintf(a.Stdout, "%-27s %-7s  %s\n", r.ID, r.Severity, r.What); err != nil {
			return err
		}
	}
	return nil
}
