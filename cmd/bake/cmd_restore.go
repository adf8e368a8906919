package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/archive"
	"bake/internal/backup"
)

// restoreOptions say what is restored and to where.
type restoreOptions struct {
	libvirtOptions
	pick     pick
	from     fetchOptions
	base     string
	address  string
	identity string
	to       string // a directory, for a look
	sessions bool   // nothing that an agent obeys or runs
	hostKeys bool
	config   backup.Config
}

func restoreCommand(a *app) *cli.Command {
	flags := append(pickFlags(), &cli.StringFlag{Name: "to", Usage: "only unpack into this new directory, for a look"},
		&cli.BoolFlag{Name: "config-and-sessions-only", Usage: "leave out what an agent obeys or runs: for a machine that was somebody else's"},
		&cli.BoolFlag{Name: "host-keys", Usage: "give the machine the ssh host keys of the backup"},
		&cli.StringFlag{Name: "yes", Usage: "the host's name, typed: the state that its machine has now goes aside"},
		&cli.StringFlag{Name: "address", Usage: "address of the machine (default: what libvirt says, or the host file's first static one)"},
		&cli.StringFlag{Name: "identity", Usage: "file of the admin's key (default: your ssh's)"},
		&cli.StringFlag{Name: "base", Usage: "qcow2 image to bake with, where there is no generation"})
	return &cli.Command{
		Name:  "restore",
		Usage: "put the state of a backup into a host's machine, which is made if it is not there",
		Description: `The newest backup, or the one that is asked for, is fetched and verified. Where the
host has no machine it is baked if need be, and brought up, from base image, seed,
payload and domain, until it has attested with an empty state. Then its admin's ssh
brings the backup in: the services stop, what the machine has as state goes aside,
whole, the backup takes its place, and the services start again. At the end the
gateway must say that it is ready, and every claim about the machine must hold.

What was moved aside stays in the machine, where the answer says. With a machine of
another kind, or none, --to DIR unpacks a backup here; docs/restore.md says how to do
without bake.`,
		Flags: append(append(flags, baseFlags()...), libvirtFlags()...),
		Action: func(c *cli.Context) error {
			o, err := readRestore(a, c)
			if err != nil {
				return err
			}
			return runRestore(c.Context, a, o)
		},
	}
}

func readRestore(a *app, c *cli.Context) (o restoreOptions, err error) {
	if o.libvirtOptions, err = a.readLibvirtFlags(c); err != nil {
		return o, err
	}
	if o.from, err = readBaseFlags(c); err != nil {
		return o, err
	}
	if o.pick, err = readPick(c); err != nil {
		return o, err
	}
	o.base, o.address, o.identity, o.to = c.String("base"), c.String("address"), c.String("identity"), c.String("to")
	o.sessions, o.hostKeys = c.Bool("config-and-sessions-only"), c.Bool("host-keys")
	yes := c.String("yes")
	switch {
	case o.to != "" && o.dryRun:
		return o, usageError{errors.New("--to unpacks a backup, and --dry-run does nothing")}
	case o.to != "" && (yes != "" || o.hostKeys || o.address != "" || o.sessions):
		return o, usageError{errors.New("--to unpacks all of a backup here, and touches no machine")}
	case o.to == "" && yes != o.host && !o.dryRun:
		return o, usageError{fmt.Errorf("the state of %s now goes aside: say --yes %s", o.host, o.host)}
	case o.address != "" && !isAddress(o.address):
		return o, usageError{fmt.Errorf("--address %q: want an IP address or a name", o.address)}
	}
	if o.pick.dir == "" {
		o.config, err = backup.Read(a.config)
	}
	return o, err
}

func runRestore(ctx context.Context, a *app, o restoreOptions) error {
	begun := time.Now()
	return a.withSnapshot(ctx, o.config, o.host, o.pick, func(dir string, m archive.Manifest) error {
		a.say("%s: the state of %s, %s old, %d files, %s", o.host, m.Frozen.Local().Format(time.DateTime), begun.Sub(m.Frozen).Round(time.Second), m.Count, amount(m.Bytes))
		switch {
		case o.to != "":
			to, err := filepath.Abs(o.to)
			if err == nil {
				_, err = archive.Extract(ctx, dir, to, archive.Options{Limits: archive.Limits{Bytes: max(m.Bytes, 1)}}) // it was looked at
			}
			if err != nil {
				return err
			}
			return a.printLines([]string{to})
		case o.dryRun:
			return a.sayRestore(ctx, o)
		}
		return a.restore(ctx, o, dir, m, begun)
	})
}
