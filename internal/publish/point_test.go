package publish

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// cellar is as much of S3 as tags need: objects, conditions, lists. Like the real ones it gives the
// same bytes the same ETag.
type cellar struct {
	mutex   sync.Mutex
	objects map[string][]byte
}

func (c *cellar) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	key := strings.TrimPrefix(in.URL.Path, "/fleet/")
	content, there := c.objects[key]
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	fail := func(status int, code string) {
		out.Header().Set("Content-Type", "application/xml")
		out.WriteHeader(status)
		fmt.Fprintf(out, "<Error><Code>%s</Code></Error>", code)
	}
	switch {
	case in.URL.Query().Has("list-type"):
		out.Header().Set("Content-Type", "application/xml")
		fmt.Fprint(out, "<ListBucketResult>")
		for name := range c.objects {
			if strings.HasPrefix(name, in.URL.Query().Get("prefix")) {
				fmt.Fprintf(out, "<Contents><Key>%s</Key></Contents>", name)
			}
		}
		fmt.Fprint(out, "</ListBucketResult>")
	case in.Method == http.MethodPut:
		if match := in.Header.Get("If-Match"); match != "" && (!there || match != etag) || in.Header.Get("If-None-Match") == "*" && there {
			fail(http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		c.objects[key], _ = io.ReadAll(in.Body)
		out.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(c.objects[key])))
	case !there:
		fail(http.StatusNotFound, "NoSuchKey")
	default:
		out.Header().Set("ETag", etag)
		out.Header().Set("Last-Modified", "Sun, 29 Nov 2026 00:00:00 GMT")
		out.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if in.Method == http.MethodGet {
			_, _ = out.Write(content)
		}
	}
}

// TestPointedBack: a tag that was moved on and then back is not what somebody has read who sleeps
// since before that, though it points to the same image.
func TestPointedBack(t *testing.T) {
	c := &cellar{objects: map[string][]byte{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	env := map[string]string{"AWS_ENDPOINT_URL_S3": server.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
	p, err := Open("s3://fleet/x", Options{Getenv: func(name string) string { return env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var images []string
	for _, text := range []string{"one", "two", "three"} {
		sent, err := p.Send(ctx, Generation{Host: "zap", Name: text, Arch: "amd64", Disk: write(t, "disk.qcow2", []byte(text)), Manifest: []byte(text), Provenance: []byte("by " + text)}, func(int64) {})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, sent.Image)
	}
	number := 0
	point := func(was Pointer, image string) error {
		number++
		return p.Point(ctx, "zap-current", was, image, fmt.Appendf(nil, "statement %d", number))
	}
	read := func() Pointer {
		t.Helper()
		is, err := p.Read(ctx, "zap-current")
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	if err := point(Pointer{}, images[0]); err != nil {
		t.Fatal(err)
	}
	asleep := read()
	for _, image := range []string{images[1], images[0]} {
		if err := point(read(), image); err != nil {
			t.Fatal(err)
		}
	}
	if err := point(asleep, images[2]); !errors.Is(err, ErrMoved) {
		t.Errorf("who slept has moved the tag: %v", err)
	}
	if is := read(); is.Image != images[0] || len(is.Tags) != 2 || !slices.ContainsFunc(is.Tags, func(b []byte) bool { return string(b) == "statement 3" }) {
		t.Errorf("the tag is %s, %q", is.Image, is.Tags)
	}
	if err := point(read(), images[2]); err != nil || read().Image != images[2] {
		t.Errorf("and who has read it: %v", err)
	}
}
