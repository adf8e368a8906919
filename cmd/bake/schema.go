package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/diag"
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
	Modules   *seed.Modules              `json:"modules,omitempty"` // nil where cloud.cfg does not list them
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
	if kept, ok = a.knownSchemas(blob.SHA256); ok {
		return kept, len(kept.Files) > 0, nil
	}
	kept, err = readSchemas(ctx, blob.Path)
	if err != nil {
		return kept, false, err
	}
	if path := a.schemaPath(blob.SHA256); path != "" {
		keepSchemas(path, kept) // only the next time would be faster
	}
	return kept, len(kept.Files) > 0, nil
}

// knownSchemas are those that are kept of an image; ok is false where it was not looked
// into yet.
func (a *app) knownSchemas(sum string) (kept keptSchemas, ok bool) {
	path := a.schemaPath(sum)
	if path == "" {
		return kept, false
	}
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &kept) != nil {
		return keptSchemas{}, false
	}
	return kept, true
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
	lists, err := disk.Modules()
	if m := (seed.Modules{Init: lists["cloud_init_modules"], Config: lists["cloud_config_modules"], Final: lists["cloud_final_modules"]}); m.Init != nil && m.Config != nil && m.Final != nil {
		kept.Modules = &m
	}
	return kept, err
}

// keepSchemas writes a file of the cache whole or not at all.
func keepSchemas(path string, kept keptSchemas) {
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

// releaseOf returns what is known here of the system that will run a host, without
// opening an image, and says where it comes from.
func (a *app) releaseOf(h *host.Host) (r lint.Release, from string) {
	sum := a.knownBase(h)
	if names, ok := a.packages().Names(sum); ok {
		r.HasPackage = names.Has
	}
	if kept, ok := a.knownSchemas(sum); ok {
		r.CloudInit = "cloud-init " + kept.CloudInit
		if len(kept.Files) == 0 {
			return r, "not held against a schema: the image's " + r.CloudInit + " has none"
		}
		var err error
		if r.Schema, err = kept.set(); err == nil {
			return r, "held against the schema of the image's " + r.CloudInit
		}
	}
	r.Schema, r.CloudInit = schema.Newest(), "cloud-init "+schema.NewestVersion
	return r, "held against the schema of " + r.CloudInit + ", the newest known: bake image reads that of the base image"
}

// modules returns which modules the cloud-init of a host runs, and where that is from.
func (a *app) modules(h *host.Host) (m seed.Modules, from string) {
	if kept, ok := a.knownSchemas(a.knownBase(h)); ok && kept.Modules != nil {
		return *kept.Modules, "the image's cloud-init " + kept.CloudInit
	}
	if strings.HasPrefix(h.Ref.Distro, "ubuntu") {
		return seed.UsualModules("ubuntu"), "Ubuntu's cloud.cfg; bake image reads the image's own"
	}
	return seed.UsualModules("debian"), "Debian's cloud.cfg; bake image reads the image's own"
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
func (a *app) checkSchema(ctx context.Context, h *host.Host, blob image.Blob) error {
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
	found, err := a.lintWords(h, lint.Release{Schema: set, CloudInit: "the image's cloud-init " + kept.CloudInit})
	if err != nil {
		return err
	}
	return a.schemaFindings(found)
}

// schemaFindings says what is deprecated and returns what is wrong, of what only the
// schema knows.
func (a *app) schemaFindings(found []lint.Finding) error {
	var wrong diag.List
	for _, f := range found {
		switch p := f.Problem; {
		case f.Rule != "schema" && f.Rule != "schema-deprecated" || f.Allowed != "":
		case f.Severity == lint.Error:
			p.Rule = ""
			wrong.Add(p)
		default:
			text := fmt.Sprintf("%s: warning: %s: %s", p.Pos, p.Path, p.Message)
			if p.Hint != "" {
				text += ": " + p.Hint
			}
			a.say("%s", diag.Printable(text))
		}
	}
	return wrong.Err()
}
