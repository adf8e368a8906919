package origin

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tagged makes the world's server one that knows what it has sent. It returns what
// was asked since it was called last, with the statuses.
func (w *world) tagged(by string) (asked func() string) {
	var log []string
	answer := func(out http.ResponseWriter, in *http.Request) {
		w.mu.Lock()
		content := w.files[in.URL.Path]
		w.mu.Unlock()
		status, tag := 200, `"`+digestOf(string(content))[:16]+`"`
		when := in.Header.Get("If-Modified-Since")
		switch {
		case content == nil:
			status = 404
		case by == "ETag":
			out.Header().Set("ETag", tag)
			if in.Header.Get("If-None-Match") == tag {
				status = 304
			}
		case by == "Last-Modified":
			out.Header().Set("Last-Modified", "of "+tag)
			if when == "of "+tag {
				status = 304
			}
		case by == "lies": // it has not been asked
			status = 304
		}
		log = append(log, filepath.Base(in.URL.Path)+" "+http.StatusText(status))
		out.WriteHeader(status)
		if status == 200 {
			_, _ = out.Write(content)
		}
	}
	for _, day := range []string{"", "-20260722", "-20260723"} {
		for _, name := range []string{"SHA256SUMS", "SHA256SUMS.gpg"} {
			w.hook("/releases/noble/release"+day+"/"+name, answer)
		}
	}
	return func() string {
		text := strings.Join(log, ", ")
		log = nil
		return text
	}
}

func TestAnswers(t *testing.T) {
	const all = "SHA256SUMS OK, SHA256SUMS.gpg OK, SHA256SUMS OK, SHA256SUMS.gpg OK"
	for _, by := range []string{"ETag", "Last-Modified"} {
		w := newWorld(t)
		w.resolver.now = func() time.Time { return today.Add(240 * time.Hour) }
		asked := w.tagged(by)
		first, err := w.resolve("ubuntu:24.04")
		if err != nil || asked() != all {
			t.Fatalf("the first time: %v", err)
		}
		for range 2 {
			again, err := w.resolve("ubuntu:24.04")
			if got := asked(); err != nil || again != first || got != "SHA256SUMS Not Modified, SHA256SUMS.gpg Not Modified" {
				t.Errorf("%s: nothing new: asked %s, %v", by, got, err)
			}
		}
		w.publish(newestDir, sums("24.04", "20260723"), signed.Add(24*time.Hour))
		w.publish("/releases/noble/release-20260723/", sums("24.04", "20260723"), signed.Add(24*time.Hour))
		newer, err := w.resolve("ubuntu:24.04")
		if got := asked(); err != nil || newer.Serial != "20260723" || got != all {
			t.Errorf("%s: a new build: asked %s, %s, %v", by, got, newer.Serial, err)
		}
		// Only the signature is new: all is asked for.
		w.publish(newestDir, sums("24.04", "20260723"), signed.Add(25*time.Hour))
		if _, err := w.resolve("ubuntu:24.04"); err != nil || asked() != "SHA256SUMS Not Modified, SHA256SUMS.gpg OK, SHA256SUMS Not Modified, SHA256SUMS.gpg Not Modified" {
			t.Errorf("%s: signed anew: %v", by, err)
		}
		// An old list is refused, and then it is not what is asked for next time.
		w.publish(newestDir, sums("24.04", "20260722"), signed)
		for range 2 {
			_, err = w.resolve("ubuntu:24.04")
			refused(t, err, "integrity", "a replay")
			if got := asked(); got != all {
				t.Errorf("%s: a replay: asked %s", by, got)
			}
		}
	}
}

// Builds without a directory of their own are not looked for again.
func TestAnswersAbsent(t *testing.T) {
	w := newWorld(t)
	asked := w.tagged("ETag")
	w.publish(newestDir, only(serverImage), signed.Add(time.Hour))
	w.put(datedDir, nil, nil)
	first, err := w.resolve("ubuntu:24.04")
	if err != nil || !strings.Contains(asked(), "Not Found") {
		t.Fatal(err)
	}
	again, err := w.resolve("ubuntu:24.04")
	if got := asked(); err != nil || first != again || got != "SHA256SUMS Not Modified, SHA256SUMS.gpg Not Modified" {
		t.Errorf("asked %s, %v", got, err)
	}
}

// What is kept is verified like what comes: it vouches for nothing.
func TestAnswersAreNotTrusted(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, w *world, file string)
		want   string // kind of the error
	}{
		"another list in the file": {func(t *testing.T, w *world, file string) {
			base := strings.TrimSuffix(w.url, "/")
			a := recallAnswers(file)
			is := a.ByURL[base+newestDir+"SHA256SUMS"]
			is.Content = sums("24.04", "20260801")
			a.ByURL[base+newestDir+"SHA256SUMS"] = is
			a.given = a.ByURL
			a.ByURL = nil
			a.keep(file)
		}, "integrity"},
		"the file is cut off": {func(t *testing.T, w *world, file string) {
			if err := os.Truncate(file, 100); err != nil {
				t.Fatal(err)
			}
		}, "none"},
		"another key counts": {func(t *testing.T, w *world, _ string) { w.pin(newKey(t, 0)) }, "integrity"},
		"the key has expired": {func(t *testing.T, w *world, _ string) {
			w.resolver.now = func() time.Time { return today.AddDate(-30, 0, 0) } // its signature is from the future
		}, "integrity"},
		"a server that says so unasked": {func(t *testing.T, w *world, file string) {
			w.tagged("lies")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}, "network"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.tagged("ETag")
			if _, err := w.resolve("ubuntu:24.04"); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(w.resolver.State, answersDir, "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%q, %v", files, err)
			}
			if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			test.change(t, w, files[0])
			if _, err := w.resolve("ubuntu:24.04"); kind(err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
}
