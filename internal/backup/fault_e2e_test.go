//go:build e2e

package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// wire is a connection to a server that is cut for good when so many bytes have gone to
// it.
type wire struct {
	net.Listener
	to   string
	left atomic.Int64 // until it is cut; negative: it is

	mutex sync.Mutex
	open  []net.Conn
}

func newWire(t *testing.T, to string, bytes int64) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: to}
	w.left.Store(bytes)
	go w.serve()
	t.Cleanup(w.cut)
	return w
}

func (w *wire) serve() {
	for {
		near, err := w.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		w.mutex.Lock()
		w.open = append(w.open, near, far)
		w.mutex.Unlock()
		go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		go func() { _, _ = io.Copy(far, &metered{near, w}); _ = far.Close() }()
	}
}

// cut refuses from now on, and ends what there is.
func (w *wire) cut() {
	_ = w.Close()
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, c := range w.open {
		_ = c.Close()
	}
}

type metered struct {
	net.Conn
	w *wire
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if left := m.w.left.Add(-int64(n)); left < 0 {
		m.w.cut()
		return max(0, n+int(max(left, -int64(n)))), io.EOF
	}
	return n, err
}

// TestE2ECut cuts the network at ten points of a backup. Each time it fails in words,
// what was there is whole, and the next backup works.
func TestE2ECut(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 1})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := state(t, 1<<20)
	saved := save(t, s.repository(Writer), before)
	whole := newWire(t, s.Host, 1<<40) // how much a backup sends
	const size = 4 << 20
	save(t, repositoryAt(whole.Addr().String(), Writer), state(t, size))
	sent := 1<<40 - whole.left.Load()
	for i := range 10 {
		at := sent * int64(i*10+3) / 100 // the last within the index and the snapshot
		if i == 9 {
			at = sent - 600
		}
		t.Run(fmt.Sprintf("at %d of %d", at, sent), func(t *testing.T) {
			t.Parallel()
			j := state(t, size)
			j.Host = fmt.Sprintf("zap%d", i)
			cut := repositoryAt(newWire(t, s.Host, at).Addr().String(), Writer)
			cut.Limits.Stall = patience
			_, err := cut.Save(t.Context(), j)
			f := caused(t, err, causeUnreachable)
			if !f.Network() || f.Said == "" {
				t.Errorf("it is %q", err)
			}
			t.Log(err)
			r := s.repository(Writer)
			if list, err := r.List(t.Context(), j.Host); err != nil || len(list) != 0 {
				t.Errorf("half a backup is there: %v, %v", list, err)
			}
			isWhole(t, r, save(t, r, j), j)
			isWhole(t, r, saved, before)
		})
	}
	t.Cleanup(func() {
		if err := s.repository(Writer).Check(context.WithoutCancel(t.Context()), "100%"); err != nil {
			t.Error(err)
		}
	})
}

// TestE2EUnwell: a server that answers 5xx now and then is asked again; one that does
// nothing else is given up, as is one that answers nothing.
func TestE2EUnwell(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 1})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	over := make(chan struct{}) // a server does not see who hangs up on what it does not read
	defer close(over)
	through := func(ill func(n int64, out http.ResponseWriter, in *http.Request) bool) *restic {
		proxy := httputil.NewSingleHostReverseProxy(s.URL)
		front := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
			if !ill(asked.Add(1), out, in) {
				proxy.ServeHTTP(out, in) // the Host that was signed stays
			}
		}))
		t.Cleanup(func() { front.CloseClientConnections(); front.Close() })
		return repositoryAt(strings.TrimPrefix(front.URL, "http://"), Writer)
	}
	sorry := func(out http.ResponseWriter) bool {
		out.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(out, `<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)
		return true
	}
	j := state(t, 2<<20)
	now := through(func(n int64, out http.ResponseWriter, _ *http.Request) bool { return n%5 == 0 && sorry(out) })
	saved := save(t, now, j)
	isWhole(t, s.repository(Writer), saved, j)

	never := through(func(_ int64, out http.ResponseWriter, in *http.Request) bool {
		return in.Method == http.MethodPut && strings.Contains(in.URL.Path, "/data/") && sorry(out)
	})
	never.Limits.Stall = patience
	_, err := never.Save(t.Context(), state(t, 2<<20))
	if caused(t, err, causeUnreachable); !strings.Contains(err.Error(), "reduce your request rate") {
		t.Error(err)
	}
	t.Log(err)
	silent := through(func(_ int64, _ http.ResponseWriter, in *http.Request) bool {
		if in.Method != http.MethodPut || !strings.Contains(in.URL.Path, "/data/") {
			return false
		}
		<-over
		return true
	})
	silent.Limits.Stall = patience
	_, err = silent.Save(t.Context(), state(t, 2<<20))
	caused(t, err, causeStalled)
	t.Log(err)
	mute := through(func(_ int64, _ http.ResponseWriter, in *http.Request) bool {
		if in.Method != http.MethodGet || !strings.Contains(in.URL.Path, "/data/") {
			return false
		}
		<-over
		return true
	})
	mute.Limits.Stall = patience
	caused(t, mute.Fetch(t.Context(), saved, t.TempDir()), causeStalled)
	slow := through(func(int64, http.ResponseWriter, *http.Request) bool { return false })
	slow.Limits = limits{Upload: 64 << 10, Time: 3 * time.Second}
	_, err = slow.Save(t.Context(), state(t, 4<<20))
	if f := caused(t, err, causeStalled); !strings.Contains(f.Said, "within 3s") {
		t.Error(err)
	}
	isWhole(t, s.repository(Writer), save(t, s.repository(Writer), j), j)
	if err := s.repository(Writer).Check(t.Context(), "100%"); err != nil {
		t.Error(err)
	}
}

// TestE2EInterrupted: a backup that somebody ends leaves no lock.
func TestE2EInterrupted(t *testing.T) {
	t.Parallel()
	s := serve(t, Lock{Days: 1})
	if _, err := s.repository(Writer).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	slow := s.repository(Writer)
	slow.Limits.Upload = 64 << 10
	slow.Progress = func(done, _ int64) { stop() }
	j := state(t, 4<<20)
	if _, err := slow.Save(ctx, j); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for lock := range s.as(t, Writer).client.ListObjects(t.Context(), bucketName, minio.ListObjectsOptions{Prefix: "bake/locks/", Recursive: true}) {
		t.Errorf("there is a lock: %s, %v", lock.Key, lock.Err)
	}
	isWhole(t, s.repository(Writer), save(t, s.repository(Writer), j), j)
}
