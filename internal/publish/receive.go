package publish

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"bake/internal/download"
)

// Limits on what a place may claim.
const (
	maxLayers    = 64
	maxReferrers = 10000
	maxNote      = 16 << 20 // bytes
	maxNotes     = 64 << 20 // bytes, of all about one image
	maxEntries   = 1000     // of a layer
)

// A Parcel is what a place says of a generation: of anybody's, until signatures are checked.
type Parcel struct {
	Image      string // digest, sha256:HEX
	Layers     []Layer
	Manifest   []byte // manifest.json, nil when there is none
	Provenance [][]byte
	Verdicts   [][]byte
	Tags       [][]byte
}

// A Fetcher fetches from a place into a directory of its own, where what was not finished
// waits for the next run.
type Fetcher struct {
	Place    *Place
	Dir      string
	Progress func(l Layer) func(done, total int64) // of one that is fetched, in bytes
	Retrying func(err error, pause time.Duration)
}

// Look reads what a place says of a tag.
func (f Fetcher) Look(ctx context.Context, tag string) (*Parcel, error) {
	p := f.Place
	is, _, err := p.tag(ctx, tag)
	if err != nil {
		return nil, p.fault(ctx, "read the tag "+tag, err)
	}
	raw, err := p.manifest(ctx, is.Digest)
	if errors.Is(err, fs.ErrNotExist) { // a tag is set last: somebody has changed it, or taken that away
		return nil, p.tampered("the tag %s leads to an image that is not there", tag)
	}
	if err != nil {
		return nil, p.fault(ctx, "read the image of "+tag, err)
	}
	m, err := readManifest(raw)
	if err != nil {
		return nil, p.tampered("the image of %s: %v", tag, err)
	}
	parcel := &Parcel{Image: is.Digest.String()}
	for _, d := range m.Layers {
		parcel.Layers = append(parcel.Layers, Layer{Title: d.Annotations[titleKey], Content: d.Annotations[contentKey], Digest: d.Digest.String(), Size: d.Size})
	}
	notes, err := p.notes(ctx, is.Digest, typeManifest, typeProvenance, typeVerdict, typeTag)
	if err != nil {
		return nil, p.fault(ctx, "read what is said about the image of "+tag, err)
	}
	if all := notes[typeManifest]; len(all) == 1 {
		parcel.Manifest = all[0]
	}
	parcel.Provenance, parcel.Verdicts, parcel.Tags = notes[typeProvenance], notes[typeVerdict], notes[typeTag]
	return parcel, nil
}

// notes reads what is said about an image, of some kinds. Anybody who may write there
// may have said it.
func (p *Place) notes(ctx context.Context, image v1.Hash, kinds ...string) (map[string][][]byte, error) {
	all := map[string][][]byte{}
	list, err := p.referrers(ctx, image)
	if err != nil {
		return all, err
	}
	room := int64(maxNotes)
	for _, d := range list[:min(len(list), maxReferrers)] {
		raw, err := p.manifest(ctx, d)
		if err != nil {
			return all, err
		}
		m, err := readManifest(raw)
		if err != nil || len(m.Layers) != 1 || m.Subject == nil || m.Subject.Digest != image {
			continue // somebody else's
		}
		for _, kind := range kinds {
			if m.ArtifactType != kind {
				continue
			}
			if room -= m.Layers[0].Size; room < 0 {
				return all, p.tampered("what is said about the image has more than %d bytes", maxNotes)
			}
			content, err := p.small(ctx, m.Layers[0])
			if err != nil {
				return all, err
			}
			all[kind] = append(all[kind], content)
		}
	}
	return all, nil
}

// small reads a blob into memory.
func (p *Place) small(ctx context.Context, d v1.Descriptor) (_ []byte, err error) {
	if d.Size < 1 || d.Size > maxNote {
		return nil, &TamperedError{p.address, fmt.Sprintf("a note of %d bytes", d.Size)}
	}
	dir, err := os.MkdirTemp("", "bake-note-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	f := Fetcher{Place: p, Dir: dir}
	file, err := f.fetch(ctx, Layer{Digest: d.Digest.String(), Size: d.Size})
	if err != nil {
		return nil, err
	}
	content, err := os.ReadFile(file.Path)
	return content, errors.Join(err, file.Forget())
}

// A File is a layer that has come.
type File = download.File

// Download fetches the layers that are wanted, several at once. A file must be forgotten
// when it was used; when a place could not be used those that came stay for the next run,
// and when it has the wrong bytes none does.
func (f Fetcher) Download(ctx context.Context, layers []Layer) ([]File, error) {
	files := make([]File, len(layers))
	var group errgroup.Group // a layer's trouble does not stop another's: what came is not asked for again
	group.SetLimit(parallel)
	for i, l := range layers {
		group.Go(func() (err error) {
			files[i], err = f.fetch(ctx, l)
			return err
		})
	}
	err := group.Wait()
	var broken interface{ Integrity() bool }
	if errors.As(err, &broken) && broken.Integrity() {
		for _, file := range files {
			err = errors.Join(err, file.Forget())
		}
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return files, err
}

func (f Fetcher) fetch(ctx context.Context, l Layer) (File, error) {
	d, err := v1.NewHash(l.Digest)
	if err != nil {
		return File{}, f.Place.tampered("%q is no digest", l.Digest)
	}
	url, transport, err := f.Place.source(ctx, d)
	if err != nil {
		return File{}, f.Place.fault(ctx, "fetch "+l.Digest, err)
	}
	get := download.Fetcher{Transport: ends{transport, l.Size}, Retrying: f.Retrying}
	if f.Progress != nil {
		get.Progress = f.Progress(l)
	}
	return get.Fetch(ctx, download.Want{URL: url, Size: l.Size, Algorithm: "sha256", Digest: d.Hex}, f.Dir)
}

// ends says where the rest of a blob ends: there are registries that do not understand a
// range without an end.
type ends struct {
	http.RoundTripper
	size int64
}

func (e ends) RoundTrip(req *http.Request) (*http.Response, error) {
	if r := req.Header.Get("Range"); strings.HasSuffix(r, "-") && e.size > 0 {
		req = req.Clone(req.Context())
		req.Header.Set("Range", r+strconv.FormatInt(e.size-1, 10))
	}
	return e.RoundTripper.RoundTrip(req)
}

// Files calls do for each file of a layer: DiskName, or the name of a file of the
// generation behind bake/.
func Files(layer string, do func(name string, content *io.SectionReader) error) (err error) {
	file, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer file.Close()
	read := tar.NewReader(file)
	for range maxEntries {
		h, err := read.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &TamperedError{"a layer", "it is no tar: " + err.Error()}
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg || h.Name != path.Clean(h.Name) || h.Name != DiskName && path.Dir(h.Name)+"/" != fileDir:
			return &TamperedError{"a layer", fmt.Sprintf("there is a %q in it, which is no file of a generation", h.Name)}
		}
		at, err := file.Seek(0, io.SeekCurrent) // the reader reads no byte ahead
		if err != nil {
			return err
		}
		if err := do(h.Name, io.NewSectionReader(file, at, h.Size)); err != nil {
			return err
		}
	}
	return &TamperedError{"a layer", "there are too many files in it"}
}

// FileName is what a file in a layer is called in its generation.
func FileName(inLayer string) string {
	if inLayer == DiskName {
		return path.Base(inLayer)
	}
	return strings.TrimPrefix(inLayer, fileDir)
}
