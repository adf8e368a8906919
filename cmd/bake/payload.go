package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/openclaw"
	"bake/internal/origin"
	"bake/internal/payload"
	"bake/internal/seed"
)

// payloadName is the disk with a host's packages in a generation.
const payloadName = "payload.squashfs"

// packed is a host's payload.
type packed struct {
	payload.Disk
	debs    []origin.Deb
	trees   []payload.Tree
	changes []string // in bake.lock
}

// footing is the base image that packages are for.
type footing struct{ path, sha256, reference string }

// pack has the payload of a host in the cache: the packages that bake.lock has, or
// else those that apt finds, which are pinned then. It is nil for a host without.
func (a *app) pack(ctx context.Context, h *host.Host, on footing, o fetchOptions) (*packed, error) {
	if !h.Offline {
		return nil, nil
	}
	dir := a.cacheDir()
	if dir == "" {
		return nil, lackError{errors.New("there is no directory to keep packages in: set HOME or XDG_CACHE_HOME")}
	}
	mirrors, err := a.mirrors(h.Mirrors, o.Mirrors)
	if err != nil {
		return nil, err
	}
	trees, err := a.trees(ctx, h)
	if err != nil {
		return nil, err
	}
	p := &packed{trees: trees}
	w := payload.Want{Name: h.Name, Image: on.path, SHA256: on.sha256, Arch: h.Ref.Arch, Trees: p.trees, Mirror: mirrors["packages"], Expired: o.expired,
		Packages: packageParts(h)}
	builder := payload.Builder{Dir: filepath.Join(dir, "payload"), Tools: a.Tools, Shared: a.loads,
		Say: func(text string) { a.say("%s", text) }, Stage: func(text string) { a.stage("%s", text) },
		Progress: func(from string) (func(done, total int64), func(received int64)) {
			m := &meter{ui: a.ui, label: h.Name, from: from, now: time.Now}
			return m.tell, m.end
		}}
	if err := a.choose(ctx, builder, w, on, o, p); err != nil {
		return nil, unresolved(h, err)
	}
	if p.Disk, err = builder.Build(ctx, w, p.debs); err != nil {
		return nil, unresolved(h, err)
	}
	a.say("%s: payload of %d packages, %s%s", h.Name, len(p.debs), amount(p.Size), map[bool]string{false: ", from the cache"}[p.Built])
	return p, nil
}

// packageParts are what the layers of a host ask for.
func packageParts(h *host.Host) (parts []payload.Part) {
	for _, l := range h.Layers {
		if len(l.Packages) > 0 {
			parts = append(parts, payload.Part{Layer: l.Name, Packages: l.Packages})
		}
	}
	return parts
}

// packagesOf are all that they ask for, sorted, once each, as bake.lock has them.
func packagesOf(h *host.Host) []string { return payload.Want{Packages: packageParts(h)}.Names() }

// choose fills in which package files it is to be.
func (a *app) choose(ctx context.Context, builder payload.Builder, w payload.Want, on footing, o fetchOptions, p *packed) error {
	file := filepath.Join(a.lockDir(), "bake.lock")
	lock, err := origin.ReadLock(file)
	if err != nil {
		return err
	}
	set := origin.Set{Reference: on.reference, Image: on.sha256, Arch: w.Arch, Packages: w.Names(), Debs: []origin.Deb{}}
	debs, pinned := lock.Debs(set.Reference, set.Image, set.Arch, set.Packages)
	if pinned && !o.Update || len(set.Packages) == 0 {
		p.debs = debs
		return nil
	}
	if o.Locked {
		return diag.List{{Pos: diag.Position{File: file},
			Message: fmt.Sprintf("the packages of host %s for %s are not pinned, and --locked adds no pin", w.Name, on.reference),
			Hint:    fmt.Sprintf("run bake pull --host %s and commit bake.lock", w.Name)}}
	}
	if !o.AllowOlder {
		w.Before = lock.Before(set)
	}
	var found []origin.Deb
	if o.Update {
		found, err = builder.Newest(ctx, w, on.sha256)
	} else {
		found, err = builder.Resolve(ctx, w, lock.Kept(set.Reference, set.Image, set.Arch))
	}
	if err != nil {
		return err
	}
	set.Debs = append(set.Debs, found...)
	p.debs, p.changes, err = a.depot().PinSet(ctx, set, o.Update)
	return err
}

// trees are the directories that go onto a host's payload beside its packages.
func (a *app) trees(ctx context.Context, h *host.Host) ([]payload.Tree, error) {
	if !slices.ContainsFunc(h.Layers, func(l layer.Rendered) bool { return slices.Contains(l.Payload, layer.OpenClaw) }) {
		return nil, nil
	}
	pair, depot, hold, err := a.claws(ctx)
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	tree, err := depot.Build(ctx, pair, h.Ref.Arch)
	return []payload.Tree{{Path: layer.OpenClaw, Dir: tree.Dir, Digest: tree.Digest, Check: tree.Check}}, err
}

// claws is the pair of OpenClaw and Node that the configuration names, and where its tree
// is built, by one run at a time until hold is closed.
func (a *app) claws(ctx context.Context) (pair openclaw.Pair, depot openclaw.Depot, hold io.Closer, err error) {
	if pair, err = openclaw.Of(a.config); err != nil {
		return pair, depot, nil, err
	}
	dir := a.cacheDir()
	if dir == "" {
		return pair, depot, nil, lackError{errors.New("there is no directory to keep OpenClaw in: set HOME or XDG_CACHE_HOME")}
	}
	depot = openclaw.Depot{Dir: filepath.Join(dir, layer.OpenClaw), Tools: a.Tools, Stage: func(text string) { a.stage("%s", text) }}
	if err := os.MkdirAll(depot.Dir, 0o700); err != nil {
		return pair, depot, nil, err
	}
	hold, err = base.Own(ctx, depot.Dir)
	return pair, depot, hold, err
}

// pullOpenClaw moves the pair of OpenClaw and Node to what is newest.
func (a *app) pullOpenClaw(ctx context.Context) (changes []string, err error) {
	before, depot, hold, err := a.claws(ctx)
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	after, lock, err := depot.Update(ctx)
	if err != nil {
		return nil, err
	}
	for _, moved := range []struct{ name, was, is string }{{"OpenClaw", before.OpenClaw, after.OpenClaw}, {"Node", before.Node, after.Node}} {
		if moved.was != moved.is {
			changes = append(changes, fmt.Sprintf("%s: %s -> %s", moved.name, moved.was, moved.is))
		}
	}
	if len(changes) == 0 {
		a.say("OpenClaw %s and Node %s are the newest", after.OpenClaw, after.Node)
		return nil, nil
	}
	path := filepath.Join(a.config, openclaw.LockName)
	if err := os.WriteFile(path+".new", lock, 0o644); err != nil {
		return nil, err
	}
	return changes, os.Rename(path+".new", path)
}

// unresolved makes a problem of the host file of packages that there are not.
func unresolved(h *host.Host, err error) error {
	var set *payload.SetError
	if !errors.As(err, &set) {
		return err
	}
	return diag.List{{Pos: diag.Position{File: h.File}, Path: "layers", Message: set.Error(),
		Hint: "leave the layer out that needs them, or write payload: none, which leaves packages to the first boot"}}
}

// seed is what the machine must know of the payload.
func (p *packed) seed() *seed.Payload {
	s := &seed.Payload{SHA256: p.SHA256}
	for _, d := range p.debs {
		s.Packages = append(s.Packages, d.Name+" "+d.Version)
	}
	for _, t := range p.trees {
		s.Trees = append(s.Trees, t.Path)
	}
	return s
}

// share puts the payload into a generation.
func (p *packed) share(ctx context.Context, draft *artifact.Draft) error {
	if p == nil {
		return nil
	}
	return draft.Share(ctx, payloadName, p.Path, artifact.File{SHA256: p.SHA256, Size: p.Size})
}

// manifest is what the manifest says of the payload.
func (p *packed) manifest() *artifact.Payload {
	if p == nil {
		return nil
	}
	s := p.seed()
	return &artifact.Payload{Packages: append([]string{}, s.Packages...), Trees: s.Trees}
}

// pullPackages fetches and pins the packages of hosts.
func (a *app) pullPackages(ctx context.Context, hosts []ready, o fetchOptions) (changes []string, err error) {
	for _, h := range hosts {
		if !h.Offline {
			continue
		}
		on, hold, err := a.foot(ctx, h.Host, o)
		if err != nil {
			return changes, err
		}
		p, err := a.pack(ctx, h.Host, on, o)
		if err := errors.Join(err, hold.Close()); err != nil {
			return changes, err
		}
		changes = append(changes, p.changes...)
	}
	return changes, nil
}

// prunePayloads removes the payloads that no generation has, and the packages that
// neither bake.lock pins nor others like it.
func (a *app) prunePayloads(ctx context.Context, dry bool, others ...string) ([]string, int64, error) {
	dir := a.cacheDir()
	if dir == "" {
		return nil, 0, nil
	}
	keep := map[string]bool{}
	for _, file := range append(others, filepath.Join(a.config, "bake.lock")) {
		lock, err := origin.ReadLock(file)
		if err != nil {
			return nil, 0, err
		}
		maps.Copy(keep, lock.Digests())
	}
	return a.packages().Prune(ctx, keep, dry)
}

// foot returns the base image of a host, which stays where it is until hold is
// closed.
func (a *app) foot(ctx context.Context, h *host.Host, o fetchOptions) (on footing, hold io.Closer, err error) {
	if h.Ref.Kind == origin.File {
		blob, from, hold, err := a.ground(ctx, h, imageOptions{from: o})
		return footing{blob.Path, blob.SHA256, from.Reference}, hold, err
	}
	again := o.Options
	again.Update = false // that has been done
	found, err := a.obtain(ctx, wanted{h.Ref, h.Mirrors}, again)
	if err != nil {
		return on, nil, err
	}
	return footing{found.Blob.Path, found.Blob.SHA256, h.Ref.String()}, found, nil
}

// fetchOptions say how images and packages are to be fetched.
type fetchOptions struct {
	base.Options
	expired bool // accept lists of packages that are out of date
}
