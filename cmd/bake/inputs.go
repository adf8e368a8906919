package main

// What a generation was made from: kept in it, and put back beside the other
// generations, where something can be made of it without touching them.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/host"
	"bake/internal/input"
	"bake/internal/origin"
)

// writeInputs keeps what a generation is made from in it.
func (a *app) writeInputs(draft *artifact.Draft, r recipe) error {
	lock, err := origin.ReadLock(filepath.Join(a.lockDir(), "bake.lock"))
	if err != nil {
		return err
	}
	in := input.Inputs{Host: r.host.Name, Disk: strings.TrimSpace(r.disk.String()), Base: r.manifest.Base}
	if pinned, ok := lock.Pin(r.host.Ref); ok && in.Base.Reference == pinned.Reference {
		in.Image = &pinned
	}
	if r.load != nil {
		in.Debs = r.load.debs
	}
	shelf := a.shelf()
	var own []string
	for _, l := range r.host.Layers {
		if found, err := shelf.Open(l.Name); err == nil && !found.Builtin {
			own = append(own, l.Name)
		}
	}
	if in.Files, err = input.Collect(a.config, r.host.Name, r.host.Shared, shelf.User, own); err != nil {
		return err
	}
	content, err := in.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(draft.Path(input.FileName), content, 0o600)
}

// readInputs returns what a generation was made from, if that is what was kept and, as
// far as signatures are asked for, signed.
func (a *app) readInputs(ctx context.Context, g artifact.Generation) (in input.Inputs, err error) {
	if _, err := a.vouched(g); err != nil {
		return in, err
	}
	if _, ok := g.Manifest.Files[input.FileName]; !ok {
		return in, lackError{fmt.Errorf("what generation %s of host %s was made from is gone: it was baked before bake kept that", g.Manifest.Generation, g.Manifest.Host)}
	}
	content, err := g.Read(ctx, input.FileName)
	if err != nil {
		return in, err
	}
	if in, err = input.Decode(content); err == nil && in.Host != g.Manifest.Host {
		err = fmt.Errorf("%s of generation %s is host %s's", input.FileName, g.Manifest.Generation, in.Host)
	}
	return in, err
}

// bench is a place beside the generations of a host, hidden from whoever looks for
// generations, where others can be made: an app of its own.
type bench struct {
	*app
	dir string
}

// openBench makes it. The tool is what manifests name as the one that baked.
func (a *app) openBench(dir, tool string) (bench, error) {
	own := *a
	own.config, own.out = filepath.Join(dir, "config"), filepath.Join(dir, "out")
	own.layers, own.pins, own.isTrial, own.tool = "", "", true, tool
	return bench{&own, dir}, os.MkdirAll(own.store().Dir, 0o700)
}

// lay puts inputs on the bench, and returns what a host is ready to be baked from.
func (b bench) lay(ctx context.Context, from *app, in input.Inputs, o *imageOptions) (h ready, err error) {
	if err := os.RemoveAll(b.config); err != nil {
		return h, err
	}
	if err := in.Restore(b.config); err != nil {
		return h, err
	}
	if o.disk, err = readForm(in.Disk); err != nil {
		return h, err
	}
	all, err := b.prepare([]string{in.Host})
	if err != nil {
		return h, err
	}
	h = all[0]
	if err := b.pin(h.Host, in); err != nil {
		return h, err
	}
	o.known, o.from.Locked = &in.Base, true
	return h, b.lend(ctx, from, h.Host, in, o.from)
}

// pin writes a bake.lock for just these inputs.
func (b bench) pin(h *host.Host, in input.Inputs) error {
	var lock origin.Lock
	if in.Image != nil {
		if err := lock.Set(*in.Image); err != nil {
			return err
		}
	}
	if names := packagesOf(h); h.Offline && len(names) > 0 {
		set := origin.Set{Reference: in.Base.Reference, Image: in.Base.SHA256, Arch: h.Ref.Arch, Packages: names, Debs: append([]origin.Deb{}, in.Debs...)}
		if err := lock.SetDebs(set); err != nil {
			return err
		}
	}
	return lock.Write(filepath.Join(b.config, "bake.lock"))
}

// lend has the base image in the bench's store: by another name of the file that is
// here, or fetched again.
func (b bench) lend(ctx context.Context, from *app, h *host.Host, in input.Inputs, o fetchOptions) error {
	blob, err := from.store().Get(ctx, in.Base.SHA256)
	if err == nil {
		err = os.Link(blob.Path, filepath.Join(b.store().Dir, filepath.Base(blob.Path)))
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return err
	}
	gone := func(why error) error {
		return goneError{fmt.Errorf("the base image %s %s (sha256 %s) is gone: %w", in.Base.Reference, in.Base.Serial, in.Base.SHA256, why)}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if in.Image == nil {
		return gone(fmt.Errorf("it was a local file, and is not in %s any more", from.store().Dir))
	}
	found, err := b.obtain(ctx, wanted{h.Ref, h.Mirrors}, base.Options{Locked: true, Mirrors: o.Mirrors})
	if err != nil {
		return gone(err)
	}
	defer found.Close()
	_, err = b.store().Add(ctx, found.Blob.Path)
	return err
}

// goneError says which input of a generation is not to be had any more.
type goneError struct{ error }

func (e goneError) Unwrap() error { return e.error }

// readForm is the inverse of diskForm.String.
func readForm(text string) (f diskForm, err error) {
	for _, word := range strings.Fields(text) {
		switch word {
		case "flat":
			f.flat = true
		case "zstd":
			f.compress = true
		case "raw":
			f.raw = true
		default:
			return f, fmt.Errorf("the disk's form %q is not known", text)
		}
	}
	return f, nil
}
