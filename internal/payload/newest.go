package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/lazy"
	"bake/internal/origin"
)

const (
	askedDir    = "asked"
	askedSchema = "bake.asked/1"
	maxRelease  = 4 << 20
	patience    = 30 * time.Second // for one list, from question to last byte
	forgotten   = 90 * 24 * time.Hour
)

// asked is what apt resolved last for a want, and what the archives' lists were then.
type asked struct {
	Schema string       `json:"schema"`
	Lists  []list       `json:"lists"`
	Debs   []origin.Deb `json:"debs"`
}

// list is the signed list of a suite. Nothing is believed for its sake: it only tells
// whether there is anything new for apt to look at.
type list struct {
	URL      string    `json:"url"`
	ETag     string    `json:"etag,omitempty"`
	Modified string    `json:"modified,omitempty"` // Last-Modified, as the server wrote it
	SHA256   string    `json:"sha256"`
	Until    time.Time `json:"until,omitzero"` // it counts
}

// Newest is Resolve without versions to prefer, for an image with that SHA-256, and
// asks apt only if a list of the archives is another than when it was asked last: one
// conditional request for each suite. Who keeps back what is new can do so until the
// list is out of date, as with apt itself.
func (b Builder) Newest(ctx context.Context, w Want, image string) ([]origin.Deb, error) {
	key, err := json.Marshal([]any{image, w.Arch, w.Mirror, w.Expired, w.Names()})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(key)
	file := filepath.Join(b.Dir, askedDir, hex.EncodeToString(sum[:8])+".json")
	var last asked
	if content, err := os.ReadFile(file); err == nil && json.Unmarshal(content, &last) == nil && last.Schema == askedSchema && b.isAll(ctx, w, last) {
		return last.Debs, b.forward(ctx, w, last.Debs)
	}
	now := asked{Schema: askedSchema, Lists: b.lists(ctx, w)} // before: what comes between is found the next time
	if now.Debs, err = b.Resolve(ctx, w, nil); err != nil {
		return nil, err
	}
	if now.Lists != nil {
		b.keepAsked(file, now)
	}
	return now.Debs, nil
}

// isAll says whether nothing has changed since apt was asked.
func (b Builder) isAll(ctx context.Context, w Want, last asked) bool {
	b.stage("%s: asking the archives for news", w.Name)
	for _, is := range last.Lists {
		if !is.Until.IsZero() && time.Now().After(is.Until) && !w.Expired {
			return false // apt has something to say about that
		}
		now, err := is.ask(ctx)
		if err != nil || now.SHA256 != is.SHA256 {
			return false
		}
	}
	return len(last.Lists) > 0
}

// lists asks for those of an image's archives; nil is for not knowing all of them, as
// where apt's own way to the network is another than this one.
func (b Builder) lists(ctx context.Context, w Want) []list {
	s, err := read(ctx, w.Image)
	if err != nil {
		return nil // apt will say so
	}
	var all []list
	for _, address := range s.releases(w.Mirror) {
		is, err := list{URL: address}.ask(ctx)
		if err != nil {
			return nil
		}
		all = append(all, is)
	}
	return all
}

// releases are the URLs of the signed lists.
func (s system) releases(mirror string) (all []string) {
	for _, source := range s.sources {
		for _, uri := range source.URIs {
			for _, suite := range source.Suites {
				root := strings.TrimRight(moved(uri, mirror), "/")
				if flat, ok := strings.CutSuffix(suite, "/"); ok {
					all = append(all, root+"/"+strings.TrimLeft(flat+"/", "/")+"InRelease")
				} else {
					all = append(all, root+"/dists/"+suite+"/InRelease")
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// ask returns the list as it is now.
func (l list) ask(ctx context.Context) (list, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return l, err
	}
	request.Header.Set("User-Agent", "bake")
	request.Header.Set("Cache-Control", "no-cache")
	if l.ETag != "" {
		request.Header.Set("If-None-Match", l.ETag)
	} else if l.Modified != "" {
		request.Header.Set("If-Modified-Since", l.Modified)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return l, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && l.SHA256 != "":
		return l, nil
	case response.StatusCode != http.StatusOK:
		return l, fmt.Errorf("the server answers %d", response.StatusCode)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxRelease+1))
	if err != nil || len(content) > maxRelease {
		return l, errors.Join(errors.New("the list does not come, or not to an end"), err)
	}
	sum := sha256.Sum256(content)
	now := list{URL: l.URL, ETag: header(response, "ETag"), Modified: header(response, "Last-Modified"), SHA256: hex.EncodeToString(sum[:])}
	if m := validUntil.FindSubmatch(content); m != nil {
		if now.Until, err = time.Parse(time.RFC1123, string(m[1])); err != nil {
			return l, err
		}
	}
	return now, nil
}

var validUntil = lazy.Regexp(`(?m)^Valid-Until: (.*?)\r?$`)

// header is what will be sent back, unless it is nothing one would send.
func header(response *http.Response, key string) string {
	text := response.Header.Get(key)
	if len(text) > 256 || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
		return ""
	}
	return text
}

// keepAsked puts a note in place in one step. Losing it costs a question to apt.
func (b Builder) keepAsked(file string, a asked) {
	content, err := json.Marshal(a)
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	temporary, err := os.CreateTemp(b.Dir, workPrefix+"*")
	if err != nil {
		return
	}
	defer os.Remove(temporary.Name()) // gone by then unless something failed
	_, err = temporary.Write(append(content, '\n'))
	if errors.Join(err, temporary.Close()) == nil {
		_ = os.Rename(temporary.Name(), file)
	}
}

// forget removes notes that nobody has renewed for long.
func (b Builder) forget() {
	files, _ := filepath.Glob(filepath.Join(b.Dir, askedDir, "*.json"))
	for _, file := range files {
		if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > forgotten {
			_ = os.Remove(file) // what cannot be removed is in nobody's way
		}
	}
}
