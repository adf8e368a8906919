package main

// How a generation comes from where another hypervisor has put it.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/provenance"
	"bake/internal/publish"
)

// transferName is the directory beside the hosts' where layers wait until they are whole.
const transferName = ".transfer"

func runFetch(ctx context.Context, a *app, o publishOptions) error {
	ring, err := a.ringOf(o.key)
	if err != nil {
		return err
	}
	views := []publishView{}
	failed := o.each(ctx, func(name string) error {
		view, err := a.receive(ctx, o, ring, name)
		if err == nil {
			views = append(views, view)
		}
		return err
	})
	return errors.Join(a.printMoved(views), failed)
}

// offer is a generation that a place has and that may be believed: somebody who counts
// has signed its manifest.
type offer struct {
	*publish.Parcel
	m          artifact.Manifest
	by         provenance.Public
	provenance []byte
	verdict    []byte // nil when nobody who counts has signed that its claims held
	number     int64  // of the tag current, 0 for another
}

// receive gets one host's generation.
func (a *app) receive(ctx context.Context, o publishOptions, ring provenance.Ring, name string) (v publishView, err error) {
	f := publish.Fetcher{Place: o.place, Dir: filepath.Join(a.out, transferName),
		Progress: func(l publish.Layer) func(done, total int64) {
			m := &meter{ui: a.ui, label: name, from: o.place.String(), now: time.Now}
			if l.Size < 1<<20 {
				return func(int64, int64) {}
			}
			return m.tell
		},
		Retrying: func(err error, pause time.Duration) {
			a.say("%s: %v; again in %v", name, err, pause.Round(100*time.Millisecond))
		}}
	a.stage("%s: reading what %s has", name, o.place)
	tag := publish.TagOf(name, o.generation)
	parcel, err := f.Look(ctx, tag)
	if err != nil {
		return v, err
	}
	of, err := a.believe(o, ring, name, parcel)
	if err != nil {
		return v, fmt.Errorf("what %s calls %s is refused: %w", o.place, tag, err)
	}
	v = publishView{Host: name, Generation: of.m.Generation, Place: o.place.String(), Image: parcel.Image, Tags: []string{tag}}
	of.mark(ctx, a)
	v.Layers = of.Layers
	for _, l := range of.Layers {
		if !l.There {
			v.Sent += l.Size
		}
	}
	if o.dry {
		a.say("%s: generation %s, signed by %s, would be fetched", name, of.m.Generation, of.by)
		return v, nil
	}
	if !o.locked {
		lock, err := artifact.Lock(ctx, a.out, of.m.Host)
		if err != nil {
			return v, lackError{err}
		}
		defer lock.Close()
	}
	if err := a.bringIn(ctx, f, of); err != nil {
		return v, err
	}
	a.say("%s: generation %s, baked and signed by %s, is here%s", name, of.m.Generation, of.by, map[bool]string{true: " and current"}[of.number > 0])
	return v, err
}

func distrust(format string, args ...any) error {
	return &provenance.UntrustedError{Reason: fmt.Sprintf(format, args...)}
}

// believe checks who has signed what a place says, before anything else of it is used.
func (a *app) believe(o publishOptions, ring provenance.Ring, name string, p *publish.Parcel) (of *offer, err error) {
	if p.Manifest == nil {
		return nil, distrust("there is not one manifest to it")
	}
	m, err := artifact.DecodeManifest(p.Manifest)
	if err != nil {
		return nil, err
	}
	of = &offer{Parcel: p, m: m}
	sum := sha256.Sum256(p.Manifest)
	err = distrust("it is not signed")
	for _, envelope := range p.Provenance {
		if _, of.by, err = checkSigned(ring, envelope, m, hex.EncodeToString(sum[:])); err == nil {
			of.provenance = envelope
			break
		}
	}
	switch {
	case err != nil:
		return nil, err
	case m.Host != name:
		return nil, distrust("it is host %s's", m.Host)
	case o.generation != "current" && m.Generation != o.generation:
		return nil, distrust("it is generation %s", m.Generation)
	}
	if err := of.fits(); err != nil {
		return nil, err
	}
	err = distrust("there is no signed word that its claims held")
	for _, envelope := range p.Verdicts {
		if _, _, err = judgeVerdict(ring, envelope, hex.EncodeToString(sum[:])); err == nil {
			of.verdict = envelope
			break
		}
	}
	if o.generation != "current" {
		return of, nil
	}
	if err != nil {
		return nil, err
	}
	return of, a.isNewest(o, ring, name, of)
}

// perFile is more than a tar needs for a file beside its content.
const perFile = 8 << 10

// fits refuses layers that are larger than what was signed can be: nobody has signed the
// image, and what it says of its layers is what would be fetched.
func (of *offer) fits() error {
	all := int64(perFile) // of a layer with several files
	for _, file := range of.m.Files {
		all += file.Size + perFile
	}
	seen := map[string]bool{}
	for _, l := range of.Layers {
		most := all
		switch file, ok := of.m.Files[l.Title]; {
		case ok:
			most = file.Size + perFile
		case l.Title == "base": // a qcow2, with its tables and with nothing left out
			most = of.m.Base.VirtualSize + of.m.Base.VirtualSize>>6 + 64<<20
		case l.Title != "":
			return distrust("there is a layer %q, and no such file was signed", l.Title)
		}
		switch {
		case seen[l.Title]:
			return distrust("there are two layers %q", l.Title)
		case l.Size < 1 || l.Size > most:
			return distrust("the layer %q has %d bytes, and what was signed makes it at most %d", l.Title, l.Size, most)
		}
		seen[l.Title] = true
	}
	return nil
}

// isNewest refuses a tag current that nobody who counts has set, or that was moved back.
func (a *app) isNewest(o publishOptions, ring provenance.Ring, name string, of *offer) error {
	tag := publish.TagOf(name, "current")
	number, ok := pointed(ring, of.Tags, tag, of.Image)
	if !ok || number < 1 {
		return distrust("nobody whose signature counts has set the tag to generation %s: it was moved", of.m.Generation)
	}
	of.number = number
	return of.isNewest(a.out, o.place)
}

// isNewest refuses a number that is smaller than one that was seen.
func (of *offer) isNewest(out string, place *publish.Place) error {
	seen, err := shownBy(out, of.m.Host, place.ID())
	if err == nil && of.number < seen {
		err = distrust("the tag was moved back to generation %s: its number is %d, and %d was seen", of.m.Generation, of.number, seen)
	}
	return err
}

// mark says of every layer whether what is in it is here.
func (of *offer) mark(ctx context.Context, a *app) {
	for i, l := range of.Layers {
		if l.Title != "base" || l.Content != of.m.Base.SHA256 {
			continue
		}
		_, err := a.store().Get(ctx, of.m.Base.SHA256) // a damaged one is told of when it is used
		of.Layers[i].There = !errors.Is(err, fs.ErrNotExist)
	}
}

// bringIn fetches the layers of an offer and makes a generation of them. The host is locked.
func (a *app) bringIn(ctx context.Context, f publish.Fetcher, of *offer) (err error) {
	if g, err := artifact.Open(a.out, of.m.Host, of.m.Generation); err == nil && a.isHere(ctx, f.Place, g, of) {
		return a.settle(f.Place, g, of)
	}
	hold, err := a.holdBases(ctx)
	if err != nil {
		return err
	}
	defer hold.Close()
	of.mark(ctx, a) // again: until now a base image could go
	secrets, err := a.secretsFor(ctx, of.m)
	if err != nil {
		return err
	}
	wanted := slices.DeleteFunc(slices.Clone(of.Layers), func(l publish.Layer) bool { return l.There })
	files, err := f.Download(ctx, wanted)
	if err != nil {
		return err
	}
	defer func() {
		for _, file := range files { // they are used, or worth nothing
			err = errors.Join(err, file.Forget())
		}
	}()
	a.stage("%s: checking generation %s", of.m.Host, of.m.Generation)
	g, err := a.unpack(ctx, files, of, secrets)
	if err != nil {
		return err
	}
	return a.settle(f.Place, g, of)
}

// isHere says whether a generation is what is offered, and whole. Nobody has signed that what is
// said of an image is said of that image: it must be the one that the generation makes, or the
// number of a newer one would make this one current.
func (a *app) isHere(ctx context.Context, place *publish.Place, g artifact.Generation, of *offer) bool {
	content, _, err := g.Provenance()
	if err != nil || string(content) != string(of.provenance) || g.Verify(ctx) != nil {
		return false
	}
	own, err := a.parcelOf(ctx, g)
	if err != nil {
		return false
	}
	image, err := place.Digest(ctx, own)
	return err == nil && image == of.Image
}

// settle puts the verdict beside a generation that is here, and makes it current if that
// is what was asked for. What the place has shown is noted before that, and looked at again: the
// host was not ours when the number was read, and a run that is killed in between must not have
// an older one come.
func (a *app) settle(place *publish.Place, g artifact.Generation, of *offer) error {
	if of.verdict == nil {
		return nil
	}
	if old, err := os.ReadFile(g.Path(verdictReport)); err != nil || string(old) != string(of.verdict) {
		if err := g.WriteReport(verdictReport, of.verdict); err != nil {
			return err
		}
	}
	if of.number == 0 {
		return nil
	}
	if err := of.isNewest(a.out, place); err != nil {
		return err
	}
	if err := noteShown(a.out, of.m.Host, place.ID(), of.number); err != nil {
		return err
	}
	if now, err := os.Readlink(filepath.Join(a.out, of.m.Host, "current")); err == nil && now == of.m.Generation {
		return nil
	}
	return g.Promote()
}

// holdBases keeps base images from being pruned.
func (a *app) holdBases(ctx context.Context) (io.Closer, error) {
	dir := a.store().Dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return base.Hold(ctx, dir)
}

// unpack makes a generation of layers. The base images are held.
func (a *app) unpack(ctx context.Context, layers []publish.File, of *offer, secrets func() error) (g artifact.Generation, err error) {
	store := a.store()
	draft, err := artifact.Begin(a.out, of.m.Host)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, draft.Discard()) }()
	draft.VouchedBy(witness{of})
	needsBase := slices.ContainsFunc(of.Layers, func(l publish.Layer) bool { return l.Title == "base" })
	for _, layer := range layers {
		err := publish.Files(layer.Path, func(name string, content *io.SectionReader) error {
			if name == publish.DiskName && needsBase {
				_, err := store.Receive(ctx, content, of.m.Base.SHA256)
				return err
			}
			return of.place(draft, publish.FileName(name), content)
		})
		if err != nil {
			return g, err
		}
	}
	if needsBase {
		if _, err := store.Get(ctx, of.m.Base.SHA256); err != nil {
			return g, err
		}
	}
	if err := secrets(); err != nil {
		return g, err
	}
	return draft.Commit(of.m)
}

// place writes a file into the draft, if there is to be such a one. Whether it is that
// file the witness says, before the draft gets its name.
func (of *offer) place(draft *artifact.Draft, name string, content *io.SectionReader) error {
	want, ok := of.m.Files[name]
	if !ok || want.Size != content.Size() {
		return distrust("there is a file %q of %d bytes that nobody has signed", name, content.Size())
	}
	file, err := os.OpenFile(draft.Path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return distrust("there are two files %s", name)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}

// witness has a draft named only if it is what was signed.
type witness struct{ *offer }

// Sign implements artifact.Notary.
func (w witness) Sign(m artifact.Manifest, sha256sum string) ([]byte, error) {
	for name, want := range w.m.Files {
		if got, ok := m.Files[name]; !ok || got != want {
			return nil, distrust("%s is not what %s has signed", name, w.by)
		}
	}
	sum := sha256.Sum256(w.Manifest)
	if sha256sum != hex.EncodeToString(sum[:]) {
		return nil, distrust("it has other files than %s has signed", w.by)
	}
	return w.provenance, nil
}

// Check implements artifact.Notary: what was here under this name stays only if the very
// same was signed.
func (w witness) Check(g artifact.Generation) error {
	content, _, err := g.Provenance()
	if err == nil && string(content) != string(w.provenance) {
		err = distrust("another has signed it")
	}
	return err
}

// secretsFor prepares the volume of secrets, which does not travel: it is made of the
// host file that is here.
func (a *app) secretsFor(ctx context.Context, m artifact.Manifest) (write func() error, err error) {
	nothing := func() error { return nil }
	if len(m.Secrets) == 0 {
		return nothing, nil
	}
	path := filepath.Join(a.out, m.Host, secretsName)
	if _, err := os.Stat(filepath.Join(a.config, "hosts", m.Host+".yaml")); errors.Is(err, fs.ErrNotExist) {
		a.warn("%s: its secrets do not travel: %s must bring %s before it can start", m.Host, path, strings.Join(m.Secrets, ", "))
		return nothing, nil
	}
	all, err := a.prepare([]string{m.Host})
	if err == nil {
		err = a.resolve(ctx, all)
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range all[0].secrets {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, slices.Sorted(slices.Values(m.Secrets))) {
		a.warn("%s: the host file here has other secrets than the generation, which has %s", m.Host, strings.Join(m.Secrets, ", "))
	}
	return func() error {
		_, err := a.writeSecrets(path, all[0])
		return err
	}, nil
}
