// Package verify boots what was baked and tries every claim that its layers
// make, from inside the guest and from outside.
//
// A claim is an English sentence of a layer with an observation of the effect:
// a command that runs as root in the guest, a login attempt, a knock at a port.
// The report repeats the sentences. A claim that could not be tried has failed:
// what was not seen is not so.
//
// Two things are claimed for every machine, by the layer name "boot": it comes
// up and tells its ssh host keys on its console, and cloud-init and systemd
// finished without an error. cloud-init's exit status and the word "done" are
// not evidence of that (some releases return 0 for errors they recovered
// from), so its JSON is read.
//
// It promises that disk and seed are the artifact's own, unchanged; that the
// way in is a key made for this run, which the guest learns from its virtual
// firmware for this boot only; and that the guest is known by the keys on its
// console, never on trust. What a guest says is bounded and printed without
// control characters.
//
// # Decisions
//
// 2026-11: a generation carries its own Plan. Verifying it needs no host file,
// and a host file changed since cannot soften the claims it was baked with.
//
// 2026-11: root is given the key as well. "Root is refused, even with a good
// key" would otherwise be tried with a bad one.
package verify

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/layer"
	"bake/internal/tool"
	"bake/internal/vm"
)

// Plan is what a generation says of itself: the machine to boot and the claims
// to try. It is part of the artifact, as JSON.
type Plan struct {
	Host     string       `json:"host"`
	Admin    string       `json:"admin"`
	VCPUs    int          `json:"vcpus"`
	Memory   int64        `json:"memory"` // bytes
	MAC      string       `json:"mac"`
	Firmware string       `json:"firmware"`
	Address  netip.Prefix `json:"address,omitzero"` // static IPv4, if any
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Layers   []Layer      `json:"layers"`
}

// Layer is a layer's part of a plan.
type Layer struct {
	Name   string        `json:"name"`
	Threat string        `json:"threat,omitempty"`
	Checks []layer.Check `json:"checks"`
}

// Options say where the generation is and how to boot it.
type Options struct {
	Plan       Plan
	Generation string
	Disk       string
	Seed       string
	Tools      tool.Box
	CacheDir   string        // remembers the accelerator
	Accel      string        // "kvm", "tcg" or "" for what works
	Deadline   time.Duration // for the boot, until cloud-init is done
	Stage      func(text string)
	Console    io.Writer // live copy of the guest's console, or nil
}

// run is one verification in progress.
type run struct {
	Options
	machine *vm.Machine
	signer  ssh.Signer
	keys    []ssh.PublicKey
	client  *ssh.Client // nil when nobody could log in
	noLogin error       // why client is nil
	report  *Report
}

// Boot starts a throwaway machine from a generation and tries every claim. The
// error says that the machine could not be tried at all; a machine that is not
// what was specified is a Report with failures.
func Boot(ctx context.Context, o Options) (Report, error) {
	accel, reason, err := vm.Accelerator(ctx, o.Tools, o.CacheDir, o.Accel)
	if err != nil {
		return Report{}, err
	}
	r := run{Options: o, report: &Report{Schema: schema, Host: o.Plan.Host, Generation: o.Generation,
		Accelerator: accel, Because: reason}}
	if r.signer, err = newKey(); err != nil {
		return Report{}, err
	}
	spec, err := r.spec(accel)
	if err != nil {
		return Report{}, err
	}
	o.Stage(fmt.Sprintf("%s: booting under %s", o.Plan.Host, accel))
	started := time.Now()
	if r.machine, err = vm.Start(ctx, o.Tools, spec); err != nil {
		return Report{}, err
	}
	r.comeUp(ctx)
	r.report.UpSeconds = int(time.Since(started).Seconds())
	if r.client != nil {
		r.guestFacts(ctx)
	}
	for _, l := range o.Plan.Layers {
		for _, check := range l.Checks {
			r.try(ctx, check)
		}
	}
	if r.client != nil {
		r.client.Close()
	}
	if err := r.machine.Close(); err != nil {
		return Report{}, err
	}
	return *r.report, context.Cause(ctx)
}

func newKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key for this run: %w", err)
	}
	return ssh.NewSignerFromKey(private)
}

func (r *run) spec(accel string) (vm.Spec, error) {
	key := string(ssh.MarshalAuthorizedKey(r.signer.PublicKey()))
	credentials, err := vm.LoginCredential(key, r.Plan.Admin, "root")
	if err != nil {
		return vm.Spec{}, err
	}
	return vm.Spec{Disk: r.Disk, Seed: r.Seed, Accel: accel, Firmware: r.Plan.Firmware,
		VCPUs: r.Plan.VCPUs, Memory: r.Plan.Memory, MAC: r.Plan.MAC,
		Address: r.Plan.Address, Gateway: r.Plan.Gateway,
		Credentials: credentials, Console: r.Console}, nil
}

const (
	claimUp    = "The machine comes up and tells its ssh host keys on its console."
	claimInit  = "cloud-init finished without an error, not even one it recovered from."
	claimUnits = "No systemd unit has failed and no ordering cycle was broken."
)

// comeUp waits for the guest, logs in and tries the claims made for every
// machine.
func (r *run) comeUp(ctx context.Context) {
	waiting, cancel := context.WithTimeoutCause(ctx, r.Deadline,
		fmt.Errorf("not within %s", r.Deadline))
	defer cancel()
	var err error
	r.keys, err = r.machine.HostKeys(waiting)
	r.result(Result{Layer: "boot", Where: "console", Claim: claimUp, OK: err == nil, Got: words(err)})
	if err == nil {
		r.Stage(r.Plan.Host + ": up, logging in")
		r.client, err = r.login(waiting)
	}
	if err != nil {
		r.noLogin = err
	}
	r.try(waiting, layer.Check{Layer: "boot", Claim: claimInit, Inside: &layer.Inside{
		Run: "cloud-init status --wait --format json || :", Is: nil}})
	r.try(ctx, layer.Check{Layer: "boot", Claim: claimUnits, Inside: &layer.Inside{
		Run: `systemctl --failed --plain --no-legend; journalctl -b -o cat _PID=1 | grep -F "ordering cycle" || :`, Is: new(string)}})
}

// login gets in as the admin; sshd may still be starting.
func (r *run) login(ctx context.Context) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		client, err := r.machine.SSH(ctx, r.Plan.Admin, []ssh.AuthMethod{ssh.PublicKeys(r.signer)}, r.keys)
		if err == nil || !errors.Is(err, vm.ErrUnreachable) {
			return client, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second):
		}
	}
}

// guestFacts asks what the guest is, for the head of the report.
func (r *run) guestFacts(ctx context.Context) {
	out, _, err := r.execute(ctx, `. /etc/os-release; echo "$PRETTY_NAME"; uname -r
cloud-init --version 2>&1 | sed 's/.* //'; systemctl --version | sed -n '1s/^systemd \([^ ]*\).*/\1/p'`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err == nil && len(lines) == 4 {
		r.report.Guest = Guest{OS: lines[0], Kernel: lines[1], CloudInit: lines[2], Systemd: lines[3]}
	}
}

func (r *run) result(result Result) {
	r.report.Results = append(r.report.Results, result)
	if result.OK {
		r.report.Passed++
	} else {
		r.report.Failed++
	}
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
