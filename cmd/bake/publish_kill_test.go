package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFetchKilled: a fetch that is killed in the middle of a layer leaves nothing that has
// a name, and the next one asks for the rest alone.
func TestFetchKilled(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	base := sent.Layers[0]
	const half = 3 << 20
	stuck, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.reset(func(out http.ResponseWriter, in *http.Request) bool {
		if in.Method != http.MethodGet || !strings.HasSuffix(in.URL.Path, "/blobs/"+base.Digest) {
			return false
		}
		record := httptest.NewRecorder()
		d.inner.ServeHTTP(record, in)
		out.Header().Set("Content-Length", fmt.Sprint(record.Body.Len()))
		_, _ = out.Write(record.Body.Bytes()[:half])
		out.(http.Flusher).Flush()
		once.Do(func() { close(stuck) })
		<-release
		return true
	})
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	cmd := s.child("--config", "far", "--out", "far/out", "fetch", "--host", "zap", "--from", d.address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	part := filepath.Join(s.dir, "far/out/.transfer", "sha256-"+strings.TrimPrefix(base.Digest, "sha256:")+".part")
	awaitSize(t, part, half-(1<<20))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	close(release)
	if names, _ := filepath.Glob(filepath.Join(s.dir, "far/out/zap/[0-9a-z]*")); len(names) > 0 {
		t.Errorf("a killed fetch leaves %q", names)
	}
	had := sizeOf(t, part)
	d.reset(nil)
	s.there(0, "is here and current", d.address)
	if most := base.Size - had + wholeOf(sent.Layers[1:]) + 128<<10; d.down > most || had < half-(1<<20) {
		t.Errorf("%d bytes of the base layer were here, and then %d came, at most %d were missing", had, d.down, most)
	}
	t.Logf("killed with %d of %d bytes of the base layer; the next run fetched %d bytes of all", had, base.Size, d.down)
	s.attest(0, "claims held", "--config", "far", "--out", "far/out")
	checkClean(t, filepath.Join(s.dir, "far"))
}

// TestPublishKilled: a publish that is killed has set no tag; the next one does not send
// again what had come.
func TestPublishKilled(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d.reset(func(_ http.ResponseWriter, in *http.Request) bool {
		if in.Method == http.MethodPut && strings.Contains(in.URL.Path, "/manifests/") { // all layers are there
			once.Do(func() { close(stuck) })
			<-release
			return true
		}
		return false
	})
	cmd := s.child("publish", "--host", "zap", "--to", d.address)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-stuck
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	close(release)
	d.reset(nil)
	s.there(6, "it is not there", d.address)
	if again := s.moved(0, "", "publish", "--host", "zap", "--to", d.address); again.Sent != 0 {
		t.Errorf("%d bytes were sent again", again.Sent)
	}
	s.there(0, "is here and current", d.address)
}

// TestBusyRegistry: a server that is busy now and then is asked again; one that always
// is, is exit status 6, and what has come stays.
func TestBusyRegistry(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	var mutex sync.Mutex
	seen := map[string]bool{}
	first := func(out http.ResponseWriter, in *http.Request) bool { // of each question the first
		mutex.Lock()
		defer mutex.Unlock()
		key := in.Method + " " + in.URL.Path
		if seen[key] || !strings.Contains(in.URL.Path, "/manifests/") && !strings.Contains(in.URL.Path, "/blobs/sha256") {
			return false
		}
		seen[key] = true
		out.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	d.reset(first)
	sent := s.moved(0, "", "publish", "--host", "zap", "--generation", "latest", "--to", d.address)
	clear(seen)
	s.there(0, "503", d.address, "--generation", sent.Generation)
	s.tool(t, "rm", "-rf", "far/out")

	always := func(what string) func(http.ResponseWriter, *http.Request) bool {
		return func(out http.ResponseWriter, in *http.Request) bool {
			if !strings.Contains(in.URL.Path, what) {
				return false
			}
			out.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	}
	d.reset(always("/manifests/"))
	s.there(6, "503", d.address, "--generation", sent.Generation)
	s.nothingThere("a server that is busy")
	d.reset(func(out http.ResponseWriter, in *http.Request) bool {
		out.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		out.WriteHeader(http.StatusUnauthorized)
		return true
	})
	s.there(6, "docker login", d.address)
	s.moved(6, "docker login", "publish", "--host", "zap", "--to", d.address)
	s.there(6, "could not read the tag", "oci://127.0.0.1:1/none/here")
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// awaitSize waits until a file has so many bytes.
func awaitSize(t *testing.T, path string, least int64) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; {
		if info, err := os.Stat(path); err == nil && info.Size() >= least {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has not got %d bytes", path, least)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
