package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/verify"
)

type verifyOptions struct {
	hosts      []string
	generation string
	accel      string
	deadline   time.Duration
	console    bool

	falsify  bool
	exposure bool
}

func verifyCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "boot what was baked and try every claim, inside and outside",
		Flags: append(hostFlags(),
			&cli.BoolFlag{Name: "boot", Usage: "boot the generation in a throwaway machine"},
			&cli.BoolFlag{Name: "falsify", Usage: "with --boot: break every claim in turn, on a snapshot, and demand that it fails"},
			&cli.BoolFlag{Name: "exposure", Usage: "with --boot: ask from power-on what the guest answers, print a timeline"},
			&cli.StringFlag{Name: "generation", Value: "latest", Usage: "generation to verify: latest, current or a name"},
			&cli.StringFlag{Name: "accel", Usage: "kvm or tcg (default: KVM if it works)", EnvVars: []string{"BAKE_ACCEL"}},
			&cli.DurationFlag{Name: "deadline", Value: 20 * time.Minute, Usage: "how long the boot may take"},
			&cli.BoolFlag{Name: "console", Usage: "copy the guest's console to standard error"}),
		Action: func(c *cli.Context) error {
			o := verifyOptions{generation: c.String("generation"), accel: c.String("accel"),
				deadline: c.Duration("deadline"), console: c.Bool("console"), falsify: c.Bool("falsify"),
				exposure: c.Bool("exposure")}
			err := noArguments(c)
			if err == nil {
				o.hosts, err = a.hosts(c)
			}
			switch {
			case err != nil:
				return err
			case !c.Bool("boot"):
				return usageError{errors.New("this version verifies by booting only: add --boot")}
			case o.deadline <= 0:
				return usageError{fmt.Errorf("--deadline %s: want more than nothing", o.deadline)}
			case o.accel != "" && o.accel != "kvm" && o.accel != "tcg":
				return usageError{fmt.Errorf("--accel %q: want kvm or tcg", o.accel)}
			}
			return runVerify(c.Context, a, o)
		},
	}
}

func runVerify(ctx context.Context, a *app, o verifyOptions) error {
	var failed error
	for _, name := range o.hosts {
		err := a.verifyHost(ctx, name, o)
		var claim claimError
		if errors.As(err, &claim) { // the other hosts are still worth a look
			failed = errors.Join(failed, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return failed
}

func (a *app) verifyHost(ctx context.Context, name string, o verifyOptions) error {
	generation, err := artifact.Open(a.out, name, o.generation)
	if err != nil {
		return err
	}
	lock, err := artifact.Lock(ctx, a.out, name)
	if err != nil {
		return lackError{err}
	}
	defer lock.Close()
	if err := generation.Verify(ctx); err != nil {
		return err
	}
	if _, err := a.store().Get(ctx, generation.Manifest.Base.SHA256); err != nil {
		return err
	}
	secrets, err := a.volumeOf(generation)
	if err != nil {
		return err
	}
	options := verify.Options{Generation: generation.Manifest.Generation,
		Disk: generation.Path("disk.qcow2"), Seed: generation.Path("seed.iso"), Secrets: secrets,
		Tools: a.Tools, CacheDir: a.cacheDir(), Accel: o.accel, Deadline: o.deadline, Falsify: o.falsify,
		Exposure: o.exposure,
		Say:      func(text string) { a.say("%s", text) }, Stage: func(text string) { a.stage("%s", text) }}
	if o.console {
		options.Console = a.Stderr
	}
	claims, err := os.ReadFile(generation.Path("claims.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(claims, &options.Plan); err != nil {
		return fmt.Errorf("reading %s: %w", generation.Path("claims.json"), err)
	}
	report, err := verify.Boot(ctx, options)
	if err != nil {
		return err
	}
	return a.conclude(generation, report)
}

// conclude keeps and prints the report, and promotes the generation if every
// claim held.
func (a *app) conclude(generation artifact.Generation, report verify.Report) error {
	a.stage("")
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		return err
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := generation.WriteReport("report.txt", []byte(text.String())); err != nil {
		return err
	}
	if err := generation.WriteReport("report.json", append(data, '\n')); err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(report)
	} else {
		_, err = io.WriteString(a.Stdout, text.String())
	}
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return claimError{err}
	}
	return generation.Promote()
}

// cacheDir is where bake remembers what it can find out again.
func (a *app) cacheDir() string {
	if dir := a.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bake")
	}
	if home := a.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".cache", "bake")
	}
	return ""
}
