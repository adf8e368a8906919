package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/guest"
	"bake/internal/host"
	"bake/internal/label"
	"bake/internal/layer"
	"bake/internal/payload"
	"bake/internal/secret"
	"bake/internal/seed"
)

// app is one run of bake: the world, the person and the global options.
type app struct {
	env
	*ui
	config string // directory that holds hosts/ and layers/
	out    string // directory of artifacts
	layers string // directory of the user's own layers
	json   bool
	key    string // file of the private key that signs, "" for the usual one
	pins   string // directory of bake.lock, "" for config: a night has one of its own

	bases   base.Shared    // where several machines have base images for each other, nil for none
	loads   payload.Shared // likewise payloads
	isTrial bool           // what is made is for comparison: it is not signed, and nobody's signature counts
	tool    string         // what manifests name as the one that baked, "" for this bake
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, e env, args []string) int {
	u, e := newUI(e)
	a := &app{env: e, ui: u}
	args, err := reorder(a, args)
	if err == nil {
		err = newCLI(a).RunContext(ctx, args)
	}
	if err != nil && ctx.Err() != nil {
		err = errInterrupted
	}
	a.stage("")
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
			&cli.StringFlag{Name: "signing-key", Usage: "file of the private key that signs generations (default: $BAKE_KEY, see bake key --help)", Destination: &a.key},
			&cli.BoolFlag{Name: "json", Usage: "print results as JSON", Destination: &a.json},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print nothing but results and errors", Destination: &a.quiet},
			cli.HelpFlag, // the library adds it by itself only along with its own help command
		},
		Commands: []*cli.Command{
			initCommand(a),
			imageCommand(a),
			seedCommand(a),
			verifyCommand(a),
			reportCommand(a),
			lintCommand(a),
			explainCommand(a),
			diffCommand(a),
			layersCommand(a),
			importCommand(a),
			schemaCommand(a),
			upCommand(a),
			deployCommand(a),
			rollbackCommand(a),
			rolloutCommand(a),
			downCommand(a),
			destroyCommand(a),
			listCommand(a),
			statusCommand(a),
			sshCommand(a),
			consoleCommand(a),
			nightlyCommand(a),
			bisectCommand(a),
			rebuildCommand(a),
			backupCommand(a),
			restoreCommand(a),
			drillCommand(a),
			publishCommand(a),
			fetchCommand(a),
			exportCommand(a),
			pullCommand(a),
			imagesCommand(a),
			inspectCommand(a),
			keyCommand(a),
			attestCommand(a),
			doctorCommand(a),
			completionCommand(a),
			completeCommand(a),
			manCommand(a),
			versionCommand(a),
			helpCommand(a),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			return cli.ShowAppHelp(c)
		},
		CustomAppHelpTemplate: cli.AppHelpTemplate + "\n" + topicList() + "\n" + exitStatus,
	}
	for _, command := range root.Commands {
		command.OnUsageError = onUsageError
		command.CustomHelpTemplate = cli.CommandHelpTemplate + "\n" + exitStatus
		command.HideHelpCommand = true
		hideOff(command.Flags)
	}
	hideOff(root.Flags)
	return root
}

// hideOff leaves out of the help that a switch is off by default.
func hideOff(flags []cli.Flag) {
	for _, flag := range flags {
		if flag, ok := flag.(*cli.BoolFlag); ok {
			flag.DisableDefaultText = true
		}
	}
}

// hostFlags are the options that name the hosts a command works on.
func hostFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "host", Usage: "host to work on, repeatable"},
		&cli.BoolFlag{Name: "all", Usage: "work on every host in hosts/"},
		&cli.StringFlag{Name: "selector", Usage: "work on the hosts whose labels `FIT`, as in role=web,zone in (a,b),!canary"},
	}
}

// hosts returns the names that a command line asks for.
func (a *app) hosts(c *cli.Context) ([]string, error) {
	names := c.StringSlice("host")
	given := 0
	for _, is := range []bool{len(names) > 0, c.Bool("all"), c.IsSet("selector")} {
		if is {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, usageError{errors.New("--all, --host and --selector exclude each other")}
	case given == 0:
		return nil, usageError{fmt.Errorf("name a host with --host, or --all (%s has %s)",
			filepath.Join(a.config, "hosts"), cmp.Or(strings.Join(host.Names(a.config), ", "), "none"))}
	case c.Bool("all"):
		if names = host.Names(a.config); len(names) == 0 {
			return nil, usageError{fmt.Errorf("--all: there is no host file in %s", filepath.Join(a.config, "hosts"))}
		}
	case c.IsSet("selector"):
		return a.selected("selector", c.String("selector"))
	}
	var once []string
	seen := map[string]bool{}
	for _, name := range names {
		if !seen[name] {
			once = append(once, name)
		}
		seen[name] = true
	}
	return once, nil
}

// selected returns the hosts whose labels fit. A host that cannot be read could be one
// of them, and is an error.
func (a *app) selected(flag, text string) (names []string, err error) {
	s, err := label.Parse(text)
	if err != nil {
		return nil, usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	var problems diag.List
	for _, name := range host.Names(a.config) {
		labels, err := host.Labels(a.config, name)
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
		case err != nil:
			return nil, err
		case s.Matches(labels):
			names = append(names, name)
		}
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, usageError{fmt.Errorf("--%s: no host in %s fits %q", flag, filepath.Join(a.config, "hosts"), text)}
	}
	return names, nil
}

// ready is a host with its words: nothing is left that could be wrong in its
// files.
type ready struct {
	*host.Host
	words   seed.Seed
	secrets []secret.Value // see resolve
}

// prepare loads the hosts and merges their words, all of them before anything
// is written for the first, and reports the problems of all together.
func (a *app) prepare(names []string) ([]ready, error) {
	var all []ready
	var problems diag.List
	for _, name := range names {
		h, err := host.Load(a.config, name, a.shelf())
		var words seed.Seed
		if err == nil {
			words, err = a.words(h, nil)
		}
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
		case err != nil:
			return nil, err
		}
		all = append(all, ready{Host: h, words: words})
	}
	return all, problems.Err()
}

// readiness is what hosts need beside their words.
type readiness struct {
	images  bool // the schema of the base image is held against the words when that is read
	secrets bool // theirs are found
}

// ready is prepare for hosts that are to be made: their words are held against the rules,
// of which the warnings are said once nothing else is wrong.
func (a *app) ready(ctx context.Context, names []string, r readiness) ([]ready, error) {
	all, err := a.prepare(names)
	var warnings func()
	if err == nil {
		warnings, err = a.lintAll(all, r.images)
	}
	if err == nil && r.secrets {
		err = a.resolve(ctx, all)
	}
	if err == nil {
		warnings()
	}
	return all, err
}

// words merges a host's layers, with the program that attests in it and what is
// known of its payload.
func (a *app) words(h *host.Host, load *seed.Payload) (seed.Seed, error) {
	program, err := guest.Program(h.Machine.Arch)
	if err != nil {
		return seed.Seed{}, lackError{err}
	}
	return seed.Build(h, program, load)
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
