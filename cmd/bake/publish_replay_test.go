package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFetchBorrowed: what is signed is that the tag points to an image; what is said of the image
// somebody who may write to the place can exchange for what was said of an older one. Its
// generation is here already, and is not current again for that.
func TestFetchBorrowed(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	old := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	s.there(0, "is here and current", d.address)
	s.publish(changedImage(t, map[string]string{"opt/noise": noise(6 << 20), "etc/motd": "new"}), now)
	s.must(0, nil)
	fresh := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	s.there(0, "is here and current", d.address)

	said := d.notes(fresh.Image)
	d.reset(d.gossip(fresh.Image, d.borrowed(old.Image, fresh.Image)))
	s.there(5, "has signed", d.address)
	if now, err := os.Readlink(filepath.Join(s.dir, "far/out/zap/current")); err != nil || now != fresh.Generation {
		t.Errorf("current is %s, %v, want %s", now, err, fresh.Generation)
	}
	d.reset(d.gossip(fresh.Image, said))
	s.there(0, "is here and current", d.address)
	if d.down > 2*perFile {
		t.Errorf("what is here is fetched again: %d bytes", d.down)
	}
}

const tagNote = `"artifactType":"application/vnd.bake.tag.v1+dsse"`

// borrowed is what is said of an image with what is said of another one: all but who has set the
// tag.
func (d *depot) borrowed(from, image string) (all [][]byte) {
	d.t.Helper()
	for _, note := range d.notes(image) {
		if bytes.Contains(note, []byte(tagNote)) {
			all = append(all, note)
		}
	}
	for _, note := range d.notes(from) {
		if !bytes.Contains(note, []byte(tagNote)) {
			note = bytes.ReplaceAll(note, []byte(from), []byte(image))
			d.ask(http.MethodPut, "manifests/sha256:"+hexDigest(note), note)
			all = append(all, note)
		}
	}
	return all
}

// gossip has the registry list those notes about an image, and no others.
func (d *depot) gossip(image string, notes [][]byte) func(http.ResponseWriter, *http.Request) bool {
	var list []string
	for _, note := range notes {
		list = append(list, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":%d,"digest":"sha256:%s"}`, len(note), hexDigest(note)))
	}
	return func(out http.ResponseWriter, in *http.Request) bool {
		if !strings.HasSuffix(in.URL.Path, "/referrers/"+image) {
			return false
		}
		out.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		fmt.Fprintf(out, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}`, strings.Join(list, ","))
		return true
	}
}

// TestNumberOnce: a publish that broke off when it had signed and before it had set the tag has
// used its number up: with the same one for the next generation either could be current.
func TestNumberOnce(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	const current = "/manifests/zap-current"
	d.reset(func(out http.ResponseWriter, in *http.Request) bool {
		if in.Method != http.MethodPut || !strings.HasSuffix(in.URL.Path, current) {
			return false
		}
		out.WriteHeader(http.StatusForbidden)
		return true
	})
	s.moved(6, "could not set the tag zap-current", "publish", "--host", "zap", "--to", d.address)
	old := s.current("zap")
	image := "sha256:" + hexDigest(d.ask(http.MethodGet, "manifests/zap-"+old, nil))
	d.reset(nil)
	s.publish(changedImage(t, map[string]string{"opt/noise": noise(6 << 20), "etc/motd": "new"}), now)
	s.must(0, nil)
	fresh := s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	s.there(0, "is here and current", d.address)
	d.reset(func(_ http.ResponseWriter, in *http.Request) bool {
		if strings.HasSuffix(in.URL.Path, current) {
			in.URL.Path = strings.Replace(in.URL.Path, "zap-current", image, 1)
		}
		return false
	})
	s.there(5, "the tag was moved back to generation "+old, d.address)
	if now, err := os.Readlink(filepath.Join(s.dir, "far/out/zap/current")); err != nil || now != fresh.Generation {
		t.Errorf("current is %s, %v, want %s", now, err, fresh.Generation)
	}
}

// TestPublishOvertaken: what is not current any more when it has been sent, because a night has
// promoted another meanwhile, the place does not call current.
func TestPublishOvertaken(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	generation := s.current("zap")
	d.reset(func(_ http.ResponseWriter, in *http.Request) bool {
		if in.Method == http.MethodPut && strings.HasSuffix(in.URL.Path, "/manifests/zap-"+generation) {
			if err := os.Remove(filepath.Join(s.dir, "out/zap/current")); err != nil {
				t.Error(err)
			}
		}
		return false
	})
	v := s.moved(0, "is not current any more", "publish", "--host", "zap", "--to", d.address)
	if len(v.Tags) != 1 || v.Tags[0] != "zap-"+generation || d.asked["PUT /v2/fleet/machines/manifests/zap-current"] > 0 {
		t.Errorf("it is called current: %q", v.Tags)
	}
}

// TestNumberBeforeCurrent: what a place has shown is known before its generation is current: a
// fetch that is killed between the two must not let an older one come.
func TestNumberBeforeCurrent(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	s.tool(t, "mkdir", "-p", "far/out/zap/current/in-the-way")
	s.there(1, "promoting generation", d.address)
	if number, err := shownBy(filepath.Join(s.dir, "far/out"), "zap", d.address); number != 1 || err != nil {
		t.Errorf("%d was seen, %v", number, err)
	}
}
