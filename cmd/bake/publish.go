package main

// How a generation is put where other hypervisors find it.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"bake/internal/artifact"
	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/image"
	"bake/internal/input"
	"bake/internal/lint"
	"bake/internal/provenance"
	"bake/internal/publish"
)

// publishView is what --json shows.
type publishView struct {
	Host       string          `json:"host"`
	Generation string          `json:"generation"`
	Place      string          `json:"place"`
	Image      string          `json:"image"` // digest
	Tags       []string        `json:"tags"`
	Layers     []publish.Layer `json:"layers"`
	Sent       int64           `json:"sent"` // bytes of layers that were moved
}

func runPublish(ctx context.Context, a *app, o publishOptions) error {
	ring, err := a.ringOf("")
	if err != nil {
		return err
	}
	views := []publishView{}
	failed := o.each(ctx, func(name string) error {
		view, err := a.publish(ctx, o, ring, name)
		if err == nil {
			views = append(views, view)
			a.say("%s: generation %s %s %s", name, view.Generation, map[bool]string{true: "would be sent to", false: "is in"}[o.dry], o.place)
		}
		return err
	})
	return errors.Join(a.printMoved(views), failed)
}

// printMoved prints what was moved, or would be.
func (a *app) printMoved(views []publishView) error {
	if a.json {
		return a.printJSON(views)
	}
	var lines []string
	for _, v := range views {
		lines = append(lines, fmt.Sprintf("%s %s %s %s of %s", v.Host, v.Generation, v.Image, amount(v.Sent), amount(wholeOf(v.Layers))))
	}
	return a.printLines(lines)
}

func wholeOf(layers []publish.Layer) (all int64) {
	for _, l := range layers {
		all += l.Size
	}
	return all
}

// publish sends one host's generation.
func (a *app) publish(ctx context.Context, o publishOptions, ring provenance.Ring, name string) (v publishView, err error) {
	g, err := artifact.Open(a.out, name, o.generation)
	if err != nil {
		return v, err
	}
	a.stage("%s: checking generation %s", name, g.Manifest.Generation)
	if _, _, err := checkGeneration(ring, g); err != nil {
		return v, fmt.Errorf("generation %s: %w", g.Manifest.Generation, err)
	}
	if err := g.Verify(ctx); err != nil {
		return v, err
	}
	if err := a.keepsSecrets(ctx, g); err != nil && !o.withSecrets {
		return v, err
	}
	parcel, err := a.parcelOf(ctx, g)
	if err != nil {
		return v, err
	}
	now, err := artifact.Open(a.out, name, "current")
	isCurrent := err == nil && now.Manifest.Generation == g.Manifest.Generation
	if isCurrent {
		if _, _, err := checkVerdict(ring, g); err != nil {
			return v, fmt.Errorf("generation %s is current: %w", g.Manifest.Generation, err)
		}
	}
	v = publishView{Host: name, Generation: g.Manifest.Generation, Place: o.place.String(), Tags: []string{publish.TagOf(name, g.Manifest.Generation)}}
	if isCurrent {
		v.Tags = append(v.Tags, publish.TagOf(name, "current"))
	}
	sent, err := a.send(ctx, o, parcel)
	if err != nil {
		return v, err
	}
	v.Image, v.Layers, v.Sent = sent.Image, sent.Layers, sent.Bytes
	switch {
	case !isCurrent || o.dry:
	case o.point != nil:
		err = o.point(ctx, sent)
	default:
		var isSet bool
		if isSet, err = a.point(ctx, o, ring, g, sent); !isSet {
			v.Tags = v.Tags[:1]
		}
	}
	return v, err
}

func (a *app) send(ctx context.Context, o publishOptions, g publish.Generation) (*publish.Sent, error) {
	if o.dry {
		return o.place.Plan(ctx, g)
	}
	a.stage("%s: sending generation %s", g.Host, g.Name)
	sent, err := o.place.Send(ctx, g, throttle(func(done int64) { a.stage("%s: sent %s", g.Host, amount(done)) }))
	a.stage("")
	return sent, err
}

// throttle lets through what is worth drawing.
func throttle(show func(int64)) func(int64) {
	next := make(chan time.Time, 1)
	next <- time.Now()
	return func(done int64) {
		select {
		case at := <-next:
			if now := time.Now(); now.After(at) {
				show(done)
				at = now.Add(redraw)
			}
			next <- at
		default: // somebody else draws
		}
	}
}

// parcelOf is a generation as it travels: with the base image if its disk stands on it.
func (a *app) parcelOf(ctx context.Context, g artifact.Generation) (p publish.Generation, err error) {
	m := g.Manifest
	p = publish.Generation{Host: m.Host, Name: m.Generation}
	if p.Arch, err = archOf(g); err != nil {
		return p, err
	}
	if _, ok := m.Files["disk.raw"]; ok {
		return p, lackError{fmt.Errorf("generation %s has a disk.raw, which would travel with all its holes: bake image --flatten makes one without", m.Generation)}
	}
	part := func(name string) publish.Part {
		return publish.Part{Name: name, Path: g.Path(name), SHA256: m.Files[name].SHA256, Size: m.Files[name].Size}
	}
	alone, err := standsAlone(g)
	if err != nil {
		return p, err
	}
	if !alone {
		blob, err := a.store().Get(ctx, m.Base.SHA256)
		if err != nil {
			return p, err
		}
		p.Disk, p.IsBase = publish.Part{Path: blob.Path, SHA256: blob.SHA256, Size: blob.Size}, true
	} else {
		p.Disk = part("disk.qcow2")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		if p.IsBase || name != p.Disk.Name {
			p.Parts = append(p.Parts, part(name))
		}
	}
	if p.Provenance, _, err = g.Provenance(); err != nil {
		return p, err
	}
	if p.Manifest, err = os.ReadFile(g.Path("manifest.json")); err != nil {
		return p, err
	}
	p.Verdict, err = os.ReadFile(g.Path(verdictReport))
	if errors.Is(err, fs.ErrNotExist) {
		p.Verdict, err = nil, nil
	}
	return p, err
}

// standsAlone says whether a generation's disk needs no base image.
func standsAlone(g artifact.Generation) (bool, error) {
	file, err := os.Open(g.Path("disk.qcow2"))
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	_, err = image.ReadHeader(file, info.Size())
	var refused *image.RefusedError
	if errors.As(err, &refused) { // bake made it, and it is what was signed: there is one reason
		return false, nil
	}
	return err == nil, err
}

// archOf is what registries call a generation's architecture.
func archOf(g artifact.Generation) (string, error) {
	needs, err := needsOf(g)
	if err != nil {
		return "", err
	}
	switch needs.Arch {
	case "x86_64":
		return host.AMD64, nil
	case "aarch64":
		return host.ARM64, nil
	}
	return "", fmt.Errorf("generation %s: its domain.xml names no architecture", g.Manifest.Generation)
}

// keepsSecrets refuses a generation in whose words a secret stands: in what it was made
// from, or in the seed, which layers can bring one into.
func (a *app) keepsSecrets(ctx context.Context, g artifact.Generation) error {
	var found diag.List
	look := func(file, text string) {
		for number, line := range strings.Split(text, "\n") {
			if what, at := lint.Reveals(line); what != "" {
				found.Add(diag.Problem{Pos: diag.Position{File: file, Line: number + 1, Col: at + 1}, Message: what + " would be published",
					Hint: "name it under secrets: (docs/secrets.md), or publish with --with-secrets if the place is as closed as this machine"})
			}
		}
	}
	if _, ok := g.Manifest.Files[input.FileName]; ok {
		in, err := a.readInputs(ctx, g)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(in.Files)) {
			if name != "openclaw-lock.json" { // digests of packages, which look like anything
				look(name, string(in.Files[name]))
			}
		}
	}
	if len(found) > 0 {
		return found.Err()
	}
	seed, err := g.Read(ctx, "seed.iso")
	if err != nil {
		return err
	}
	// The files of the seed lie in it as they are, between binary sectors.
	for _, text := range bytes.FieldsFunc(seed, func(r rune) bool { return r == 0 }) {
		look(g.Path("seed.iso"), string(text))
	}
	return found.Err()
}

// point has the place's tag current point to what was sent, if that is still current here: sending
// takes a while. The place is read first, so that whoever promotes another and publishes that
// finds it moved, or we do.
func (a *app) point(ctx context.Context, o publishOptions, ring provenance.Ring, g artifact.Generation, sent *publish.Sent) (isSet bool, err error) {
	name := g.Manifest.Host
	was, err := o.place.Read(ctx, publish.TagOf(name, "current"))
	if err != nil {
		return false, err
	}
	if now, err := artifact.Open(a.out, name, "current"); err != nil || now.Manifest.Generation != g.Manifest.Generation {
		a.say("%s: generation %s is not current any more: what %s calls current stays", name, g.Manifest.Generation, o.place)
		return false, nil
	}
	err = a.pointFrom(ctx, o.place, ring, name, was, sent.Image)
	return err == nil, err
}

// pointFrom has a place's tag current point to an image, if it still is what was read.
func (a *app) pointFrom(ctx context.Context, place *publish.Place, ring provenance.Ring, name string, was publish.Pointer, image string) error {
	statement, number, err := a.pointer(place, ring, name, was, image)
	if err == nil && statement != nil {
		err = place.Point(ctx, publish.TagOf(name, "current"), was, image, statement)
	}
	if err != nil {
		return err
	}
	return noteShown(a.out, name, place.ID(), number)
}

// pointer is the signed word that a place's tag current points to an image from now on, with a
// number that is greater than all that were seen; nil when that was said before.
func (a *app) pointer(place *publish.Place, ring provenance.Ring, name string, was publish.Pointer, image string) (statement []byte, number int64, err error) {
	key, err := a.mustKey()
	if err != nil {
		return nil, 0, err
	}
	tag := publish.TagOf(name, "current")
	number, isSaid := pointed(ring, was.Tags, tag, was.Image)
	seen, err := shownBy(a.out, name, place.ID())
	if err != nil || was.Image == image && isSaid && number >= seen {
		return nil, number, err
	}
	if number, err = noteSigned(a.out, name, place.ID(), max(number, seen)); err != nil {
		return nil, 0, err
	}
	said, err := provenance.Of(&provenance.Pointer{Tag: tag, Number: number},
		provenance.Descriptor{Name: "image", Digest: sha256Of(strings.TrimPrefix(image, "sha256:"))})
	if err != nil {
		return nil, 0, err
	}
	statement, err = key.Sign(said)
	return statement, number, err
}

// pointed is the greatest number with which somebody who counts has signed that a tag
// points to an image.
func pointed(ring provenance.Ring, envelopes [][]byte, tag, image string) (number int64, ok bool) {
	for _, envelope := range envelopes {
		statement, _, err := ring.Open(envelope)
		var p provenance.Pointer
		if err != nil || statement.Read(&p) != nil || p.Tag != tag || "sha256:"+statement.SHA256("image") != image {
			continue
		}
		number, ok = max(number, p.Number), true
	}
	return number, ok
}
