package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"bake/internal/artifact"
	"bake/internal/domain"
	"bake/internal/verify"
)

// bootOptions say how a throwaway machine is booted.
type bootOptions struct {
	accel    string
	deadline time.Duration
	console  bool // copy it to standard error
	falsify  bool
	exposure bool
}

func bootFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "accel", Usage: "kvm or tcg (default: KVM if it works)", EnvVars: []string{"BAKE_ACCEL"}},
		&cli.DurationFlag{Name: "deadline", Value: 20 * time.Minute, Usage: "how long the boot may take"},
		&cli.BoolFlag{Name: "console", Usage: "copy the guest's console to standard error"},
	}
}

func readBootFlags(c *cli.Context) (bootOptions, error) {
	o := bootOptions{accel: c.String("accel"), deadline: c.Duration("deadline"), console: c.Bool("console")}
	switch {
	case o.deadline <= 0:
		return o, usageError{fmt.Errorf("--deadline %s: want more than nothing", o.deadline)}
	case o.accel != "" && o.accel != "kvm" && o.accel != "tcg":
		return o, usageError{fmt.Errorf("--accel %q: want kvm or tcg", o.accel)}
	}
	return o, nil
}

// readImageBootFlags is the same where booting is an extra: nil is for not.
func readImageBootFlags(c *cli.Context) (*bootOptions, error) {
	if c.Bool("boot") {
		o, err := readBootFlags(c)
		return &o, err
	}
	for _, name := range []string{"deadline", "console"} { // accel is also set by the environment
		if c.IsSet(name) {
			return nil, usageError{fmt.Errorf("--%s goes with --boot", name)}
		}
	}
	return nil, nil
}

// boot tries every claim of a generation in a throwaway machine, keeps the report
// and promotes the generation if all held; a claimError says that one did not. The
// report is empty when there was nothing to try.
func (a *app) boot(ctx context.Context, name, which string, o bootOptions) (artifact.Generation, verify.Report, error) {
	generation, held, err := a.hold(ctx, name, which)
	if err != nil {
		return generation, verify.Report{}, err
	}
	defer held.Close()
	report, err := a.throwaway(ctx, generation, o, nil)
	if err == nil {
		err = a.conclude(generation, report)
	}
	return generation, report, err
}

// hold opens a generation; until held is closed, nobody else works on its host.
func (a *app) hold(ctx context.Context, name, which string) (generation artifact.Generation, held io.Closer, err error) {
	if generation, err = artifact.Open(a.out, name, which); err != nil {
		return generation, nil, err
	}
	if held, err = artifact.Lock(ctx, a.out, name); err != nil {
		return generation, nil, lackError{err}
	}
	return generation, held, nil
}

// throwaway boots a generation that is held, unchanged, and tries its claims; see
// verify.Options for rehearse.
func (a *app) throwaway(ctx context.Context, generation artifact.Generation, o bootOptions, rehearse func(context.Context, *ssh.Client) error) (verify.Report, error) {
	if err := a.trustworthy(ctx, generation); err != nil {
		return verify.Report{}, err
	}
	arch, err := archOf(generation)
	if err != nil {
		return verify.Report{}, err
	}
	if o.accel == "kvm" && arch != runtime.GOARCH {
		return verify.Report{}, lackError{fmt.Errorf("%s is a machine for %s, which KVM does not run on %s: leave --accel out", generation.Manifest.Host, arch, runtime.GOARCH)}
	}
	if _, err := a.store().Get(ctx, generation.Manifest.Base.SHA256); err != nil {
		return verify.Report{}, err
	}
	secrets, err := a.volumeOf(generation)
	if err != nil {
		return verify.Report{}, err
	}
	options := verify.Options{Generation: generation.Manifest.Generation, Arch: arch,
		Disk: generation.Path("disk.qcow2"), Seed: generation.Path("seed.iso"), Secrets: secrets,
		Tools: a.Tools, CacheDir: a.cacheDir(), Accel: o.accel, Deadline: o.deadline, Falsify: o.falsify, Exposure: o.exposure,
		Say: func(text string) { a.say("%s", text) }, Stage: func(text string) { a.stage("%s", text) }, Rehearse: rehearse}
	if generation.Manifest.Payload != nil {
		options.Payload = generation.Path(payloadName)
	}
	if o.console {
		options.Console = above{a.ui, a.Stderr}
	}
	if options.Plan, err = readPlan(generation); err != nil {
		return verify.Report{}, err
	}
	report, err := a.Boot(ctx, options)
	a.stage("")
	return report, err
}

// needsOf is what a generation's machine must find on its hypervisor.
func needsOf(g artifact.Generation) (domain.Needs, error) {
	text, err := os.ReadFile(g.Path("domain.xml"))
	if err != nil {
		return domain.Needs{}, err
	}
	return domain.ReadNeeds(text)
}

// bootAll verifies what was baked. The product stays its path: the report is a
// file beside it, and what came of it is said.
func (a *app) bootAll(ctx context.Context, baked []artifact.Generation, o bootOptions) error {
	var failed error
	for _, g := range baked {
		_, report, err := a.boot(ctx, g.Manifest.Host, g.Manifest.Generation, o)
		var claim claimError
		switch {
		case errors.As(err, &claim):
			failed = errors.Join(failed, err, fmt.Errorf("%s: the report is %s", g.Manifest.Host, g.Path("report.txt")))
		case err != nil:
			return errors.Join(failed, err)
		default:
			a.say("%s: %d claims, all hold: %s", g.Manifest.Host, len(report.Results), g.Path("report.txt"))
		}
	}
	return failed
}

// readPlan returns what a generation says of itself.
func readPlan(g artifact.Generation) (plan verify.Plan, err error) {
	data, err := os.ReadFile(g.Path("claims.json"))
	if err != nil {
		return plan, err
	}
	if err := json.Unmarshal(data, &plan); err != nil {
		return plan, fmt.Errorf("reading %s: %w", g.Path("claims.json"), err)
	}
	return plan, nil
}

// conclude keeps the report, and promotes the generation if every claim held.
func (a *app) conclude(generation artifact.Generation, report verify.Report) error {
	if err := a.signVerdict(generation, report); err != nil { // first: a bad one must not stand beside an older good one
		return err
	}
	if err := a.writeReports(generation, report); err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return claimError{err}
	}
	return generation.Promote()
}
