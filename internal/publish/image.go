package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What the parts of an image are called.
const (
	titleKey   = "org.opencontainers.image.title"
	contentKey = "bake.content"
	baseTitle  = "base"
	markKey    = "bake.statement" // of a tag in a bucket

	typeManifest   = "application/vnd.bake.manifest.v1+json"
	typeProvenance = "application/vnd.bake.provenance.v1+dsse"
	typeVerdict    = "application/vnd.bake.verdict.v1+dsse"
	typeTag        = "application/vnd.bake.tag.v1+dsse"

	typeEnvelope = "application/vnd.dsse.envelope.v1+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
)

// A Generation is what travels.
type Generation struct {
	Host, Name string
	Arch       string // amd64 or arm64
	Disk       Part   // the base image or, if the generation's disk stands alone, that
	IsBase     bool
	Parts      []Part // the other files
	Manifest   []byte // manifest.json
	Provenance []byte // who vouches for it
	Verdict    []byte // who says that its claims held, nil when nobody does
}

// TagOf is the tag of a host's generation, or of its current one.
func TagOf(host, which string) string { return host + "-" + which }

// image is a generation as it is sent.
type image struct {
	layers   []*layer
	config   *layer
	manifest []byte
}

// config is the configuration of an image, with its fields in this order.
type config struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	Config       struct{} `json:"config"`
	RootFS       struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// pack makes the image of a generation.
func (p *Place) pack(ctx context.Context, g Generation) (image, error) {
	var im image
	title := g.Disk.Name
	if g.IsBase {
		title = baseTitle
	}
	first, err := fileLayer(title, DiskName, g.Disk)
	if err != nil {
		return im, err
	}
	im.layers = []*layer{first}
	parts := slices.Clone(g.Parts)
	slices.SortFunc(parts, func(a, b Part) int { return strings.Compare(a.Name, b.Name) })
	var small []Part
	for _, part := range parts {
		if part.Size < ownLayer {
			small = append(small, part)
			continue
		}
		l, err := fileLayer(part.Name, fileDir+part.Name, part)
		if err != nil {
			return im, err
		}
		im.layers = append(im.layers, l)
	}
	for _, l := range im.layers {
		if err := p.known.name(ctx, l); err != nil {
			return im, err
		}
	}
	rest, err := smallLayer(small)
	if err != nil {
		return im, err
	}
	im.layers = append(im.layers, rest)
	return im, im.finish(g.Arch)
}

// finish makes configuration and manifest of the layers.
func (im *image) finish(arch string) error {
	c := config{Architecture: arch, OS: "linux"}
	c.RootFS.Type = "layers"
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for _, l := range im.layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, l.hash.String())
		d := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: l.length(), Digest: l.hash}
		if l.title != "" {
			d.Annotations = map[string]string{titleKey: l.title, contentKey: l.content}
		}
		m.Layers = append(m.Layers, d)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	im.config = blobOf(text)
	m.Config = v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(text)), Digest: im.config.hash}
	im.manifest, err = json.Marshal(m)
	return err
}

func (im *image) hash() v1.Hash { return hashOf(im.manifest) }

// note is something that is said about an image.
type note struct {
	kind    string
	content *layer
	raw     []byte // the manifest that says so
}

var empty = []byte("{}")

// noteOn says something about an image.
func noteOn(subject []byte, kind string, content []byte) (note, error) {
	n := note{kind: kind, content: blobOf(content)}
	media := types.MediaType(typeEnvelope)
	if kind == typeManifest {
		media = typeManifest
	}
	var err error
	n.raw, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: kind,
		Config:  v1.Descriptor{MediaType: typeEmpty, Size: int64(len(empty)), Digest: hashOf(empty)},
		Layers:  []v1.Descriptor{{MediaType: media, Size: int64(len(content)), Digest: n.content.hash}},
		Subject: &v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(subject)), Digest: hashOf(subject)},
	})
	return n, err
}

// readManifest reads the manifest of an image or a note, which anybody may have written.
func readManifest(raw []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is no manifest of an image: %w", err)
	case m.SchemaVersion != 2 || m.MediaType != types.OCIManifestSchema1:
		return nil, fmt.Errorf("it is no manifest of OCI but %q", m.MediaType)
	case len(m.Layers) == 0 || len(m.Layers) > maxLayers:
		return nil, fmt.Errorf("it has %d layers", len(m.Layers))
	}
	for _, d := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if d.Digest.Algorithm != "sha256" || d.Size < 0 {
			return nil, fmt.Errorf("it has a blob %s of %d bytes", d.Digest, d.Size)
		}
	}
	return m, nil
}
