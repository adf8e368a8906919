package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/artifact"
	"bake/internal/diag"
	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/seed"
	"bake/internal/verify"
)

// bake makes one generation: words, then bytes, then both under one name.
func (a *app) bake(ctx context.Context, h ready, basePath string) (g artifact.Generation, err error) {
	path, reference, err := baseFile(h.Host, basePath)
	if err != nil {
		return g, err
	}
	lock, err := artifact.Lock(ctx, a.out, h.Name)
	if err != nil {
		return g, lackError{err}
	}
	defer lock.Close()
	a.stage("%s: checking the base image", h.Name)
	store := a.store()
	blob, err := store.Add(ctx, path)
	if err != nil {
		return g, err
	}
	if h.Machine.Disk < blob.VirtualSize {
		return g, diag.List{{Pos: diag.Position{File: h.File}, Path: "machine.disk",
			Message: fmt.Sprintf("%d MiB is smaller than the base image %s, which has %d MiB", h.Machine.Disk>>20, path, blob.VirtualSize>>20),
			Hint:    "a smaller disk would cut off the end of the image's file systems"}}
	}
	m, err := manifest(h.Host, h.words, blob, reference)
	if err != nil {
		return g, err
	}
	draft, err := artifact.Begin(a.out, h.Name)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	a.stage("%s: writing disk, seed and domain", h.Name)
	if err := store.Overlay(ctx, blob, draft.Path("disk.qcow2"), h.Machine.Disk); err != nil {
		return g, err
	}
	if err := writeWords(draft, h.Host, h.words, m.Generation); err != nil {
		return g, err
	}
	return draft.Commit(m)
}

// store holds the base images under all generations, beside them so that the
// whole directory can be moved.
func (a *app) store() image.Store {
	return image.Store{Dir: filepath.Join(a.out, ".base"), Tools: a.Tools}
}

// baseFile says which file is the base image, and how the manifest calls it.
func baseFile(h *host.Host, override string) (path, reference string, err error) {
	if override != "" {
		return override, "file:" + filepath.Base(override), nil
	}
	if !strings.HasPrefix(h.Base, "/") && !strings.HasPrefix(h.Base, "./") && !strings.HasPrefix(h.Base, "../") {
		return "", "", lackError{fmt.Errorf("%s: base %s: this version does not fetch images; name a local qcow2 image with --base FILE",
			h.File, h.Base)}
	}
	if filepath.IsAbs(h.Base) {
		return h.Base, "file:" + filepath.Base(h.Base), nil
	}
	return filepath.Join(filepath.Dir(h.File), h.Base), "file:" + filepath.Base(h.Base), nil
}

// manifest lists what goes in and derives the generation's name from it.
func manifest(h *host.Host, words seed.Seed, blob image.Blob, reference string) (artifact.Manifest, error) {
	m := artifact.Manifest{Host: h.Name, Tool: "bake " + version(), InstanceID: words.InstanceID(h),
		Base: artifact.Base{Reference: reference, SHA256: blob.SHA256, VirtualSize: blob.VirtualSize}}
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
	claims, err := json.Marshal(plan(h))
	if err != nil {
		return m, err
	}
	inputs, err := json.Marshal(m)
	if err != nil {
		return m, err
	}
	m.Generation = artifact.ID(inputs, words.UserData, words.MetaData, words.NetworkConfig, machine, claims,
		fmt.Append(nil, h.Machine.Disk))
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
	claims, err := json.MarshalIndent(plan(h), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(draft.Path("claims.json"), append(claims, '\n'), 0o600)
}

// plan collects what verify needs to know of a host.
func plan(h *host.Host) verify.Plan {
	p := verify.Plan{Host: h.Name, Admin: h.Admin.Name, VCPUs: h.Machine.VCPUs, Memory: h.Machine.Memory,
		MAC: h.Network.MAC, Firmware: string(h.Machine.Firmware)}
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
	for _, l := range h.Layers {
		p.Layers = append(p.Layers, verify.Layer{Name: l.Name, Threat: l.Threat, Checks: l.Checks})
	}
	return p
}
