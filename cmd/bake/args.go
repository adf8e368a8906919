package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/internal/lazy"
)

func helpCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "help",
		Usage:     "show what a command does and its options, or explain a topic",
		ArgsUsage: "[COMMAND | TOPIC]",
		Action: func(c *cli.Context) error {
			name := c.Args().First()
			if name == "" {
				return cli.ShowAppHelp(c)
			}
			text, isCommand := topic(name), c.App.Command(name) != nil
			switch {
			case !isCommand && text == "":
				return unknownCommand(c)
			case isCommand && text != "": // the command's help comes last, for its exit status
				text += "\n"
			}
			if _, err := io.WriteString(a.Stdout, text); err != nil || !isCommand {
				return err
			}
			return cli.ShowCommandHelp(c, name)
		},
	}
}

// What the library says about an option, which it always writes with one dash.
var (
	undefined = lazy.Regexp(`^flag provided but not defined: -+(.*)$`)
	valueless = lazy.Regexp(`^flag needs an argument: -+(.*)$`)
)

func onUsageError(c *cli.Context, err error, _ bool) error {
	name, flags := "bake", c.App.Flags
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "bake" {
		name, flags = name+" "+c.Command.Name, append(c.Command.Flags, flags...)
	}
	help := name + " --help shows the options"
	if m := undefined.FindStringSubmatch(err.Error()); m != nil {
		var known []string
		for _, flag := range flags {
			known = append(known, "--"+flag.Names()[0])
		}
		return usageError{fmt.Errorf("unknown option --%s: %s (%s)", m[1], diag.DidYouMean("--"+m[1], known), help)}
	}
	if m := valueless.FindStringSubmatch(err.Error()); m != nil {
		return usageError{fmt.Errorf("--%s needs a value (%s)", m[1], help)}
	}
	return usageError{fmt.Errorf("%w (%s)", err, help)}
}

func unknownCommand(c *cli.Context) error {
	var known []string
	for _, command := range c.App.VisibleCommands() {
		known = append(known, command.Name)
	}
	if c.Command.Name == "help" {
		for _, t := range topics {
			if !slices.Contains(known, t.name) {
				known = append(known, t.name)
			}
		}
	}
	name := c.Args().First()
	return usageError{fmt.Errorf("unknown command %q: %s (bake --help shows the commands)", name, diag.DidYouMean(name, known))}
}

// noArguments refuses words that are no options.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usageError{fmt.Errorf("unexpected argument %q (bake %s --help shows the options)", c.Args().First(), c.Command.Name)}
	}
	return nil
}

// reorder moves the options of a command before its arguments and the global
// options before the command: the library would take a flag after the first
// argument for an argument, silently.
func reorder(a *app, args []string) ([]string, error) {
	root := newCLI(&app{env: env{Stdout: io.Discard, Stderr: io.Discard, Getenv: a.Getenv}, ui: &ui{}})
	takesValue := map[string]bool{}
	note := func(flags []cli.Flag) map[string]bool {
		known := map[string]bool{}
		for _, flag := range flags {
			for _, name := range flag.Names() {
				known[name] = true
				_, isBool := flag.(*cli.BoolFlag)
				takesValue[name] = !isBool
			}
		}
		return known
	}
	global := note(root.Flags)
	var front, options, words []string
	var command string
	asksHelp := false
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i:]...)
			break
		}
		if arg == "--version" && command == "" {
			arg = "version"
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if command == "" {
				command = arg
				own := []cli.Flag{cli.HelpFlag}
				if found := root.Command(command); found != nil {
					own = append(own, found.Flags...)
				}
				for name := range note(own) {
					delete(global, name)
				}
			} else {
				words = append(words, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		group := []string{arg}
		if takesValue[name] && !hasValue {
			if i++; i == len(args) {
				return nil, usageError{fmt.Errorf("%s needs a value (bake --help shows the options)", arg)}
			}
			group = append(group, args[i])
		}
		asksHelp = asksHelp || command != "" && (name == "help" || name == "h")
		if global[name] {
			front = append(front, group...)
		} else {
			options = append(options, group...)
		}
	}
	sorted := append([]string{args[0]}, front...)
	if command != "" {
		sorted = append(sorted, command)
	}
	if asksHelp { // of the command: the library would look for another that is called as the first word
		words = nil
	}
	return append(append(sorted, options...), words...), nil
}
