package download

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const mib = 1 << 20

// TestFetch has the servers from which the right file must come.
func TestFetch(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	old := version{noise(2, mib), `"old"`}
	plain := version{good.data, ""}
	weak := version{good.data, `W/"one"`}
	dated := with(plain.serve, "Last-Modified", "Tue, 03 Nov 2026 04:05:06 GMT")
	var cuts []http.HandlerFunc
	random := rand.New(rand.NewPCG(4, 11))
	for range 8 {
		cuts = append(cuts, good.cut(minProgress+random.IntN(30000)))
	}
	unknown := func(w *Want) { w.Size = 0 }
	wide := func(w *Want) { *w = sha512Of(*w, good.data) }
	for name, c := range map[string]struct {
		script   []http.HandlerFunc
		change   func(*Want)
		asked    []string // not compared when nil
		received int64    // not compared when 0
	}{
		"whole":                    {script: []http.HandlerFunc{good.serve}, asked: []string{""}, received: mib},
		"size unknown":             {script: []http.HandlerFunc{good.serve}, change: unknown, received: mib},
		"chunked":                  {script: []http.HandlerFunc{raw(good.data)}},
		"chunked, size unknown":    {script: []http.HandlerFunc{raw(good.data)}, change: unknown},
		"sha512":                   {script: []http.HandlerFunc{good.cut(5), good.serve}, change: wide},
		"statuses worth a retry":   {script: []http.HandlerFunc{status(503), status(429), status(408), status(502), good.serve}},
		"cut often":                {script: append(cuts, good.serve), received: mib},
		"cut, resumed by ETag":     {script: []http.HandlerFunc{good.cut(1000), good.serve}, asked: []string{"", `bytes=1000- "one"`}, received: mib},
		"cut before any byte":      {script: []http.HandlerFunc{good.cut(0), good.serve}, asked: []string{"", ""}},
		"cut, no validator":        {script: []http.HandlerFunc{plain.cut(1000), plain.serve}, asked: []string{"", "bytes=1000-"}},
		"cut, size unknown":        {script: []http.HandlerFunc{good.cut(1000), good.serve}, change: unknown, received: mib},
		"weak ETag is no If-Range": {script: []http.HandlerFunc{weak.cut(1000), weak.serve}, asked: []string{"", "bytes=1000-"}},
		"resumed by date": {script: []http.HandlerFunc{with(plain.cut(1000), "Last-Modified", "Tue, 03 Nov 2026 04:05:06 GMT"), dated},
			asked: []string{"", "bytes=1000- Tue, 03 Nov 2026 04:05:06 GMT"}},
		"Range ignored":             {script: []http.HandlerFunc{good.cut(1000), ignoringRange(good.cut(5000)), ignoringRange(good.serve)}, received: 1000 + 5000 + mib},
		"ETag changes midway":       {script: []http.HandlerFunc{old.cut(1000), good.serve}, asked: []string{"", `bytes=1000- "old"`}, received: 1000 + mib},
		"ETag changes in a 206":     {script: []http.HandlerFunc{old.cut(1000), ignoringIfRange(good.serve)}, asked: []string{"", `bytes=1000- "old"`, ""}, received: 1000 + mib},
		"silently another file":     {script: []http.HandlerFunc{version{old.data, ""}.cut(1000), plain.serve}, asked: []string{"", "bytes=1000-", ""}},
		"in portions":               {script: []http.HandlerFunc{good.cut(1), portions(good, 300<<10)}, received: mib},
		"portions, total unsaid":    {script: []http.HandlerFunc{version{good.data, ""}.cut(1), unsaid(good, 300<<10)}, change: unknown},
		"shorter than what is here": {script: []http.HandlerFunc{version{old.data, ""}.cut(1000), with(status(416), "Content-Range", "bytes */10"), good.serve}, asked: []string{"", "bytes=1000-", ""}},
		"proxy's own wrong 416":     {script: []http.HandlerFunc{good.cut(1000), status(416), good.serve}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, c.script...)
			want := wantOf(o.URL+"/image", good.data)
			if c.change != nil {
				c.change(&want)
			}
			f, _ := patient()
			file, err := f.Fetch(t.Context(), want, filepath.Join(t.TempDir(), "new", "dir"))
			if err != nil {
				t.Fatal(err)
			}
			if asked := o.requests(); c.asked != nil && !slices.Equal(asked, c.asked) {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
			if c.received != 0 && file.Received != c.received {
				t.Errorf("received %d bytes, want %d", file.Received, c.received)
			}
			checkFile(t, file, good.data)
		})
	}
}

// portions answers a range with no more than so many bytes.
func portions(v version, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(strings.Trim(r.Header.Get("Range"), "bytes=-"))
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+size-1))
		v.serve(w, r)
	}
}

// unsaid does so without saying how large the file is, and says it at its end.
func unsaid(v version, size int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, _ := strconv.Atoi(strings.Trim(r.Header.Get("Range"), "bytes=-"))
		if from >= len(v.data) {
			status(416, "Content-Range", fmt.Sprintf("bytes */%d", len(v.data)))(w, r)
			return
		}
		to := min(from+size, len(v.data))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", from, to-1))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(v.data[from:to])
	}
}

// TestCloseDelimited has a server whose answers end when the connection does:
// whether that is the end of the file, only the size can tell.
func TestCloseDelimited(t *testing.T) {
	data := noise(1, 1000)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for _, n := range []int{300, 1000} {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Read(make([]byte, 4096))
			fmt.Fprintf(connection, "HTTP/1.0 200 OK\r\n\r\n%s", data[:n])
			connection.Close()
		}
	}()
	f, pauses := patient()
	file, err := f.Fetch(t.Context(), wantOf("http://"+listener.Addr().String()+"/image", data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(*pauses) != 1 {
		t.Errorf("paused %v, want one retry", *pauses)
	}
	checkFile(t, file, data)
}

// TestIdle has a server that falls silent in the middle.
func TestIdle(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		good.serve(&shortWriter{w, 1000}, r)
		<-r.Context().Done() // until the client gives up
	}, good.serve)
	f, _ := patient()
	f.Idle = 200 * time.Millisecond
	var why error
	f.Retrying = func(err error, _ time.Duration) { why = err }
	file, err := f.Fetch(t.Context(), wantOf(o.URL, good.data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(why, errIdle) {
		t.Errorf("retried because of %v", why)
	}
	checkFile(t, file, good.data)
}

func TestPauses(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	busy := func(after string) http.HandlerFunc { return status(503, "Retry-After", after) }
	o := newOrigin(t, status(503), status(503), good.cut(minProgress), status(503), busy("7"), busy("7000"),
		busy(now.Add(9*time.Second).Format(http.TimeFormat)), good.cut(minProgress),
		busy(now.Add(-time.Hour).Format(http.TimeFormat)), busy("soon"), good.serve)
	f, pauses := patient()
	f.now = func() time.Time { return now }
	file, err := f.Fetch(t.Context(), wantOf(o.URL, good.data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const s = time.Second
	if want := []time.Duration{1 * s, 2 * s, s / 2, 1 * s, 7 * s, maxAfter, 9 * s, s / 2, 1 * s, 2 * s}; !slices.Equal(*pauses, want) {
		t.Errorf("paused %v, want %v", *pauses, want)
	}
	checkFile(t, file, good.data)

	f.jitter = func() float64 { return 0.5 }
	for failed, want := range map[int]time.Duration{1: 750 * time.Millisecond, 5: 12 * s, 6: 45 * s / 2, 100: 45 * s / 2} {
		if got := f.pause(failed, 0); got != want {
			t.Errorf("pause %d is %v, want %v", failed, got, want)
		}
	}
}

// TestCancel cancels in the middle: what is here stays, and the rest is all that
// is fetched next time.
func TestCancel(t *testing.T) {
	good := version{noise(1, 4*mib), `"one"`}
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		good.serve(&shortWriter{w, 2 * mib}, r)
		<-r.Context().Done()
	}, good.serve)
	dir := t.TempDir()
	want := wantOf(o.URL, good.data)
	stop := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	f, _ := patient()
	var here int64
	f.Progress = func(done, total int64) {
		if here = done; done >= mib {
			cancel(stop)
		}
	}
	if _, err := f.Fetch(ctx, want, dir); !errors.Is(err, stop) || !strings.Contains(err.Error(), o.URL) {
		t.Fatalf("got %v, want the cause of the cancellation", err)
	}
	if _, err := f.Fetch(ctx, want, dir); !errors.Is(err, stop) { // while it hashes what is there
		t.Fatal(err)
	}
	f, _ = patient()
	file, err := f.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	if last := o.requests()[len(o.requests())-1]; last != fmt.Sprintf(`bytes=%d- "one"`, here) || file.Received != want.Size-here {
		t.Errorf("asked for %q and received %d bytes, having %d", last, file.Received, here)
	}
	checkFile(t, file, good.data)
}

// TestTogether has goroutines that want the same file at once, and one that
// wants another: the second must not wait for the first.
func TestTogether(t *testing.T) {
	first, second := version{noise(1, mib), `"1"`}, version{noise(2, mib), `"2"`}
	done := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/second" {
			second.serve(w, r)
			return
		}
		<-done
		first.serve(w, r)
	})
	dir := t.TempDir()
	files := make([]File, 8)
	var group sync.WaitGroup
	for i := range files {
		group.Go(func() {
			f, _ := patient()
			var err error
			if files[i], err = f.Fetch(t.Context(), wantOf(o.URL+"/first", first.data), dir); err != nil {
				t.Error(err)
			}
		})
	}
	f, _ := patient()
	other, err := f.Fetch(t.Context(), wantOf(o.URL+"/second", second.data), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Forget(); err != nil {
		t.Fatal(err)
	}
	close(done)
	group.Wait()
	if n := len(o.requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	for _, file := range files[1:] { // whoever is last removes it, and nobody before
		if err := file.Forget(); err != nil {
			t.Error(err)
		}
	}
	checkFile(t, files[0], first.data)
}

// TestChurn has goroutines that fetch and forget one file over and over, so that
// claims begin while others end: whoever has a File must find it whole.
func TestChurn(t *testing.T) {
	good := version{noise(1, 1000), `"one"`}
	o := newOrigin(t, good.serve)
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 25 {
				file, err := Fetcher{}.Fetch(t.Context(), wantOf(o.URL, good.data), dir)
				if err != nil {
					t.Error(err)
					return
				}
				if data, err := os.ReadFile(file.Path); err != nil || !bytes.Equal(data, good.data) {
					t.Errorf("%d bytes: %v", len(data), err)
				}
				if err := file.Forget(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	checkEmpty(t, dir)
}

// TestRemovedLock removes the lock of a claim behind its back, as a run does that
// ends its own: between opening and locking it, and while it is held.
func TestRemovedLock(t *testing.T) {
	good := version{noise(1, 1000), `"one"`}
	o := newOrigin(t, good.serve)
	dir := t.TempDir()
	want := wantOf(o.URL, good.data)
	users := filepath.Join(dir, want.name()+".users")
	remove := func() {
		if err := os.Remove(users); err != nil {
			t.Error(err)
		}
	}
	step = func(name string) {
		if name == "look at the claim" {
			step = func(string) {}
			remove()
		}
	}
	t.Cleanup(func() { step = func(string) {} })
	file, err := Fetcher{}.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	remove() // fails if the claim is on a lock that nobody sees
	other, err := Fetcher{}.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Forget(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, other, good.data) // not removed by the claim that was on the old lock
}

// TestReadOnlyOnce: a file that others may be copying is not touched when one
// more run finds it, and one that a killed run left writable is put right.
func TestReadOnlyOnce(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	o := newOrigin(t, good.serve)
	want, dir := wantOf(o.URL+"/image", good.data), t.TempDir()
	chmods := 0
	step = func(name string) {
		if name == "make the result read-only" {
			chmods++
		}
	}
	t.Cleanup(func() { step = func(string) {} })
	for _, expected := range []int{1, 1, 2} {
		if expected == 2 {
			if err := os.Chmod(filepath.Join(dir, want.name()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, _ := patient()
		file, err := f.Fetch(t.Context(), want, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Forget() }()
		if info, err := os.Stat(file.Path); err != nil || info.Mode() != 0o444 {
			t.Errorf("mode %v (%v)", info.Mode(), err)
		}
		if chmods != expected {
			t.Errorf("the mode was changed %d times, want %d", chmods, expected)
		}
	}
	if n := len(o.requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// TestStored has a run that comes when another has taken the file and forgotten
// it, which it can only learn from the store.
func TestStored(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	o := newOrigin(t, good.serve)
	dir, stored := t.TempDir(), false
	want := wantOf(o.URL, good.data)
	f, _ := patient()
	f.Stored = func(w Want) bool { return stored && w == want }
	file, err := f.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	stored = true
	again, err := f.Fetch(t.Context(), want, dir) // it is still here: no need to ask
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Forget(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, again, good.data)
	if _, err := f.Fetch(t.Context(), want, dir); !errors.Is(err, ErrStored) {
		t.Error(err)
	}
	checkEmpty(t, dir)
	if n := len(o.requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// FuzzParseRange has any Content-Range: what is accepted is a range.
func FuzzParseRange(f *testing.F) {
	for _, text := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes 5-4/9", "bytes -1-4/9", "bytes 0-9/9",
		"bytes 0-18446744073709551615/*", "bytes */9", "bytes 1-2", "octets 0-1/2", "bytes +1-2/3", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, last, total, ok := parseRange(text)
		if !ok {
			return
		}
		if first < 0 || last < first || total != 0 && last >= total {
			t.Errorf("%q is read as %d to %d of %d", text, first, last, total)
		}
		size := strconv.FormatInt(total, 10)
		if total == 0 {
			size = "*"
		}
		again := fmt.Sprintf("bytes %d-%d/%s", first, last, size)
		if f, l, n, ok := parseRange(again); !ok || f != first || l != last || n != total {
			t.Errorf("%q is not what %q was", again, text)
		}
	})
}

// TestRedirects follows five, resumes behind a redirector without If-Range, and
// hands credentials to nobody else.
func TestRedirects(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	var mu sync.Mutex
	var seen []http.Header
	mirror := newOrigin(t, good.cut(1000), version{good.data, `"other"`}.serve)
	inner := mirror.Config.Handler
	mirror.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, r.Header.Clone())
		mu.Unlock()
		inner.ServeHTTP(w, r)
	})
	var unauthorized int
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			unauthorized++
		}
		hop, _ := strconv.Atoi(r.URL.Query().Get("hop"))
		target := fmt.Sprintf("/?hop=%d", hop+1)
		if hop == maxRedirects-1 {
			target = mirror.URL + fmt.Sprintf("/image?mirror=%d", len(mirror.requests()))
		}
		http.Redirect(w, r, target, http.StatusFound)
	}))
	defer front.Close()
	f, _ := patient()
	want := wantOf(strings.Replace(front.URL, "http://", "http://me:secret@", 1)+"/?token=t0ken", good.data)
	file, err := f.Fetch(t.Context(), want, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if asked := mirror.requests(); len(asked) != 3 || asked[1] != "bytes=1000-" {
		// The 206 had another ETag for the same URL, so it began again.
		t.Errorf("asked %q", asked)
	}
	if unauthorized > 0 {
		t.Errorf("%d requests to the host with the password were without", unauthorized)
	}
	for _, header := range seen {
		for _, name := range []string{"Authorization", "Referer", "Cookie"} {
			if value := header.Get(name); value != "" {
				t.Errorf("the mirror was sent %s: %s", name, value)
			}
		}
	}
	checkFile(t, file, good.data)
}

func TestProgress(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	o := newOrigin(t, good.cut(minProgress), good.serve)
	f, _ := patient()
	var all []int64
	f.Progress = func(done, total int64) {
		if total != mib {
			t.Errorf("total %d", total)
		}
		all = append(all, done)
	}
	file, err := f.Fetch(t.Context(), wantOf(o.URL, good.data), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(all) || all[0] != 0 || all[len(all)-1] != mib {
		t.Errorf("progress %v", all)
	}
	checkFile(t, file, good.data)
}

// TestDigester compares the pipeline with itself in other portions, and proves
// that order matters to it.
func TestDigester(t *testing.T) {
	data := noise(3, 5*mib+17)
	sum := func(readers ...io.Reader) string {
		d := newDigester("sha512")
		defer d.close()
		for _, r := range readers {
			if _, err := d.readAll(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		return d.sum("sha256") + d.sum("sha512")
	}
	want := wantOf("", data)
	whole := want.Digest + sha512Of(want, data).Digest
	a, b := string(data[:mib+1]), string(data[mib+1:])
	if got := sum(strings.NewReader(a), strings.NewReader(b)); got != whole {
		t.Errorf("in two parts: %s", got)
	}
	if got := sum(strings.NewReader(b), strings.NewReader(a)); got == whole {
		t.Error("the order does not matter")
	}
}
