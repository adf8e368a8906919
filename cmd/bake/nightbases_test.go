package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/base"
	"bake/internal/image"
	"bake/internal/origin"
)

// others stand for machines that share images.
type others struct {
	address string
	err     error
	calls   []string
}

func (o *others) Find(context.Context, origin.Target) (string, http.RoundTripper, error) {
	o.calls = append(o.calls, "find")
	return o.address, http.DefaultTransport, o.err
}

func (o *others) Offer(_ context.Context, t origin.Target, blob image.Blob) error {
	if _, err := os.Stat(blob.Path); err != nil || t.Digest != blob.SHA256 {
		return errors.New("that is no image")
	}
	o.calls = append(o.calls, "offer")
	return nil
}

func (o *others) Pass(context.Context, origin.Target) error {
	o.calls = append(o.calls, "pass")
	return nil
}

// serveKind serves bytes that are good, or bad: as many others, or nothing.
func serveKind(good []byte, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch kind {
		case "good":
			_, _ = w.Write(good)
		case "bad":
			_, _ = w.Write(slices.Concat([]byte("X"), good[1:]))
		default:
			http.NotFound(w, r)
		}
	}
}

// TestShared: an image that others have is fetched from them, if it is the one; else it comes
// from its publisher and is kept for them.
func TestShared(t *testing.T) {
	for name, test := range map[string]struct {
		theirs, publishers string // what the two have: good, bad or nothing
		err                error
		want, said         string
		asked              int // the publisher
	}{
		"the others have it":           {"good", "", nil, "find", "", 0},
		"nobody has it":                {"", "good", nil, "find offer", "", 1},
		"the others have another":      {"bad", "good", nil, "find", "fetching it from its publisher", 1},
		"the others do not answer":     {"", "good", errors.New("no answer"), "find offer", "no answer: fetching it from its publisher", 1},
		"the publisher has another":    {"", "bad", nil, "find pass", "", 1},
		"the publisher has it no more": {"", "", nil, "find pass", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			good := m.files[newestDir+imageName]
			publishers := datedDir(yesterday) + imageName
			theirs := httptest.NewServer(serveKind(good, test.theirs))
			defer theirs.Close()
			m.hook(publishers, serveKind(good, test.publishers))
			o := &others{err: test.err}
			if test.theirs != "" {
				o.address = theirs.URL
			}
			var said []string
			d := base.Depot{Cache: filepath.Join(m.dir, "cache"), Copies: filepath.Join(m.dir, "copies"), State: filepath.Join(m.dir, "state"), Config: m.dir,
				Keyring: keyring, Shared: o, Say: func(text string) { said = append(said, text) }}
			ref, err := origin.Parse("ubuntu:24.04", "amd64")
			if err != nil {
				t.Fatal(err)
			}
			found, err := d.Obtain(t.Context(), ref, base.Options{Mirrors: map[string]string{"ubuntu": m.url}})
			isGood := !strings.Contains(test.want, "pass")
			if (err == nil) != isGood || isGood && found.Blob.SHA256 != hexDigest(good) {
				t.Errorf("%v, %+v", err, found)
			}
			if err == nil {
				defer found.Close()
			}
			if got := strings.Join(o.calls, " "); got != test.want || m.times(publishers) != test.asked {
				t.Errorf("calls %q, want %q; the publisher was asked %d times, want %d", got, test.want, m.times(publishers), test.asked)
			}
			if !strings.Contains(strings.Join(said, "\n"), test.said) {
				t.Errorf("said: %q, want %q", said, test.said)
			}
		})
	}
}
