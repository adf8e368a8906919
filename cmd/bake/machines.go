package main

// The machines of a rollout, on libvirt; those in clusters are in kubes.go.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"bake/internal/artifact"
	"bake/internal/deploy"
	"bake/internal/domain"
	"bake/internal/hypervisor"
	"bake/internal/publish"
	"bake/internal/rollout"
)

// machines are what a rollout works on.
type machines interface {
	rollout.Machines
	// Wanted returns the generation that a host shall run.
	Wanted(ctx context.Context, host string) (string, error)
	// Check says whether machines may be changed still.
	Check() error
}

// libvirts are the machines of hosts, each on its own hypervisor.
type libvirts struct {
	*app
	o     rolloutOptions
	check func() error
}

// fleet returns the machines of a rollout.
func (a *app) fleet(o rolloutOptions, check func() error) machines {
	libvirt := &libvirts{a, o, check}
	real := &everywhere{libvirts: libvirt, kubes: newKubes(libvirt)}
	if a.Fleet != nil {
		return a.Fleet(real)
	}
	return real
}

// Check says whether machines may be changed still.
func (l *libvirts) Check() error { return l.check() }

// Wanted returns a host's current generation, if it has proven itself.
func (l *libvirts) Wanted(ctx context.Context, name string) (string, error) {
	g, err := artifact.Open(l.out, name, "current")
	if errors.Is(err, fs.ErrNotExist) && l.o.from != "" {
		if err := l.fetchOne(ctx, name, "current", !isLocked); err != nil {
			return "", err
		}
		g, err = artifact.Open(l.out, name, "current")
	}
	if err != nil {
		return "", err
	}
	return g.Manifest.Generation, l.proven(g)
}

// have sees to it that a generation is here and has proven itself. The host is locked.
func (l *libvirts) have(ctx context.Context, name, generation string) error {
	g, err := artifact.Open(l.out, name, generation)
	if errors.Is(err, fs.ErrNotExist) && l.o.from != "" {
		if err := l.fetchOne(ctx, name, generation, isLocked); err != nil {
			return err
		}
		g, err = artifact.Open(l.out, name, generation)
	}
	if err != nil {
		return err
	}
	return l.proven(g)
}

const isLocked = true

func (l *libvirts) fetchOne(ctx context.Context, name, generation string, locked bool) error {
	ring, err := l.ringOf("")
	if err != nil {
		return err
	}
	o := publishOptions{hosts: []string{name}, address: l.o.from, generation: generation, locked: locked}
	if o.place, err = publish.Open(l.o.from, l.publishWays(l.o.plain)); err != nil {
		return usageError{fmt.Errorf("--from: %w", err)}
	}
	_, err = l.receive(ctx, o, ring, name)
	return err
}

// at connects to a host's machine; whatever changes it asks first whether it may.
func (l *libvirts) at(ctx context.Context, name string) (*machine, error) {
	o := l.o.machine
	o.host = name
	m, err := l.reach(ctx, o)
	if err == nil {
		m.Deployment.At = fenced{m.at, l.check}
	}
	return m, err
}

// Runs returns the generation that a machine has proven last.
func (l *libvirts) Runs(ctx context.Context, name string) (generation string, err error) {
	m, err := l.at(ctx, name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	found, err := m.at.Find(name)
	switch {
	case err != nil || found == nil:
		return "", err
	case found.Trying:
		return found.Previous, nil
	}
	return found.Generation, nil
}

// Deploy is what bake deploy does.
func (l *libvirts) Deploy(ctx context.Context, name, generation string) (rollout.Result, error) {
	return l.change(ctx, name, generation, func(m *machine) (deploy.Generation, error) {
		if err := l.have(ctx, name, generation); err != nil {
			return deploy.Generation{}, err
		}
		return l.parcel(ctx, m, generation)
	})
}

// Return puts a generation back. Where the hypervisor still has it, it goes on from the
// root disk that it had.
func (l *libvirts) Return(ctx context.Context, name, generation, before string) (rollout.Result, error) {
	return l.change(ctx, name, generation, func(m *machine) (g deploy.Generation, err error) {
		found, err := m.at.Find(name)
		switch {
		case err != nil:
			return g, err
		case found == nil:
			return g, lackError{fmt.Errorf("%s is not there: bake up --host %s", name, name)}
		case found.Generation == generation:
			return deploy.Generation{Name: generation}, nil
		case found.Generation != before:
			return g, lackError{fmt.Errorf("%s runs generation %s, which the rollout has not put there: it is left as it is", name, found.Generation)}
		case found.Previous != generation:
			if err := l.have(ctx, name, generation); err != nil {
				return g, err
			}
			return l.parcel(ctx, m, generation)
		}
		text, err := m.at.Read(path.Join(m.Host.Images, name, generation, "domain.xml"))
		if err != nil {
			return g, err
		}
		needs, err := domain.ReadNeeds(text)
		if err != nil {
			return g, err
		}
		m.Host.Network, m.Host.Filter = needs.Network, needs.Filter
		return deploy.Generation{Name: generation, XML: text}, nil
	})
}

// change has a machine run a generation, and finds out what is left of it if that fails.
func (l *libvirts) change(ctx context.Context, name, generation string, prepare func(*machine) (deploy.Generation, error)) (r rollout.Result, err error) {
	m, err := l.at(ctx, name)
	if err != nil {
		return rollout.Result{Down: true}, err // nobody knows
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	g, err := prepare(m)
	var out deploy.Outcome
	if err == nil {
		out, err = m.Deploy(ctx, g)
	}
	if err == nil && out.Generation != generation {
		err = claimError{fmt.Errorf("%s runs generation %s and not %s", name, out.Generation, generation)}
	}
	if err == nil {
		_, err = l.view(&watched{name: name, host: m.host, log: m.console.Log()}) // keeps its host keys
		return rollout.Result{Changed: out.Changed}, err
	}
	return rollout.Result{Down: isDown(m, name, err)}, err
}

// isDown says whether a machine on which something went wrong does not run what it did.
func isDown(m *machine, name string, err error) bool {
	var failed *deploy.FailedError
	if errors.As(err, &failed) && failed.BackReason != "" {
		return true
	}
	found, unknown := m.at.Find(name)
	return unknown != nil || found == nil || !found.Running || found.Trying || found.Leaving
}

// fenced is a hypervisor that is changed only by who may.
type fenced struct {
	deploy.Place
	check func() error
}

func (f fenced) guard(do func() error) error {
	if err := f.check(); err != nil {
		return err
	}
	return do()
}

// Define is the hypervisor's.
func (f fenced) Define(xml string) error {
	return f.guard(func() error { return f.Place.Define(xml) })
}

// Start is the hypervisor's.
func (f fenced) Start(host string, fresh bool) error {
	return f.guard(func() error { return f.Place.Start(host, fresh) })
}

// Kill is the hypervisor's.
func (f fenced) Kill(host string) error { return f.guard(func() error { return f.Place.Kill(host) }) }

// Shutdown is the hypervisor's.
func (f fenced) Shutdown(ctx context.Context, host string) error {
	return f.guard(func() error { return f.Place.Shutdown(ctx, host) })
}

// Undefine is the hypervisor's.
func (f fenced) Undefine(host string) error {
	return f.guard(func() error { return f.Place.Undefine(host) })
}

// SetMark is the hypervisor's.
func (f fenced) SetMark(host string, m domain.Mark) error {
	return f.guard(func() error { return f.Place.SetMark(host, m) })
}

// SetAutostart is the hypervisor's.
func (f fenced) SetAutostart(host string, on bool) error {
	return f.guard(func() error { return f.Place.SetAutostart(host, on) })
}

// Reserve is the hypervisor's.
func (f fenced) Reserve(l hypervisor.Lease) error {
	return f.guard(func() error { return f.Place.Reserve(l) })
}

// Release is the hypervisor's.
func (f fenced) Release(l hypervisor.Lease) error {
	return f.guard(func() error { return f.Place.Release(l) })
}

// Put is the hypervisor's.
func (f fenced) Put(ctx context.Context, name string, from io.Reader, size int64, progress func(int64)) error {
	return f.guard(func() error { return f.Place.Put(ctx, name, from, size, progress) })
}

// Copy is the hypervisor's.
func (f fenced) Copy(from, to, sha256 string) error {
	return f.guard(func() error { return f.Place.Copy(from, to, sha256) })
}

// Remove is the hypervisor's.
func (f fenced) Remove(name string) error {
	return f.guard(func() error { return f.Place.Remove(name) })
}

// RemoveDir is the hypervisor's.
func (f fenced) RemoveDir(dir string) error {
	return f.guard(func() error { return f.Place.RemoveDir(dir) })
}

// MakeDisk is the hypervisor's.
func (f fenced) MakeDisk(name string, size int64) (isNew bool, err error) {
	err = f.guard(func() error {
		isNew, err = f.Place.MakeDisk(name, size)
		return err
	})
	return isNew, err
}
