package base

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bake/internal/download"
	"bake/internal/image"
	"bake/internal/origin"
)

// publishers have the images of bake.lock, whatever mirror they came from.
var publishers = map[string]string{"ubuntu": "https://cloud-images.ubuntu.com", "debian": "https://cloud.debian.org"}

// publisher returns the distribution that a reference's mirror is set for.
func publisher(ref origin.Ref) string { return strings.TrimSuffix(ref.Distro, "-minimal") }

// moved returns a URL below another base, or as it is when it is not below the
// first.
func moved(address, from, to string) string {
	if rest, ok := strings.CutPrefix(address, strings.TrimRight(from, "/")+"/"); ok && from != "" && to != "" {
		return strings.TrimRight(to, "/") + "/" + rest
	}
	return address
}

// Newest says what a reference means today, and fetches and pins nothing: that the
// image is good for anything is not known then. A local file has no newest.
func (d Depot) Newest(ctx context.Context, ref origin.Ref, o Options) (origin.Target, error) {
	lock, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return origin.Target{}, err
	}
	pinned, _ := lock.Pin(ref)
	return d.resolve(ctx, ref, pinned, o)
}

// resolve asks the publisher, or its mirror, what a reference means today.
func (d Depot) resolve(ctx context.Context, ref origin.Ref, pinned origin.Target, o Options) (origin.Target, error) {
	if o.Locked {
		return origin.Target{}, d.unpinned(ref)
	}
	if d.State == "" {
		return origin.Target{}, &DirError{errors.New("there is no directory to remember lists of images in: set HOME or XDG_STATE_HOME")}
	}
	d.stage("%s: asking what is newest", ref)
	r := origin.Resolver{State: d.State, Mirrors: o.Mirrors, AllowOlder: o.AllowOlder, Keyring: d.Keyring}
	target, err := r.Resolve(ctx, ref)
	if err != nil {
		return origin.Target{}, err
	}
	target.Signed = target.Signed.UTC() // as it will be read back
	place := publisher(ref)
	target.URL = moved(target.URL, o.Mirrors[place], publishers[place])
	return target, older(target, pinned, o.AllowOlder)
}

// older refuses to move a pin back: the machine that made it may have seen more
// than this one.
func older(target, pinned origin.Target, allowed bool) error {
	day := func(serial string) string { return serial[:min(len(serial), len("20060102"))] }
	back := target.Signed.Before(pinned.Signed) || target.Serial != "" && day(target.Serial) < day(pinned.Serial)
	if !back || allowed {
		return nil
	}
	return &origin.IntegrityError{URL: target.URL,
		Err: fmt.Errorf("a replay: bake.lock pins the build %s of %s, signed at %s, and this is the older %s",
			pinned.Serial, pinned.Reference, pinned.Signed.Format(time.RFC3339), target.Serial),
		Advice: "use a mirror that is up to date, or allow the older one on purpose (--allow-older)"}
}

// fetch returns the image of a target from the cache or, failing that, from the
// network. Nothing stays in the cache that was refused.
func (d Depot) fetch(ctx context.Context, c cache, ref origin.Ref, target origin.Target, mirrors map[string]string) (Image, error) {
	isOurs := false // to fetch for the others, who wait
	for {
		found, err := d.cached(ctx, c, ref, target)
		if !errors.Is(err, errNotCached) {
			if isOurs { // and another run on this machine was quicker
				d.share(ctx, ref, target, found.Blob, err)
			}
			return found, err
		}
		place := publisher(ref)
		address, by, err := d.find(ctx, ref, target)
		if err != nil {
			return Image{}, err
		}
		isOurs = address == ""
		want := download.Want{URL: cmp.Or(address, moved(target.URL, publishers[place], mirrors[place])), Size: target.Size,
			Algorithm: target.Algorithm, Digest: target.Digest}
		shown := want.URL
		if address != "" { // it may be signed, and opens the place to whoever reads it
			shown = "what the others have fetched"
		}
		tell, end := d.progress(ref.String(), shown)
		fetcher := download.Fetcher{Transport: by, Progress: tell, Stored: func(download.Want) bool { return c.has(target) },
			Retrying: func(err error, pause time.Duration) {
				d.say("%s: %v; trying again in %v", ref, err, pause.Round(100*time.Millisecond))
			}}
		file, err := fetcher.Fetch(ctx, want, c.downloads())
		if errors.Is(err, download.ErrStored) {
			continue
		}
		if err != nil && address != "" && ctx.Err() == nil {
			d.say("%s: %v: fetching it from its publisher", ref, err)
			d.Shared = nil
			continue
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", ref, err)
		} else {
			end(file.Received)
			d.stage("%s: looking inside", ref)
			found, err = c.take(ctx, ref, target, file)
		}
		if isOurs {
			d.share(ctx, ref, target, found.Blob, err)
		}
		return found, errors.Join(err, file.Forget())
	}
}

// share gives others an image that came from its publisher, or lets one of them try.
func (d Depot) share(ctx context.Context, ref origin.Ref, target origin.Target, blob image.Blob, failed error) {
	if d.Shared == nil || ctx.Err() != nil {
		return
	}
	var err error
	if failed != nil {
		err = d.Shared.Pass(ctx, target)
	} else {
		d.stage("%s: keeping it for the others", ref)
		err = d.Shared.Offer(ctx, target, blob)
	}
	if err != nil {
		d.say("%s: the others must fetch it themselves: %v", ref, err)
	}
}

// find asks whether another machine has fetched an image. A place that does not answer costs
// what it would have spared.
func (d Depot) find(ctx context.Context, ref origin.Ref, target origin.Target) (address string, by http.RoundTripper, err error) {
	if d.Shared == nil {
		return "", nil, nil
	}
	d.stage("%s: asking whether others have it", ref)
	if address, by, err = d.Shared.Find(ctx, target); err != nil && ctx.Err() == nil {
		d.say("%s: %v: fetching it from its publisher", ref, err)
		return "", nil, nil
	}
	return address, by, err
}
