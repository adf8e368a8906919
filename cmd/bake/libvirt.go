package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/console"
	"bake/internal/deploy"
	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/hypervisor"
	"bake/internal/vm"
)

// usualPatience is for a machine to shut down: OpenClaw has 330 s to finish what it
// is at.
const usualPatience = 7 * time.Minute

// usualURI is libvirt on this machine.
const usualURI = "qemu:///system"

// libvirtOptions say which libvirt to talk to and how long to wait for what.
type libvirtOptions struct {
	host     string
	uri      string // "" for the host file's
	accel    string
	deadline time.Duration // for a boot
	patience time.Duration // for shutting down
	dryRun   bool
}

func libvirtFlags() []cli.Flag {
	return append(hostFlags(),
		&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Usage: "libvirt URI (default: domain.uri of the host file)"},
		&cli.StringFlag{Name: "accel", Usage: "kvm or tcg (default: KVM, unless libvirt does not offer it, or this machine is the hypervisor and it does not work)", EnvVars: []string{"BAKE_ACCEL"}},
		&cli.DurationFlag{Name: "deadline", Value: 20 * time.Minute, Usage: "how long a boot may take until it has attested"},
		&cli.DurationFlag{Name: "patience", Value: usualPatience, Usage: "how long the machine may take to shut down"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"},
	)
}

func (a *app) readLibvirtFlags(c *cli.Context) (o libvirtOptions, err error) {
	o = libvirtOptions{uri: c.String("connect"), accel: c.String("accel"), deadline: c.Duration("deadline"),
		patience: c.Duration("patience"), dryRun: c.Bool("dry-run")}
	names, err := a.hosts(c)
	if err == nil {
		err = noArguments(c)
	}
	switch {
	case err != nil:
		return o, err
	case len(names) > 1:
		return o, usageError{errors.New("want one host: a machine that fails must not be one of many")}
	case o.deadline <= 0, o.patience <= 0:
		return o, usageError{errors.New("--deadline and --patience: want more than nothing")}
	case o.accel != "" && o.accel != "kvm" && o.accel != "tcg":
		return o, usageError{fmt.Errorf("--accel %q: want kvm or tcg", o.accel)}
	}
	o.host = names[0]
	if o.uri != "" {
		return o, checkURI(o.uri)
	}
	return o, nil
}

func checkURI(uri string) error {
	if _, err := host.ParseURI(uri); err != nil {
		return usageError{err}
	}
	return nil
}

// machine is a host's machine on its hypervisor, with all that is held while
// something is done to it.
type machine struct {
	*deploy.Deployment
	host    *host.Host
	at      *hypervisor.Hypervisor
	console *deploy.Console
	close   []func() error
}

// reach locks a host and connects to its hypervisor.
func (a *app) reach(ctx context.Context, o libvirtOptions) (m *machine, err error) {
	h, err := host.Load(a.config, o.host, a.shelf())
	if err != nil {
		return nil, err
	}
	m = &machine{host: h}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	lock, err := artifact.Lock(ctx, a.out, h.Name)
	if err != nil {
		return m, lackError{err}
	}
	m.close = append(m.close, lock.Close)
	dir, err := os.MkdirTemp("", "bake-console-")
	if err != nil {
		return m, err
	}
	m.close = append(m.close, func() error { return os.RemoveAll(dir) })
	if m.at, err = hypervisor.Connect(ctx, cmp.Or(o.uri, h.Domain.URI, usualURI), a.Tools); err != nil {
		return m, err
	}
	m.close = append(m.close, m.at.Close)
	place := deploy.Host{Name: h.Name, Images: h.Machine.ImagesPath, State: h.Machine.State, Autostart: h.Domain.Autostart, MAC: h.Network.MAC}
	if address := h.Network.Reserve; address.IsValid() {
		place.Lease = &hypervisor.Lease{Network: h.Network.Attach.Network, MAC: h.Network.MAC, Host: h.Name, Address: address}
	}
	if place.Emulated, err = a.emulated(ctx, m.at, h.Machine.Arch, o.accel); err != nil {
		return m, err
	}
	begun := time.Now()
	m.console = &deploy.Console{At: m.at, Host: place, Dir: dir, Deadline: o.deadline,
		Reached: func(s console.Stage) {
			a.tellStage("%s: %s after %d s", h.Name, s.Words, int(time.Since(begun).Seconds()))
		}}
	m.close = append(m.close, m.console.Close)
	m.Deployment = &deploy.Deployment{Host: place, At: m.at, Wait: m.console.Wait, Patience: o.patience, DryRun: o.dryRun,
		Say: func(text string) { a.say("%s: %s", h.Name, text) },
		Progress: func(file string) func(done, size int64) {
			return a.meter(h.Name + ": writing " + file).tell
		}}
	return m, nil
}

// emulated says whether a hypervisor has to do without KVM. Of another machine
// nobody can tell but libvirt: by what it offers, and what becomes of a start.
func (a *app) emulated(ctx context.Context, at *hypervisor.Hypervisor, arch, accel string) (bool, error) {
	switch {
	case accel != "":
		return accel == "tcg", nil
	case at.IsRemote():
		offers, err := at.OffersKVM(arch)
		if err == nil && !offers {
			a.say("the machine is emulated, which is slow, because libvirt there offers no KVM for %s", arch)
		}
		return !offers, err
	case arch != runtime.GOARCH:
		a.say("the machine is emulated, which is slow, because it is %s and this one %s", arch, runtime.GOARCH)
		return true, nil
	}
	accel, reason, err := vm.Accelerator(ctx, a.Tools, a.cacheDir(), arch, "")
	if err == nil && accel == "tcg" {
		a.say("the machine is emulated, which is slow, because %s", reason)
	}
	return accel == "tcg", err
}

// Close lets go of all, the last first.
func (m *machine) Close() error {
	var err error
	for i := len(m.close) - 1; i >= 0; i-- {
		err = errors.Join(err, m.close[i]())
	}
	m.close = nil
	return err
}

// parcel collects what of a generation goes to a hypervisor, after a look at every
// byte of it, and what its machine must find there.
func (a *app) parcel(ctx context.Context, m *machine, which string) (p deploy.Generation, err error) {
	g, err := artifact.Open(a.out, m.host.Name, which)
	if err != nil {
		return p, err
	}
	a.stage("%s: checking generation %s", m.host.Name, g.Manifest.Generation)
	if err := a.trustworthy(ctx, g); err != nil {
		return p, err
	}
	if which == "current" {
		if err := a.proven(g); err != nil {
			return p, err
		}
	}
	p.Name = g.Manifest.Generation
	if p.XML, err = os.ReadFile(g.Path("domain.xml")); err != nil {
		return p, err
	}
	needs, err := domain.ReadNeeds(p.XML)
	if err != nil {
		return p, err
	}
	if home := path.Dir(path.Dir(needs.Disk)); home != path.Join(m.Host.Images, m.Host.Name) {
		return p, lackError{fmt.Errorf("generation %s was baked for %s, and machine.images is %s now: run bake image --host %s",
			p.Name, home, m.Host.Images, m.Host.Name)}
	}
	m.Host.Network, m.Host.Filter = needs.Network, needs.Filter
	if (needs.State != "") != (m.Host.State > 0) {
		return p, lackError{fmt.Errorf("machine.state of the host file and generation %s do not agree: run bake image --host %s", p.Name, m.host.Name)}
	}
	for _, dir := range needs.Shares {
		if !m.has(dir, fs.FileMode.IsDir) {
			return p, lackError{fmt.Errorf("%s is not there, or is no directory: generation %s shares it with its machine", dir, p.Name)}
		}
	}
	for _, disk := range needs.Disks {
		if !m.has(disk, func(mode fs.FileMode) bool { return !mode.IsDir() }) {
			return p, lackError{fmt.Errorf("%s is not there: generation %s has it as a disk, which bake does not make", disk, p.Name)}
		}
	}
	for _, name := range []string{"disk.qcow2", "seed.iso", payloadName, "claims.json", "domain.xml", "manifest.json"} {
		if _, ok := g.Manifest.Files[name]; ok || name == "manifest.json" {
			f := deploy.File{Path: g.Path(name), Name: name}
			if name == payloadName { // the one that is large, and often the same
				f.SHA256 = g.Manifest.Files[name].SHA256
			}
			p.Files = append(p.Files, f)
		}
	}
	blob, err := a.store().Get(ctx, g.Manifest.Base.SHA256)
	if err != nil {
		return p, err
	}
	p.Base = &deploy.File{Path: blob.Path, Name: filepath.Base(blob.Path)}
	p.Secrets, err = a.volumeOf(g)
	return p, err
}

// has says whether something is on the hypervisor, of this kind where that can be told. What
// cannot be looked at is taken to be there: a start will tell.
func (m *machine) has(name string, is func(fs.FileMode) bool) bool {
	if !m.at.IsRemote() {
		info, err := os.Stat(name)
		return err == nil && is(info.Mode()) || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
	}
	if strings.HasPrefix(name, "/dev/") { // libvirt shows no devices
		return true
	}
	names, err := m.at.List(path.Dir(name))
	return err == nil && slices.Contains(names, path.Base(name)) || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// parcelUp is parcel for bake up, which can do without a proven generation where there
// is a machine: it goes on with what that has.
func (a *app) parcelUp(ctx context.Context, m *machine, which string) (deploy.Generation, error) {
	found, err := m.at.Find(m.host.Name)
	if err != nil {
		return deploy.Generation{}, err
	}
	if _, missing := artifact.Open(a.out, m.host.Name, which); found != nil && which == "current" && errors.Is(missing, fs.ErrNotExist) {
		return deploy.Generation{Name: found.Generation}, nil
	}
	return a.parcel(ctx, m, which)
}

// tellOutcome says what became of a machine, and where it answers; its host keys
// are kept as bake status keeps them.
func (a *app) tellOutcome(m *machine, out deploy.Outcome, failed error) error {
	if m.DryRun || out.Generation == "" {
		return failed
	}
	view := outcomeView{Outcome: out, Attested: failed == nil}
	if failed == nil {
		w := &watched{name: m.host.Name, host: m.host, log: m.console.Log()}
		status, err := a.view(w)
		if err != nil {
			return err
		}
		view.Claims, view.Known = status.Claims, status.Known
	}
	var err error
	if view.Addresses, err = addressesOf(m.at, m.host.Name); err != nil {
		return errors.Join(failed, err)
	}
	if a.json {
		err = a.printJSON(view)
	} else {
		err = a.printLines(view.lines())
	}
	return errors.Join(failed, err)
}
