package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/publish"
)

// TestFetchTampered: whatever somebody does who may write to the place, or is in between,
// it is refused and nothing is left.
func TestFetchTampered(t *testing.T) {
	s, d := newFleet(t, "zip"), newDepot(t)
	old := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	zip := s.moved(0, "", "publish", "--host", "zip", "--to", d.address)
	s.publish(changedImage(t, map[string]string{"opt/noise": noise(6 << 20), "etc/motd": "new"}), now)
	s.must(0, nil)
	fresh := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	if fresh.Image == old.Image {
		t.Fatal("there is no new image")
	}
	const root = "/v2/fleet/machines/"
	flip := func(what string, at int) func(http.ResponseWriter, *http.Request) bool {
		return func(out http.ResponseWriter, in *http.Request) bool {
			if in.Method != http.MethodGet || !strings.HasSuffix(in.URL.Path, what) {
				return false
			}
			record := httptest.NewRecorder()
			d.inner.ServeHTTP(record, in)
			body := record.Body.Bytes()
			if at < 0 {
				at += len(body)
			}
			body[at] ^= 1
			for name, values := range record.Header() {
				out.Header()[name] = values
			}
			out.WriteHeader(record.Code)
			_, _ = out.Write(body)
			return true
		}
	}
	retag := func(tag, image string) func(http.ResponseWriter, *http.Request) bool {
		return func(_ http.ResponseWriter, in *http.Request) bool {
			if strings.HasSuffix(in.URL.Path, "/manifests/"+tag) {
				in.URL.Path = root + "manifests/" + image
			}
			return false
		}
	}
	without := func(kind string) func(http.ResponseWriter, *http.Request) bool {
		return func(out http.ResponseWriter, in *http.Request) bool {
			if !strings.Contains(in.URL.Path, "/referrers/") {
				return false
			}
			stay := []string{}
			for _, note := range d.notes(fresh.Image) {
				if !bytes.Contains(note, []byte(`"artifactType":"`+kind)) {
					stay = append(stay, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":%d,"digest":"sha256:%s"}`, len(note), hexDigest(note)))
				}
			}
			if len(stay) != 3 {
				t.Errorf("%d notes are left", len(stay))
			}
			out.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			fmt.Fprintf(out, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}`, strings.Join(stay, ","))
			return true
		}
	}
	for what, test := range map[string]struct {
		hook  func(http.ResponseWriter, *http.Request) bool
		args  []string
		words string
	}{
		"one byte of the base layer":      {flip(fresh.Layers[0].Digest, 3<<20), nil, "sha256"},
		"the last byte of the last layer": {flip(fresh.Layers[len(fresh.Layers)-1].Digest, -1), nil, "sha256"},
		"a tag moved to another host":     {retag("zap-current", zip.Image), nil, "it is host zip's"},
		"a tag moved to another generation": {retag("zap-"+fresh.Generation, old.Image), []string{"--generation", fresh.Generation},
			"it is generation " + old.Generation},
		"no manifest":   {without("application/vnd.bake.manifest.v1+json"), nil, "there is not one manifest"},
		"no signature":  {without("application/vnd.bake.provenance.v1+dsse"), nil, "it is not signed"},
		"no verdict":    {without("application/vnd.bake.verdict.v1+dsse"), nil, "no signed word that its claims held"},
		"a tag unasked": {without("application/vnd.bake.tag.v1+dsse"), nil, "nobody whose signature counts has set the tag"},
	} {
		d.reset(test.hook)
		s.there(5, test.words, d.address, test.args...)
		s.nothingThere(what)
		s.tool(t, "rm", "-rf", "far/out")
	}

	// Somebody else's key: what was signed with it does not count.
	d.reset(nil)
	s.env[keyVariable] = filepath.Join(s.dir, "other/key")
	if o := s.run("key", "create"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	s.write(t, "other.pub", s.run("key", "export").stdout, 0o644)
	s.there(5, "not among those that are trusted", d.address, "--key", "other.pub")
	s.nothingThere("another's key")

	// Once the new one was seen, the old one is not current any more, signed as it is.
	d.reset(nil)
	s.there(0, "is here and current", d.address)
	d.reset(retag("zap-current", old.Image))
	s.there(5, "the tag was moved back to generation "+old.Generation+": its number is 1, and 2 was seen", d.address)
	if now, err := os.Readlink(filepath.Join(s.dir, "far/out/zap/current")); err != nil || now != fresh.Generation {
		t.Errorf("current is %s, %v", now, err)
	}
	s.there(0, "is here", d.address, "--generation", old.Generation) // by its name it can be had
}

// TestFetchForged: somebody who may write to the place puts other files there, with an
// image that fits and with what was signed. It is refused when it has come.
func TestFetchForged(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	for name, forge := range map[string]func([]byte) []byte{
		"domain.xml is not what desk (SHA256:": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"that nobody has signed":               func(b []byte) []byte { return b[1:] },
	} {
		d.replant(sent, "bake/domain.xml", forge)
		s.there(5, name, d.address, "--generation", sent.Generation)
		s.there(5, "nobody whose signature counts has set the tag", d.address)
		s.nothingThere(name)
	}
}

// TestFetchSwollen: nobody has signed how large the layers of an image are. What cannot be
// what was signed is not fetched at all: it would fill the disk before its digest is known.
func TestFetchSwollen(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	sent := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	was := d.ask(http.MethodGet, "manifests/"+sent.Image, nil)
	base, last := sent.Layers[0], sent.Layers[len(sent.Layers)-1]
	resize := func(l publish.Layer, size int64) []byte {
		return bytes.Replace(was, fmt.Appendf(nil, `"size":%d,"digest":"%s"`, l.Size, l.Digest), fmt.Appendf(nil, `"size":%d,"digest":"%s"`, size, l.Digest), 1)
	}
	more := func(title string) []byte {
		return bytes.Replace(was, []byte(`"layers":[`), fmt.Appendf(nil,
			`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":%d,"digest":"sha256:%064d","annotations":{"org.opencontainers.image.title":%q}},`, base.Size, 1, title), 1)
	}
	for what, test := range map[string]struct {
		image []byte
		words string
	}{
		"a base layer of a TiB":         {resize(base, 1<<40), `the layer "base" has 1099511627776 bytes`},
		"a layer of small files, too":   {resize(last, 1<<40), `the layer "" has 1099511627776 bytes`},
		"a layer of no size":            {resize(last, 0), `the layer "" has 0 bytes`},
		"a layer twice":                 {more("base"), `there are two layers "base"`},
		"a layer that was never signed": {more("x.iso"), `there is a layer "x.iso"`},
	} {
		if bytes.Equal(test.image, was) {
			t.Fatalf("%s is what there was", what)
		}
		d.retell(sent, test.image)
		d.reset(nil)
		s.there(5, test.words, d.address, "--generation", sent.Generation)
		s.nothingThere(what)
		for _, l := range sent.Layers {
			if n := d.asked["GET /v2/fleet/machines/blobs/"+l.Digest]; n > 0 {
				t.Errorf("%s: a layer is fetched", what)
			}
		}
	}
	d.retell(sent, was)
	s.there(0, "is here", d.address, "--generation", sent.Generation)
}

// ask has the registry answer, and returns what it said.
func (d *depot) ask(method, path string, body []byte) []byte {
	d.t.Helper()
	in := httptest.NewRequest(method, "/v2/fleet/machines/"+path, bytes.NewReader(body))
	in.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
	out := httptest.NewRecorder()
	d.inner.ServeHTTP(out, in)
	if out.Code >= 300 {
		d.t.Fatalf("%s %s: %d %s", method, path, out.Code, out.Body)
	}
	return out.Body.Bytes()
}

// replant tags an image with another file in its last layer, or with another disk, about which
// the same is said.
func (d *depot) replant(sent publishView, name string, forge func([]byte) []byte) {
	d.t.Helper()
	last := sent.Layers[len(sent.Layers)-1]
	if name == publish.DiskName {
		last = sent.Layers[0]
	}
	layer := retar(d.t, d.blob(last.Digest), name, forge)
	digest := "sha256:" + hexDigest(layer)
	if err := os.WriteFile(filepath.Join(filepath.Dir(d.blob(last.Digest)), hexDigest(layer)), layer, 0o644); err != nil {
		d.t.Fatal(err)
	}
	was := d.ask(http.MethodGet, "manifests/"+sent.Image, nil)
	is := bytes.ReplaceAll(was, []byte(last.Digest), []byte(digest))
	is = bytes.ReplaceAll(is, fmt.Appendf(nil, `"size":%d,`, last.Size), fmt.Appendf(nil, `"size":%d,`, len(layer)))
	d.retell(sent, is)
}

// retell tags another image as what was sent, about which the same is said.
func (d *depot) retell(sent publishView, is []byte) {
	d.t.Helper()
	image := "sha256:" + hexDigest(is)
	d.ask(http.MethodPut, "manifests/"+image, is)
	d.ask(http.MethodPut, "manifests/zap-"+sent.Generation, is)
	d.ask(http.MethodPut, "manifests/zap-current", is)
	for _, note := range d.notes(sent.Image) {
		note = bytes.ReplaceAll(note, []byte(sent.Image), []byte(image))
		d.ask(http.MethodPut, "manifests/sha256:"+hexDigest(note), note)
	}
}

// notes are the manifests that refer to an image.
func (d *depot) notes(image string) (all [][]byte) {
	d.t.Helper()
	var index struct{ Manifests []struct{ Digest string } }
	if err := json.Unmarshal(d.ask(http.MethodGet, "referrers/"+image, nil), &index); err != nil {
		d.t.Fatal(err)
	}
	for _, m := range index.Manifests {
		all = append(all, d.ask(http.MethodGet, "manifests/"+m.Digest, nil))
	}
	return all
}

// retar is a tar with another content of one file.
func retar(t *testing.T, path, name string, forge func([]byte) []byte) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out bytes.Buffer
	write := tar.NewWriter(&out)
	for read := tar.NewReader(file); ; {
		h, err := read.Next()
		if err == io.EOF {
			break
		}
		content, otherErr := io.ReadAll(read)
		if err != nil || otherErr != nil {
			t.Fatal(err, otherErr)
		}
		if h.Name == name {
			content = forge(content)
			h.Size = int64(len(content))
		}
		if err := write.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := write.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := write.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
