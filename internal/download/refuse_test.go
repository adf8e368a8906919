package download

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRefuse has the servers from which nothing may come. Each error names the
// URL and what it must, and leaves what is worth keeping, or nothing.
func TestRefuse(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	changed := slices.Clone(good.data)
	changed[mib/2] ^= 1
	evil := version{changed, `"one"`}
	longer := append(slices.Clone(good.data), 0)
	unknown := func(w *Want) { w.Size = 0 }
	ranged := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", text)
			w.WriteHeader(http.StatusPartialContent)
			w.Write(good.data[1000:])
		}
	}
	for name, c := range map[string]struct {
		script  []http.HandlerFunc
		change  func(*Want)
		network bool // else integrity
		asked   int
		kept    bool // a partial
		says    []string
	}{
		"one byte changed":            {script: []http.HandlerFunc{evil.serve}, asked: 1, says: []string{"1048576 bytes with the sha256", "expected " + wantOf("", good.data).Digest, "another mirror"}},
		"one byte changed, sha512":    {script: []http.HandlerFunc{evil.serve}, change: func(w *Want) { *w = sha512Of(*w, good.data) }, asked: 1, says: []string{"with the sha512"}},
		"one byte changed, cut":       {script: []http.HandlerFunc{evil.cut(9), evil.serve}, asked: 3, says: []string{"with the sha256"}},
		"longer, announced":           {script: []http.HandlerFunc{version{longer, ""}.serve}, asked: 1, says: []string{"a file of 1048577 bytes, expected 1048576"}},
		"longer, not announced":       {script: []http.HandlerFunc{raw(longer)}, asked: 1, says: []string{"a longer file, expected at most 1048576 bytes"}},
		"without end":                 {script: []http.HandlerFunc{endless}, asked: 1, says: []string{"a longer file"}},
		"shorter, announced":          {script: []http.HandlerFunc{version{good.data[1:], ""}.serve}, asked: 1, says: []string{"a file of 1048575 bytes, expected 1048576"}},
		"shorter, not announced":      {script: []http.HandlerFunc{raw(good.data[1:])}, asked: 1, says: []string{"a file of 1048575 bytes, expected 1048576"}},
		"empty":                       {script: []http.HandlerFunc{raw(nil)}, asked: 1, says: []string{"a file of 0 bytes"}},
		"size unknown, above 64G":     {script: []http.HandlerFunc{status(200, "Content-Length", "68719476737")}, change: unknown, asked: 1, says: []string{"expected at most 68719476736 bytes"}},
		"size unknown, changed":       {script: []http.HandlerFunc{evil.serve}, change: unknown, asked: 1, says: []string{"with the sha256"}},
		"gzip":                        {script: []http.HandlerFunc{with(good.serve, "Content-Encoding", "gzip")}, asked: 1, says: []string{`Content-Encoding "gzip"`}},
		"two codings":                 {script: []http.HandlerFunc{with(good.serve, "Content-Encoding", "identity, br")}, asked: 1, says: []string{`"identity, br"`}},
		"a page":                      {script: []http.HandlerFunc{with(good.serve, "Content-Type", "text/html; charset=utf-8")}, asked: 1, says: []string{`Content-Type "text/html; charset=utf-8"`, "login page"}},
		"a page, badly labelled":      {script: []http.HandlerFunc{with(good.serve, "Content-Type", "Text/HTML; charset")}, asked: 1, says: []string{"Content-Type"}},
		"a page midway":               {script: []http.HandlerFunc{good.cut(1000), with(good.serve, "Content-Type", "text/html")}, asked: 2, kept: true, says: []string{"Content-Type"}},
		"replaced midway":             {script: []http.HandlerFunc{good.cut(1000), version{longer, `"two"`}.serve}, asked: 2, kept: true, says: []string{"a file of 1048577 bytes"}},
		"range nobody asked for":      {script: []http.HandlerFunc{status(206, "Content-Range", "bytes 0-1048575/1048576")}, asked: 1, says: []string{"the range"}},
		"range from elsewhere":        {script: []http.HandlerFunc{good.cut(1000), ranged("bytes 999-1048575/1048576")}, asked: 2, says: []string{`"bytes 999-1048575/1048576"`, "from byte 1000 on"}},
		"range of another length":     {script: []http.HandlerFunc{good.cut(1000), with(ranged("bytes 1000-1048574/1048576"), "Content-Length", "1047576")}, asked: 2, says: []string{"the range"}},
		"range and more":              {script: []http.HandlerFunc{good.cut(1000), ranged("bytes 1000-1048574/1048576")}, asked: 2, says: []string{"a longer file"}},
		"range of a larger file":      {script: []http.HandlerFunc{good.cut(1000), ranged("bytes 1000-1048575/1048577")}, asked: 2, kept: true, says: []string{"a file of 1048577 bytes"}},
		"range without sense":         {script: []http.HandlerFunc{good.cut(1000), ranged("bytes 1000--1/1048576")}, asked: 2, says: []string{"the range"}},
		"range ends before it begins": {script: []http.HandlerFunc{good.cut(1000), ranged("bytes 1000-999/1048576")}, asked: 2, says: []string{"the range"}},
		"multipart ranges":            {script: []http.HandlerFunc{good.cut(1000), status(206, "Content-Type", "multipart/byteranges; boundary=x")}, asked: 2, says: []string{`the range ""`}},
		"not there":                   {script: []http.HandlerFunc{status(404)}, network: true, asked: 1, says: []string{"404 Not Found, expected 200 OK", "dated images"}},
		"not there midway":            {script: []http.HandlerFunc{good.cut(1000), status(410)}, network: true, asked: 2, kept: true, says: []string{"410 Gone"}},
		"forbidden":                   {script: []http.HandlerFunc{status(403)}, network: true, asked: 1, says: []string{"credentials"}},
		"not modified":                {script: []http.HandlerFunc{status(304)}, network: true, asked: 1, says: []string{"304"}},
		"redirect to nowhere":         {script: []http.HandlerFunc{status(302)}, network: true, asked: 1, says: []string{"302"}},
		"redirects for ever":          {script: []http.HandlerFunc{status(302, "Location", "/image?x=t0ken")}, network: true, asked: 6, says: []string{"more than 5 redirects"}},
		"redirect to a file":          {script: []http.HandlerFunc{status(302, "Location", "file:///etc/passwd")}, asked: 1, says: []string{"file:///etc/passwd", "http"}},
		"unavailable for ever":        {script: []http.HandlerFunc{status(503)}, network: true, asked: attempts, says: []string{"503", "6 attempts"}},
		"cut for ever":                {script: []http.HandlerFunc{ignoringRange(good.cut(500000))}, network: true, asked: attempts + 1, kept: true, says: []string{"500000 of 1048576 bytes are kept", "run again"}},
		"a byte at a time":            {script: []http.HandlerFunc{good.cut(1)}, network: true, asked: attempts, kept: true, says: []string{"6 of 1048576 bytes are kept"}},
		"portions of a byte":          {script: []http.HandlerFunc{good.cut(1), portions(good, 1)}, network: true, asked: attempts, kept: true, says: []string{"too little"}},
		"another ETag each time":      {script: flickering(good.data, 3*attempts), network: true, asked: attempts + 1, kept: true, says: []string{"6 attempts"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, c.script...)
			want := wantOf(strings.Replace(o.URL, "http://", "http://me:secret@", 1)+"/image?x=t0ken", good.data)
			if c.change != nil {
				c.change(&want)
			}
			dir := t.TempDir()
			f, _ := patient()
			_, err := f.Fetch(t.Context(), want, dir)
			checkError(t, err, c.network, append(c.says, o.URL+"/image"))
			if n := len(o.requests()); n != c.asked {
				t.Errorf("%d requests, want %d", n, c.asked)
			}
			left := list(t, dir)
			if slices.Contains(left, want.name()) {
				t.Error("it has a name")
			}
			if kept := slices.Contains(left, want.name()+".part"); kept != c.kept || !kept && len(left) > 0 {
				t.Errorf("left behind: %q, a partial is to be kept: %v", left, c.kept)
			}
		})
	}
}

func checkError(t *testing.T, err error, network bool, says []string) {
	t.Helper()
	var i interface{ Integrity() bool }
	var n interface{ Network() bool }
	if isI, isN := errors.As(err, &i) && i.Integrity(), errors.As(err, &n) && n.Network(); isI == network || isN != network {
		t.Fatalf("integrity %v, network %v: %v", isI, isN, err)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	for _, text := range []string{"secret", "t0ken", "\n"} {
		if strings.Contains(err.Error(), text) {
			t.Errorf("%q says %q", err, text)
		}
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for block := make([]byte, 64<<10); r.Context().Err() == nil; {
		w.Write(block)
	}
}

// flickering has another version for each request, and ignores If-Range.
func flickering(data []byte, requests int) []http.HandlerFunc {
	var all []http.HandlerFunc
	for i := range requests {
		v := version{data, `"` + strings.Repeat("x", i) + `"`}
		all = append(all, ignoringIfRange(v.cut(70000)))
	}
	return all
}

func TestWant(t *testing.T) {
	good := wantOf("http://localhost/image", nil)
	for name, change := range map[string]func(*Want){
		"no scheme":    func(w *Want) { w.URL = "localhost/image" },
		"file":         func(w *Want) { w.URL = "file:///etc/passwd" },
		"no host":      func(w *Want) { w.URL = "http:///image" },
		"no URL":       func(w *Want) { w.URL = "http://me:secret@local host/" },
		"md5":          func(w *Want) { w.Algorithm = "md5" },
		"no algorithm": func(w *Want) { w.Algorithm = "" },
		"path":         func(w *Want) { w.Digest = "../" + w.Digest[3:] },
		"short":        func(w *Want) { w.Digest = w.Digest[2:] },
		"upper case":   func(w *Want) { w.Digest = strings.ToUpper(w.Digest) },
		"other length": func(w *Want) { w.Algorithm = "sha512" },
		"negative":     func(w *Want) { w.Size = -1 },
	} {
		want, dir := good, filepath.Join(t.TempDir(), "dir")
		change(&want)
		_, err := Fetcher{}.Fetch(t.Context(), want, dir)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s: the directory was made", name)
		}
	}
}

func TestTLS(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	plain := newOrigin(t, good.serve)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain.URL+"/image", http.StatusFound)
			return
		}
		good.serve(w, r)
	}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	up := newOrigin(t, status(302, "Location", secure.URL+"/image"))
	f, pauses := patient()

	_, err := f.Fetch(t.Context(), wantOf(secure.URL+"/image", good.data), t.TempDir())
	checkError(t, err, true, []string{"certificate", "clock"})
	_, err = f.Fetch(t.Context(), wantOf(strings.Replace(plain.URL, "http:", "https:", 1), good.data), t.TempDir())
	checkError(t, err, true, []string{"does not speak TLS"})

	f.Transport = secure.Client().Transport
	_, err = f.Fetch(t.Context(), wantOf(secure.URL+"/down", good.data), t.TempDir())
	checkError(t, err, false, []string{"a redirect to " + plain.URL + "/image", "https"})
	if len(plain.requests()) > 0 || len(*pauses) > 0 {
		t.Errorf("asked %q over http, paused %v", plain.requests(), *pauses)
	}
	for _, url := range []string{secure.URL, up.URL} {
		file, err := f.Fetch(t.Context(), wantOf(url+"/image", good.data), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		checkFile(t, file, good.data)
	}
}

func TestNoServer(t *testing.T) {
	o := newOrigin(t, status(200))
	o.Close()
	f, pauses := patient()
	_, err := f.Fetch(t.Context(), wantOf(o.URL, []byte("x")), t.TempDir())
	checkError(t, err, true, []string{"connection refused", "check the connection"})
	if !errors.Is(err, syscall.ECONNREFUSED) || len(*pauses) != attempts-1 {
		t.Errorf("%v after pauses %v", err, *pauses)
	}
}

// TestPartial has what an earlier run, or somebody else, may have left.
func TestPartial(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	poison := slices.Clone(good.data[:5000])
	poison[0] ^= 1
	const all, rest = int64(mib), int64(mib - 5000)
	for name, c := range map[string]struct {
		part     []byte
		change   func(*state)
		size     int64
		whole    []byte
		asked    []string
		received int64
	}{
		"good":                 {part: good.data[:5000], size: mib, asked: []string{`bytes=5000- "one"`}, received: rest},
		"size unknown":         {part: good.data[:5000], asked: []string{`bytes=5000- "one"`}, received: rest},
		"from another URL":     {part: good.data[:5000], size: mib, change: func(s *state) { s.URL, s.ETag = "http://x/", `"x"` }, asked: []string{"bytes=5000-"}, received: rest},
		"of another version":   {part: good.data[:5000], size: mib, change: func(s *state) { s.ETag = `"old"` }, asked: []string{`bytes=5000- "old"`}, received: all},
		"poisoned":             {part: poison, size: mib, asked: []string{`bytes=5000- "one"`, ""}, received: rest + all},
		"whole":                {part: good.data, size: mib, asked: nil},
		"whole, total unknown": {part: good.data, change: func(s *state) { s.Total = 0 }, asked: []string{`bytes=1048576- "one"`}},
		"whole and poisoned":   {part: append(slices.Clone(poison), good.data[5000:]...), size: mib, asked: []string{""}, received: all},
		"too long":             {part: append(slices.Clone(good.data), 0), size: mib, asked: []string{""}, received: all},
		"total is not size":    {part: good.data[:5000], size: mib, change: func(s *state) { s.Total++ }, asked: []string{""}, received: all},
		"negative total":       {part: good.data[:5000], change: func(s *state) { s.Total = -1 }, asked: []string{""}, received: all},
		"other schema":         {part: good.data[:5000], size: mib, change: func(s *state) { s.Schema = "bake.part/2" }, asked: []string{""}, received: all},
		"state lost":           {part: good.data[:5000], size: mib, change: func(s *state) { *s = state{} }, asked: []string{""}, received: all},
		"result":               {whole: good.data, size: mib},
		"result damaged":       {whole: poison, size: mib, asked: []string{""}, received: all},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, good.serve)
			dir := t.TempDir()
			want := wantOf(o.URL+"/image", good.data)
			want.Size = c.size
			s := state{Schema: stateSchema, URL: want.URL, ETag: good.etag, Total: mib}
			if c.change != nil {
				c.change(&s)
			}
			path := newClaim(filepath.Join(dir, want.name()))
			leave(t, path.path, c.whole)
			leave(t, path.part(), c.part)
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			leave(t, path.state(), text)
			f, _ := patient()
			file, err := f.Fetch(t.Context(), want, dir)
			if err != nil {
				t.Fatal(err)
			}
			if asked := o.requests(); !slices.Equal(asked, c.asked) || file.Received != c.received {
				t.Errorf("asked %q and received %d, want %q and %d", asked, file.Received, c.asked, c.received)
			}
			if c.whole == nil {
				checkFile(t, file, good.data)
			}
		})
	}
}

// leave writes a file unless there is nothing to write.
func leave(t *testing.T, path string, data []byte) {
	t.Helper()
	if data == nil {
		return
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLink has links and devices where a file should be: nothing behind them may
// be written to.
func TestLink(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	o := newOrigin(t, good.serve)
	want := wantOf(o.URL, good.data)
	for _, suffix := range []string{"", ".part"} {
		dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
		leave(t, victim, []byte("precious"))
		if err := os.Symlink(victim, filepath.Join(dir, want.name()+suffix)); err != nil {
			t.Fatal(err)
		}
		if _, err := (Fetcher{}).Fetch(t.Context(), want, dir); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("%q as a link: %v", suffix, err)
		}
		if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
			t.Errorf("%q as a link: the victim is %q (%v)", suffix, data, err)
		}
		fifo := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(fifo, want.name()+suffix), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (Fetcher{}).Fetch(t.Context(), want, fifo); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%q as a FIFO: %v", suffix, err)
		}
	}
}

// TestStale has downloads of which all files are old, one is new, somebody has a
// claim, and files that are none of ours.
func TestStale(t *testing.T) {
	good := version{noise(1, 1000), `"one"`}
	o := newOrigin(t, good.serve)
	dir := t.TempDir()
	now := time.Now()
	digest := func(c string) string { return "sha256-" + strings.Repeat(c, 64) }
	put := func(name string, age time.Duration) string {
		path := filepath.Join(dir, name)
		leave(t, path, []byte("x"))
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const day = 24 * time.Hour
	put(digest("a")+".part", 15*day)
	put(digest("a")+".part.json", 15*day)
	put(digest("a")+".lock", 15*day)
	put(digest("b"), 15*day)
	put(digest("c")+".users", 15*day)
	kept := []string{
		put(digest("d")+".part", 13*day), put(digest("d")+".part.json", 15*day),
		put(digest("e"), 15*day), digest("e") + ".users",
		put("other", 99*day), put("sha256-short.part", 99*day), put(strings.Repeat("a", 64)+".part", 99*day),
	}
	claimed := newClaim(filepath.Join(dir, digest("e")))
	if ok, err := claimed.users.TryRLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	put(digest("e")+".users", 15*day)
	f := Fetcher{now: func() time.Time { return now }}
	file, err := f.Fetch(t.Context(), wantOf(o.URL, good.data), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Forget(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(kept)
	if left := list(t, dir); !slices.Equal(left, kept) {
		t.Errorf("left\n%q, want\n%q", left, kept)
	}
}

// TestWaitCancelled cancels a run that waits for another.
func TestWaitCancelled(t *testing.T) {
	dir := t.TempDir()
	want := wantOf("http://127.0.0.1:1/image", []byte("x"))
	holder := newClaim(filepath.Join(dir, want.name()))
	if ok, err := holder.users.TryRLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	unlock, err := holder.lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	leave(t, holder.part(), []byte("123"))
	stop := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	f := Fetcher{Progress: func(done, total int64) {
		if done != 3 || total != 1 {
			t.Errorf("told of %d of %d bytes", done, total)
		}
		cancel(stop)
	}}
	if _, err := f.Fetch(ctx, want, dir); !errors.Is(err, stop) || !strings.Contains(err.Error(), "waiting for") {
		t.Error(err)
	}
}
