package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/backup"
)

type backupOptions struct {
	hosts        []string
	config       backup.Config
	address, uri string
	identity     string
	subset       string
	dry, prune   bool
	wait         time.Duration // for another bake that works on the same backups
	isUserUnit   bool
	unit         unitOptions
	create       bool
	lock         backup.Lock
	policy       string
	revive       bool
}

func backupCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "fetch the state of machines and store it where it comes back from",
		ArgsUsage: "[init | list | check | prune | unlock | sheet | bucket | install]",
		Description: `For each host: fetches a consistent snapshot of the state over ssh, from the layer
backup of the machine, and gives it to the stores of backup.yaml: a restic repository
(on S3, over sftp, in a directory), a directory with hard links, or both.

   init      begin the repository; none is ever begun unasked
   list      what there is to restore, the newest last
   check     read the stores through; exit status 7 if the newest is older than max_age
   prune     remove what the rules of keep: do not keep, with the pruner's key, and renew
             the locks of what stays
   unlock    remove all locks, if you know that whose they are is dead; a backup removes by
             itself those of which that can be told
   sheet     what to print and put away: how to restore without bake
   bucket    try whether a bucket keeps what it is given, and what the writer's key can do
   install   write a systemd service and timer that back up, and show them first

backup.yaml lies beside hosts/ (go doc ./internal/backup Config describes it); who is
told what backups came to is in nightly.yaml.`,
		Flags: append(hostFlags(), backupFlags()...),
		Action: func(c *cli.Context) error {
			word, o, err := a.readBackup(c)
			if err != nil {
				return err
			}
			do := map[string]func(context.Context, *app, backupOptions) error{
				"": runBackup, "init": runBackupInit, "list": runBackupList, "check": runBackupCheck, "prune": runBackupPrune,
				"unlock": runBackupUnlock, "sheet": runBackupSheet, "bucket": runBackupBucket, "install": runBackupInstall,
			}
			return do[word](c.Context, a, o)
		},
	}
}

// backupWords are the words, and the options that go with each.
var backupWords = map[string][]string{
	"":        {"dry-run", "prune", "wait", "address", "identity", "connect"},
	"init":    {},
	"list":    {},
	"check":   {"subset", "wait"},
	"prune":   {"dry-run", "wait"},
	"unlock":  {},
	"sheet":   {},
	"bucket":  {"dry-run", "create", "days", "compliance", "policy", "revive"},
	"install": {"dry-run", "prune", "user", "at", "run-as", "on-failure", "unit-dir"},
}

func backupFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "dry-run", Usage: "change nothing, and say what would be done"},
		&cli.BoolFlag{Name: "prune", Usage: "prune afterwards"},
		&cli.DurationFlag{Name: "wait", Usage: "how long to wait for another bake that works on the same backups, as a drill does", DefaultText: "not at all"},
		&cli.StringFlag{Name: "address", Usage: "address of the machine (default: backup.yaml, what libvirt says, or the host file's first static one)"},
		&cli.StringFlag{Name: "identity", Usage: "file of the key that may fetch the state (default: backup.yaml, or your ssh's)"},
		&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "libvirt URI to ask (default: domain.uri of the host file, if it has one)"},
		&cli.StringFlag{Name: "subset", Usage: "with check: how much to read of what is stored, such as 5% or 1G (default: check: of backup.yaml)"},
		&cli.BoolFlag{Name: "create", Usage: "with bucket: make it, or set its lock, with the owner's key"},
		&cli.UintFlag{Name: "days", Usage: "with bucket --create: how long nothing can be deleted", DefaultText: "30, or longer if bake backup bucket demands that; a longer lock that is there stays"},
		&cli.BoolFlag{Name: "compliance", Usage: "with bucket --create: by nobody at all, not even the owner"},
		&cli.StringFlag{Name: "policy", Usage: "with bucket: print what the policy of the key of writer or pruner must be"},
		&cli.BoolFlag{Name: "revive", Usage: "with bucket: undo what was deleted and written over, with the owner's key"},
		&cli.BoolFlag{Name: "user", Usage: "with install: units of your own, not of the system"},
		&cli.StringFlag{Name: "at", Value: "04:30", Usage: "with install: when, as systemd's OnCalendar has it"},
		&cli.StringFlag{Name: "run-as", Usage: "with install: the user that backs up (default: who calls, or who called sudo)"},
		&cli.StringFlag{Name: "on-failure", Usage: "with install: a unit to start after a backup that failed"},
		&cli.StringFlag{Name: "unit-dir", Usage: "with install: directory to write the units to, and enable nothing"},
	}
}
