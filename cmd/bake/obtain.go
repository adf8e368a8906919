package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/download"
	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/origin"
)

// base is a base image that was verified, vetted and found fit.
type base struct {
	origin.Target
	blob     image.Blob // in the cache
	findings inspect.Findings
	changes  []string  // in bake.lock
	cached   bool      // nothing was fetched
	hold     io.Closer // keeps the cache from being pruned
}

// obtain returns the base image that a reference stands for: the one that is
// pinned or, without a pin, the newest, which is pinned once nothing speaks
// against it. With a pin and the image in the cache nobody is asked anything.
func (a *app) obtain(ctx context.Context, ref origin.Ref, fileMirrors map[string]string, o baseOptions) (found base, err error) {
	mirrors, err := a.mirrors(fileMirrors, o)
	if err != nil {
		return base{}, err
	}
	c, err := a.cache()
	if err != nil {
		return base{}, err
	}
	hold, err := holdDir(ctx, c.store.Dir, unix.LOCK_SH)
	if err != nil {
		return base{}, err
	}
	defer func() {
		if err != nil {
			_ = hold.Close()
		}
	}()
	for {
		found, won, err := a.attempt(ctx, c, ref, mirrors, o)
		if err != nil || won {
			found.hold = hold
			return found, err
		} // another run was first, with another build: that one counts
	}
}

// attempt obtains an image once. It has not won when another run has pinned
// another build meanwhile.
func (a *app) attempt(ctx context.Context, c cache, ref origin.Ref, mirrors map[string]string, o baseOptions) (found base, won bool, err error) {
	lock, err := origin.ReadLock(a.lockFile())
	if err != nil {
		return base{}, false, err
	}
	pinned, isPinned := lock.Pin(ref)
	target := pinned
	if !isPinned || o.update {
		if target, err = a.resolve(ctx, ref, mirrors, o, pinned); err != nil {
			return base{}, false, err
		}
	}
	if found, err = a.fetch(ctx, c, ref, target, mirrors); err != nil {
		if isPinned && target == pinned {
			err = gone(ref, err)
		}
		return base{}, false, err
	}
	target.Size = found.blob.Size
	found.Target = target
	if o.transient || isPinned && target == pinned {
		return found, true, nil
	}
	there, changes, err := a.pin(ctx, ref, target, o)
	found.changes = changes
	return found, there == target, err
}

// gone says what a pin has to do with an image that does not come: publishers
// remove builds after some months.
func gone(ref origin.Ref, err error) error {
	var down *download.NetworkError
	if ref.Kind != origin.Release || ref.Serial != "" || !errors.As(err, &down) {
		return err
	}
	return fmt.Errorf("%w; bake.lock pins this build: if it is gone for good, bake pull --update takes a newer one", err)
}

// resolve asks the publisher, or its mirror, what a reference means today.
func (a *app) resolve(ctx context.Context, ref origin.Ref, mirrors map[string]string, o baseOptions, pinned origin.Target) (origin.Target, error) {
	if o.locked {
		return origin.Target{}, a.unpinned(ref)
	}
	state := a.stateDir()
	if state == "" {
		return origin.Target{}, lackError{errors.New("there is no directory to remember lists of images in: set HOME or XDG_STATE_HOME")}
	}
	a.stage("%s: asking what is newest", ref)
	r := origin.Resolver{State: state, Mirrors: mirrors, AllowOlder: o.allowOlder, Keyring: keyring}
	target, err := r.Resolve(ctx, ref)
	if err != nil {
		return origin.Target{}, err
	}
	target.Signed = target.Signed.UTC() // as it will be read back
	place := publisher(ref)
	target.URL = moved(target.URL, mirrors[place], publishers[place])
	return target, older(target, pinned, o.allowOlder)
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
func (a *app) fetch(ctx context.Context, c cache, ref origin.Ref, target origin.Target, mirrors map[string]string) (base, error) {
	for {
		found, err := a.cached(ctx, c, ref, target)
		if !errors.Is(err, errNotCached) {
			return found, err
		}
		place := publisher(ref)
		want := download.Want{URL: moved(target.URL, publishers[place], mirrors[place]), Size: target.Size,
			Algorithm: target.Algorithm, Digest: target.Digest}
		m := &meter{ui: a.ui, label: ref.String(), from: want.URL, now: time.Now}
		fetcher := download.Fetcher{Progress: m.tell, Stored: func(download.Want) bool { return c.has(target) },
			Retrying: func(err error, pause time.Duration) {
				a.say("%s: %v; trying again in %v", ref, err, pause.Round(100*time.Millisecond))
			}}
		file, err := fetcher.Fetch(ctx, want, c.downloads())
		if errors.Is(err, download.ErrStored) {
			continue
		}
		if err != nil {
			return base{}, fmt.Errorf("%s: %w", ref, err)
		}
		m.end(file.Received)
		a.stage("%s: looking inside", ref)
		found, err = c.take(ctx, ref, target, file)
		return found, errors.Join(err, file.Forget())
	}
}
