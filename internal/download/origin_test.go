package download

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// noise returns bytes that are the same in every run.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

func wantOf(url string, data []byte) Want {
	sum := sha256.Sum256(data)
	return Want{URL: url, Size: int64(len(data)), Algorithm: "sha256", Digest: hex.EncodeToString(sum[:])}
}

func sha512Of(w Want, data []byte) Want {
	sum := sha512.Sum512(data)
	w.Algorithm, w.Digest = "sha512", hex.EncodeToString(sum[:])
	return w
}

// A version is one file that a server has, under an ETag that is sent as it is.
type version struct {
	data []byte
	etag string
}

// serve answers as a good server does.
func (v version) serve(w http.ResponseWriter, r *http.Request) {
	if v.etag != "" {
		w.Header().Set("ETag", v.etag)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(v.data))
}

// cut serves, and drops the connection after so many bytes of body.
func (v version) cut(after int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v.serve(&shortWriter{w, after}, r)
		panic(http.ErrAbortHandler)
	}
}

// ignoringRange serves everything, whatever is asked for.
func ignoringRange(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		h(w, r)
	}
}

func ignoringIfRange(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("If-Range")
		h(w, r)
	}
}

// status answers with a status and pairs of header fields.
func status(code int, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(code)
	}
}

// with adds header fields to an answer.
func with(h http.HandlerFunc, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		h(w, r)
	}
}

// raw answers with these bytes, chunked, as they are.
func raw(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // so that no Content-Length is sent
		w.Write(data)
	}
}

// A shortWriter passes on only so many bytes of a body.
type shortWriter struct {
	http.ResponseWriter
	left int
}

func (w *shortWriter) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	n, _ := w.ResponseWriter.Write(p[:w.left])
	w.left = 0
	w.ResponseWriter.(http.Flusher).Flush()
	return n, errors.New("cut")
}

// An origin answers each request as its script says, the last entry for ever.
type origin struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string // "Range If-Range" of each request
}

func newOrigin(t *testing.T, script ...http.HandlerFunc) *origin {
	o := &origin{}
	o.Server = httptest.NewServer(o.handler(script))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) handler(script []http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		n := min(len(o.asked), len(script)-1)
		o.asked = append(o.asked, strings.TrimSpace(r.Header.Get("Range")+" "+r.Header.Get("If-Range")))
		o.mu.Unlock()
		script[n](w, r)
	})
}

func (o *origin) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// patient is a Fetcher which does not pause, and notes how long it would have.
func patient() (Fetcher, *[]time.Duration) {
	pauses := &[]time.Duration{}
	return Fetcher{
		jitter: func() float64 { return 0 },
		sleep: func(ctx context.Context, d time.Duration) error {
			*pauses = append(*pauses, d)
			return context.Cause(ctx)
		},
	}, pauses
}

// checkFile demands that a file is the wanted one and alone, and that nothing at
// all is left after Forget.
func checkFile(t *testing.T, file File, data []byte) {
	t.Helper()
	got, err := os.ReadFile(file.Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if !bytes.Equal(got, data) || file.Size != int64(len(data)) || file.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%+v is not the wanted file of %d bytes", file, len(data))
	}
	if info, err := os.Stat(file.Path); err != nil || info.Mode() != 0o444 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	for _, suffix := range []string{".part", ".part.json", ".part.json.new"} {
		if _, err := os.Lstat(file.Path + suffix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v)", suffix, err)
		}
	}
	for range 2 {
		if err := file.Forget(); err != nil {
			t.Error(err)
		}
	}
	checkEmpty(t, filepath.Dir(file.Path))
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if left := list(t, dir); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
