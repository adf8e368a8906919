package publish

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// cupboard is as much of S3 as a record needs: one object, and conditions.
type cupboard struct {
	mutex   sync.Mutex
	content []byte
	there   bool
	status  int // that everything is answered with, 0 for none
}

func (c *cupboard) etag() string { return fmt.Sprintf(`"%x"`, sha256.Sum256(c.content)) }

func (c *cupboard) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	fail := func(status int, code string) {
		out.Header().Set("Content-Type", "application/xml")
		out.WriteHeader(status)
		fmt.Fprintf(out, "<Error><Code>%s</Code></Error>", code)
	}
	switch {
	case c.status != 0:
		fail(c.status, "AccessDenied")
	case in.URL.Path != "/fleet/ops/rollout.json":
		fail(http.StatusNotFound, "NoSuchKey")
	case in.Method == http.MethodPut:
		if match := in.Header.Get("If-Match"); match != "" && (!c.there || match != c.etag()) || in.Header.Get("If-None-Match") == "*" && c.there {
			fail(http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		c.content, _ = io.ReadAll(in.Body)
		c.there = true
		out.Header().Set("ETag", c.etag())
	case !c.there:
		fail(http.StatusNotFound, "NoSuchKey")
	default:
		out.Header().Set("ETag", c.etag())
		out.Header().Set("Last-Modified", "Sun, 29 Nov 2026 00:00:00 GMT")
		out.Header().Set("Content-Length", fmt.Sprint(len(c.content)))
		if in.Method == http.MethodGet {
			_, _ = out.Write(c.content)
		}
	}
}

func TestRecord(t *testing.T) {
	c := &cupboard{}
	server := httptest.NewServer(c)
	defer server.Close()
	o := Options{Getenv: getenv(map[string]string{"AWS_ENDPOINT_URL_S3": server.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})}
	p, err := Open("s3://fleet/ops", o)
	if err != nil || !p.HasConditions() {
		t.Fatal(err)
	}
	if content, version, err := p.Record(t.Context(), "rollout.json"); content != nil || version != "" || err != nil {
		t.Errorf("%q %q %v", content, version, err)
	}
	one, err := p.SetRecord(t.Context(), "rollout.json", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.SetRecord(t.Context(), "rollout.json", []byte("other"), ""); !errors.Is(err, ErrMoved) {
		t.Errorf("written over: %v", err)
	}
	two, err := p.SetRecord(t.Context(), "rollout.json", []byte("two"), one)
	if err != nil || two == one {
		t.Errorf("%q after %q, %v", two, one, err)
	}
	if _, err := p.SetRecord(t.Context(), "rollout.json", []byte("stale"), one); !errors.Is(err, ErrMoved) {
		t.Errorf("a stale write: %v", err)
	}
	if content, version, err := p.Record(t.Context(), "rollout.json"); string(content) != "two" || version != two || err != nil {
		t.Errorf("%q %q %v", content, version, err)
	}
	c.status = http.StatusForbidden
	var fault *Fault
	if _, err := p.SetRecord(t.Context(), "rollout.json", []byte("three"), two); errors.Is(err, ErrMoved) || !errors.As(err, &fault) || !fault.Network() {
		t.Errorf("%v", err)
	}
	registry, err := Open("oci://registry.example/fleet", o)
	if err != nil || registry.HasConditions() {
		t.Fatal(err)
	}
	if _, err := registry.SetRecord(t.Context(), "rollout.json", nil, ""); err == nil || !strings.Contains(err.Error(), "no conditional writes") {
		t.Errorf("%v", err)
	}
}
