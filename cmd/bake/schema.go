package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
	"bake/internal/guest"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/lint"
	"bake/internal/origin"
	"bake/internal/payload"
	"bake/internal/schema"
	"bake/internal/seed"
)

// keptSchemas are the schemas of one base image's cloud-init, without their
// prose, as they are kept in the cache: opening the image takes longer than all
// of a lint.
type keptSchemas struct {
	CloudInit string                     `json:"cloud_init"` // the version
	Files     map[string]json.RawMessage `json:"files"`
}

func (k keptSchemas) set() (schema.Set, error) {
	files := map[string][]byte{}
	for name, data := range k.Files {
		files[name] = data
	}
	return schema.ParseSet(files)
}

// schemasOf returns the schemas of the cloud-init in a base image. An image
// whose cloud-init has none is not an error: ok is false.
func (a *app) schemasOf(ctx context.Context, blob image.Blob) (kept keptSchemas, ok bool, err error) {
	path := a.schemaPath(blob.SHA256)
	if path != "" {
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &kept) == nil {
			return kept, len(kept.Files) > 0, nil
		}
	}
	kept, err = readSchemas(ctx, blob.Path)
	if err != nil {
		return kept, false, err
	}
	if path != "" {
		keep(path, kept) // only the next time would be faster
	}
	return kept, len(kept.Files) > 0, nil
}

func readSchemas(ctx context.Context, path string) (kept keptSchemas, err error) {
	disk, err := inspect.Open(ctx, path)
	if err != nil {
		return kept, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	found, err := disk.Findings()
	if err != nil {
		return kept, err
	}
	files, err := disk.Schemas()
	if err != nil {
		return kept, err
	}
	kept = keptSchemas{CloudInit: found.CloudInit.Version, Files: map[string]json.RawMessage{}}
	for name, data := range files {
		if kept.Files[name], err = schema.Compact(data); err != nil {
			return kept, fmt.Errorf("%s in the image: %w", name, err)
		}
	}
	return kept, nil
}

// keep writes a file of the cache whole or not at all.
func keep(path string, kept keptSchemas) {
	data, err := json.Marshal(kept)
	if err != nil || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	_, err = file.Write(data)
	if errors.Join(err, file.Close()) != nil || os.Rename(file.Name(), path) != nil {
		os.Remove(file.Name())
	}
}

// forget removes what is known of images that are gone.
func (a *app) forget(gone []base.Stocked) error {
	var failed error
	for _, s := range gone {
		failed = errors.Join(failed, a.packages().DropNames(s.SHA256))
		if path := a.schemaPath(s.SHA256); path != "" {
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}

// schemaPath is where the schemas of an image are kept, "" for nowhere.
func (a *app) schemaPath(sum string) string {
	dir := a.cacheDir()
	if dir == "" || sum == "" {
		return ""
	}
	return filepath.Join(dir, "schema", sum+".json")
}

// packages is where lists and files of packages are kept.
func (a *app) packages() payload.Builder {
	b := payload.Builder{Tools: a.Tools}
	if dir := a.cacheDir(); dir != "" {
		b.Dir = filepath.Join(dir, "payload")
	}
	return b
}

// release returns what is known here of the system that will run a host, without
// opening an image, and says where it comes from.
func (a *app) release(h *host.Host) (r lint.Release, from string) {
	sum := a.knownBase(h)
	if names, ok := a.packages().Names(sum); ok {
		r.HasPackage = names.Has
	}
	var kept keptSchemas
	if path := a.schemaPath(sum); path != "" {
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &kept) == nil {
			r.CloudInit = "cloud-init " + kept.CloudInit
			if len(kept.Files) == 0 {
				return r, "not held against a schema: the image's " + r.CloudInit + " has none"
			}
			if r.Schema, err = kept.set(); err == nil {
				return r, "held against the schema of the image's " + r.CloudInit
			}
		}
	}
	r.Schema, r.CloudInit = schema.Newest(), "cloud-init "+schema.NewestVersion
	return r, "held against the schema of " + r.CloudInit + ", the newest known: bake image reads that of the base image"
}

// knownBase returns the SHA-256 of the image that a host would be baked on, as far as
// bake.lock or its last generation tell; "" where they do not.
func (a *app) knownBase(h *host.Host) string {
	if h.Ref.Kind != origin.File {
		return a.depot().Known(h.Ref)
	}
	g, err := artifact.Open(a.out, h.Name, "latest")
	if err != nil || g.Manifest.Base.Reference != "file:"+filepath.Base(h.Ref.Path) {
		return ""
	}
	return g.Manifest.Base.SHA256
}

// checkSchema holds a host's words against the schema of the cloud-init that will
// read them. What is deprecated is said; what is wrong is the error.
func (a *app) checkSchema(ctx context.Context, h *host.Host, words seed.Seed, blob image.Blob) error {
	kept, ok, err := a.schemasOf(ctx, blob)
	var set schema.Set
	if err == nil && ok {
		set, err = kept.set()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // an image that nobody can look into can still be right
		a.say("%s: its cloud-config is not checked against the schema of the image's cloud-init: %v", h.Name, err)
		return nil
	case !ok:
		return nil
	}
	program, err := guest.Program(h.Machine.Arch)
	if err != nil {
		return lackError{err}
	}
	config, err := seed.Config(h, program)
	if err != nil {
		return err
	}
	found := set.CloudConfig(config)
	if len(words.NetworkConfig) > 0 {
		network, err := set.NetworkConfig("network-config of "+h.File, words.NetworkConfig)
		if err != nil {
			return err
		}
		found = append(found, network...)
	}
	if slices.ContainsFunc(h.Allow, func(w host.Allowance) bool { return w.Rule == "schema" }) {
		return nil // lint shows it, with the reason
	}
	return a.schemaFindings(found, kept.CloudInit)
}

// schemaFindings says what is deprecated and returns what is wrong.
func (a *app) schemaFindings(found []schema.Finding, version string) error {
	var wrong diag.List
	for _, f := range found {
		if f.Deprecated {
			text := fmt.Sprintf("%s: warning: %s: %s", f.Pos, f.Path, f.Message)
			if f.Hint != "" {
				text += ": " + strings.TrimSuffix(f.Hint, ".")
			}
			a.say("%s", diag.Printable(text))
			continue
		}
		f.Message = fmt.Sprintf("%s (the schema of the image's cloud-init %s)", f.Message, version)
		wrong.Add(f.Problem)
	}
	return wrong.Err()
}
