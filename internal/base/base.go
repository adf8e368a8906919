// Package base turns the reference to a base image into that image: verified,
// vetted, judged and kept in the cache, pinned in bake.lock.
//
// The steps belong to others: origin knows what a reference means and who vouches
// for it, download brings the bytes, inspect looks inside, image.Store keeps them.
// What is here is their order, and what holds between them when runs are killed,
// when two run at once, and when somebody else has been at the files. It is one
// package because every command that needs an image needs all of that.
//
// A reference that is pinned means what bake.lock says, and with its image in the
// cache nobody is asked anything. One that is not pinned means the newest build,
// and is pinned when that has turned out to be good.
//
// The cache (Depot.Cache, 0700) is an image.Store that all output directories
// share; the copies which disks stand on are in the store beside these disks
// (Depot.Copies). Besides its images the cache has
//
//	<sha256>.json      what is inside that image, 0600: {"schema": "bake.look/1", "findings"}
//	sha512-<sha512>    the SHA-256 of the image with that SHA-512: Debian publishes no other
//	download/          files that are not finished
//
// All of it can be removed at any time, at the price of fetching again.
//
// It promises:
//   - An Image has the digest that its publisher, or bake.lock, gives it, hashed
//     by this run unless image.Store knows that the file has not changed; it is a
//     disk that stands alone, and a system that the reference can mean and on
//     which a machine can come up.
//   - An image that is refused is not in the cache afterwards if it was not there
//     before, and is not pinned. Nor is one that did not come.
//   - An Image stays in the cache until it is closed, whoever prunes.
//   - Runs at once fetch an image once, end with the same pin and lose nobody
//     else's. One that is killed leaves nothing that the next would trip over.
//   - Pruning removes nothing that bake.lock pins, that a user it is told of
//     stands on, or that another run may be about to use.
//
// It refuses, as errors with Integrity: other bytes, another signer or an older
// list than there must be, an image of another system or without sshd and sudo; as
// a diag.List a bake.lock that cannot be right, or that lacks a pin and must not
// change; as a DirError a cache that is a link or somebody else's.
//
// It has no flags and reads no environment. Which mirror counts, where the
// directories are and what a person is shown of it all is for the caller to say.
//
// # Decisions
//
// 2026-11: a pin is written last, when the image is there, vetted and judged. So
// bake.lock never names an image that nobody has been able to use; and of runs
// that pin at once the first one counts, whatever the others were told.
//
// 2026-11: a pin has the address at the publisher, whatever mirror the image came
// from: bake.lock is committed, and a mirror is a matter of one network. Would
// change if a publisher appeared whose images are on mirrors only.
//
// 2026-11: two stores. The overlay names its base relatively, so out/ needs its
// own; the cache is shared by all out/, may be removed, and is where nothing but
// what a digest vouches for gets in. Costs nothing where the file system has
// reflinks, the size of the image elsewhere. Would change with overlays on
// absolute paths.
//
// 2026-11: the cache is a directory of the user who runs bake and of nobody else,
// and no link: what is remembered of its images is as good as that. With sudo
// that means HOME of root. And the copy beside the generations is hashed and
// compared once more, whatever the cache remembers. Would change for a cache
// that several users share, which would have to be hashed at every use.
//
// 2026-11: --locked ends with 3 and not 5 where a pin is missing: bake.lock is an
// input like the host file, and nothing came that was not what it must be.
//
// 2026-11: locks are flock(2) on the directories themselves: no file that
// somebody commits by mistake, nothing to remove. Would change if a file system
// in use refused it.
//
// 2026-11: a local file is vetted but not judged. Whoever builds an image is
// ahead of what inspect reads (another file system, no GPT), and can ask it
// (Look). Would change if inspect read everything that boots.
//
// 2026-11: who stands on an image is asked of the caller, while the stores are
// held, and not read here: what a generation is, is artifact's business, and what
// is read before the lock is out of date after it. Would change if artifact kept
// an index that this package could be handed.
package base

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sys/unix"

	"bake/internal/download"
	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/origin"
	"bake/internal/tool"
)

// A Depot is where base images are kept, and what a run that needs them has to
// work with. Its functions are called from the goroutine of the call they belong
// to, unless they say otherwise.
type Depot struct {
	Cache  string // directory of what was fetched, made if need be; with "" nothing can be obtained
	Copies string // directory of the store under the disks
	State  string // directory that remembers signed lists against replays; with "" no new one can be asked for
	Config string // directory that has bake.lock
	Tools  tool.Box

	// Others are further files like bake.lock, of other configurations that use
	// the cache: what they pin is not pruned.
	Others []string

	// Shared, when not nil, is where machines that work together keep images for each other.
	Shared Shared

	// Keyring is origin.Resolver's: nil but in tests.
	Keyring []byte

	// Say is told what a person should know, Stage what is being done and may be
	// forgotten when it is over: one line each, without its end, and not fit for
	// a terminal as it is. Say may be called by several goroutines. Not told
	// when nil.
	Say, Stage func(text string)

	// Progress, when not nil, is called before each download with the reference
	// and the URL. It returns what is to be told how far that is, in bytes (a
	// total of 0 is unknown; by several goroutines), and what is told in the end
	// how many of them came from the network. Neither may be nil.
	Progress func(reference, address string) (tell func(done, total int64), end func(received int64))
}

// A Shared is a place where machines that work together keep the images that came from their
// publishers, each of which then serves one of them. It is not believed: what comes from there
// must have the digest that a publisher gives it, and is vetted and judged like what came from
// the publisher.
type Shared interface {
	// Find returns the address of an image, and what to fetch it over. Without an address
	// the caller is to fetch it from its publisher and to Offer it, or to Pass if it did not
	// come or is no good. Find waits for another machine that was told so before.
	Find(ctx context.Context, t origin.Target) (address string, by http.RoundTripper, err error)
	// Offer keeps an image for the others.
	Offer(ctx context.Context, t origin.Target, blob image.Blob) error
	// Pass lets another machine try.
	Pass(ctx context.Context, t origin.Target) error
}

// Options say how a reference is to be taken. The zero value takes the pin or
// else the newest build of the publisher, and pins that.
type Options struct {
	Mirrors    map[string]string // base URL to use instead of the publisher's, for ubuntu and debian
	Locked     bool              // bake.lock must not change: what it does not pin is an error
	Update     bool              // the newest build, even if another is pinned: the pin moves
	AllowOlder bool              // even if a newer one has been seen or is pinned
	Transient  bool              // nothing is pinned
}

// An Image is a base image in the cache, fit for the reference it was obtained
// for. Nobody may write to its file.
type Image struct {
	origin.Target                  // Size is known
	Blob          image.Blob       // in the cache
	Findings      inspect.Findings // what is inside
	Changes       []string         // in bake.lock, as origin.Lock has them, by this call
	Cached        bool             // nothing was fetched

	hold io.Closer
}

// Close lets others prune the image. It must be called once.
func (i Image) Close() error { return i.hold.Close() }

// A DirError says that a directory cannot be used: nobody has named it, it is
// not the user's own, or another run is using it. It is about this machine, not
// about an image.
type DirError struct{ Reason error }

// Error is the reason, which names the directory.
func (e *DirError) Error() string { return e.Reason.Error() }

// Unwrap returns the reason.
func (e *DirError) Unwrap() error { return e.Reason }

// Obtain returns the base image that a reference stands for, which must be a
// release or a link, and be closed: the one that is pinned or, without a pin, the
// newest, which is pinned once nothing speaks against it. With a pin and the
// image in the cache nobody is asked anything.
//
// The error is or wraps an error with Integrity when an image or a list is not
// what it must be, one with Network when it does not come, a diag.List when
// bake.lock is to blame, a *DirError, the cause of ctx's end, or what the file
// system said.
func (d Depot) Obtain(ctx context.Context, ref origin.Ref, o Options) (found Image, err error) {
	c, err := d.cache()
	if err != nil {
		return Image{}, err
	}
	hold, err := holdDir(ctx, c.store.Dir, unix.LOCK_SH)
	if err != nil {
		return Image{}, err
	}
	defer func() {
		if err != nil {
			_ = hold.Close()
		}
	}()
	for {
		found, won, err := d.attempt(ctx, c, ref, o)
		if err != nil || won {
			found.hold = hold
			return found, err
		} // another run was first, with another build: that one counts
	}
}

// attempt obtains an image once. It has not won when another run has pinned
// another build meanwhile.
func (d Depot) attempt(ctx context.Context, c cache, ref origin.Ref, o Options) (found Image, won bool, err error) {
	lock, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return Image{}, false, err
	}
	pinned, isPinned := lock.Pin(ref)
	target := pinned
	if !isPinned || o.Update {
		if target, err = d.resolve(ctx, ref, pinned, o); err != nil {
			return Image{}, false, err
		}
	}
	if found, err = d.fetch(ctx, c, ref, target, o.Mirrors); err != nil {
		if isPinned && target == pinned {
			err = gone(ref, err)
		}
		return Image{}, false, err
	}
	target.Size = found.Blob.Size
	found.Target = target
	if o.Transient || isPinned && target == pinned {
		return found, true, nil
	}
	there, changes, err := d.pin(ctx, ref, target, o)
	found.Changes = changes
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

func (d Depot) say(format string, args ...any) {
	if d.Say != nil {
		d.Say(fmt.Sprintf(format, args...))
	}
}

func (d Depot) stage(format string, args ...any) {
	if d.Stage != nil {
		d.Stage(fmt.Sprintf(format, args...))
	}
}

// progress is Progress, or nobody.
func (d Depot) progress(reference, address string) (tell func(done, total int64), end func(received int64)) {
	if d.Progress == nil {
		return nil, func(int64) {}
	}
	return d.Progress(reference, address)
}
