package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/hypervisor"
)

type consoleOptions struct {
	host     string
	uri      string // "" for the host file's
	readOnly bool
	force    bool
}

func consoleCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "console",
		Usage: "join the serial console of a host's machine, near or far",
		Description: `Shows what the machine prints from now on; what was printed before is in the log
that bake status reads. On a terminal each key goes to the machine, Ctrl-C too, and
^] (Ctrl and ]) leaves. With --read-only no key does, and Ctrl-C leaves, too.

What is not a terminal is typed as it is, ^] included, and its end is not the end:
bake shows the console until it is interrupted or the machine is off.

One person can be at a console at a time. What a machine prints goes to your
terminal as it is.`,
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "libvirt URI (default: domain.uri of the host file)"},
			&cli.BoolFlag{Name: "read-only", Usage: "type nothing"},
			&cli.BoolFlag{Name: "force", Usage: "throw out who is at the console"}),
		Action: func(c *cli.Context) error {
			o := consoleOptions{uri: c.String("connect"), readOnly: c.Bool("read-only"), force: c.Bool("force")}
			names, err := a.hosts(c)
			if err == nil {
				err = noArguments(c)
			}
			switch {
			case err != nil:
				return err
			case len(names) > 1:
				return usageError{errors.New("want one host whose console to join")}
			case o.uri != "" && checkURI(o.uri) != nil:
				return checkURI(o.uri)
			}
			o.host = names[0]
			return runConsole(c.Context, a, o)
		},
	}
}

func runConsole(ctx context.Context, a *app, o consoleOptions) (err error) {
	h, err := host.Load(a.config, o.host, a.shelf())
	if err != nil {
		return err
	}
	at, err := hypervisor.Connect(ctx, cmp.Or(o.uri, h.Domain.URI, usualURI), a.Tools)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	m, err := at.Find(h.Name)
	switch {
	case err != nil:
		return err
	case m == nil:
		return fmt.Errorf("%s is not there: bake up --host %s (%w)", h.Name, h.Name, fs.ErrNotExist)
	case !m.Running:
		return lackError{fmt.Errorf("%s is off: bake up --host %s", h.Name, h.Name)}
	}
	// Whatever would end this process must leave the terminal as it was.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	keys, err := a.openKeyboard(ctx, h.Name, o.readOnly)
	if err != nil {
		return err
	}
	err = errors.Join(at.Attach(ctx, h.Name, keys, a.Stdout, o.force), keys.Close())
	if err == nil && ctx.Err() != nil {
		err = errInterrupted
	}
	return err
}
