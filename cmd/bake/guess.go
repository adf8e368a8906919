package main

import (
	"context"
	"errors"
	"path/filepath"

	"bake/internal/diag"
	"bake/internal/nightly"
	"bake/internal/origin"
)

// ask is refresh for a night that only asks.
func (n *night) ask(ctx context.Context, hosts []string) error {
	h, err := n.hosts[hosts[0]].read()
	if err != nil {
		return err
	}
	o := n.o.from.Options
	if o.Mirrors, err = n.mirrors(h.Mirrors, o.Mirrors); err != nil {
		return err
	}
	newest, err := n.depot().Newest(ctx, h.Ref, o)
	n.note(hosts[0], newest)
	return err
}

// guess is plan for a night that only asks: it fetches nothing, so of packages it
// knows those that are pinned.
func (n *night) guess(ctx context.Context, name string) (p nightly.Plan, err error) {
	h, err := n.hosts[name].read()
	if err != nil {
		return p, err
	}
	newest := n.found(name)
	p.Base = nightly.Base{Reference: h.Ref.String(), Serial: newest.Serial, Signed: newest.Signed}
	current, err := n.current(ctx, name, &p)
	if err != nil || !p.Whole {
		return p, err
	}
	lock, err := origin.ReadLock(filepath.Join(n.config, "bake.lock"))
	if err != nil {
		return p, err
	}
	if pinned, ok := lock.Pin(h.Ref); h.Ref.Kind != origin.File && (!ok || pinned.Digest != newest.Digest || current.Manifest.Base.Serial != newest.Serial) {
		return p, nil
	}
	quiet, o := *n.app, n.options()
	quiet.ui, o.from.Locked = &ui{env: n.ui.env, quiet: true}, true
	r, err := quiet.compose(ctx, h, o)
	var unpinned diag.List
	if errors.As(err, &unpinned) {
		return p, nil
	}
	if err != nil {
		return p, err
	}
	p.Generation, p.Base.SHA256 = r.manifest.Generation, r.blob.SHA256
	return p, r.hold.Close()
}
