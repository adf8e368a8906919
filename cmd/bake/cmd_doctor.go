package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/doctor"
	"bake/internal/host"
	"bake/internal/hypervisor"
	"bake/internal/vm"
)

func doctorCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "say what this machine can do, what is missing for which command, and which package has it",
		ArgsUsage: "[COMMAND...]",
		Description: `Asks how guests run here, for programs, firmware, libvirt and room, for all commands
or for those that are named: bake doctor image verify. What is missing only for hosts of
a kind is said and is no failure; all else that is missing is exit status 4.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Value: usualURI, Usage: "libvirt URI to try"},
		},
		Action: func(c *cli.Context) error {
			commands, err := commandsToJudge(c)
			if err != nil {
				return err
			}
			if err := checkURI(c.String("connect")); err != nil {
				return err
			}
			return runDoctor(c.Context, a, commands, c.String("connect"))
		},
	}
}

// commandsToJudge are those that are named, or all.
func commandsToJudge(c *cli.Context) ([]string, error) {
	var all []string
	for _, command := range c.App.VisibleCommands() {
		all = append(all, command.Name)
	}
	for _, name := range c.Args().Slice() {
		if !slices.Contains(all, name) {
			return nil, usageError{fmt.Errorf("unknown command %q: %s", name, diag.DidYouMean(name, all))}
		}
	}
	if c.Args().Present() {
		return c.Args().Slice(), nil
	}
	return all, nil
}

const gib = 1 << 30

func runDoctor(ctx context.Context, a *app, commands []string, uri string) error {
	findings, err := doctor.Look(ctx, doctor.Options{
		Tools: a.Tools, Commands: commands, Firmware: vm.FindFirmware,
		Accelerator: func(ctx context.Context) (string, string, error) {
			return vm.Accelerator(ctx, a.Tools, a.cacheDir(), host.AMD64, a.Getenv("BAKE_ACCEL"))
		},
		Libvirt: func(ctx context.Context) error {
			h, err := hypervisor.Connect(ctx, uri, a.Tools)
			if err != nil {
				return err
			}
			return h.Close()
		},
		Places: a.places(),
	})
	if err != nil {
		return err
	}
	if len(findings) == 0 {
		a.say("nothing that a machine could lack is needed for these commands")
	}
	if a.json {
		err = a.printJSON(findings)
	} else {
		err = a.printLines(findingLines(findings))
	}
	lacks := slices.DeleteFunc(findings, func(f doctor.Finding) bool { return !f.IsLack() })
	if err == nil && len(lacks) > 0 {
		var names []string
		for _, f := range lacks {
			names = append(names, f.Name)
		}
		return lackError{fmt.Errorf("this machine lacks %s", strings.Join(names, ", "))}
	}
	return err
}

// places are the directories that fill up.
func (a *app) places() []doctor.Place {
	all := []doctor.Place{
		{Name: "artifacts", Dir: a.out, Need: 2 * gib, For: []string{"image", "nightly"}},
		{Name: "cache", Dir: a.cacheDir(), Need: 2 * gib, For: []string{"image", "nightly", "pull"}},
		{Name: "temporary", Dir: os.TempDir(), Need: gib, For: []string{"verify", "nightly"}},
	}
	return slices.DeleteFunc(all, func(p doctor.Place) bool { return p.Dir == "" })
}

// findingLines is a table, and the command that installs what is missing.
func findingLines(findings []doctor.Finding) []string {
	var lines, packages []string
	for _, f := range findings {
		by := strings.Join(f.For, ", ")
		if f.Only != "" {
			by += "; " + f.Only
		}
		lines = append(lines, fmt.Sprintf("%-8s %-18s %s (%s)", f.State, f.Name, f.Found, by))
		if f.Package != "" && !slices.Contains(packages, f.Package) {
			packages = append(packages, f.Package)
		}
	}
	if len(packages) > 0 {
		lines = append(lines, "", "sudo apt-get install "+strings.Join(packages, " "))
	}
	return lines
}
