// Package publish has generations travel between machines by way of a registry of
// container images or a bucket of S3.
//
// A generation is one OCI image, which KubeVirt boots as a containerDisk. Its layers are
// tars without compression, in this order:
//
//	disk/disk.qcow2   the disk, as the only file of the first layer: the base image byte for
//	                  byte, or the generation's own disk if that stands alone
//	bake/NAME         every other file of the generation: one of a MiB and more is a layer
//	                  of its own, all that are smaller are one layer together
//
// Everything belongs to 107:107, as whom KubeVirt runs QEMU, and has no time. A layer with
// one file says in annotations what it is, so that who has the file need not fetch it:
// org.opencontainers.image.title, the file's name or "base", and bake.content, the SHA-256
// of the file. What is said about the image refers to it (the referrers of OCI 1.1), each
// as the one layer of a manifest with an artifactType:
//
//	application/vnd.bake.manifest.v1+json      manifest.json
//	application/vnd.bake.provenance.v1+dsse    who vouches for it
//	application/vnd.bake.verdict.v1+dsse       who says that its claims held
//	application/vnd.bake.tag.v1+dsse           that a tag pointed to the image, with a number
//	                                           which only grows
//
// The image has the tag HOST-GENERATION, and HOST-current when it is what the host's link
// current points to. In a bucket the same bytes are objects:
//
//	PREFIX/blobs/sha256/HEX              layers, configurations, manifests
//	PREFIX/referrers/sha256/HEX/HEX      empty; the second refers to the first
//	PREFIX/tags/TAG                      the descriptor of an image, as OCI has it; with the digest
//	                                     of the statement that was signed for it, if there is one
//	PREFIX/NAME                          what Keep and SetRecord are given
//
// It promises:
//   - The same generation has the same image, whoever publishes it where: no time, no
//     name of a machine.
//   - What is there is not sent: a base image lies in a repository or below a prefix once,
//     whatever stands on it.
//   - A tag is set last and in one step. In a bucket it is set only if it is still what was
//     read (If-Match), and an object of a digest is never written over (If-None-Match). One that
//     was moved on and back is not what was read: it has another statement.
//   - What Download returns has the digest that the image says, and an interrupted one goes
//     on where it ended (see package download).
//
// It does not say whom to believe. Nothing that Look returns is believed: its caller checks
// signatures before it downloads, and holds what came against them afterwards.
//
// # Decisions
//
// 2026-11: KubeVirt wants one file in /disk, and refuses one with a backing file: an
// overlay cannot travel as an overlay. A disk that was never booted holds nothing but its
// size, though, so the layer has the base image itself: its digest is the one that was
// signed, every host of a fleet has the same layer, and nobody has to believe a
// conversion. The price: booted as a containerDisk such an image has the base image's
// size, not the host's; a DataVolume with the image as its source grows it. A disk of the
// host's size in the image is what bake image --flatten makes. Would change if KubeVirt
// could grow a containerDisk.
//
// 2026-11: layers are not compressed: clusters of a base image are already, a range of a
// tar can be asked for again, and the digest does not depend on somebody's gzip.
//
// 2026-11: go-containerregistry speaks to the registry, for names, logins, uploads and
// manifests; layers are fetched by package download over its transport, as its own
// reader begins again where a connection was lost. An upload that was cut begins with the
// layer again, in a registry and in a bucket: what was finished is not sent twice. Would
// change if images of tens of GiB were usual.
//
// 2026-11: a registry has no conditional writes. Two that publish current at once both
// succeed there, and the last one wins; in a bucket the second is told.
//
// 2026-11: a tag is not part of what is signed when baking, so who may write to the place
// could let it point to an older image that was good once. Therefore a statement with a
// number is signed for current, and who has seen a higher number refuses it.
//
// 2026-11: without TLS only to this machine, unless it is asked for: a token that travels
// in the clear is everybody's.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// A Place is a repository of a registry or a prefix in a bucket.
type Place struct {
	store
	address string
	known   memo
}

// Options are what a Place needs to know beside its address.
type Options struct {
	Getenv    func(string) string
	PlainHTTP bool   // without TLS to other machines, too
	Agent     string // what requests say they come from
}

// store is what registry and bucket have in common. Its errors are those of the server;
// Place makes sentences of them. What is not there is fs.ErrNotExist.
type store interface {
	has(ctx context.Context, d v1.Hash, size int64) (bool, error)
	put(ctx context.Context, l *layer) error // one that is there may be kept as it is
	putManifest(ctx context.Context, raw []byte) error
	refer(ctx context.Context, subject v1.Hash, raw []byte) error // a manifest that was put
	manifest(ctx context.Context, d v1.Hash) ([]byte, error)
	referrers(ctx context.Context, d v1.Hash) ([]v1.Hash, error)
	tag(ctx context.Context, name string) (v1.Descriptor, string, error) // and its version
	setTag(ctx context.Context, name string, raw []byte, version, mark string) error
	source(ctx context.Context, d v1.Hash) (url string, transport http.RoundTripper, err error)
	explain(err error) (said, hint string)
}

// An AddressError says that an address names no place.
type AddressError struct{ Address, Reason string }

func (e *AddressError) Error() string {
	return fmt.Sprintf("%q is no place for generations: %s: want oci://REGISTRY/REPOSITORY or s3://BUCKET/PREFIX", e.Address, e.Reason)
}

// A Fault says that a place could not be used, or does not have something.
type Fault struct {
	Place string // its address
	What  string // what could not be done, an infinitive
	Said  string // by whom it was refused, or why
	Hint  string // what to do, "" when nobody knows
	Err   error
}

func (e *Fault) Error() string {
	text := fmt.Sprintf("%s: could not %s: %s", e.Place, e.What, e.Said)
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// Unwrap returns what the server or the network said.
func (e *Fault) Unwrap() error { return e.Err }

// Network marks the error as one of the network or of a server.
func (e *Fault) Network() bool { return true }

// A TamperedError says that what a place has is not what it must be.
type TamperedError struct{ Place, Reason string }

func (e *TamperedError) Error() string { return e.Place + ": " + e.Reason }

// Integrity marks the error as a failure of trust, not of the world.
func (e *TamperedError) Integrity() bool { return true }

// errMoved says that a tag is not what it was when it was read.
var errMoved = errors.New("somebody else has moved the tag meanwhile")

// Open returns the place of an address. Nothing is asked of it yet.
func Open(address string, o Options) (*Place, error) {
	wrong := func(reason string) error { return &AddressError{address, reason} }
	kind, rest, ok := strings.Cut(address, "://")
	if !ok {
		return nil, wrong("it has no scheme")
	}
	rest = strings.TrimSuffix(rest, "/")
	var s store
	var err error
	switch kind {
	case "oci":
		s, err = openRegistry(rest, o)
	case "s3":
		s, err = openBucket(rest, o)
	default:
		return nil, wrong("its scheme is " + kind)
	}
	if err != nil {
		return nil, wrong(err.Error())
	}
	return &Place{store: s, address: kind + "://" + rest}, nil
}

// Image is how a cluster names the image with a digest, "" for one that lies in a bucket,
// from which nothing pulls images.
func (p *Place) Image(digest string) string {
	repository, ok := strings.CutPrefix(p.address, "oci://")
	if !ok {
		return ""
	}
	return repository + "@" + digest
}

// String is the address.
func (p *Place) String() string { return p.address }

// ID tells places apart that have the same address: an address in a bucket does not say
// whose bucket, the environment does.
func (p *Place) ID() string {
	if b, ok := p.store.(*bucket); ok {
		return p.address + " at " + b.client.EndpointURL().Host
	}
	return p.address
}

// fault makes a sentence of what a store has said.
func (p *Place) fault(ctx context.Context, what string, err error) error {
	var tampered *TamperedError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &tampered):
		return err
	case errors.Is(err, errMoved):
		return &Fault{p.address, what, err.Error(), "run it again", err}
	case errors.Is(err, fs.ErrNotExist):
		return &Fault{p.address, what, "it is not there", "bake publish puts it there", nil}
	}
	said, hint := p.explain(err)
	return &Fault{p.address, what, said, hint, err}
}

func (p *Place) tampered(format string, args ...any) error {
	return &TamperedError{p.address, fmt.Sprintf(format, args...)}
}

// guard refuses to speak in the clear to another machine.
type guard struct {
	http.RoundTripper
	plain bool
}

var errPlain = errors.New("it does not speak TLS")

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.plain && !isHere(req.URL.Hostname()) {
		return nil, errPlain
	}
	return g.RoundTripper.RoundTrip(req)
}

// isHere says whether a host is this machine.
func isHere(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

const hintPlain = "--plain-http allows to go without, for a network that nobody else is on"
