package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/artifact"
	"bake/internal/attest"
	"bake/internal/domain"
	"bake/internal/image"
	"bake/internal/kubevirt"
	"bake/internal/publish"
	"bake/internal/seed"
)

// exported is a host and the generation of it that is exported.
type exported struct {
	ready
	generation artifact.Generation
}

// toExport returns the hosts with generations that are of their host files as they are now,
// whole, and vouched for by whoever counts. Secrets are looked for where they are wanted.
func (a *app) toExport(ctx context.Context, o exportOptions) ([]exported, error) {
	all, err := a.ready(ctx, o.hosts, readiness{secrets: o.secrets != "omit"})
	if err != nil {
		return nil, err
	}
	var list []exported
	for _, h := range all {
		e := exported{ready: h}
		if e.generation, err = artifact.Open(a.out, h.Name, o.generation); err != nil {
			return nil, err
		}
		a.stage("%s: checking generation %s", h.Name, e.generation.Manifest.Generation)
		err = a.trustworthy(ctx, e.generation)
		if err == nil && o.generation == "current" {
			err = a.proven(e.generation)
		}
		if err == nil {
			err = a.agree(ctx, &e)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	return list, nil
}

// agree refuses a generation that the host file as it is now would not make, and gives the
// host the generation's words.
func (a *app) agree(ctx context.Context, e *exported) error {
	m := e.generation.Manifest
	var load *seed.Payload
	if file, ok := m.Files[payloadName]; ok && m.Payload != nil {
		load = &seed.Payload{SHA256: file.SHA256, Packages: m.Payload.Packages, Trees: m.Payload.Trees}
	}
	var err error
	if e.words, err = a.words(e.Host, load); err != nil {
		return err
	}
	want, err := domain.XML(e.Host, m.Generation)
	if err != nil {
		return err
	}
	got, err := e.generation.Read(ctx, "domain.xml")
	if err != nil {
		return err
	}
	size, err := diskSize(e.generation)
	if err != nil {
		return err
	}
	if e.words.InstanceID(e.Host) != m.InstanceID || !bytes.Equal(want, got) || size != e.Machine.Disk {
		return lackError{fmt.Errorf("generation %s is not of host %s as its host file and this bake make it now: run bake image --host %s",
			m.Generation, e.Name, e.Name)}
	}
	return nil
}

// diskSize is how large the disk of a generation is for its guest, in bytes.
func diskSize(g artifact.Generation) (int64, error) {
	file, err := os.Open(g.Path("disk.qcow2"))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return image.VirtualSize(file, info.Size())
}

// exportKubeVirt writes or prints hosts as objects of Kubernetes.
func exportKubeVirt(ctx context.Context, a *app, o exportOptions) error {
	list, err := a.toExport(ctx, o)
	if err != nil {
		return err
	}
	if o.output == "" && o.secrets == "" {
		for _, e := range list {
			if len(e.Secrets) > 0 {
				return usageError{fmt.Errorf("host %s has secrets: --output DIR writes them for you alone, --secrets include prints them, --secrets omit leaves them out", e.Name)}
			}
		}
	}
	var all []kubevirt.Files
	programs := map[string][]byte{} // of attestation, by name: one for all hosts of an architecture
	for _, e := range list {
		if o.place != nil {
			if o.kube.Image, err = a.published(ctx, o, e); err != nil {
				return err
			}
		}
		files, err := a.objects(e, o, programs)
		if err != nil {
			return err
		}
		all = append(all, files)
	}
	for _, files := range all { // all of them can be written, or none is
		for _, p := range files.Warnings {
			a.say("%s: warning: %s", p.Pos, p.Message)
		}
	}
	if o.output == "" {
		return a.printObjects(all, programs)
	}
	for i, files := range all {
		if err := a.writeObjects(list[i].Name, files, programs, o.output); err != nil {
			return err
		}
		programs = nil // they are there
	}
	return nil
}

// published looks up the image of a generation where bake publish has sent it, and checks
// who has signed it as bake fetch does. What is signed is the generation, and bake fetch holds
// every file against that; here nothing is fetched, so the image must be the very one that the
// generation makes.
func (a *app) published(ctx context.Context, o exportOptions, e exported) (string, error) {
	generation := e.generation.Manifest.Generation
	tag := publish.TagOf(e.Name, generation)
	a.stage("%s: looking up %s in %s", e.Name, tag, o.place)
	ring, err := a.ringOf("")
	if err != nil {
		return "", err
	}
	parcel, err := publish.Fetcher{Place: o.place}.Look(ctx, tag)
	if err != nil {
		return "", err
	}
	if _, err := a.believe(publishOptions{generation: generation}, ring, e.Name, parcel); err != nil {
		return "", fmt.Errorf("what %s calls %s is refused: %w", o.place, tag, err)
	}
	own, err := a.parcelOf(ctx, e.generation)
	if err != nil {
		return "", err
	}
	want, err := o.place.Digest(ctx, own)
	if err == nil && parcel.Image != want {
		err = distrust("what %s calls %s is another image than generation %s makes, %s and not %s: somebody has put it there, or another bake has (bake publish sends it anew)",
			o.place, tag, generation, parcel.Image, want)
	}
	if err != nil {
		return "", err
	}
	return o.place.Image(want), nil
}

// objects is one host as YAML.
func (a *app) objects(e exported, o exportOptions, programs map[string][]byte) (files kubevirt.Files, err error) {
	g := kubevirt.Generation{Name: e.generation.Manifest.Generation,
		BaseURL: e.generation.Manifest.Base.URL, BaseSHA256: e.generation.Manifest.Base.SHA256}
	alone, err := standsAlone(e.generation)
	if err != nil {
		return files, err
	}
	g.IsBase = !alone
	if g.Words, err = e.words.Files(); err != nil {
		return files, err
	}
	g.Program = g.Words[attest.Program]
	delete(g.Words, attest.Program)
	if err := addProgram(programs, g.Program, o.kube.Namespace); err != nil {
		return files, err
	}
	if o.secrets != "omit" {
		if g.Secrets, err = seed.SecretFiles(e.secrets); err != nil {
			return files, err
		}
	}
	return kubevirt.Export(e.Host, g, o.kube)
}

// addProgram adds the objects of a program that is not among them yet.
func addProgram(programs map[string][]byte, program []byte, namespace string) error {
	name, err := kubevirt.ProgramName(program)
	if err != nil || name == "" || programs[name] != nil {
		return err
	}
	programs[name], err = kubevirt.Program(program, namespace)
	return err
}

// printObjects prints one stream of documents.
func (a *app) printObjects(all []kubevirt.Files, programs map[string][]byte) error {
	var parts [][]byte
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		parts = append(parts, programs[name])
	}
	for _, f := range all {
		parts = append(parts, f.Secret, f.State, f.Machine)
	}
	for _, part := range parts {
		if len(part) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(a.Stdout, "---\n%s", part); err != nil {
			return err
		}
	}
	return nil
}

// writeObjects writes a file for each part, each in one step and for its owner alone. The
// machine comes last: who finds it finds what it needs.
func (a *app) writeObjects(name string, f kubevirt.Files, programs map[string][]byte, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	type part struct {
		name    string
		content []byte
	}
	var parts []part
	for _, program := range slices.Sorted(maps.Keys(programs)) {
		parts = append(parts, part{program + ".yaml", programs[program]})
	}
	for _, p := range append(parts, part{name + ".secret.yaml", f.Secret}, part{name + ".state.yaml", f.State}, part{name + ".yaml", f.Machine}) {
		if len(p.content) == 0 {
			continue
		}
		path := filepath.Join(dir, p.name)
		if err := writeWhole(path, p.content, false); err != nil {
			return err
		}
		if strings.HasSuffix(p.name, ".secret.yaml") {
			a.say("%s: %s holds the seed and the host's secrets: it is for no repository", name, path)
		}
		if err := a.printPath(name, path); err != nil {
			return err
		}
	}
	return nil
}
