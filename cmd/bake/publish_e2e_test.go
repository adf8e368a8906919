//go:build e2e

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"bake/internal/publish"
)

// TestE2EPublishFleet: fifty hosts on one base image move it once, there and back.
func TestE2EPublishFleet(t *testing.T) { publishFleet(t, 50) }

// warehouse is a versitygw with a bucket, behind something that counts and can be told to
// misbehave.
type warehouse struct {
	data string // of the server
	*minio.Client

	mutex    sync.Mutex
	up, down int64
	hook     func(out http.ResponseWriter, in *http.Request) (done bool)
}

const warehouseBucket = "fleet"

func (v *warehouse) reset(hook func(http.ResponseWriter, *http.Request) bool) {
	v.mutex.Lock()
	defer v.mutex.Unlock()
	v.up, v.down, v.hook = 0, 0, hook
}

func newWarehouse(t *testing.T, s *sleep) *warehouse {
	t.Helper()
	program := os.Getenv("BAKE_E2E_S3")
	if program == "" {
		t.Fatal("BAKE_E2E_S3 does not name a versitygw: make e2e does")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	v := &warehouse{data: t.TempDir()}
	var said bytes.Buffer
	cmd := exec.Command(program, "--port", address, "--quiet", "posix", v.data)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=owner", "ROOT_SECRET_KEY=owner-secret")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the server said: %s", said.String())
		}
	})
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server does not answer")
		}
	}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		v.mutex.Lock()
		hook := v.hook
		v.mutex.Unlock()
		if hook != nil && hook(out, in) {
			return
		}
		add := func(to *int64) func(int) {
			return func(n int) {
				v.mutex.Lock()
				defer v.mutex.Unlock()
				*to += int64(n)
			}
		}
		in.Body = counted{in.Body, add(&v.up)}
		forward.ServeHTTP(counting{out, add(&v.down)}, in)
	}))
	t.Cleanup(server.Close)
	if v.Client, err = minio.New(address, &minio.Options{Creds: credentials.NewStaticV4("owner", "owner-secret", "")}); err != nil {
		t.Fatal(err)
	}
	if err := v.MakeBucket(t.Context(), warehouseBucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "owner", "AWS_SECRET_ACCESS_KEY": "owner-secret", "AWS_ENDPOINT_URL_S3": server.URL} {
		s.env[name] = value
	}
	return v
}

// TestE2EPublishBucket: a bucket has what a registry has, and what is written to it is
// written under conditions.
func TestE2EPublishBucket(t *testing.T) {
	s := newFleet(t, "zip")
	v := newWarehouse(t, s)
	const place = "s3://" + warehouseBucket + "/bake/machines"
	registry := newDepot(t)
	sent := s.moved(0, "is in s3://", "publish", "--host", "zap", "--to", place)
	if same := s.moved(0, "", "publish", "--host", "zap", "--to", registry.address); same.Image != sent.Image {
		t.Errorf("in a registry the image is %s, in a bucket %s", same.Image, sent.Image)
	}
	base := sent.Layers[0]
	if v.up < sent.Sent || v.up > sent.Sent+300<<10 {
		t.Errorf("%d bytes went up, %d were sent", v.up, sent.Sent)
	}
	v.reset(nil)
	zip := s.moved(0, "", "publish", "--host", "zip", "--to", place)
	if v.up > wholeOf(zip.Layers[1:])+100<<10 || zip.Layers[0].Digest != base.Digest {
		t.Errorf("the base went up again: %d bytes", v.up)
	}
	v.reset(nil)
	got := s.there(0, "is here and current", place)
	if v.down < wholeOf(sent.Layers) || v.down > wholeOf(sent.Layers)+100<<10 || got.Sent != sent.Sent {
		t.Errorf("%d bytes came, of %d", v.down, wholeOf(sent.Layers))
	}
	s.attest(0, "claims held", "--config", "far", "--out", "far/out")
	s.tool(t, "rm", "-rf", "far/out")

	// Cut in the middle of the base, killed, and gone on with.
	stuck, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	const half = 3 << 20
	v.reset(func(out http.ResponseWriter, in *http.Request) bool {
		if in.Method != http.MethodGet || !strings.HasSuffix(in.URL.Path, strings.TrimPrefix(base.Digest, "sha256:")) {
			return false
		}
		object, err := v.GetObject(context.Background(), warehouseBucket, strings.TrimPrefix(in.URL.Path, "/"+warehouseBucket+"/"), minio.GetObjectOptions{})
		if err != nil {
			t.Error(err)
		}
		defer object.Close()
		out.Header().Set("Content-Length", "7014400")
		_, _ = io.CopyN(out, object, half)
		out.(http.Flusher).Flush()
		once.Do(func() { close(stuck) })
		<-release
		return true
	})
	cmd := s.child("--config", "far", "--out", "far/out", "fetch", "--host", "zap", "--from", place)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	part := filepath.Join(s.dir, "far/out/.transfer", "sha256-"+strings.TrimPrefix(base.Digest, "sha256:")+".part")
	awaitSize(t, part, half-(1<<20))
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	close(release)
	had := sizeOf(t, part)
	v.reset(nil)
	s.there(0, "is here and current", place)
	if v.down > base.Size-had+wholeOf(sent.Layers[1:])+200<<10 {
		t.Errorf("%d bytes came although %d of the base were here", v.down, had)
	}
	t.Logf("killed with %d of %d bytes of the base; then %d bytes came", had, base.Size, v.down)

	s.bucketTampered(v, place, sent)
	s.bucketRace(v, place)
}

// bucketTampered: whatever is changed in a bucket, it is refused.
func (s *sleep) bucketTampered(v *warehouse, place string, sent publishView) {
	t := s.t
	prefix := filepath.Join(v.data, warehouseBucket, "bake/machines")
	blob := filepath.Join(prefix, "blobs/sha256", strings.TrimPrefix(sent.Layers[0].Digest, "sha256:"))
	tag := filepath.Join(prefix, "tags/zap-current")
	for what, path := range map[string]string{"one byte of the base layer": blob, "a byte of the image": filepath.Join(prefix, "blobs/sha256", strings.TrimPrefix(sent.Image, "sha256:")), "a byte of the tag": tag} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(whole)
		changed[len(changed)/3] ^= 1
		if err := os.WriteFile(path, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		s.tool(t, "rm", "-rf", "far/out")
		s.there(5, "", place)
		s.nothingThere(what)
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	other, err := os.ReadFile(filepath.Join(prefix, "tags/zip-current"))
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tag, other, 0o644); err != nil {
		t.Fatal(err)
	}
	s.there(5, "it is host zip's", place)
	nowhere := bytes.Replace(whole, []byte(sent.Image), []byte("sha256:"+strings.Repeat("ab", 32)), 1)
	if bytes.Equal(nowhere, whole) {
		t.Fatalf("the tag does not name %s: %s", sent.Image, whole)
	}
	if err := os.WriteFile(tag, nowhere, 0o644); err != nil {
		t.Fatal(err)
	}
	s.there(5, "the tag zap-current leads to an image that is not there", place)
	if err := os.WriteFile(tag, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	s.there(0, "is here and current", place)

	// A server that is busy is asked again; one that always is, and one that refuses, are 6.
	var mutex sync.Mutex
	seen := map[string]bool{}
	v.reset(func(out http.ResponseWriter, in *http.Request) bool {
		mutex.Lock()
		defer mutex.Unlock()
		key := in.Method + in.URL.Path
		if seen[key] {
			return false
		}
		seen[key] = true
		out.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	s.tool(t, "rm", "-rf", "far/out")
	s.there(0, "is here and current", place)
	v.reset(nil)
	s.env["AWS_SECRET_ACCESS_KEY"] = "wrong"
	s.there(6, "the server says SignatureDoesNotMatch", place)
	s.env["AWS_SECRET_ACCESS_KEY"] = "owner-secret"
	s.there(6, "there is no bucket none", "s3://none/x")
}

// bucketRace: of two that move a tag at once one is told that it came too late.
func (s *sleep) bucketRace(v *warehouse, place string) {
	t := s.t
	p, err := publish.Open(place, publish.Options{Getenv: func(name string) string { return s.env[name] }})
	if err != nil {
		t.Fatal(err)
	}
	was, err := p.Read(t.Context(), "zap-current")
	if err != nil {
		t.Fatal(err)
	}
	s.publish(changedImage(t, map[string]string{"etc/motd": "newer"}), now)
	s.must(0, nil)
	s.moved(0, "", "publish", "--host", "zap", "--to", place) // it is quicker
	g := s.open("current")
	a := &app{env: env{Stderr: io.Discard, Getenv: func(string) string { return "" }}, out: filepath.Join(s.dir, "out")}
	a.ui = &ui{env: a.env, quiet: true}
	parcel, err := a.parcelOf(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := p.Send(t.Context(), parcel, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Point(t.Context(), "zap-current", was, sent.Image, []byte("{}")); exitCode(err) != 6 || !strings.Contains(err.Error(), "somebody else has moved the tag meanwhile") {
		t.Errorf("%v", err)
	}
}
