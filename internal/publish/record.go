package publish

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"bake/internal/download"
)

// conditional is a store that writes an object only if it is still what was read.
type conditional interface {
	get(ctx context.Context, name string) (content []byte, version string, err error)
	replace(ctx context.Context, name string, content []byte, version string) error
	list(ctx context.Context, name string) ([]string, error)
	find(ctx context.Context, name string) (address string, by http.RoundTripper, err error)
	keep(ctx context.Context, name string, from io.Reader, size int64, sum v1.Hash) error
}

// ErrMoved says that a record is not what it was when it was read.
var ErrMoved = errMoved

// HasConditions says whether the place can keep records and files: a registry has no
// conditional writes.
func (p *Place) HasConditions() bool {
	_, ok := p.store.(conditional)
	return ok
}

var errNoConditions = errors.New("a registry has no conditional writes")

// Record reads a small object and its version; nothing and "" when it is not there.
func (p *Place) Record(ctx context.Context, name string) (content []byte, version string, err error) {
	c, ok := p.store.(conditional)
	if !ok {
		return nil, "", p.fault(ctx, "read "+name, errNoConditions)
	}
	content, version, err = c.get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	return content, version, p.fault(ctx, "read "+name, err)
}

// Records are the names of the small objects below a name, in no order that means anything.
func (p *Place) Records(ctx context.Context, name string) ([]string, error) {
	c, ok := p.store.(conditional)
	if !ok {
		return nil, p.fault(ctx, "list "+name, errNoConditions)
	}
	names, err := c.list(ctx, name)
	return names, p.fault(ctx, "list "+name, err)
}

// SetRecord writes a small object if its version is still this one, "" for none. The error
// is ErrMoved when it is not. A server that has lost our answer is asked what is there: what
// we have written counts as written.
func (p *Place) SetRecord(ctx context.Context, name string, content []byte, version string) (string, error) {
	c, ok := p.store.(conditional)
	if !ok {
		return "", p.fault(ctx, "write "+name, errNoConditions)
	}
	err := c.replace(ctx, name, content, version)
	if err != nil && !errors.Is(err, errMoved) {
		return "", p.fault(ctx, "write "+name, err)
	}
	is, now, failed := p.Record(ctx, name)
	switch {
	case failed != nil:
		return "", failed
	case string(is) != string(content):
		return "", ErrMoved
	}
	return now, nil
}

// Find returns the address of a file that Keep has stored, and what to fetch it over; "" when
// there is none. The address may be signed: who has it can read that file for twelve hours.
func (p *Place) Find(ctx context.Context, name string) (address string, by http.RoundTripper, err error) {
	c, ok := p.store.(conditional)
	if !ok {
		return "", nil, p.fault(ctx, "look for "+name, errNoConditions)
	}
	address, by, err = c.find(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil
	}
	return address, by, p.fault(ctx, "look for "+name, err)
}

// Bring fetches a file that Keep has stored into a directory, and refuses other bytes than have
// that SHA-256, and more. It must be forgotten when it was used.
func (p *Place) Bring(ctx context.Context, name string, size int64, sum, dir string) (File, error) {
	address, by, err := p.Find(ctx, name)
	if err == nil && address == "" {
		err = p.fault(ctx, "fetch "+name, fs.ErrNotExist)
	}
	if err != nil {
		return File{}, err
	}
	return download.Fetcher{Transport: by}.Fetch(ctx, download.Want{URL: address, Size: size, Algorithm: "sha256", Digest: sum}, dir)
}

// Keep stores a file of that many bytes with that SHA-256, in hexadecimal, if there is none by
// its name. The server refuses other bytes, up to 5 GiB.
func (p *Place) Keep(ctx context.Context, name string, from io.Reader, size int64, sum string) error {
	c, ok := p.store.(conditional)
	if !ok {
		return p.fault(ctx, "keep "+name, errNoConditions)
	}
	return p.fault(ctx, "keep "+name, c.keep(ctx, name, from, size, v1.Hash{Algorithm: "sha256", Hex: sum}))
}
