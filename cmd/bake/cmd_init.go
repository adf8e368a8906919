package main

import (
	"bytes"
	"context"
	_ "embed" // for the host file that init writes
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
)

func initCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "init",
		Usage:     "write a commented host file, or those of a list of hosts",
		ArgsUsage: "HOST",
		Description: `On a terminal it asks what no option says, and proposes an answer to each question;
elsewhere it takes the proposals. Public keys are those of ~/.ssh, the modern kinds first.
The file is checked as every host file is before it is written.

With --from, host files are made of a list, CSV or JSON, whose columns are keys of the host
file (host, groups[0], machine.memory, labels.role); what all share stands in
hosts/_defaults.yaml and the files of groups. A file is written if all hosts are right; one
that is there and the same is left, one that an earlier list has made is written anew with
--replace. docs/fleet.md has more.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "for", Usage: "what the machine is for: minimal, server or openclaw (default: minimal)"},
			&cli.StringFlag{Name: "base", Usage: "image to start from (default: ubuntu:24.04)"},
			&cli.StringFlag{Name: "vcpus", Usage: "virtual processors (default: 2)"},
			&cli.StringFlag{Name: "memory", Usage: "memory, such as 3GiB (default: by what it is for and what this machine has)"},
			&cli.StringFlag{Name: "disk", Usage: "virtual size of the root disk (default: by what it is for)"},
			&cli.StringFlag{Name: "state", Usage: "size of a disk that survives rebuilds, or none (default: 20GiB for openclaw)"},
			&cli.StringFlag{Name: "admin", Usage: "account of the one person who can log in (default: ops)"},
			&cli.StringFlag{Name: "key", Usage: "file of the admin's public key (default: the first in ~/.ssh)"},
			&cli.StringFlag{Name: "from", Usage: "make the hosts of a list in `FILE`, - for standard input"},
			&cli.BoolFlag{Name: "replace", Usage: "with --from: write files anew that an earlier list has made"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the file, or with --from the names of those that would be written, and write nothing"},
		},
		Action: func(c *cli.Context) error {
			if c.IsSet("from") {
				for _, name := range c.FlagNames() {
					if name != "from" && name != "replace" && name != "dry-run" && flagNamed(c.Command.Flags, name) != nil {
						return usageError{fmt.Errorf("--from and --%s exclude each other: the list says it, or hosts/_defaults.yaml", name)}
					}
				}
				if err := noArguments(c); err != nil {
					return err
				}
				return runInitFrom(c.Context, a, c.String("from"), c.Bool("replace"), c.Bool("dry-run"))
			}
			if c.Bool("replace") {
				return usageError{errors.New("--replace goes with --from")}
			}
			if c.NArg() != 1 {
				return usageError{errors.New("name the host: bake init HOST")}
			}
			given := map[string]string{}
			for _, name := range []string{"for", "base", "vcpus", "memory", "disk", "state", "admin", "key"} {
				if c.IsSet(name) {
					given[name] = c.String(name)
				}
			}
			return runInit(c.Context, a, c.Args().First(), given, c.Bool("dry-run"))
		},
	}
}

//go:embed host.yaml.tmpl
var hostFileText string

func runInit(ctx context.Context, a *app, name string, given map[string]string, dry bool) error {
	path := filepath.Join(a.config, "hosts", name+".yaml")
	if !host.IsName(name) {
		return usageError{fmt.Errorf("%q is no name for a host: want a-z, 0-9 and -, starting with a letter, at most 63", name)}
	}
	exists := usageError{fmt.Errorf("%s exists already; it was left as it is", path)}
	if _, err := os.Lstat(path); err == nil && !dry {
		return exists // before anybody answers questions for nothing
	}
	h, err := a.interview(ctx, name, given)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	hostFile := template.Must(template.New("host").Parse(hostFileText)) // here, for it would make every start slower
	if err := hostFile.Execute(&content, h); err != nil {
		return err
	}
	if dry {
		_, err := a.Stdout.Write(content.Bytes())
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return exists
	}
	if err != nil {
		return err
	}
	_, err = file.Write(content.Bytes())
	if err := errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	if h.Key == "" {
		a.say("%s has no key yet: put your public key under admin.keys (ssh-keygen -t ed25519 makes one)", path)
	}
	return a.printPath(name, path)
}
