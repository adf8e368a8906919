package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/archive"
	"bake/internal/artifact"
	"bake/internal/deploy"
	"bake/internal/host"
	"bake/internal/status"
	"bake/internal/tool"
)

const (
	guestRestore = "sudo -n /usr/local/lib/bake/restore"
	hostKeys     = archive.Path("var/lib/bake/state/ssh") // in a backup
	// gatewayTime is for a gateway to be ready: minutes where it is emulated. One that has
	// failed for good is not waited for.
	gatewayTime = 30 * time.Minute
)

// restored is what a machine says of a restore.
type restored struct {
	Host      string             `json:"host"`
	Digest    string             `json:"digest"` // of what it has unpacked
	Restored  []string           `json:"restored"`
	Aside     []string           `json:"aside"`
	Started   []string           `json:"started"`
	Databases []archive.Database `json:"databases"`       // as they are in their place
	HostKeys  []string           `json:"host_keys"`       // its own, public
	Tamed     []archive.Path     `json:"tamed,omitempty"` // files that had rights which they do not get here
	Gateway   string             `json:"gateway"`         // ready, or none
}

// restoreView is what a restore came to.
type restoreView struct {
	restored
	Frozen   time.Time `json:"state_of"`
	RPO      float64   `json:"rpo_seconds"` // from the state to the beginning of the restore
	RTO      float64   `json:"rto_seconds"` // from the beginning to a machine that is ready
	Claims   int       `json:"claims"`      // that hold
	Attested bool      `json:"attested"`
}

func (v restoreView) lines() []string {
	lines := []string{
		fmt.Sprintf("%s: state of %s restored, %d claims hold", v.Host, v.Frozen.Local().Format(time.DateTime), v.Claims),
		fmt.Sprintf("    RPO         %s: what was written in it is lost", seconds(v.RPO)),
		fmt.Sprintf("    RTO         %s", seconds(v.RTO)),
		"    gateway     " + v.Gateway,
	}
	for _, dir := range v.Aside {
		lines = append(lines, "    aside       "+dir)
	}
	return lines
}

func seconds(n float64) time.Duration {
	return time.Duration(n * float64(time.Second)).Round(time.Second)
}

// sayRestore says what a restore would do.
func (a *app) sayRestore(ctx context.Context, o restoreOptions) error {
	h, err := host.Load(a.config, o.host, a.shelf())
	if err != nil {
		return err
	}
	made, err := a.machineIsThere(ctx, o, h, a.libvirtOf(o, h))
	switch {
	case err != nil:
		return err
	case !made:
		a.say("%s: there is no machine: it would be baked and brought up", o.host)
	}
	a.say("%s: what it has as state would go aside, and the backup in its place", o.host)
	return nil
}

// libvirtOf is the libvirt that a restore asks, "" for none: whoever names an address knows, and
// so does a bake that has been to the machine at the host file's. Otherwise it is the one on
// which the machine would be made.
func (a *app) libvirtOf(o restoreOptions, h *host.Host) string {
	uri := cmp.Or(o.uri, h.Domain.URI)
	if uri != "" || o.address != "" {
		return uri
	}
	if len(h.Network.Addresses) > 0 || h.Network.Reserve.IsValid() {
		if _, err := os.Stat(filepath.Join(a.out, h.Name, status.KnownFile)); err == nil {
			return ""
		}
	}
	return usualURI
}

// machineIsThere asks libvirt, where there is one to ask.
func (a *app) machineIsThere(ctx context.Context, o restoreOptions, h *host.Host, uri string) (bool, error) {
	if uri == "" || o.address != "" {
		return true, nil
	}
	d, err := a.askDomain(ctx, h, uri)
	if err != nil {
		return false, err
	}
	return d.State == "running", nil
}

func (a *app) restore(ctx context.Context, o restoreOptions, dir string, m archive.Manifest, begun time.Time) error {
	h, err := host.Load(a.config, o.host, a.shelf())
	if err != nil {
		return err
	}
	uri := a.libvirtOf(o, h)
	isThere, err := a.machineIsThere(ctx, o, h, uri)
	if err != nil {
		return err
	}
	if !isThere {
		if err := a.raise(ctx, o); err != nil {
			return err
		}
	}
	address := o.address
	if uri != "" && address == "" {
		if address, err = a.addressOf(ctx, h, uri); err != nil {
			return err
		}
	}
	lock, err := artifact.Lock(ctx, a.out, o.host) // nobody puts another machine under the state meanwhile
	if err != nil {
		return lackError{err}
	}
	defer lock.Close()
	view := restoreView{Frozen: m.Frozen, RPO: begun.Sub(m.Frozen).Seconds()}
	at := &remote{app: a, host: h, address: address, identity: o.identity}
	if view.restored, err = at.putIn(ctx, dir, m, o); err != nil {
		return err
	}
	live := verifyOptions{hosts: []string{o.host}, live: &liveOptions{address: address, identity: o.identity, uri: uri}}
	report, err := a.live(ctx, o.host, live)
	a.stage("")
	if err != nil {
		return err
	}
	failed := report.Err()
	view.RTO, view.Attested, view.Claims = time.Since(begun).Seconds(), failed == nil, heldClaims(report)
	if failed != nil {
		failed = claimError{failed}
	}
	if a.json {
		return errors.Join(a.printJSON(view), failed)
	}
	return errors.Join(a.printLines(view.lines()), failed)
}

// raise makes the machine, with an empty state if the hypervisor has none.
func (a *app) raise(ctx context.Context, o restoreOptions) error {
	which := "current"
	_, err := artifact.Open(a.out, o.host, which)
	if errors.Is(err, fs.ErrNotExist) {
		a.say("%s: there is no proven generation here: baking one, which must attest", o.host)
		if err := runImage(ctx, a.aside(), imageOptions{hosts: []string{o.host}, base: o.base, from: o.from}); err != nil {
			return err
		}
		which = "latest"
	} else if err != nil {
		return err
	}
	a.say("%s: bringing it up", o.host)
	return runMachine(ctx, a.aside(), o.libvirtOptions, func(m *machine) (deploy.Outcome, error) {
		g, err := a.parcel(ctx, m, which)
		if err != nil {
			return deploy.Outcome{}, err
		}
		return m.Up(ctx, g)
	})
}

// aside is the same app for a step on the way, whose product is not what was asked for.
func (a *app) aside() *app {
	a.stage("") // the other has a line of its own
	b := *a
	b.Stdout, b.json = a.Stderr, false
	b.ui, b.env = newUI(b.env)
	b.quiet = a.quiet
	return &b
}

// remote is the machine as its admin reaches it.
type remote struct {
	*app
	host              *host.Host
	address, identity string
}

// putIn sends a backup into the machine, and waits until the gateway is ready.
func (r *remote) putIn(ctx context.Context, dir string, m archive.Manifest, o restoreOptions) (out restored, err error) {
	file, err := os.Open(filepath.Join(dir, archive.StateFile))
	if err != nil {
		return out, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return out, err
	}
	command := guestRestore
	if o.hostKeys {
		command += " --host-keys"
	}
	if o.sessions {
		command += " --sessions"
	}
	sent := r.meter(r.host.Name + ": sending the state")
	progress := &counter{Reader: file, shown: time.Now(), show: func(n int64) { sent.tell(n, info.Size()) }}
	answer, err := r.run(ctx, command, progress)
	r.stage("")
	if err == nil {
		out, err = readRestored(answer, m)
	}
	for _, dir := range out.Aside { // said now: the rest may fail, and then there is no answer
		r.say("%s: what was there is in %s", r.host.Name, dir)
	}
	if left := out.leftOut(m); err == nil && len(left) > 0 && !o.sessions {
		r.warn("%s: /%s and %d others of the backup are left out: they are no state of this machine", r.host.Name, left[0], len(left)-1)
	}
	if err == nil && len(out.Tamed) > 0 {
		r.warn("%s: no set-user-ID, set-group-ID or capability for /%s and %d other files, whose owner is not the state's", r.host.Name, out.Tamed[0], len(out.Tamed)-1)
	}
	if err == nil && o.hostKeys {
		err = r.noteKeys(out.HostKeys)
	}
	if err != nil {
		return out, err
	}
	r.say("%s: the state is in its place, waiting for the gateway", r.host.Name)
	answer, err = r.run(ctx, guestRestore+" ready "+strconv.Itoa(int(gatewayTime.Seconds())), nil)
	if err == nil {
		err = json.Unmarshal(answer, &out)
	}
	return out, err
}

// readRestored believes a machine that says the same as the manifest.
func readRestored(answer []byte, m archive.Manifest) (out restored, err error) {
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("the machine's answer cannot be read: %w", err)
	}
	if out.Digest != m.Digest {
		return out, &archive.RefusedError{Text: "what the machine has unpacked is not what the manifest says"}
	}
	was := map[archive.Path]string{}
	for _, d := range m.Databases {
		was[d.Path] = d.Integrity
	}
	for _, d := range out.Databases { // one that was broken when it was copied is no fault of the restore
		if d.Integrity != "ok" && was[d.Path] == "ok" {
			return out, claimError{fmt.Errorf("the database /%s is not sound: %s", d.Path, d.Integrity)}
		}
	}
	return out, nil
}

// leftOut are the directories and files that a backup has and a machine has not taken, as
// its layers do not name them. Its host keys are taken only where that is asked for.
func (r restored) leftOut(m archive.Manifest) (left []archive.Path) {
	for _, root := range m.Roots {
		if root != hostKeys && !slices.Contains(r.Restored, "/"+string(root)) {
			left = append(left, root)
		}
	}
	return left
}

// noteKeys keeps the host keys that came out of the backup: the console still says those
// of the boot.
func (r *remote) noteKeys(lines []string) error {
	var keys []ssh.PublicKey
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return fmt.Errorf("reading the machine's host keys: %w", err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return errors.New("the machine does not say its host keys")
	}
	return artifact.Keep(r.out, r.host.Name, status.KnownFile, func([]byte) ([]byte, error) {
		return status.KnownHosts(r.host.Name, nil, keys), nil
	})
}

// run has a command run in the machine, and returns what it prints. What it says besides
// is the error if it fails.
func (r *remote) run(ctx context.Context, command string, input io.Reader) ([]byte, error) {
	more := []string{"-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-o", "ForwardAgent=no"}
	if r.identity != "" {
		more = append(more, "-i", r.identity)
	}
	program, argv, err := r.login(r.host, r.address, more...)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, append(argv[1:], command)...)
	cmd.Env = os.Environ() // its agent, its home: as bake ssh
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = input
	said, out := &tool.Ending{Most: 4 << 10}, &heard{}
	cmd.Stderr, cmd.Stdout = said, out
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case out.isTooLong:
		return nil, claimError{fmt.Errorf("%s: %w", r.host.Name, errTooLong)}
	case errors.As(err, &exit) && exit.ExitCode() != 255: // 255 is ssh's own
		return nil, claimError{fmt.Errorf("%s: the machine refused: %s", r.host.Name, cmp.Or(said.Lines(1), exit.String()))}
	case err != nil:
		return nil, remoteError{fmt.Errorf("%s: %s (%w)", r.host.Name, cmp.Or(said.Lines(1), "ssh said nothing"), err)}
	}
	return out.kept.Bytes(), nil
}

// heard keeps what a machine says, which may be somebody else's: it cannot fill the memory.
type heard struct {
	kept      bytes.Buffer
	isTooLong bool
	stop      func() // nil: who writes stops by itself when it is too long
}

const mostAnswer = 16 << 20

var errTooLong = fmt.Errorf("the machine's answer has more than %d MiB", mostAnswer>>20)

func (h *heard) Write(p []byte) (int, error) {
	if h.isTooLong = h.isTooLong || h.kept.Len()+len(p) > mostAnswer; !h.isTooLong {
		return h.kept.Write(p)
	}
	if h.stop != nil {
		h.stop()
	}
	return 0, errTooLong
}
