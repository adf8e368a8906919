package publish

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registry is a repository of one. Logins are those of docker login and its like.
type registry struct {
	repo   name.Repository
	base   http.RoundTripper
	pusher *remote.Pusher
	puller *remote.Puller

	mutex sync.Mutex
	login http.RoundTripper // base that has logged in to fetch, nil before that
}

// connections are those of all requests. Nothing is compressed on the way: what is
// fetched in pieces must have the bytes that were asked for.
func connections(o Options) http.RoundTripper {
	return guard{&http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   2 * parallel,
		DisableCompression:    true,
		WriteBufferSize:       256 << 10,
		ReadBufferSize:        256 << 10,
	}, o.PlainHTTP}
}

// silence is how long a connection may carry nothing in either direction. It is longer
// than a server may think about an answer.
var silence = 3 * time.Minute

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return lively{conn}, nil
}

// lively is a connection that ends when it is silent. Each side keeps the other one alive:
// nothing is read while much is sent.
type lively struct{ net.Conn }

func (c lively) Read(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(silence)) // one that is closed says so when it is read
	return c.Conn.Read(b)
}

func (c lively) Write(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(silence))
	return c.Conn.Write(b)
}

func openRegistry(address string, o Options) (*registry, error) {
	options := []name.Option{name.StrictValidation}
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(address, options...)
	if err != nil {
		return nil, errors.New("that is no repository of a registry")
	}
	r := &registry{repo: repo, base: connections(o)}
	common := []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithTransport(r.base),
		remote.WithUserAgent(o.Agent), remote.WithJobs(parallel)}
	if r.pusher, err = remote.NewPusher(common...); err != nil {
		return nil, err
	}
	r.puller, err = remote.NewPuller(common...)
	return r, err
}

// document is a manifest for the library.
type document []byte

// RawManifest implements remote.Taggable.
func (d document) RawManifest() ([]byte, error) { return d, nil }

// MediaType says what is sent.
func (d document) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func absent(err error) error {
	var said *transport.Error
	if errors.As(err, &said) && said.StatusCode == http.StatusNotFound {
		return fs.ErrNotExist
	}
	return err
}

func (r *registry) has(ctx context.Context, d v1.Hash, size int64) (bool, error) {
	url, login, err := r.source(ctx, d)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return false, err
	}
	answer, err := (&http.Client{Transport: login}).Do(req)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return false, nil
	}
	return true, transport.CheckError(answer, http.StatusOK)
}

func (r *registry) put(ctx context.Context, l *layer) error { return r.pusher.Upload(ctx, r.repo, l) }

func (r *registry) putManifest(ctx context.Context, raw []byte) error {
	return r.pusher.Push(ctx, r.repo.Digest(hashOf(raw).String()), document(raw))
}

func (r *registry) refer(ctx context.Context, _ v1.Hash, raw []byte) error {
	return r.putManifest(ctx, raw) // its subject says to what
}

func (r *registry) manifest(ctx context.Context, d v1.Hash) ([]byte, error) {
	found, err := r.puller.Get(ctx, r.repo.Digest(d.String()))
	if err != nil {
		return nil, absent(err)
	}
	// The library takes a server's word for the digest of what the server calls a signed
	// manifest of Docker's first schema.
	sum, err := v1.Hasher(d.Algorithm)
	if err != nil {
		return nil, err
	}
	if _, _ = sum.Write(found.Manifest); hex.EncodeToString(sum.Sum(nil)) != d.Hex {
		return nil, &TamperedError{r.repo.Name(), "the manifest " + d.String() + " has other bytes than its name says"}
	}
	return found.Manifest, nil
}

func (r *registry) referrers(ctx context.Context, d v1.Hash) ([]v1.Hash, error) {
	index, err := remote.Referrers(r.repo.Digest(d.String()), remote.Reuse(r.puller), remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var all []v1.Hash
	for _, found := range list.Manifests {
		all = append(all, found.Digest)
	}
	return all, nil
}

func (r *registry) tag(ctx context.Context, name string) (v1.Descriptor, string, error) {
	found, err := r.puller.Get(ctx, r.repo.Tag(name))
	if err != nil {
		return v1.Descriptor{}, "", absent(err)
	}
	return found.Descriptor, "", nil
}

// setTag needs no version: a registry has no conditions.
func (r *registry) setTag(ctx context.Context, name string, raw []byte, _, _ string) error {
	return r.pusher.Push(ctx, r.repo.Tag(name), document(raw))
}

func (r *registry) source(ctx context.Context, d v1.Hash) (string, http.RoundTripper, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.login == nil {
		who, err := authn.Resolve(ctx, authn.DefaultKeychain, r.repo)
		if err != nil {
			return "", nil, err
		}
		again := transport.NewRetry(r.base) // of the login; who fetches asks again himself
		if r.login, err = transport.NewWithContext(ctx, r.repo.Registry, who, again, []string{r.repo.Scope(transport.PullScope)}); err != nil {
			r.login = nil
			return "", nil, err
		}
	}
	return fmt.Sprintf("%s://%s/v2/%s/blobs/%s", r.repo.Scheme(), r.repo.RegistryStr(), r.repo.RepositoryStr(), d), r.login, nil
}

func (r *registry) explain(err error) (said, hint string) {
	var answer *transport.Error
	switch {
	case errors.Is(err, errPlain):
		return err.Error(), hintPlain
	case !errors.As(err, &answer):
		return err.Error(), ""
	}
	for _, d := range answer.Errors {
		said = cmp.Or(said, strings.TrimSuffix(fmt.Sprintf("%s: %s", d.Code, d.Message), ": "))
	}
	said = fmt.Sprintf("the registry says %d %s", answer.StatusCode, cmp.Or(said, http.StatusText(answer.StatusCode)))
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		hint = "docker login, podman login or the like write down who you are there"
	}
	return said, hint
}
