package main

// How the state of a machine comes here.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"bake/internal/archive"
	"bake/internal/artifact"
	"bake/internal/backup"
	"bake/internal/host"
	"bake/internal/tool"
)

// usualTime is how long a machine may take to send its state where nothing is said of it:
// one that never ends would keep all others from their backup.
const usualTime = 3 * time.Hour

// fetchState receives what a machine sends of its state.
func (a *app) fetchState(ctx context.Context, h *host.Host, plan backup.Plan, o backupOptions, stage string) (m archive.Manifest, err error) {
	address := cmp.Or(o.address, plan.Address)
	if uri := cmp.Or(o.uri, h.Domain.URI); uri != "" && address == "" {
		if address, err = a.addressOf(ctx, h, uri); err != nil {
			return m, err
		}
	}
	more := []string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4", "-o", "ForwardAgent=no"}
	if identity := cmp.Or(o.identity, plan.Identity); identity != "" {
		more = append(more, "-i", identity, "-o", "IdentitiesOnly=yes")
	}
	program, argv, err := a.login(h, address, more...)
	if err != nil {
		return m, err
	}
	argv[len(argv)-3] = plan.User // behind -l
	limit := cmp.Or(plan.Time, usualTime)
	ctx, stop := context.WithTimeoutCause(ctx, limit, remoteError{fmt.Errorf("the machine had not sent its state within %v", limit)})
	defer stop()
	ctx, stall := context.WithCancelCause(ctx)
	defer stall(nil)
	watch := time.AfterFunc(plan.Stall, func() {
		stall(remoteError{fmt.Errorf("the machine has sent nothing any more for %v", plan.Stall)})
	})
	watch.Stop() // until it has begun to send: it copies first
	defer watch.Stop()
	fetched := a.meter(h.Name + ": fetching the state")
	m, err = receiveState(ctx, program, argv, stage, archive.Limits{Bytes: plan.Size}, func() { watch.Reset(plan.Stall) }, func(n int64) { fetched.tell(n, 0) })
	a.stage("")
	if err == nil && m.Host != h.Name {
		err = claimError{fmt.Errorf("the machine at work calls itself %q", m.Host)}
	}
	return m, err
}

// generationOf is the generation that a machine was made from, as far as it is known here, by
// the instance that cloud-init says it is: "" for none, and for several of which none is current.
func (a *app) generationOf(name, instance string) (found string) {
	entries, err := os.ReadDir(filepath.Join(a.out, name))
	if err != nil || instance == "" {
		return ""
	}
	if g, err := artifact.Open(a.out, name, "current"); err == nil && g.Manifest.InstanceID == instance {
		return g.Manifest.Generation
	}
	for _, entry := range entries {
		g, err := artifact.Open(a.out, name, entry.Name())
		switch is := g.Manifest.Generation; {
		case err != nil || g.Manifest.InstanceID != instance:
		case found != "" && found != is:
			return ""
		default:
			found = is
		}
	}
	return found
}

// damagedDatabase says that a machine's database was damaged before it was fetched. What
// is stored is what there is, but nobody should think that all is well.
func damagedDatabase(name string, m archive.Manifest) error {
	var all error
	for _, database := range m.Databases {
		if database.Integrity != "ok" {
			all = errors.Join(all, claimError{fmt.Errorf("%s: stored, but the database %s is damaged in the machine: %s", name, database.Path, database.Integrity)})
		}
	}
	return all
}

// receiveState runs an ssh whose other end sends a state.
func receiveState(ctx context.Context, program string, argv []string, stage string, limits archive.Limits, moved func(), show func(int64)) (m archive.Manifest, err error) {
	cmd := exec.CommandContext(ctx, program, argv[1:]...)
	cmd.Env = os.Environ() // its agent, its home: as bake ssh
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	said := &tool.Ending{Most: 4 << 10}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return m, err
	}
	if err := cmd.Start(); err != nil {
		return m, fmt.Errorf("starting ssh: %w", err)
	}
	counted := &counter{Reader: out, shown: time.Now(), moved: moved, show: show}
	m, err = archive.Receive(ctx, counted, stage, limits)
	_ = out.Close() // so that ssh ends, however it was
	late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	failed := cmd.Wait()
	var refused *archive.RefusedError
	switch {
	case ctx.Err() != nil:
		return m, context.Cause(ctx)
	case failed != nil && (err == nil || errors.As(err, &refused)): // it broke off, and that is why
		return m, remoteError{fmt.Errorf("the machine gave no state: %s (%w)", cmp.Or(said.Lines(1), "ssh said nothing"), failed)}
	}
	return m, err
}

// addressOf asks libvirt where a machine is.
func (a *app) addressOf(ctx context.Context, h *host.Host, uri string) (string, error) {
	d, err := a.askDomain(ctx, h, uri)
	if err != nil {
		return "", err
	}
	if d.State != "running" {
		return "", lackError{fmt.Errorf("there is no machine at work: %s", d)}
	}
	if len(d.Addresses) == 0 {
		return "", nil
	}
	return d.Addresses[0], nil
}

// counter tells now and then how much was read.
type counter struct {
	io.Reader
	n     int64
	shown time.Time
	moved func() // nil: nobody asks
	show  func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	if n > 0 && c.moved != nil {
		c.moved()
	}
	if now := time.Now(); now.Sub(c.shown) >= redraw {
		c.shown = now
		c.show(c.n)
	}
	return n, err
}
