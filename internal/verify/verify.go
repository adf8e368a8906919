// Package verify boots what was baked and tries every claim that its layers
// make, from inside the guest and from outside; or tries them on the machine that is
// at work.
//
// A claim is an English sentence of a layer with an observation of the effect:
// a command that runs as root in the guest, a login attempt, a knock at a port.
// The report repeats the sentences. A claim that could not be tried has failed:
// what was not seen is not so.
//
// The claims about the inside are tried by the guest itself, before it answers
// anybody: see package attest. Its report is taken as it is, if it is about the
// claims of this generation, and a machine that stayed shut is reported by it. From
// here come the claims about the outside and the falsification. A generation
// without attestation is tried from here throughout.
//
// It promises that disk and seed are the artifact's own, unchanged; that the
// way in is a key made for this run, which the guest learns from its virtual
// firmware for this boot only; and that the guest is known by the keys on its
// console, never on trust. What a guest says is bounded and printed without
// control characters.
//
// # Falsification
//
// A check that holds on every machine proves nothing about this one. With
// Options.Falsify each claim that held is made wrong on purpose: its layer's
// falsify command runs as root in the guest, and the claim is tried again in the
// same way. It must fail now, or "this check cannot fail" and counts as failed.
// The machine is a snapshot taken after the normal pass and goes back to it for
// every claim, so that no falsification is seen by another.
//
// Only a contrary observation is a failure here: a command that ran and did not
// match, a login that the server decided on, a port that answered. A command
// that could not be run proves nothing. Where an answer was claimed, its absence
// counts once it lasts, for a restarting service is absent too. A claim that
// still holds is tried some seconds longer: a reload takes effect when it does.
//
// The root shell is opened before the falsify command and used after it, so that
// a command may lock everybody out. One that cuts even that connection can
// falsify what is seen from outside. One that exits non-zero did not happen, and
// its claim counts as failed.
//
// # Decisions
//
// 2026-11: a generation carries its own Plan. Verifying it needs no host file,
// and a host file changed since cannot soften the claims it was baked with.
//
// 2026-11: root is given the key as well. "Root is refused, even with a good
// key" would otherwise be tried with a bad one.
//
// 2026-11: every command goes through one root shell, the first try like the
// one after a falsification. A session per command would fail for a falsified
// sudo or account without the claim's command having run at all.
//
// 2026-11: that shell is opened by the admin's login and then moved to a pair of
// virtio-serial ports, where the guest has their driver. There it is part of the
// snapshot: a falsification under emulation takes 2 s instead of 6, and a
// command that shuts everybody out is still seen to its end. vsock would need a
// device of the host's that a container lacks, and cannot be saved.
//
// 2026-11: QEMU's emulation of several processors now and then runs an instruction that
// Linux is just replacing, and the kernel panics in its first seconds. Such a machine is
// started once more, and the report says so: under emulation alone, before cloud-init has
// begun alone. What panics twice, or later, or under KVM, is not what was specified.
//
// 2026-11: the claim about the console has no falsify command. What has been
// said there cannot be taken back, and saying nothing takes another boot; tests
// have guests that print no keys.
package verify

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/exposure"
	"bake/internal/tool"
	"bake/internal/vm"
)

// Plan is what a generation says of itself: the machine to boot and the claims
// to try. It is part of the artifact, as JSON.
type Plan struct {
	Host     string       `json:"host"`
	Admin    string       `json:"admin"`
	VCPUs    int          `json:"vcpus"`
	Memory   int64        `json:"memory"`          // bytes
	State    int64        `json:"state,omitempty"` // bytes of the state disk, which is an empty one here
	MAC      string       `json:"mac"`
	Firmware string       `json:"firmware"`
	Address  netip.Prefix `json:"address,omitzero"` // static IPv4, if any
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Agent    bool         `json:"agent,omitempty"`  // the machine has a channel for QEMU's guest agent
	Attest   string       `json:"attest,omitempty"` // SHA-256 of what the guest tries, in hex; "" where it does not
	Layers   []Layer      `json:"layers"`
}

// Layer is a layer's part of a plan, and what a report says of it.
type Layer struct {
	Name    string        `json:"name"`
	Summary string        `json:"summary,omitempty"`
	Threat  string        `json:"threat,omitempty"`
	Refs    []string      `json:"refs,omitempty"`
	Checks  []claim.Check `json:"checks"`
}

// Options say where the generation is and how to boot it.
type Options struct {
	Plan       Plan
	Generation string
	Arch       string // of the machine, "amd64" or "arm64"; "" is amd64
	Disk       string
	Seed       string
	Secrets    string // volume of the host's secrets, "" when it has none
	Payload    string // disk with its packages, "" when it has none
	Tools      tool.Box
	CacheDir   string            // remembers the accelerator
	Accel      string            // "kvm", "tcg" or "" for what works
	Deadline   time.Duration     // for the boot, until cloud-init is done
	Say        func(text string) // is told each stage of the boot as it is reached
	Stage      func(text string) // is told what is being done: the next takes its place
	Console    io.Writer         // live copy of the guest's console, or nil
	Falsify    bool              // demand of every claim that it can fail
	Exposure   bool              // look from power-on at what the guest answers
	// Rehearse is done with the machine once it has attested, logged in as the admin,
	// before claims are tried. It is for states that were in use: the machine reaches
	// nobody then, and its error is Boot's. A machine that nobody can log in to does
	// not get that far; its report says why.
	Rehearse func(context.Context, *ssh.Client) error
}

// machine is a booted *vm.Machine.
type machine interface {
	WaitConsole(context.Context, *regexp.Regexp) ([]string, error)
	Console() string
	HostKeys(context.Context) ([]ssh.PublicKey, error)
	SSH(ctx context.Context, user string, auth []ssh.AuthMethod, hostKeys []ssh.PublicKey) (*ssh.Client, error)
	Knock(ctx context.Context, port int) (vm.Answer, error)
	Snapshot(ctx context.Context, name string) error
	Restore(ctx context.Context, name string) error
	Port(i int) net.Conn
	Wire() *vm.Wire
	Guest() netip.Addr
	Close() error
}

// run is one verification in progress.
type run struct {
	Options
	machine  machine
	anew     func() error // another machine in the place of this one; nil where none may be
	signer   ssh.Signer
	keys     []ssh.PublicKey
	root     *shell  // nil when none is open
	serial   *serial // nil for logins only
	noLogin  error   // why nobody can log in
	watch    *watcher
	prober   *exposure.Prober // nil when nobody asked
	told     <-chan []byte    // the guest's own report, once
	guest    *attest.Report   // the same, read and believed; nil without one
	report   *Report
	checks   []claim.Check // of the report's results, by index
	pause    time.Duration // between two looks at a falsified claim
	patience time.Duration // from the line on the console to the end of the report
	mourning time.Duration // from a console that says the guest has ended to giving it up
}

// Boot starts a throwaway machine from a generation and tries every claim. The
// error says that the machine could not be tried at all; a machine that is not
// what was specified is a Report with failures.
func Boot(ctx context.Context, o Options) (Report, error) {
	accel, reason, err := vm.Accelerator(ctx, o.Tools, o.CacheDir, o.Arch, o.Accel)
	if err != nil {
		return Report{}, err
	}
	r := run{Options: o, pause: pause, patience: tellTime, mourning: mournTime, report: &Report{Schema: schema, Host: o.Plan.Host,
		Generation: o.Generation, Began: now(), Accelerator: accel, Because: reason, Falsify: o.Falsify}}
	if r.signer, err = newKey(); err != nil {
		return Report{}, err
	}
	spec, err := r.spec(accel)
	if err != nil {
		return Report{}, err
	}
	if err := r.start(ctx, spec); err != nil {
		return Report{}, err
	}
	if accel == "tcg" {
		r.anew = func() error { return errors.Join(r.machine.Close(), r.start(ctx, spec)) }
	}
	if err := errors.Join(r.examine(ctx), r.machine.Close()); err != nil {
		return Report{}, err
	}
	return *r.report, nil
}

// start switches a machine on, and listens to all that it says.
func (r *run) start(ctx context.Context, spec vm.Spec) error {
	booting := fmt.Sprintf("%s: booting under %s", r.Plan.Host, spec.Accel)
	r.Stage(booting)
	r.watch = newWatcher(r.Console, func(text string) {
		r.Say(r.Plan.Host + ": " + text)
		r.Stage(booting)
	})
	spec.Console = r.watch
	machine, err := vm.Start(ctx, r.Tools, spec)
	if err != nil {
		return err
	}
	if !machine.Confined() {
		r.Say(r.Plan.Host + ": QEMU has no seccomp filter here, and all the rights of whoever runs bake")
	}
	r.machine = machine
	r.serial = &serial{stdio: machine.Port(0), stderr: machine.Port(1)}
	r.told = listen(machine.Port(2))
	if err := r.beginExposure(); err != nil {
		return errors.Join(err, machine.Close())
	}
	return nil
}

// examine waits for the machine and tries every claim.
func (r *run) examine(ctx context.Context) error {
	if err := r.comeUp(ctx); err != nil {
		return err
	}
	if r.root != nil && r.guest == nil {
		r.guestFacts(ctx)
	}
	if err := r.rehearse(ctx); err != nil {
		return err
	}
	for _, l := range r.Plan.Layers {
		for _, check := range l.Checks {
			r.try(ctx, check)
		}
	}
	r.noteSockets(ctx)
	r.leave()
	r.endExposure()
	if ctx.Err() == nil && r.Falsify {
		if err := r.falsify(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// now is what a report says of its time.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }

func (r *run) rehearse(ctx context.Context) error {
	if r.Rehearse == nil || r.noLogin != nil {
		return nil
	}
	client, err := r.login(ctx)
	if err != nil {
		return err
	}
	return errors.Join(r.Rehearse(ctx, client), client.Close())
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
	credentials, err := vm.LoginCredential(key, r.Plan.users()...)
	if err != nil {
		return vm.Spec{}, err
	}
	ports := []string{shellPort, errorsPort, attest.Port}
	if r.Plan.Agent {
		ports = append(ports, agentPort)
	}
	return vm.Spec{Disk: r.Disk, Seed: r.Seed, Secrets: r.Secrets, Payload: r.Payload, State: r.Plan.State, Arch: r.Arch, Accel: accel, Firmware: r.Plan.Firmware,
		VCPUs: r.Plan.VCPUs, Memory: r.Plan.Memory, MAC: r.Plan.MAC,
		Address: r.Plan.Address, Gateway: r.Plan.Gateway, Offline: r.Rehearse != nil,
		Credentials: credentials, Console: r.Console, Ports: ports, Wire: r.Exposure}, nil
}

const claimUp = "The machine comes up and tells its ssh host keys on its console."

// comeUp waits for the guest and logs in. The error says that another machine could not
// be started.
func (r *run) comeUp(ctx context.Context) error {
	started := time.Now()
	waiting, cancel := r.await(ctx)
	defer func() {
		cancel()
		r.report.UpSeconds = int(time.Since(started).Seconds())
	}()
	var shut error
	if r.Plan.Attest != "" {
		shut = r.hear(waiting)
		if r.anew != nil && shut != nil && ctx.Err() == nil {
			if r.report.Again = r.watch.panickedEarly(); r.report.Again != "" {
				r.Say(fmt.Sprintf("%s: %s before anything of the seed ran, as an emulated kernel sometimes does: once more", r.Plan.Host, r.report.Again))
				cancel()
				r.endProbing()
				if err := r.anew(); err != nil {
					return err
				}
				started = time.Now()
				waiting, cancel = r.await(ctx)
				shut = r.hear(waiting)
			}
		}
	}
	if r.keys, r.noLogin = r.machine.HostKeys(waiting); r.noLogin != nil && shut != nil {
		r.noLogin = shut // the same cause, seen first and told with the last stage
	}
	if r.guest == nil {
		for _, key := range r.keys {
			r.report.HostKeys = append(r.report.HostKeys, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))))
		}
	}
	r.result(claim.Check{}, Result{Result: claim.Result{Layer: claim.BootLayer, Where: "console", Claim: claimUp,
		OK: r.noLogin == nil, Got: words(r.noLogin)}})
	if r.noLogin == nil {
		r.noLogin = shut
	}
	r.Stage(r.Plan.Host + ": up, logging in")
	if err := r.enter(waiting); err == nil && r.Plan.Attest == "" { // the claims will say
		_, _, _ = r.execute(waiting, "cloud-init status --wait")
	}
	return nil
}

// await bounds the wait for a machine that was just switched on.
func (r *run) await(ctx context.Context) (context.Context, context.CancelFunc) {
	waiting, cancel := context.WithTimeoutCause(ctx, r.Deadline, fmt.Errorf("not within %s", r.Deadline))
	waiting, giveUp := context.WithCancelCause(waiting)
	go mourn(waiting, r.watch, r.mourning, giveUp)
	return waiting, func() { giveUp(nil); cancel() }
}

// enter opens the root shell unless it is open. Where nobody could log in once
// it does not try again.
func (r *run) enter(ctx context.Context) error {
	if r.root != nil || r.noLogin != nil {
		return r.noLogin
	}
	if r.serial != nil && r.serial.isServed && !r.serial.isLost {
		s, err := r.serial.open(ctx)
		if err == nil {
			r.root = s
			return nil
		}
		r.serial.isLost = true
	}
	client, err := r.login(ctx)
	if err == nil {
		if r.root, err = openShell(client); err != nil {
			client.Close()
		}
	}
	if r.noLogin = err; err == nil {
		r.move(ctx)
	}
	return err
}

// leave closes the root shell. One on the ports stays there.
func (r *run) leave() {
	if r.root != nil {
		r.root.close()
		r.root = nil
	}
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
cloud-init --version 2>&1 | sed 's/.* //'; systemctl --version | sed -n '1s/^systemd \([^ ]*\).*/\1/p'
test -e /run/reboot-required && echo due || echo none`)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err == nil && len(lines) == 5 {
		r.report.Guest = attest.Guest{OS: lines[0], Kernel: lines[1], CloudInit: lines[2], Systemd: lines[3],
			RebootDue: lines[4] == "due"}
	}
}

func (r *run) result(check claim.Check, result Result) {
	r.report.Results = append(r.report.Results, result)
	r.checks = append(r.checks, check)
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
