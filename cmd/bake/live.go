package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/host"
	"bake/internal/verify"
)

// liveOptions say where a machine at work is.
type liveOptions struct{ address, identity, uri string }

// liveReport is what was found out last about a machine at work, beside its
// generations.
const liveReport = "live.json"

// readLiveFlags returns nil for a throwaway machine.
func readLiveFlags(c *cli.Context) (*liveOptions, error) {
	isBoot := c.Bool("boot")
	for _, name := range []string{"address", "identity", "connect"} {
		if isBoot && c.IsSet(name) {
			return nil, usageError{fmt.Errorf("--%s is for a machine at work, without --boot", name)}
		}
	}
	for _, name := range []string{"falsify", "exposure", "console", "deadline"} { // accel is also set by the environment
		why := ""
		if name == "falsify" {
			why = ": nothing is broken on purpose in a machine at work"
		}
		if !isBoot && c.IsSet(name) {
			return nil, usageError{fmt.Errorf("--%s goes with --boot%s", name, why)}
		}
	}
	o := &liveOptions{c.String("address"), c.String("identity"), c.String("connect")}
	switch {
	case isBoot:
		return nil, nil
	case o.address != "" && !isAddress(o.address):
		return nil, usageError{fmt.Errorf("--address %q: want an IP address or a name", o.address)}
	case o.uri != "":
		return o, checkURI(o.uri)
	}
	return o, nil
}

func runLive(ctx context.Context, a *app, o verifyOptions) error {
	if len(o.hosts) > 1 && o.live.address != "" {
		return usageError{errors.New("--address is of one machine, there are several hosts")}
	}
	var failed error
	for _, name := range o.hosts {
		report, err := a.live(ctx, name, o)
		a.stage("")
		if err != nil {
			return errors.Join(failed, err)
		}
		if err := a.printReport(report); err != nil {
			return err
		}
		if err := report.Err(); err != nil {
			failed = errors.Join(failed, claimError{err})
		}
	}
	return failed
}

// live tries the claims of the generation that a host's machine runs.
func (a *app) live(ctx context.Context, name string, o verifyOptions) (report verify.Report, err error) {
	h, err := host.Load(a.config, name, a.shelf())
	if err != nil {
		return report, err
	}
	address, which := o.live.address, cmp.Or(o.generation, "current")
	var differences []string
	if uri := cmp.Or(o.live.uri, h.Domain.URI); uri != "" {
		d, err := a.askDomain(ctx, h, uri)
		if err != nil {
			return report, err
		}
		if d.State != "running" {
			return report, lackError{fmt.Errorf("%s: there is no machine at work: %s", name, d)}
		}
		if o.generation == "" {
			which = d.Generation
		}
		if address == "" && len(d.Addresses) > 0 {
			address = d.Addresses[0]
		}
		differences = append([]string{}, d.differences()...)
	}
	generation, err := artifact.Open(a.out, name, which)
	if err != nil {
		return report, err
	}
	options := verify.LiveOptions{Generation: generation.Manifest.Generation, Stage: func(text string) { a.stage("%s", text) }, Domain: differences}
	if options.Plan, err = readPlan(generation); err != nil {
		return report, err
	}
	more := []string{"-T", "-o", "BatchMode=yes"}
	if o.live.identity != "" {
		more = append(more, "-i", o.live.identity)
	}
	program, argv, err := a.login(h, address, more...)
	if err != nil {
		return report, err
	}
	options.Address = argv[len(argv)-1]
	options.Login = func(context.Context) (io.Writer, io.Reader, io.Reader, func(), error) {
		return rootShell(program, append(argv, "sudo", "-n", "/bin/sh"))
	}
	if report, err = verify.Live(ctx, options); err != nil {
		return report, remoteError{fmt.Errorf("%s: %w", name, err)}
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return report, err
	}
	return report, artifact.Keep(a.out, name, liveReport, func([]byte) ([]byte, error) { return append(data, '\n'), nil })
}

// rootShell starts an ssh whose other end is a shell.
func rootShell(program string, argv []string) (io.Writer, io.Reader, io.Reader, func(), error) {
	cmd := exec.Command(program, argv[1:]...)
	cmd.Env = os.Environ() // its agent, its home, its terminal's name: as bake ssh
	stdin, errIn := cmd.StdinPipe()
	stdout, errOut := cmd.StdoutPipe()
	stderr, errErr := cmd.StderrPipe()
	if err := errors.Join(errIn, errOut, errErr, cmd.Start()); err != nil {
		return nil, nil, nil, nil, fmt.Errorf("starting %s: %w", strings.Join(argv[:1], " "), err)
	}
	return stdin, stdout, stderr, func() {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait() // not cmd.Wait, which would take away what it has said last
	}, nil
}

// remoteError says that another machine could not be asked.
type remoteError struct{ error }

func (remoteError) Network() bool   { return true }
func (e remoteError) Unwrap() error { return e.error }
