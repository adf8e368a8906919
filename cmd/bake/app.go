package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/layer"
)

// app is one run of bake: the world, the person and the global options.
type app struct {
	env
	*ui
	config string // directory that holds hosts/ and layers/
	out    string // directory of artifacts
	layers string // directory of the user's own layers
	json   bool
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, e env, args []string) int {
	a := &app{env: e, ui: &ui{env: e}}
	err := newCLI(a).RunContext(ctx, reorder(a, args))
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", context.Canceled)
	}
	if err != nil {
		a.fail(err)
	}
	return exitCode(err)
}

func newCLI(a *app) *cli.App {
	root := &cli.App{
		Name:                      "bake",
		Usage:                     "turn a host file into a VM that boots hardened, and prove it",
		HideVersion:               true,
		Suggest:                   true,
		UseShortOptionHandling:    true,
		DisableSliceFlagSeparator: true, // a comma is part of a value
		Writer:                    a.Stdout,
		ErrWriter:                 a.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides, not os.Exit
		OnUsageError:              onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Value: ".", Usage: "directory that holds hosts/ and layers/", Destination: &a.config},
			&cli.StringFlag{Name: "out", Value: "out", Usage: "directory of artifacts", Destination: &a.out},
			&cli.StringFlag{Name: "layers", Usage: "directory of your own layers (default: layers/ in the config directory)", Destination: &a.layers},
			&cli.BoolFlag{Name: "json", Usage: "print results as JSON", Destination: &a.json},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but results and errors", Destination: &a.quiet},
		},
		Commands: []*cli.Command{
			imageCommand(a), seedCommand(a), verifyCommand(a),
			layersCommand(a), explainCommand(a), initCommand(a), versionCommand(a),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: cli.AppHelpTemplate + "\n" + exitStatus,
	}
	for _, command := range root.Commands {
		command.OnUsageError = onUsageError
		command.CustomHelpTemplate = cli.CommandHelpTemplate + "\n" + exitStatus
		command.HideHelpCommand = true
	}
	return root
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "bake"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != "bake" {
		name += " " + c.Command.Name
	}
	return usageError{fmt.Errorf("%w (%s --help shows the options)", err, name)}
}

func unknownCommand(c *cli.Context) error {
	name := c.Args().First()
	hint := "bake --help shows the commands"
	if near := cli.SuggestCommand(c.App.Commands, name); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	}
	return usageError{fmt.Errorf("unknown command %q: %s", name, hint)}
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
func reorder(a *app, args []string) []string {
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
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			words = append(words, args[i:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			if command == "" {
				command = arg
				if found := root.Command(command); found != nil {
					for name := range note(found.Flags) {
						delete(global, name)
					}
				}
			} else {
				words = append(words, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		group := []string{arg}
		if takesValue[name] && !hasValue && i+1 < len(args) {
			i++
			group = append(group, args[i])
		}
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
	return append(append(sorted, options...), words...)
}

// hostFlags are the options that name the hosts a command works on.
func hostFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "host", Usage: "host to work on, repeatable"},
		&cli.BoolFlag{Name: "all", Usage: "work on every host in hosts/"},
	}
}

// hosts returns the names that a command line asks for.
func (a *app) hosts(c *cli.Context) ([]string, error) {
	names := c.StringSlice("host")
	switch {
	case c.Bool("all") && len(names) > 0:
		return nil, usageError{errors.New("--all and --host exclude each other")}
	case c.Bool("all"):
		if names = host.Names(a.config); len(names) == 0 {
			return nil, usageError{fmt.Errorf("--all: there is no host file in %s", filepath.Join(a.config, "hosts"))}
		}
	case len(names) == 0:
		return nil, usageError{fmt.Errorf("name a host with --host (hosts here: %s)", strings.Join(host.Names(a.config), ", "))}
	}
	return names, nil
}

// shelf returns the built-in layers and the user's own.
func (a *app) shelf() layer.Shelf {
	shelf := layer.Shelf{Builtin: a.Layers, ShowBuiltin: "layers"}
	dir := a.layers
	if dir == "" {
		dir = filepath.Join(a.config, "layers")
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		shelf.User, shelf.UserOrigin = os.DirFS(dir), dir
	}
	return shelf
}
