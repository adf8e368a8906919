package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/layer"
	"bake/internal/openclaw"
	"bake/internal/origin"
	"bake/internal/payload"
	"bake/internal/seed"
)

// payloads is where the disks with packages are, beside the generations.
func (a *app) payloads() string { return filepath.Join(a.out, ".payload") }

// payloadOf returns the disk with packages that a generation needs, "" for none.
func (a *app) payloadOf(g artifact.Generation) (string, error) {
	p := g.Manifest.Payload
	if p == nil {
		return "", nil
	}
	path := filepath.Join(a.payloads(), p.SHA256+".squashfs")
	info, err := os.Stat(path)
	if err == nil && info.Size() != p.Size {
		err = fmt.Errorf("%s has %d bytes, not %d", path, info.Size(), p.Size)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s is gone, with the packages of host %s: run bake image --host %s again (%w)", path, g.Manifest.Host, g.Manifest.Host, fs.ErrNotExist)
	}
	return path, err
}

// pantry is where packages are fetched to and disks with them are made. One run has it
// at a time: apt's lists, and what is half made, have no second owner.
func (a *app) pantry(ctx context.Context, h ready) (payload.Depot, io.Closer, error) {
	dir := a.cacheDir()
	if dir == "" {
		return payload.Depot{}, nil, lackError{errors.New("payload: offline needs a cache: set HOME or XDG_CACHE_HOME")}
	}
	depot := payload.Depot{Dir: filepath.Join(dir, "payload"), Tools: a.Tools, Stage: func(text string) { a.stage("%s: %s", h.Name, text) }}
	if err := os.MkdirAll(depot.Dir, 0o700); err != nil {
		return depot, nil, err
	}
	own, err := base.Own(ctx, depot.Dir)
	return depot, own, err
}

// provide makes the disk that the host's machine installs packages from, if it is to
// have one, and the words of a host that has it.
func (a *app) provide(ctx context.Context, h *ready, blob image.Blob, reference string, o base.Options) (*artifact.Payload, error) {
	if !h.Payload.Offline {
		return nil, nil
	}
	names, err := seed.Packages(h.Host)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	depot, own, err := a.pantry(ctx, *h)
	if err != nil {
		return nil, err
	}
	defer own.Close()
	want := payload.Want{Image: blob.Path, SHA256: blob.SHA256, Packages: names, Mirrors: h.Payload.Mirrors}
	set, changes, err := a.pinPackages(ctx, depot, want, pinnedAs{reference, h.Ref.Arch}, o)
	if err != nil {
		return nil, unknownIn(h.Host, err)
	}
	for _, change := range changes {
		a.say("bake.lock: %s", change)
	}
	trees, err := a.trees(ctx, *h)
	if err != nil {
		return nil, err
	}
	disk, ok := depot.Find(set, trees...)
	if !ok {
		if err := depot.Fetch(ctx, want, set); err != nil {
			return nil, err
		}
		if disk, err = depot.Build(ctx, set, trees...); err != nil {
			return nil, err
		}
		a.say("%s: payload of %d packages, %.1f MiB", h.Name, len(set.Debs), float64(disk.Size)/(1<<20))
	}
	if _, err := disk.Place(a.payloads()); err != nil {
		return nil, err
	}
	return &artifact.Payload{Packages: payload.Packages(set), SHA256: disk.SHA256, Size: disk.Size}, a.bind(h, set, disk)
}

// needsOpenClaw says whether a layer of the host runs OpenClaw.
func needsOpenClaw(h *host.Host) bool {
	return slices.ContainsFunc(h.Layers, func(l layer.Rendered) bool { return slices.Contains(l.Payload, layer.OpenClaw) })
}

// claws is where trees of OpenClaw are built.
func (a *app) claws(h ready) openclaw.Depot {
	return openclaw.Depot{Dir: filepath.Join(a.cacheDir(), "openclaw"), Tools: a.Tools, Stage: func(text string) { a.stage("%s: %s", h.Name, text) }}
}

// trees builds what else the payload must have.
func (a *app) trees(ctx context.Context, h ready) ([]payload.Tree, error) {
	if !needsOpenClaw(h.Host) {
		return nil, nil
	}
	pair, err := openclaw.Of(a.config)
	if err != nil {
		return nil, err
	}
	tree, err := a.claws(h).Build(ctx, pair, h.Ref.Arch)
	return []payload.Tree{{Dir: tree.Dir, Digest: tree.Digest}}, err
}

// treesMade returns the same if all of it has been built.
func (a *app) treesMade(h ready) (trees []payload.Tree, ok bool) {
	if !needsOpenClaw(h.Host) {
		return nil, true
	}
	pair, err := openclaw.Of(a.config)
	if err != nil {
		return nil, false
	}
	tree, ok := a.claws(h).Find(pair, h.Ref.Arch)
	return []payload.Tree{{Dir: tree.Dir, Digest: tree.Digest}}, ok
}

// pullOpenClaw moves the pair of OpenClaw and Node to what is newest.
func (a *app) pullOpenClaw(ctx context.Context) (changes []string, err error) {
	if a.cacheDir() == "" {
		return nil, lackError{errors.New("this needs a cache: set HOME or XDG_CACHE_HOME")}
	}
	before, err := openclaw.Of(a.config)
	if err != nil {
		return nil, err
	}
	depot := openclaw.Depot{Dir: filepath.Join(a.cacheDir(), "openclaw"), Tools: a.Tools, Stage: func(text string) { a.stage("%s", text) }}
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

// bind makes the words of a host that has this disk.
func (a *app) bind(h *ready, set payload.Set, disk payload.Disk) error {
	loaded, err := host.LoadWith(a.config, h.Name, a.shelf(), disk.SHA256, payload.Packages(set))
	if err != nil {
		return err
	}
	h.Host = loaded
	h.words, err = a.words(loaded)
	return err
}

// recall binds a host to the disk that was made for it, as bake.lock has it: for seeds,
// which are made without a base image.
func (a *app) recall(h *ready) error {
	if !h.Payload.Offline {
		return nil
	}
	names, err := seed.Packages(h.Host)
	if err != nil || len(names) == 0 {
		return err
	}
	lock, err := a.depot().Read()
	if err != nil {
		return err
	}
	reference := h.Ref.String()
	if h.Ref.Kind == origin.File {
		reference = "file:" + filepath.Base(h.Ref.Path)
	}
	set, pinned := lock.Packages(reference, h.Ref.Arch, names)
	trees, made := a.treesMade(*h)
	disk, found := payload.Depot{Dir: filepath.Join(a.cacheDir(), "payload")}.Find(set, trees...)
	if !pinned || !made || !found {
		return lackError{fmt.Errorf("%s: the disk with the packages is not made yet: run bake image --host %s, or write payload: none", h.Name, h.Name)}
	}
	return a.bind(h, set, disk)
}

// pinnedAs is what bake.lock calls a base image.
type pinnedAs struct{ reference, arch string }

// pinPackages returns what the names mean by bake.lock, or asks and writes it down; it
// returns what is new there.
func (a *app) pinPackages(ctx context.Context, depot payload.Depot, want payload.Want, as pinnedAs, o base.Options) (payload.Set, []string, error) {
	images := a.depot()
	lock, err := images.Read()
	if err != nil {
		return payload.Set{}, nil, err
	}
	set, ok := lock.Packages(as.reference, as.arch, want.Packages)
	if ok && set.Base == want.SHA256 && !o.Update {
		return set, nil, nil
	}
	if o.Locked {
		return set, nil, diag.List{{Pos: diag.Position{File: filepath.Join(a.config, "bake.lock")},
			Message: fmt.Sprintf("the packages of %s for %s are not pinned for this image, and --locked adds no pin", as.reference, as.arch),
			Hint:    "run bake image without --locked and commit bake.lock"}}
	}
	if set, err = depot.Resolve(ctx, want); err != nil {
		return set, nil, err
	}
	set.Reference = as.reference
	changes, err := images.Change(ctx, func(l *origin.Lock) error { return l.SetPackages(set) })
	return set, changes, err
}

// offline returns the hosts of a command line that have their packages baked in.
func (a *app) offline(c *cli.Context) ([]ready, error) {
	names := host.Names(a.config)
	if c.Args().Present() || len(names) == 0 {
		return nil, nil // images alone
	}
	if c.IsSet("host") || c.Bool("all") {
		var err error
		if names, err = a.hosts(c); err != nil {
			return nil, err
		}
	}
	all, err := a.prepare(names)
	return slices.DeleteFunc(all, func(h ready) bool { return !h.Payload.Offline }), err
}

// pullPackages pins and fetches the packages of a host, whose base image has been
// pulled.
func (a *app) pullPackages(ctx context.Context, h ready, o base.Options) (set payload.Set, changes []string, err error) {
	names, err := seed.Packages(h.Host)
	if err != nil || len(names) == 0 {
		return set, nil, err
	}
	there := o
	there.Update = false // the image has moved already
	blob, from, hold, err := a.ground(ctx, h.Host, imageOptions{from: there})
	if err != nil {
		return set, nil, err
	}
	defer hold.Close()
	depot, own, err := a.pantry(ctx, h)
	if err != nil {
		return set, nil, err
	}
	defer own.Close()
	want := payload.Want{Image: blob.Path, SHA256: blob.SHA256, Packages: names, Mirrors: h.Payload.Mirrors}
	if set, changes, err = a.pinPackages(ctx, depot, want, pinnedAs{from.Reference, h.Ref.Arch}, o); err != nil {
		return set, nil, unknownIn(h.Host, err)
	}
	if err := depot.Fetch(ctx, want, set); err != nil {
		return set, nil, err
	}
	a.say("%s: %d packages, %.1f MiB, for %s", h.Name, len(set.Debs), float64(set.Size())/(1<<20), strings.Join(names, " "))
	return set, changes, nil
}

// unknownIn says which layer a package is from that nobody has.
func unknownIn(h *host.Host, err error) error {
	var unknown *payload.UnknownError
	if !errors.As(err, &unknown) {
		return err
	}
	who := "its cloud-config asks for it"
	for _, l := range h.Layers {
		if slices.Contains(l.Packages, unknown.Package) {
			who = "the layer " + l.Name + " asks for it"
		}
	}
	return diag.List{{Pos: diag.Position{File: h.File}, Path: "payload", Message: unknown.Error() + ": " + who,
		Hint: "add an archive that has it to the base image, or write payload: none and add the archive under cloud-config"}}
}
