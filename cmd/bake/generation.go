package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/origin"
	"bake/internal/secret"
	"bake/internal/seed"
	"bake/internal/verify"
)

// recipe is all that one generation is made of, found and checked, before anything
// of it is written.
type recipe struct {
	host     ready
	disk     diskForm
	blob     image.Blob
	load     *packed
	manifest artifact.Manifest
	hold     io.Closer // of the base image
}

// compose finds what a generation of a host is made of: its base image, its payload,
// its words, and the name that follows from them. The recipe's hold must be closed.
func (a *app) compose(ctx context.Context, h ready, o imageOptions) (r recipe, err error) {
	blob, from, hold, err := a.ground(ctx, h.Host, o)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, hold.Close())
		}
	}()
	if h.Machine.Disk < blob.VirtualSize {
		return r, diag.List{{Pos: diag.Position{File: h.File}, Path: "machine.disk",
			Message: fmt.Sprintf("%d MiB is smaller than the base image %s, which has %d MiB", h.Machine.Disk>>20, from.name, blob.VirtualSize>>20),
			Hint:    "a smaller disk would cut off the end of the image's file systems"}}
	}
	if err := a.checkSchema(ctx, h.Host, blob); err != nil {
		return r, err
	}
	load, err := a.pack(ctx, h.Host, footing{blob.Path, blob.SHA256, from.Reference}, o.from)
	if err != nil {
		return r, err
	}
	if load != nil {
		if h.words, err = a.words(h.Host, load.seed()); err != nil {
			return r, err
		}
	}
	m, err := manifest(h.Host, h.words, from.Base, o.disk, load, cmp.Or(a.tool, "bake "+version()))
	return recipe{h, o.disk, blob, load, m, hold}, err
}

// bake makes one generation: words, then bytes, then both under one name.
func (a *app) bake(ctx context.Context, h ready, o imageOptions) (g artifact.Generation, secrets string, err error) {
	lock, err := artifact.Lock(ctx, a.out, h.Name)
	if err != nil {
		return g, "", lackError{err}
	}
	defer lock.Close()
	r, err := a.compose(ctx, h, o)
	if err != nil {
		return g, "", err
	}
	defer r.hold.Close()
	key, err := a.ownKey()
	if err != nil {
		return g, "", err
	}
	draft, err := artifact.Begin(a.out, h.Name)
	if err != nil {
		return g, "", err
	}
	draft.VouchedBy(notary{a, key, r})
	defer func() { err = errors.Join(err, draft.Discard()) }()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return a.writeDisk(inner, draft, r.host, r.blob, r.disk) })
	group.Go(func() error { return a.writeSBOM(inner, draft, r) }) // while others' programs work
	if err := group.Wait(); err != nil {
		return g, "", err
	}
	if err := r.load.share(ctx, draft); err != nil {
		return g, "", err
	}
	if err := a.writeInputs(draft, r); err != nil {
		return g, "", err
	}
	if err := writeWords(draft, h.Host, r.host.words, r.manifest.Generation); err != nil {
		return g, "", err
	}
	// Not before: what is left can hardly fail. Not after: who sees the generation finds its secrets.
	if secrets, err = a.writeSecrets(filepath.Join(a.out, h.Name, secretsName), h); err != nil {
		return g, "", err
	}
	g, err = draft.Commit(r.manifest)
	return g, secrets, err
}

// baseRecord is what the manifest says of a base image, and what messages call
// it.
type baseRecord struct {
	artifact.Base
	name string
}

// ground returns the base image in the store beside the generations. It stays
// there until hold is closed, even if nothing stands on it yet.
func (a *app) ground(ctx context.Context, h *host.Host, o imageOptions) (blob image.Blob, from baseRecord, hold io.Closer, err error) {
	store := a.store()
	if o.known != nil { // it has been put there
		if hold, err = base.Hold(ctx, store.Dir); err != nil {
			return blob, from, nil, err
		}
		if blob, err = store.Get(ctx, o.known.SHA256); err != nil {
			err = errors.Join(err, hold.Close())
		}
		return blob, baseRecord{*o.known, o.known.Reference}, hold, err
	}
	path, verified := "", ""
	switch {
	case o.base != "":
		path = o.base
	case h.Ref.Kind == origin.File && filepath.IsAbs(h.Ref.Path):
		path = h.Ref.Path
	case h.Ref.Kind == origin.File:
		path = filepath.Join(filepath.Dir(h.File), h.Ref.Path)
	}
	from = baseRecord{artifact.Base{Reference: "file:" + filepath.Base(path)}, path}
	if path == "" {
		found, err := a.obtain(ctx, wanted{h.Ref, h.Mirrors}, o.from.Options)
		if err != nil {
			return blob, from, nil, err
		}
		defer found.Close()
		a.tell(h.Ref, found)
		path, verified = found.Blob.Path, found.Blob.SHA256
		from = baseRecord{artifact.Base{Reference: h.Ref.String(), Serial: found.Serial, Signer: found.Signer, URL: found.URL}, h.Ref.String()}
	}
	if err := os.MkdirAll(store.Dir, 0o700); err != nil {
		return blob, from, nil, err
	}
	if hold, err = base.Hold(ctx, store.Dir); err != nil {
		return blob, from, nil, err
	}
	a.stage("%s: checking the base image", h.Name)
	if blob, err = store.Get(ctx, verified); verified == "" || errors.Is(err, fs.ErrNotExist) {
		blob, err = store.Add(ctx, path)
	}
	if err == nil && verified != "" && blob.SHA256 != verified {
		err = &image.IntegrityError{Path: path, Want: verified, Got: blob.SHA256}
	}
	if err != nil {
		return blob, from, nil, errors.Join(err, hold.Close())
	}
	from.SHA256, from.VirtualSize = blob.SHA256, blob.VirtualSize
	return blob, from, hold, nil
}

// store holds the base images under all generations, beside them so that the
// whole directory can be moved.
func (a *app) store() image.Store {
	return image.Store{Dir: filepath.Join(a.out, ".base"), Tools: a.Tools}
}

// diskForm is what a generation's disk is.
//
// # Decisions
//
// 2026-11: raw is written beside qcow2, not instead: verify boots and the domain
// names disk.qcow2. Would change if both learned formats.
type diskForm struct{ flat, raw, compress bool }

// String is part of what a generation's name is derived from; an overlay adds
// nothing.
func (f diskForm) String() string {
	text := ""
	for _, part := range []struct {
		is   bool
		word string
	}{{f.flat, "flat"}, {f.compress, "zstd"}, {f.raw, "raw"}} {
		if part.is {
			text += part.word + " "
		}
	}
	return text
}

// writeDisk makes disk.qcow2, which the domain names and verify boots, and
// disk.raw beside it if that is asked for.
func (a *app) writeDisk(ctx context.Context, draft *artifact.Draft, h ready, blob image.Blob, form diskForm) error {
	store := a.store()
	if !form.flat {
		a.stage("%s: writing disk, seed and domain", h.Name)
		return store.Overlay(ctx, blob, draft.Path("disk.qcow2"), h.Machine.Disk)
	}
	a.stage("%s: writing a disk that stands alone", h.Name)
	err := store.Flatten(ctx, blob, draft.Path("disk.qcow2"), h.Machine.Disk, image.Form{Compress: form.compress})
	if err != nil || !form.raw {
		return err
	}
	a.stage("%s: writing the raw disk", h.Name)
	return store.Flatten(ctx, blob, draft.Path("disk.raw"), h.Machine.Disk, image.Form{Raw: true})
}

// manifest lists what goes in and derives the generation's name from it.
func manifest(h *host.Host, words seed.Seed, from artifact.Base, form diskForm, load *packed, tool string) (artifact.Manifest, error) {
	m := artifact.Manifest{Host: h.Name, Tool: tool, InstanceID: words.InstanceID(h), Base: from,
		Secrets: secret.Names(h.Secrets), Payload: load.manifest()}
	for _, rendered := range h.Layers {
		digest, err := rendered.Digest()
		if err != nil {
			return m, err
		}
		m.Layers = append(m.Layers, artifact.Layer{Name: rendered.Name, SHA256: digest})
	}
	machine, err := domain.XML(h, "generation") // its own name would be a circle
	if err != nil {
		return m, err
	}
	claims, err := plan(h, words)
	if err != nil {
		return m, err
	}
	inputs, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	m.Generation = artifact.ID(inputs, words.UserData, words.MetaData, words.NetworkConfig, machine, claims,
		fmt.Append(nil, h.Machine.Disk, form.String()))
	return m, nil
}

func writeWords(draft *artifact.Draft, h *host.Host, words seed.Seed, generation string) error {
	if err := seed.Write(draft.Path("seed.iso"), seed.ISO, words); err != nil {
		return err
	}
	machine, err := domain.XML(h, generation)
	if err != nil {
		return err
	}
	if err := os.WriteFile(draft.Path("domain.xml"), machine, 0o600); err != nil {
		return err
	}
	claims, err := plan(h, words)
	if err != nil {
		return err
	}
	return os.WriteFile(draft.Path("claims.json"), claims, 0o600)
}

// warnOfLoss says what the machine has that its next rebuild will not.
func (a *app) warnOfLoss(h *host.Host) {
	if dirs := h.Losing(); len(dirs) > 0 {
		a.say("%s: a rebuild will lose %s: machine: {state: 20GiB} keeps it on a disk of its own", h.Name, strings.Join(dirs, ", "))
	}
}

// plan collects what verify needs to know of a host, as JSON.
func plan(h *host.Host, words seed.Seed) ([]byte, error) {
	p := verify.Plan{Host: h.Name, Admin: h.Admin.Name, VCPUs: h.Machine.VCPUs, Memory: h.Machine.Memory, State: h.Machine.State,
		MAC: h.Network.MAC, Firmware: string(h.Machine.Firmware), Agent: h.Machine.Agent}
	for _, address := range h.Network.Addresses {
		if address.Addr().Is4() && !p.Address.IsValid() {
			p.Address = address
		}
	}
	for _, gateway := range h.Network.Gateways {
		if gateway.Is4() {
			p.Gateway = gateway
		}
	}
	if len(words.Claims) > 0 {
		p.Attest = fmt.Sprintf("%x", sha256.Sum256(words.Claims))
	}
	about := map[string]verify.Layer{}
	for _, l := range h.Layers {
		about[l.Name] = verify.Layer{Name: l.Name, Summary: l.Summary, Threat: l.Threat, Refs: l.Refs}
	}
	checks, err := h.Checks()
	if err != nil {
		return nil, err
	}
	for _, c := range checks {
		if n := len(p.Layers); n == 0 || p.Layers[n-1].Name != c.Layer {
			l := about[c.Layer]
			l.Name = c.Layer // one that is made for every machine is no layer of the host's
			p.Layers = append(p.Layers, l)
		}
		last := &p.Layers[len(p.Layers)-1]
		last.Checks = append(last.Checks, c)
	}
	text, err := json.MarshalIndent(p, "", "  ")
	return append(text, '\n'), err
}
