package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/kubevirt"
)

// rolloutOptions are those of bake rollout.
type rolloutOptions struct {
	word           string // "" or "status"
	hosts          []string
	selector       string
	most, canaries string // numbers, or shares of the hosts
	budget         int
	state          string
	plain          bool // HTTP
	lease          time.Duration
	from           string // place that generations come from, "" for none
	machine        libvirtOptions
	kube           kubevirt.Options // of machines in clusters
	resume, back   bool
	abandon, dry   bool
}

func rolloutCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:      "rollout",
		Usage:     "bring the current generations of many hosts to their machines, in waves",
		ArgsUsage: "[status]",
		Description: `The first hosts are canaries, then come waves of as many as may be unavailable. Each is
deployed as bake deploy does it, and must attest. The rollout halts when a canary has
failed, when more of the others have than the budget allows, or when something cannot be
trusted; what has attested stays. Exit status 7 when claims have failed, 6 when machines
could not be worked on.

   --resume     go on with one that was halted, interrupted or killed, on any machine
                that has the hosts and generations; those that failed are tried again
   --rollback   have its hosts run again what they ran before
   status       how far it is, and who drives

What is known of a rollout is in --state: a directory that all who may drive share, or
s3://BUCKET/PREFIX (who we are there is as bake publish has it). Who drives holds a lease
there; nobody else can until it ends. docs/fleet.md has more.

Where a machine is, domain.uri of its host file says: a libvirt, or kubevirt://NAMESPACE,
a cluster with KubeVirt that the kubeconfig knows ($KUBECONFIG, ~/.kube/config). The
images that the objects there name are those of --from oci://REGISTRY/REPOSITORY.`,
		Flags: rolloutFlags(),
		Action: func(c *cli.Context) error {
			o, err := a.readRollout(c)
			if err != nil {
				return err
			}
			return runRollout(c.Context, a, o)
		},
	}
}

func rolloutFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "selector", Aliases: []string{"hosts"}, Usage: "work on the hosts whose labels `FIT`, as in role=web,zone in (a,b)"},
		&cli.StringSliceFlag{Name: "host", Usage: "host to work on, repeatable"},
		&cli.BoolFlag{Name: "all", Usage: "work on every host in hosts/"},
		&cli.StringFlag{Name: "max-unavailable", Value: "1", Usage: "hosts that may be changed or down at once: a number, or a share such as 10%"},
		&cli.StringFlag{Name: "canary", Value: "1", Usage: "hosts to begin with, of which none may fail: a number, or a share"},
		&cli.IntFlag{Name: "failure-budget", Usage: "hosts but canaries that may fail"},
		&cli.StringFlag{Name: "state", Usage: "where the record is: a directory or s3://BUCKET/PREFIX (default: OUT/.rollout)", EnvVars: []string{"BAKE_ROLLOUT"}},
		&cli.DurationFlag{Name: "lease", Value: 30 * time.Second, Usage: "how long others wait for a sign of life before they can take over"},
		&cli.StringFlag{Name: "from", Usage: "fetch generations that are not here from oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX"},
		&cli.BoolFlag{Name: "plain-http", Usage: "speak to other machines without TLS, too"},
		&cli.StringFlag{Name: "network", Usage: "in clusters: as bake export kubevirt has it"},
		&cli.StringFlag{Name: "storage-class", Usage: "likewise"},
		&cli.StringFlag{Name: "pull-secret", Usage: "likewise"},
		&cli.StringFlag{Name: "import-secret", Usage: "likewise"},
		&cli.StringFlag{Name: "accel", Usage: "kvm or tcg, as bake deploy has it", EnvVars: []string{"BAKE_ACCEL"}},
		&cli.DurationFlag{Name: "deadline", Value: 20 * time.Minute, Usage: "how long a boot may take until it has attested"},
		&cli.DurationFlag{Name: "patience", Value: usualPatience, Usage: "how long a machine may take to shut down"},
		&cli.BoolFlag{Name: "resume", Usage: "go on with the rollout, or with rolling it back"},
		&cli.BoolFlag{Name: "rollback", Usage: "roll back what the rollout has deployed"},
		&cli.BoolFlag{Name: "abandon", Usage: "begin another although the last has halted"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only show the waves"},
	}
}

func runRollout(ctx context.Context, a *app, o rolloutOptions) error {
	ledger, err := a.ledger(o)
	if err != nil {
		return err
	}
	if o.word == "status" {
		return a.rolloutStatus(ctx, ledger)
	}
	return a.rollout(ctx, o, ledger)
}

// readRollout reads the command line.
func (a *app) readRollout(c *cli.Context) (o rolloutOptions, err error) {
	o = rolloutOptions{selector: c.String("selector"), most: c.String("max-unavailable"), canaries: c.String("canary"), budget: c.Int("failure-budget"),
		state: c.String("state"), plain: c.Bool("plain-http"), lease: c.Duration("lease"), from: c.String("from"),
		resume: c.Bool("resume"), back: c.Bool("rollback"), abandon: c.Bool("abandon"), dry: c.Bool("dry-run"),
		kube:    kubevirt.Options{Network: c.String("network"), StorageClass: c.String("storage-class"), PullSecret: c.String("pull-secret"), ImportSecret: c.String("import-secret")},
		machine: libvirtOptions{accel: c.String("accel"), deadline: c.Duration("deadline"), patience: c.Duration("patience")}}
	words := map[string][]string{"": {"selector", "host", "all", "max-unavailable", "canary", "failure-budget", "lease", "from",
		"network", "storage-class", "pull-secret", "import-secret", "accel", "deadline", "patience",
		"resume", "rollback", "abandon", "dry-run"}, "status": {}}
	if o.word, err = checkWords(c, words); err != nil || o.word == "status" {
		return o, err
	}
	if o.machine.accel != "" && o.machine.accel != "kvm" && o.machine.accel != "tcg" {
		return o, usageError{fmt.Errorf("--accel %q: want kvm or tcg", o.machine.accel)}
	}
	if o.machine.deadline <= 0 || o.machine.patience <= 0 || o.lease < time.Second || o.budget < 0 {
		return o, usageError{errors.New("want more than nothing of --deadline and --patience, a --lease of at least 1s, and no --failure-budget below 0")}
	}
	checked := o.kube
	if strings.HasPrefix(o.from, "oci://") {
		checked.Image = "any" // which one, the place says
	}
	if err := checked.Check(); err != nil {
		return o, usageError{err}
	}
	if o.resume || o.back {
		for _, flag := range []string{"selector", "host", "all", "max-unavailable", "canary", "failure-budget", "abandon", "dry-run"} {
			if c.IsSet(flag) {
				return o, usageError{fmt.Errorf("--%s goes with a new rollout: --resume and --rollback have what that one was told", flag)}
			}
		}
		if o.resume && o.back {
			return o, usageError{errors.New("want one of --resume and --rollback: a rolling back that was cut off is resumed as such")}
		}
		return o, nil
	}
	o.hosts, err = a.hosts(c)
	return o, err
}
