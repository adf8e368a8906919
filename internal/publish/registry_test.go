package publish

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestClaimedDigest: a registry that calls a manifest one of Docker's first schema, whose digest
// is not that of its bytes, is not believed what the digest is.
func TestClaimedDigest(t *testing.T) {
	const other = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}`
	wanted := hashOf([]byte("the manifest that was signed"))
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if in.URL.Path == "/v2/" {
			return
		}
		out.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		out.Header().Set("Docker-Content-Digest", wanted.String())
		_, _ = out.Write([]byte(other))
	}))
	t.Cleanup(server.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	p, err := Open("oci://"+strings.TrimPrefix(server.URL, "http://")+"/fleet/machines", Options{})
	if err != nil {
		t.Fatal(err)
	}
	content, err := p.manifest(t.Context(), wanted)
	var tampered *TamperedError
	if !errors.As(err, &tampered) {
		t.Errorf("it is believed: %s, %v", content, err)
	}
}
