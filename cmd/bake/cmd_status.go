package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
)

type statusOptions struct {
	hosts    []string
	console  string // a log, "" for where libvirt writes it
	uri      string // of libvirt, "" for the host file's; without either the log is a file here
	follow   bool
	deadline time.Duration
}

func statusCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "say what a machine under libvirt has made of itself, by the log of its console",
		Description: `The state is one of

   attested      every claim holds, and the machine answers
   not started   there is no log
   not yet       it boots, as far as the log can tell
   stayed shut   a claim failed: the machine answers nobody
   refused       it had no claims to try, or others than were baked
   died          it panicked, hangs, or was switched off before it had a verdict
   off           it had attested, and was switched off in good order
   unknown       the log does not tell

Stayed shut, refused and died are exit status 7. Without --follow all others
are 0: nothing is known to be wrong, and "state" in --json tells them apart.
With --follow 0 means attested and nothing else: a machine that is not by the
deadline is exit status 7, too.

With a domain.uri in the host file, or --connect, libvirt is asked: for the log,
which may be on another machine, whether the machine runs, what generation it is
and where it answers. Without, the log is a file here, and cannot tell whether the
machine still runs.

Of a machine that has attested with claims that are known here, the ssh host
keys are kept in OUT/HOST/known_hosts, for bake ssh. Keys that are others than
the last time are told, whatever the options.`,
		Flags: append(hostFlags(),
			&cli.StringFlag{Name: "console", Usage: "log to read (default: console.log in HOST in machine.images of the host file)"},
			&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "libvirt URI to ask (default: domain.uri of the host file, if it has one)"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "read on until the machine has a verdict, and say the stages of its boot"},
			&cli.DurationFlag{Name: "deadline", Value: 20 * time.Minute, Usage: "with --follow: for how long"}),
		Action: func(c *cli.Context) error {
			o := statusOptions{console: c.String("console"), uri: c.String("connect"), follow: c.Bool("follow"), deadline: c.Duration("deadline")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			switch {
			case err != nil:
				return err
			case o.console != "" && o.uri != "":
				return usageError{errors.New("--console and --connect exclude each other")}
			case o.uri != "" && checkURI(o.uri) != nil:
				return checkURI(o.uri)
			case o.console != "" && len(o.hosts) > 1:
				return usageError{fmt.Errorf("--console names one log, there are %d hosts", len(o.hosts))}
			case c.IsSet("deadline") && !o.follow:
				return usageError{errors.New("--deadline goes with --follow")}
			case o.deadline <= 0:
				return usageError{fmt.Errorf("--deadline %s: want more than nothing", o.deadline)}
			}
			return runStatus(c.Context, a, o)
		},
	}
}

func runStatus(ctx context.Context, a *app, o statusOptions) error {
	var all []*watched
	for _, name := range o.hosts {
		w, err := a.watch(ctx, name, o)
		if err != nil {
			return err
		}
		defer w.Close()
		all = append(all, w)
	}
	late, err := a.follow(ctx, all, o)
	if err != nil {
		return err
	}
	var failed error
	for _, w := range all {
		view, err := a.view(w)
		if err == nil {
			err = a.printStatus(view)
		}
		switch {
		case err != nil:
			return errors.Join(failed, err)
		case view.State.IsFailed():
			failed = errors.Join(failed, claimError{fmt.Errorf("%s: %s", w.name, view)})
		case late != nil && !view.State.IsFinal():
			failed = errors.Join(failed, claimError{fmt.Errorf("%s: %w: %s%s", w.name, late, view, lastLines(w.log.Tail()))})
		case o.follow && !view.State.IsFinal():
			failed = errors.Join(failed, claimError{fmt.Errorf("%s: %s", w.name, view)})
		}
	}
	return failed
}

func lastLines(tail string) string {
	if tail == "" {
		return ""
	}
	return "; its last lines:" + tail
}
