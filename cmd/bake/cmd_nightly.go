package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"bake/internal/backup"
	"bake/internal/host"
	"bake/internal/notify"
)

type nightOptions struct {
	hosts              []string
	from               fetchOptions
	boot               bootOptions
	jobs, boots, keep  int
	dry                bool
	config             notify.Config
	backups            backup.Config // for its drills
	unit               unitOptions
	shard              shardOptions
	nights             int // that status shows
	follow, isUserUnit bool
	wrong              error // for which there can be no night
	stray              error // for which there can
}

func nightlyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "nightly",
		Usage:     "bring hosts onto the newest base images and packages that prove themselves",
		ArgsUsage: "[install | status | logs]",
		Description: `For each host (all, unless --host names some): asks what is newest, and if that
gives another generation than the current one, builds it, boots it, tries its claims
and makes it current if they all hold; then removes generations nobody needs. What
does not prove itself is never current, and bake.lock does not name it. Where drill: of
backup.yaml says so, the restore of its backup is rehearsed then, as bake drill does.

   install   write a systemd service and timer that do this, and show them first
   status    the last nights, and how each host fared; with --to, those of all shards
   logs      what they said: runs journalctl

With --shard it does a part of the hosts, beside others that do the rest: what is proven
goes to the bucket of --to, which also knows who has claimed which host, and has the
report when the last is done. bake export nightly writes the CronJob.

nightly.yaml beside hosts/ has numbers for --keep, --jobs and --boots, and who is
told what a night came to (go doc ./internal/notify describes it).`,
		Flags: append(append(append(hostFlags(), baseFlags()...), bootFlags()...), append(nightFlags(), shardFlags()...)...),
		Action: func(c *cli.Context) error {
			o, err := a.readNight(c)
			if err != nil {
				return err
			}
			switch c.Args().First() {
			case "install":
				return runInstall(c.Context, a, o)
			case "status":
				return runNights(c.Context, a, o)
			case "logs":
				return runNightLogs(a, o)
			}
			return runNightly(c.Context, a, o)
		},
	}
}

func nightFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "jobs", Usage: "hosts to build at once", DefaultText: "nightly.yaml, or as many as processors and memory allow"},
		&cli.IntFlag{Name: "boots", Usage: "machines to boot at once", DefaultText: "nightly.yaml, or as many as memory allows"},
		&cli.IntFlag{Name: "keep", Usage: "proven generations to keep beside latest and current", DefaultText: "nightly.yaml, or 3"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only ask what is newest and say what would be built; with install: only show the units"},
		&cli.BoolFlag{Name: "user", Usage: "with install and logs: units of your own, not of the system"},
		&cli.StringFlag{Name: "at", Value: "03:00", Usage: "with install: when, as systemd's OnCalendar has it"},
		&cli.StringFlag{Name: "run-as", Usage: "with install: the user that bakes (default: who calls, or who called sudo)"},
		&cli.StringFlag{Name: "on-failure", Usage: "with install: a unit to start after a red night"},
		&cli.StringFlag{Name: "unit-dir", Usage: "with install: directory to write the units to, and enable nothing"},
		&cli.IntFlag{Name: "nights", Value: 14, Usage: "with status: how many"},
		&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "with logs: read on"},
	}
}

// runNightly does a night, and tells of it. A host that there is no file of has none, as
// one whose file is wrong; unless somebody is looking, the others have theirs.
func runNightly(ctx context.Context, a *app, o nightOptions) error {
	known := host.Names(a.config)
	if len(o.hosts) == 0 {
		return usageError{fmt.Errorf("there is no host file in %s", a.config)}
	}
	unknown := slices.DeleteFunc(slices.Clone(o.hosts), func(name string) bool { return slices.Contains(known, name) })
	if len(unknown) > 0 && (o.dry || len(unknown) == len(o.hosts)) {
		o.wrong = both(o.wrong, &host.UnknownError{Name: unknown[0], Dir: filepath.Join(a.config, "hosts"), Known: known})
	}
	switch {
	case o.wrong != nil && (o.dry || o.shard.place != nil):
		return o.wrong
	case o.dry:
		return a.dryNight(ctx, o)
	case o.shard.place != nil:
		return a.shardNight(ctx, o)
	}
	return a.wholeNight(ctx, o)
}
