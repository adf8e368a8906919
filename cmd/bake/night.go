package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"bake/internal/artifact"
	"bake/internal/nightly"
	"bake/internal/origin"
)

// night is the steps of one, for the hosts of this configuration.
type night struct {
	*app       // with pins of its own
	o          nightOptions
	real       *app // with those of bake.lock
	candidates string
	began      origin.Lock // bake.lock, as the night found it
	hosts      map[string]*nightHost
	seen       *artifact.Seen

	mutex    sync.Mutex
	held     map[string]io.Closer    // so that nobody prunes what may still be wanted tonight, by place
	packages map[string]func() error // resolves those of hosts that need the same
	newest   map[string]origin.Target
}

// seenName is beside the nights' reports: which files of generations were hashed.
const seenName = "seen.json"

const (
	cacheHold  = "cache"
	copiesHold = "copies"
)

// nightHost is one of its hosts.
type nightHost struct {
	read func() (ready, error) // its files, once
	set  string                // its packages, as bake.lock knows them
}

// nightDir is where the nights of this configuration and output directory are kept.
func (a *app) nightDir() (string, error) {
	state := a.stateDir()
	if state == "" {
		return "", lackError{errors.New("there is no directory to keep reports in: set HOME or XDG_STATE_HOME")}
	}
	sum := sha256.New()
	for _, dir := range []string{a.config, a.out} {
		full, err := filepath.Abs(dir)
		if err != nil {
			return "", err
		}
		if real, err := filepath.EvalSymlinks(full); err == nil {
			full = real // by whatever name it is called
		}
		fmt.Fprintf(sum, "%s\x00", full)
	}
	return filepath.Join(state, "nightly", hex.EncodeToString(sum.Sum(nil)[:8])), nil
}

// newNight prepares pins that are those of bake.lock as it is now.
func (a *app) newNight(dir string, o nightOptions) (*night, error) {
	lock, err := origin.ReadLock(filepath.Join(a.config, "bake.lock"))
	if err != nil {
		return nil, err
	}
	n := &night{real: a, began: lock, o: o, candidates: filepath.Join(dir, "pins"), hosts: map[string]*nightHost{},
		seen: artifact.ReadSeen(filepath.Join(dir, seenName)),
		held: map[string]io.Closer{}, packages: map[string]func() error{}, newest: map[string]origin.Target{}}
	if err := os.MkdirAll(n.candidates, 0o700); err != nil {
		return nil, err
	}
	if err := lock.Write(filepath.Join(n.candidates, "bake.lock")); err != nil {
		return nil, err
	}
	own := *a
	own.pins = n.candidates
	n.app = &own
	for _, name := range o.hosts {
		n.hosts[name] = &nightHost{read: sync.OnceValues(func() (h ready, err error) {
			defer func() { // one host's file must not end the others' night
				if cause := recover(); cause != nil {
					err = fmt.Errorf("%s: bake broke down while it read its files: %v", name, cause)
				}
			}()
			all, err := a.prepare([]string{name})
			if err != nil {
				return ready{}, err
			}
			return all[0], nil
		})}
	}
	n.readAll()
	return n, nil
}

// readAll reads the files of all hosts, as many at once as there are processors: who
// asks for them next asks in turn.
func (n *night) readAll() {
	var all sync.WaitGroup
	places := make(chan struct{}, runtime.NumCPU())
	for _, h := range n.hosts {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			_, _ = h.read() // its error is the host's, and comes again
		})
	}
	all.Wait()
}

// steps are what the job does.
func (n *night) steps() nightly.Steps {
	s := nightly.Steps{Group: n.group, Refresh: n.refresh, Plan: n.plan, Build: n.build, Verify: n.verify,
		Deploy: n.deploy, Drills: n.drills, Drill: n.rehearseRestore, Prune: n.pruneHost, Adopt: n.adopt, Tidy: n.tidy, Exit: exitCode}
	if n.o.dry {
		s.Refresh, s.Plan = n.ask, n.guess
	}
	return s
}

// group names what a host has in common with others: the question for its base image.
func (n *night) group(name string) string {
	h, err := n.hosts[name].read()
	if err != nil || h.Ref.Kind == origin.File {
		return ""
	}
	text := h.Ref.String() + " " + h.Ref.Arch
	for _, place := range slices.Sorted(maps.Keys(h.Mirrors)) {
		text += " " + place + "=" + h.Mirrors[place]
	}
	return text
}

// refresh asks for the newest base image of a group, and has it in the cache.
func (n *night) refresh(ctx context.Context, hosts []string) error {
	h, err := n.hosts[hosts[0]].read()
	if err != nil {
		return err
	}
	newest := n.o.from.Options
	newest.Update = true
	found, err := n.obtain(ctx, wanted{h.Ref, h.Mirrors}, newest)
	if err != nil {
		return err
	}
	if err := n.keep(cacheHold, found); err != nil {
		return err
	}
	if len(found.Changes) > 0 || !found.Cached {
		n.tell(h.Ref, found)
	}
	n.note(hosts[0], found.Target)
	return nil
}

func (n *night) note(name string, newest origin.Target) {
	group := n.group(name)
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.newest[group] = newest
}

// keep keeps a hold on a place until the night is over. One a place is enough.
func (n *night) keep(place string, hold io.Closer) error {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if n.held[place] != nil {
		return hold.Close()
	}
	n.held[place] = hold
	return nil
}

// release lets others prune what the night has used.
func (n *night) release() (err error) {
	for _, hold := range n.held {
		err = errors.Join(err, hold.Close())
	}
	n.held = map[string]io.Closer{}
	return err
}

// options are those of a host's generation: its pins have been refreshed.
func (n *night) options() imageOptions { return imageOptions{from: n.o.from} }

// plan finds out what a host's generation would be. Of what is in the directory of
// artifacts it may add a base image, and nothing else.
func (n *night) plan(ctx context.Context, name string) (p nightly.Plan, err error) {
	s := n.hosts[name]
	h, err := s.read()
	if err != nil {
		return p, err
	}
	p.Base = nightly.Base{Reference: h.Ref.String(), Signed: n.found(name).Signed}
	current, err := n.current(ctx, name, &p)
	if err != nil {
		return p, err
	}
	if err := n.refreshPackages(ctx, s, h); err != nil {
		return p, err
	}
	quiet := *n.app
	quiet.ui = &ui{env: n.ui.env, quiet: true} // what was found again is no news
	r, err := quiet.compose(ctx, h, n.options())
	if err != nil {
		return p, err
	}
	if err := n.keep(copiesHold, r.hold); err != nil {
		return p, err
	}
	p.Generation = r.manifest.Generation
	p.Base.Serial, p.Base.SHA256 = r.manifest.Base.Serial, r.manifest.Base.SHA256
	if r.load != nil {
		p.Packages = len(r.load.debs)
	}
	if p.Whole && p.Current == p.Generation {
		err = current.VerifySeen(ctx, n.seen)
		var damaged *artifact.IntegrityError
		if errors.As(err, &damaged) {
			n.say("%s: %v", name, err)
			p.Whole, err = false, nil
		}
	}
	return p, err
}

// current finds the generation that was proven last. One that cannot be read is none.
func (n *night) current(ctx context.Context, name string, p *nightly.Plan) (artifact.Generation, error) {
	g, err := artifact.Open(n.out, name, "current")
	var damaged *artifact.IntegrityError
	switch {
	case err == nil:
		if _, untrusted := n.vouched(g); untrusted != nil {
			n.say("%s: %v", name, untrusted)
			return g, nil
		}
		if p.Current, p.Whole = g.Manifest.Generation, n.holds(g); !p.Whole {
			n.say("%s: the last verification of the current generation %s failed, or its report is gone", name, p.Current)
		}
		return g, nil
	case errors.Is(err, fs.ErrNotExist):
		return g, nil
	case errors.As(err, &damaged):
		n.say("%s: %v", name, err)
		return g, nil
	}
	return g, err
}

// found is what the refresh of a host's group found.
func (n *night) found(name string) origin.Target {
	group := n.group(name)
	n.mutex.Lock()
	defer n.mutex.Unlock()
	return n.newest[group]
}

// refreshPackages moves the pins of a host's packages to what is newest, once for all
// hosts that need the same.
func (n *night) refreshPackages(ctx context.Context, s *nightHost, h ready) error {
	if !h.Offline {
		return nil
	}
	on, hold, err := n.foot(ctx, h.Host, n.o.from)
	if err != nil {
		return err
	}
	place := cacheHold
	if h.Ref.Kind == origin.File {
		place = copiesHold
	}
	if err := n.keep(place, hold); err != nil {
		return err
	}
	s.set = fmt.Sprint(on.reference, " ", on.sha256, " ", h.Ref.Arch, " ", packagesOf(h.Host))
	key := fmt.Sprint(s.set, " ", h.Mirrors)
	n.mutex.Lock()
	if n.packages[key] == nil {
		n.packages[key] = sync.OnceValue(func() error {
			newest := n.o.from
			newest.Update = true
			p, err := n.pack(ctx, h.Host, on, newest)
			if err == nil && len(p.changes) > 0 {
				n.say("%s: %s", h.Name, p.changes[0])
			}
			return err
		})
	}
	once := n.packages[key]
	n.mutex.Unlock()
	return once()
}

// build makes a host's generation.
func (n *night) build(ctx context.Context, name string) (string, error) {
	h, err := n.hosts[name].read()
	if err != nil {
		return "", err
	}
	all := []ready{h}
	if err := n.app.resolve(ctx, all); err != nil {
		return "", err
	}
	g, _, err := n.bake(ctx, all[0], n.options())
	if err != nil {
		return "", err
	}
	n.say("%s: generation %s", name, g.Manifest.Generation)
	return g.Manifest.Generation, nil
}

// deploy brings a generation to a host's machine at work, if nightly.yaml says so, and
// when.
func (n *night) deploy(ctx context.Context, name, generation string, isNew bool) (at string, err error) {
	policy, deploys := n.o.config.Deploy[name]
	if !deploys {
		return "", nil
	}
	if isNew, err = n.comeTo(name, generation, isNew, policy); err != nil {
		return "", err
	}
	m, err := n.reach(ctx, libvirtOptions{host: name, accel: n.o.boot.accel, deadline: n.o.boot.deadline, patience: usualPatience})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	found, err := m.at.Find(name)
	switch {
	case err != nil:
		return "", err
	case found == nil || !found.Running:
		return "", lackError{fmt.Errorf("%s: there is no machine at work to deploy to: bake up --host %s", name, name)}
	case !isNew && found.Generation == generation && !found.Trying:
		return generation, nil
	case !isNew:
		return found.Generation, claimError{fmt.Errorf("%s: the machine at work has generation %s, and %s is current: bake deploy --host %s", name, found.Generation, generation, name)}
	}
	p, err := n.parcel(ctx, m, generation)
	if err != nil {
		return found.Generation, err
	}
	out, err := m.Deploy(ctx, p)
	if err == nil {
		_, err = n.view(&watched{name: name, host: m.host, log: m.console.Log()}) // keeps its host keys
	}
	return out.Generation, err
}

// verify boots a generation and makes it current if every claim holds.
func (n *night) verify(ctx context.Context, name, generation string) (nightly.Proof, error) {
	if err := n.try(name, generation); err != nil {
		return nightly.Proof{}, err
	}
	g, report, err := n.boot(ctx, name, generation, n.o.boot)
	if err != nil { // not promoted
		err = errors.Join(err, n.try(name, ""))
	}
	if len(report.Results) > 0 { // so that the next night knows its copy of the base without a hash
		_, _ = n.store().Get(ctx, g.Manifest.Base.SHA256)
	}
	p := nightly.Proof{Claims: len(report.Results), Failed: report.Failed}
	var claim claimError
	if errors.As(err, &claim) {
		p.Failed, p.First = max(p.Failed, 1), claim.Error()
		if current, err := artifact.Open(n.out, name, "current"); err == nil {
			p.Changes = current.Manifest.Differences(g.Manifest)
		}
	}
	return p, err
}
