package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// gossip is a place where the same is said about an image many times.
type gossip struct {
	store
	url     string
	content []byte
	size    int64 // that is claimed
	times   int
	fetched atomic.Int64
}

var gossiped = hashOf([]byte("image"))

func (g *gossip) referrers(context.Context, v1.Hash) ([]v1.Hash, error) {
	return make([]v1.Hash, g.times), nil
}

func (g *gossip) manifest(context.Context, v1.Hash) ([]byte, error) {
	return json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: typeVerdict,
		Config:  v1.Descriptor{MediaType: typeEmpty, Size: int64(len(empty)), Digest: hashOf(empty)},
		Layers:  []v1.Descriptor{{MediaType: typeEnvelope, Size: g.size, Digest: hashOf(g.content)}},
		Subject: &v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: gossiped}})
}

func (g *gossip) source(context.Context, v1.Hash) (string, http.RoundTripper, error) {
	return g.url, http.DefaultTransport, nil
}

// TestGossip: what anybody may say about an image is bounded, one by one and together.
func TestGossip(t *testing.T) {
	most := bytes.Repeat([]byte("x"), maxNote)
	for name, test := range map[string]struct {
		content []byte
		size    int64
		times   int
		fetched int64
		words   string
	}{
		"a little":                {[]byte("{}"), 2, 100, 100, ""},
		"as much as there may be": {most, maxNote, maxNotes / maxNote, maxNotes / maxNote, ""},
		"more than that":          {most, maxNote, maxNotes/maxNote + 1, maxNotes / maxNote, "has more than 67108864 bytes"},
		"one that is too large":   {[]byte("{}"), maxNote + 1, 1, 0, "a note of 16777217 bytes"},
		"one of no size":          {most, 0, 1, 0, "a note of 0 bytes"},
	} {
		g := &gossip{content: test.content, size: test.size, times: test.times}
		server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			g.fetched.Add(1)
			_, _ = out.Write(test.content)
		}))
		g.url = server.URL
		notes, err := (&Place{store: g, address: "oci://x/y"}).notes(t.Context(), gossiped, typeVerdict)
		server.Close()
		var tampered *TamperedError
		switch {
		case g.fetched.Load() != test.fetched:
			t.Errorf("%s: %d notes were fetched", name, g.fetched.Load())
		case test.words == "" && (err != nil || len(notes[typeVerdict]) != test.times):
			t.Errorf("%s: %d notes, %v", name, len(notes[typeVerdict]), err)
		case test.words != "" && (!errors.As(err, &tampered) || !strings.Contains(err.Error(), test.words)):
			t.Errorf("%s: %v", name, err)
		}
	}
}
