package publish

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

const parallel = 4 // layers at once

// A Sent is a generation that was published, or with Plan would be.
type Sent struct {
	Image  string // digest, sha256:HEX
	Layers []Layer
	Bytes  int64 // that were sent
	Whole  int64 // bytes of all layers
}

// A Layer is one of an image.
type Layer struct {
	Title   string `json:"title,omitempty"` // of the one file in it, "" for several
	Content string `json:"content,omitempty"`
	Digest  string `json:"digest"` // sha256:HEX
	Size    int64  `json:"size"`   // bytes
	There   bool   `json:"there"`  // it need not be moved
}

func (im *image) sent() *Sent {
	s := &Sent{Image: im.hash().String()}
	for _, l := range im.layers {
		s.Layers = append(s.Layers, Layer{Title: l.title, Content: l.content, Digest: l.hash.String(), Size: l.length()})
		s.Whole += l.length()
	}
	return s
}

// Digest is that of the image that a generation makes, sha256:HEX. The place is not asked.
func (p *Place) Digest(ctx context.Context, g Generation) (string, error) {
	im, err := p.pack(ctx, g)
	if err != nil {
		return "", err
	}
	return im.hash().String(), nil
}

// Plan says what sending a generation would move.
func (p *Place) Plan(ctx context.Context, g Generation) (*Sent, error) {
	im, err := p.pack(ctx, g)
	if err != nil {
		return nil, err
	}
	s := im.sent()
	for i, l := range im.layers {
		if s.Layers[i].There, err = p.has(ctx, l.hash, l.length()); err != nil {
			return nil, p.fault(ctx, "look what is there", err)
		}
		if !s.Layers[i].There {
			s.Bytes += l.length()
		}
	}
	return s, nil
}

// Send puts a generation there, with what is said about it, and tags it by its name.
// Progress is told now and then how many bytes were sent, by several goroutines.
func (p *Place) Send(ctx context.Context, g Generation, progress func(done int64)) (*Sent, error) {
	im, err := p.pack(ctx, g)
	if err != nil {
		return nil, err
	}
	s := im.sent()
	var done atomic.Int64
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, l := range im.layers {
		var mine atomic.Int64
		l.read = func(n int) {
			mine.Add(int64(n))
			progress(done.Add(int64(n)))
		}
		group.Go(func() error {
			err := p.put(inner, l)
			s.Layers[i].There = err == nil && mine.Load() == 0 && l.length() > 0
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, p.fault(ctx, "send generation "+g.Name+" of host "+g.Host, err)
	}
	s.Bytes = done.Load()
	if err := p.describe(ctx, g, im); err != nil {
		return nil, p.fault(ctx, "send generation "+g.Name+" of host "+g.Host, err)
	}
	tag := TagOf(g.Host, g.Name)
	if err := p.move(ctx, tag, im); err != nil {
		return nil, p.fault(ctx, "set the tag "+tag, err)
	}
	return s, nil
}

// describe puts manifest and notes there.
func (p *Place) describe(ctx context.Context, g Generation, im image) error {
	if err := errors.Join(p.put(ctx, im.config), p.putManifest(ctx, im.manifest)); err != nil {
		return err
	}
	if err := p.put(ctx, blobOf(empty)); err != nil {
		return err
	}
	for _, n := range []struct {
		kind    string
		content []byte
	}{{typeManifest, g.Manifest}, {typeProvenance, g.Provenance}, {typeVerdict, g.Verdict}} {
		if n.content == nil {
			continue
		}
		if err := p.say(ctx, im.manifest, n.kind, n.content); err != nil {
			return err
		}
	}
	return nil
}

// say puts a note about an image there. One after the other: where a registry does not
// know referrers, each is a change of the same list.
func (p *Place) say(ctx context.Context, subject []byte, kind string, content []byte) error {
	n, err := noteOn(subject, kind, content)
	if err != nil {
		return err
	}
	if err := p.put(ctx, n.content); err != nil {
		return err
	}
	return p.refer(ctx, hashOf(subject), n.raw)
}

// move sets a tag, unless it is set already.
func (p *Place) move(ctx context.Context, tag string, im image) error {
	is, version, err := p.tag(ctx, tag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case is.Digest == im.hash():
		return nil
	}
	return p.setTag(ctx, tag, im.manifest, version, "")
}

// A Pointer is what a tag points to, and what is said of that.
type Pointer struct {
	Image string   // sha256:HEX, "" when there is no such tag
	Tags  [][]byte // statements about tags, signed by anybody

	version string
}

// Read returns what a tag points to.
func (p *Place) Read(ctx context.Context, tag string) (Pointer, error) {
	is, version, err := p.tag(ctx, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return Pointer{}, nil
	}
	if err != nil {
		return Pointer{}, p.fault(ctx, "read the tag "+tag, err)
	}
	notes, err := p.notes(ctx, is.Digest, typeTag)
	return Pointer{is.Digest.String(), notes[typeTag], version}, p.fault(ctx, "read who has set the tag "+tag, err)
}

// Point has a tag point to an image that was sent, if it is what was read; statement is the
// signed word that it does.
func (p *Place) Point(ctx context.Context, tag string, was Pointer, image string, statement []byte) error {
	d, err := v1.NewHash(image)
	if err != nil {
		return p.tampered("%q is no digest", image)
	}
	raw, err := p.manifest(ctx, d)
	if err == nil {
		err = p.say(ctx, raw, typeTag, statement)
	}
	if err == nil && was.Image != image {
		err = p.setTag(ctx, tag, raw, was.version, hashOf(statement).String())
	}
	return p.fault(ctx, "set the tag "+tag, err)
}
