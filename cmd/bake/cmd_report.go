package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/report"
)

// reportFormats are what a report can be written as.
var reportFormats = []string{"text", "html", "json", "junit", "tap", "prom"}

type reportOptions struct {
	hosts              []string
	generation, format string
	output             string // file; "" for standard output
	live               bool
}

func reportCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "report",
		Usage: "write what bake verify found out last, as a page or for a program",
		Description: `Writes the last report of a generation again, and tries nothing: that is bake verify's,
which leaves report.html and report.xml (JUnit) beside report.json. Whether claims held
is in the report; the exit status says that there is one.

   text   as bake verify prints it
   html   one file, for people: nothing is fetched, it needs no network
   json   report.json; --schema prints the JSON Schema of it
   junit  a suite for each layer, a case for each claim
   tap    Test Anything Protocol 14
   prom   Prometheus' text format, for the node exporter's textfile collector

text, json, junit, tap and prom take several hosts.`,
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "format", Value: "text", Usage: strings.Join(reportFormats, ", ")},
			&cli.StringFlag{Name: "generation", Value: "latest", Usage: "latest, current or a name"},
			&cli.BoolFlag{Name: "live", Usage: "the last report of the machine at work, not of a boot"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "file to replace in one step (default: standard output)"},
			&cli.BoolFlag{Name: "schema", Usage: "print the JSON Schema of report.json"}),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("schema") {
				_, err := a.Stdout.Write(report.Schema())
				return err
			}
			o := reportOptions{generation: c.String("generation"), format: c.String("format"), live: c.Bool("live"), output: c.String("output")}
			if a.json && !c.IsSet("format") {
				o.format = "json"
			}
			var err error
			if o.hosts, err = a.hosts(c); err != nil {
				return err
			}
			switch {
			case !slices.Contains(reportFormats, o.format):
				return usageError{fmt.Errorf("--format %q: want one of %s", o.format, strings.Join(reportFormats, ", "))}
			case o.live && c.IsSet("generation"):
				return usageError{errors.New("--live and --generation exclude each other: it is of what the machine ran")}
			case o.format == "html" && len(o.hosts) > 1:
				return usageError{errors.New("--format html is a page about one host; bake nightly writes one about all")}
			}
			return runReport(a, o)
		},
	}
}

func runReport(a *app, o reportOptions) error {
	var all []report.Subject
	var missing error // the others' are still worth writing
	for _, name := range o.hosts {
		s, err := a.lastSubject(name, o.generation, o.live)
		if missing = errors.Join(missing, err); err == nil {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return missing
	}
	content, err := formatReport(all, o.format)
	if err == nil && o.output == "" {
		_, err = a.Stdout.Write(content)
	} else if err == nil {
		err = writeWhole(o.output, content, o.format == "prom")
	}
	return errors.Join(err, missing)
}
