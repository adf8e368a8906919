// Package download turns a URL whose digest is known into a whole, verified
// file, however often the way there is cut.
//
// The digest is the only thing trusted: where it comes from, and who signed
// that, is the caller's business. Servers, proxies, redirects, the network and
// the bytes that an earlier run left on this disk are not trusted; they can cost
// time, but they cannot put other bytes under the digest's name.
//
// For one digest, [Fetcher.Fetch] keeps in its directory (0700):
//
//	<algorithm>-<digest>             the whole file, 0444, hashed before it had this name
//	<algorithm>-<digest>.part        the bytes so far, from the start on, 0600
//	<algorithm>-<digest>.part.json   which version of which URL they are, 0600
//	<algorithm>-<digest>.lock        locked by the run that writes
//	<algorithm>-<digest>.users       locked, shared, by every run that has an interest
//
// .part.json is {"schema": "bake.part/1", "url", "etag", "last_modified",
// "total"}: the URL that answered, without credentials, query and fragment, and
// the size of the file in bytes, 0 if unknown. It says nothing of how far the
// download is: that is the length of .part and can therefore not disagree with
// it. It is written before the first byte and removed before the file is
// emptied, so bytes without it, or with one that makes no sense, are of no known
// version and are dropped.
//
// It promises:
//   - The file of a [File] has the digest that was wanted, hashed by this call
//     from the bytes in the order in which they were written. What an earlier
//     run left is hashed again, whether part or whole.
//   - A run that is cut off (kill -9, cancellation, a lost network) loses at most
//     the 256 KiB that it was about to write, and what the network had under way;
//     the next run asks for the rest.
//   - Runs that want one digest at the same time, threads or processes, make one
//     download. If the run that makes it dies, one of those that wait goes on
//     where it ended. Different digests do not wait for each other. With
//     [Fetcher.Stored] that also holds for a run which comes just after the
//     others have put the file into a store and have forgotten it.
//   - Memory does not grow with the file: 2 MiB of buffers.
//   - No credentials, and no Referer, reach another host, port or scheme than
//     the one they were given for; they are in no message and in no file.
//
// It refuses, as an [IntegrityError]: another digest; a body or an announced
// size that is longer or shorter than the size that is known, or above 64 GiB
// when none is; a redirect from https to http; a compressed body; an HTML page;
// an answer with another range than was asked for. As a [NetworkError]: more
// than five redirects, a certificate that does not verify, every status that is
// neither the file nor a reason to come back.
//
// It comes back after connection errors, bodies that are cut or silent for a
// minute, and the statuses 408, 429 and 5xx, with a growing pause or the one
// that Retry-After asks for (two minutes at most), and gives up after six
// attempts in a row of which none brought 64 KiB beyond what there was before.
//
// # Decisions
//
// 2026-11: the file is finished here, under its own name, and not streamed into
// the store of base images, which copies and hashes it again. A stream could
// not be resumed by the store without teaching it everything that is in this
// package; now neither knows of the other. It costs one local copy (none where
// the file system has reflinks) and the room for it until [File.Forget]. Would
// change if images grew so large that the room for two is a problem.
//
// 2026-11: own code over net/http. The retrying clients that there are retry the
// request and not the body, and the body is where downloads break.
//
// 2026-11: resuming asks with If-Range, but only where the URL itself answered
// last time. Behind a redirector each answer may come from another mirror with
// its own ETag for the same bytes, and If-Range would throw away what is there
// every time. Without it, and for servers that send no validator, the digest
// decides: if a file that was put together from several answers is not the
// wanted one, all of it is fetched once more in one piece before anybody is
// accused.
//
// 2026-11: the state of the hash is not kept beside the partial, although
// crypto/sha256 could marshal it. Reading 1 GiB back takes a second, and what
// the digest covers is then what is on the disk.
//
// 2026-11: each block is written before the next is read, by the same goroutine,
// and hashed by another one meanwhile. More buffers between socket and disk
// would make a kill more expensive and nothing faster.
//
// 2026-11: the finished file is synced, although its next user hashes it again:
// a name that survives a power cut with nothing behind it would look like an
// attack. Write-back is started every 8 MiB, so that there is little left to
// wait for.
//
// 2026-11: proxies are taken from the environment, as curl does. With a known
// digest a proxy can refuse and delay, and nothing else.
package download

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	hardCap     = 64 << 30  // bytes, of a file whose size nobody knows
	blockSize   = 256 << 10 // bytes: what a kill can cost
	minProgress = 64 << 10  // bytes, for an attempt to count as one that got on
	staleAfter  = 14 * 24 * time.Hour
	defaultIdle = time.Minute
	attempts    = 6
)

// ErrStored says that nothing was fetched, because [Fetcher.Stored] said so.
var ErrStored = errors.New("stored by another run meanwhile")

// A Want names the bytes that are wanted, and one place that has them.
type Want struct {
	URL       string // http or https; user:password@ is used, shown and stored nowhere
	Size      int64  // in bytes, 0 when unknown
	Algorithm string // sha256 or sha512
	Digest    string // lower-case hexadecimal
}

// A File is what was wanted. It must not be written to, and Forget must be
// called when it is no longer needed.
type File struct {
	Path     string // in the directory given to Fetch, named <algorithm>-<digest>
	SHA256   string // lower-case hexadecimal, also when another digest was wanted
	Size     int64  // in bytes
	Received int64  // bytes of body that this call took from the network, 0 if none

	claim *claim
}

// Forget ends the interest in the file, and removes it if nobody else has one:
// neither another File nor a Fetch that waits. It is safe to call twice. A File
// that is not forgotten, because its process died, is found by the next Fetch of
// its digest, or removed after 14 days.
func (f File) Forget() error {
	if f.claim == nil {
		return nil
	}
	if err := f.claim.release(true); err != nil {
		return fmt.Errorf("forgetting %s: %w", f.Path, err)
	}
	return nil
}

// Progress is told how many bytes of a file are there and how many there will
// be, 0 when unknown. It is called by one goroutine at a time, after each block
// of at most 256 KiB, must be quick, and may see done fall when a download has
// to start again.
type Progress func(done, total int64)

// A Fetcher downloads. The zero value is ready, and one can be used by several
// goroutines if its functions can.
type Fetcher struct {
	Transport http.RoundTripper                    // with HTTP/2, proxies from the environment and no compression when nil
	Progress  Progress                             // not told when nil; while another run downloads it is told of that
	Retrying  func(err error, pause time.Duration) // told before each pause when not nil
	Idle      time.Duration                        // without a byte, after which a connection is given up; a minute when 0

	// Stored, when not nil, is asked before the network is, at a moment when
	// no other run can have the file and nobody is writing it. If it is true,
	// Fetch fails with ErrStored. Who looks into a store only before Fetch can
	// miss what is stored, and forgotten here, between the two.
	Stored func(Want) bool

	now    func() time.Time
	jitter func() float64 // in [0, 1)
	sleep  func(context.Context, time.Duration) error
}

// Fetch makes dir if need be and returns the wanted file in it, downloading what
// is not there yet. It blocks while another run downloads the same digest. The
// error is an *IntegrityError when what came is not what was wanted, a
// *NetworkError when it did not come, wraps the cause of ctx when that ended (a
// later Fetch resumes), and is the system's when the disk is at fault.
func (f Fetcher) Fetch(ctx context.Context, want Want, dir string) (File, error) {
	f = f.complete()
	at, err := want.check()
	if err != nil {
		return File{}, err
	}
	file, err := f.fetch(ctx, want, dir)
	if err != nil {
		return File{}, locate(err, at)
	}
	return file, nil
}

func (f Fetcher) complete() Fetcher {
	if f.Transport == nil {
		f.Transport = transport()
	}
	if f.Progress == nil {
		f.Progress = func(int64, int64) {}
	}
	if f.Retrying == nil {
		f.Retrying = func(error, time.Duration) {}
	}
	if f.Stored == nil {
		f.Stored = func(Want) bool { return false }
	}
	if f.Idle <= 0 {
		f.Idle = defaultIdle
	}
	if f.now == nil {
		f.now = time.Now
	}
	if f.jitter == nil {
		f.jitter = rand.Float64
	}
	if f.sleep == nil {
		f.sleep = sleep
	}
	return f
}

// check judges a Want before anything is done with it, and returns its URL as
// it may be shown. The digest becomes part of a path.
func (w Want) check() (shown string, err error) {
	u, err := url.Parse(w.URL)
	if err != nil {
		return "", errors.New("downloading: the URL cannot be parsed") // its error quotes the password
	}
	length, known := map[string]int{"sha256": 64, "sha512": 128}[w.Algorithm]
	raw, err := hex.DecodeString(w.Digest)
	switch shown = show(u); {
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("downloading %s: only http:// and https:// URLs can be", shown)
	case !known:
		return "", fmt.Errorf("downloading %s: the digest's algorithm is %q, expected sha256 or sha512", shown, w.Algorithm)
	case err != nil || len(w.Digest) != length || hex.EncodeToString(raw) != w.Digest:
		return "", fmt.Errorf("downloading %s: %q is no %s in lower-case hexadecimal", shown, w.Digest, w.Algorithm)
	case w.Size < 0:
		return "", fmt.Errorf("downloading %s: a size of %d bytes cannot be", shown, w.Size)
	}
	return shown, nil
}

// show writes a URL without what may be secret in it: signed URLs have their
// signature in the query.
func show(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return bare.String()
}

func (w Want) name() string { return w.Algorithm + "-" + w.Digest }

func (f Fetcher) fetch(ctx context.Context, want Want, dir string) (File, error) {
	c, err := f.claim(ctx, dir, want.name())
	if err != nil {
		return File{}, err
	}
	file, err := f.claimed(ctx, want, c)
	if err != nil {
		return File{}, errors.Join(err, c.release(false))
	}
	file.claim = c
	return file, nil
}

// claimed returns the file that another run has finished meanwhile, or becomes
// the run that downloads it.
func (f Fetcher) claimed(ctx context.Context, want Want, c *claim) (File, error) {
	unlock, err := c.lock(ctx, func(done int64) { f.Progress(done, want.Size) })
	if err != nil {
		return File{}, err
	}
	defer unlock()
	file, err := c.finished(ctx, want)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return file, err
	case f.Stored(want):
		return File{}, ErrStored
	}
	return f.download(ctx, want, c)
}

// download fetches what is missing, and once more everything if what was put
// together from several pieces turns out wrong.
func (f Fetcher) download(ctx context.Context, want Want, c *claim) (File, error) {
	p, err := openPartial(c, want)
	if err != nil {
		return File{}, err
	}
	defer p.close()
	if err := p.hashPresent(ctx); err != nil {
		return File{}, err
	}
	for {
		if err := f.fill(ctx, p); err != nil {
			return File{}, err
		}
		last := !p.mixed || p.again
		file, err := p.finish()
		var wrong *IntegrityError
		if !errors.As(err, &wrong) || last {
			return file, err
		}
		p.again = true
	}
}

// fill asks until the partial is whole, or no more asking makes sense.
func (f Fetcher) fill(ctx context.Context, p *partial) error {
	failed, best := 0, p.offset
	for !p.whole() {
		err := f.attempt(ctx, p)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		failed++
		if p.whole() || p.offset-best >= minProgress {
			failed, best = 0, p.offset
		}
		var cut *transient
		switch {
		case err == nil && failed < attempts:
			continue // whole, or the server answers in portions
		case err == nil:
			return p.giveUp(errors.New("the server sends too little at a time"))
		case !errors.As(err, &cut):
			return err
		case failed >= attempts:
			return p.giveUp(cut.err)
		}
		pause := f.pause(failed, cut.after)
		f.Retrying(cut.err, pause)
		if err := f.sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

func (p *partial) giveUp(err error) *NetworkError {
	advice := "check the connection and the proxy, or choose another mirror, and run again"
	if p.offset > 0 {
		advice = fmt.Sprintf("%s kept, run again to go on from there, or choose another mirror", amount(p.offset, p.state.Total))
	}
	return &NetworkError{Err: fmt.Errorf("%w (%d attempts without progress)", err, attempts), Advice: advice}
}

// amount is part of a message: how far a download is.
func amount(done, total int64) string {
	if total == 0 {
		return fmt.Sprintf("%d bytes are", done)
	}
	return fmt.Sprintf("%d of %d bytes are", done, total)
}
