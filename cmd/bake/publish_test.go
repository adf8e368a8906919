package main

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"bake/internal/artifact"
	"bake/internal/provenance"
)

// depot is a registry on loopback that counts, and that can be told to misbehave.
type depot struct {
	t       *testing.T
	dir     string // of blobs
	address string // oci://
	inner   http.Handler

	mutex    sync.Mutex
	up, down int64          // bytes of blobs
	asked    map[string]int // by method and path
	hook     func(out http.ResponseWriter, in *http.Request) (done bool)
}

func newDepot(t *testing.T) *depot {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir()) // none of this user's
	d := &depot{t: t, dir: t.TempDir()}
	d.reset(nil)
	d.inner = registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(d.dir)), registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.address = "oci://" + strings.TrimPrefix(server.URL, "http://") + "/fleet/machines"
	return d
}

// reset forgets what was counted.
func (d *depot) reset(hook func(http.ResponseWriter, *http.Request) bool) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.up, d.down, d.asked, d.hook = 0, 0, map[string]int{}, hook
}

// counted is a body whose bytes are counted.
type counted struct {
	io.ReadCloser
	add func(int)
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.add(n)
	return n, err
}

// counting is an answer whose bytes are counted.
type counting struct {
	http.ResponseWriter
	add func(int)
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.add(n)
	return n, err
}

func (d *depot) add(to *int64) func(int) {
	return func(n int) {
		d.mutex.Lock()
		defer d.mutex.Unlock()
		*to += int64(n)
	}
}

func (d *depot) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	d.mutex.Lock()
	d.asked[in.Method+" "+in.URL.Path]++
	hook := d.hook
	d.mutex.Unlock()
	if hook != nil && hook(out, in) {
		return
	}
	if strings.Contains(in.URL.Path, "/blobs/") {
		in.Body = counted{in.Body, d.add(&d.up)}
		out = counting{out, d.add(&d.down)}
	}
	d.inner.ServeHTTP(out, in)
}

// blob is where a blob is kept.
func (d *depot) blob(digest string) string {
	hex := strings.TrimPrefix(digest, "sha256:")
	for _, path := range []string{filepath.Join(d.dir, "sha256", hex), filepath.Join(d.dir, digest)} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	d.t.Fatalf("there is no blob %s", digest)
	return ""
}

// noise is text that nothing makes smaller.
func noise(size int) string {
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, size/2)
	_, _ = random.Read(content)
	return hex.EncodeToString(content)
}

// newFleet is a sleep whose host zap has a current generation, on an image of some MiB.
func newFleet(t *testing.T, more ...string) *sleep {
	t.Helper()
	s := newSleep(t)
	s.publish(changedImage(t, map[string]string{"opt/noise": noise(6 << 20)}), now)
	s.host(more...)
	s.must(0, nil)
	s.tool(t, "mkdir", "-p", "far/keys")
	s.write(t, "far/keys/desk.pub", s.run("key", "export").stdout, 0o644)
	return s
}

// moved runs bake publish or fetch and returns what it printed for zap.
func (s *sleep) moved(code int, words string, args ...string) (v publishView) {
	s.t.Helper()
	o := s.run(append([]string{"--json"}, args...)...)
	if o.code != code || !strings.Contains(o.stderr, words) {
		s.t.Errorf("%q: exit status %d, want %d, %q\n%s%s", args, o.code, code, words, o.stdout, o.stderr)
	}
	var all []publishView
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil {
		s.t.Fatalf("%v\n%s%s", err, o.stdout, o.stderr)
	}
	if len(all) > 0 {
		v = all[0]
	}
	return v
}

// there fetches as another hypervisor does.
func (s *sleep) there(code int, words, from string, args ...string) publishView {
	s.t.Helper()
	return s.moved(code, words, append([]string{"--config", "far", "--out", "far/out", "fetch", "--host", "zap", "--from", from}, args...)...)
}

// nothingThere demands that a fetch has left nothing that could be taken for a generation.
func (s *sleep) nothingThere(what string) {
	s.t.Helper()
	checkClean(s.t, filepath.Join(s.dir, "far"))
	entries, err := os.ReadDir(filepath.Join(s.dir, "far/out/zap"))
	for _, entry := range entries {
		if name := entry.Name(); name != ".lock" && name != placesName {
			s.t.Errorf("%s leaves %s", what, name)
		}
	}
	if err != nil && !os.IsNotExist(err) {
		s.t.Error(err)
	}
	if transfers, _ := filepath.Glob(filepath.Join(s.dir, "far/out/.transfer/*")); len(transfers) > 0 {
		s.t.Errorf("%s leaves %q", what, transfers)
	}
	bases, _ := filepath.Glob(filepath.Join(s.dir, "far/out/.base/*.qcow2"))
	for _, path := range bases { // one that was signed may stay: it is what its name says
		if fileSum(s.t, path)+".qcow2" != filepath.Base(path) {
			s.t.Errorf("%s leaves %s", what, path)
		}
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return hexDigest(content)
}

// TestPublish: what is published is what another hypervisor gets, attested as here, and
// what is there is not sent again.
func TestPublish(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	g := s.open("current")
	plan := s.moved(0, "would be sent to oci://", "publish", "--host", "zap", "--to", d.address, "--dry-run")
	if d.up > 0 || plan.Sent == 0 || plan.Sent != wholeOf(plan.Layers) {
		t.Errorf("a dry run has sent %d bytes, would send %d", d.up, plan.Sent)
	}
	sent := s.moved(0, "is in oci://", "publish", "--host", "zap", "--to", d.address)
	if sent.Image != plan.Image || sent.Sent != plan.Sent || len(sent.Tags) != 2 || d.up < sent.Sent || d.up > sent.Sent+200<<10 {
		t.Errorf("%+v, planned %+v, the registry got %d bytes", sent, plan, d.up)
	}
	d.reset(nil)
	if again := s.moved(0, "", "publish", "--host", "zap", "--to", d.address); again.Image != sent.Image || again.Sent != 0 || d.up != 0 {
		t.Errorf("the second time: %+v, %d bytes", again, d.up)
	}
	other := newDepot(t)
	if same := s.moved(0, "", "publish", "--host", "zap", "--generation", "latest", "--to", other.address); same.Image != sent.Image {
		t.Errorf("elsewhere the image is %s, here %s", same.Image, sent.Image)
	}
	d.isContainerDisk(sent, g)

	if dry := s.there(0, "signed by desk", d.address, "--dry-run"); dry.Sent != sent.Sent {
		t.Errorf("%+v", dry)
	}
	s.nothingThere("a dry run")
	got := s.there(0, "is here and current", d.address)
	if got.Image != sent.Image || got.Sent != sent.Sent {
		t.Errorf("%+v", got)
	}
	s.attest(0, "1 claims held", "--config", "far", "--out", "far/out")
	far, err := artifact.Open(filepath.Join(s.dir, "far/out"), "zap", "current")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"manifest.json", "provenance.intoto.jsonl", "disk.qcow2", verdictReport} {
		here, err := os.ReadFile(g.Path(name))
		there, otherErr := os.ReadFile(far.Path(name))
		if err != nil || otherErr != nil || !bytes.Equal(here, there) {
			t.Errorf("%s: %v, %v, or they differ", name, err, otherErr)
		}
	}
	checkClean(t, filepath.Join(s.dir, "far"))
	if left, _ := filepath.Glob(filepath.Join(s.dir, "far/out/.transfer/*")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	s.tool(t, "qemu-img", "check", "-q", "far/out/zap/current/disk.qcow2")
	d.reset(nil)
	if again := s.there(0, "", d.address); again.Image != sent.Image || d.down > 100<<10 {
		t.Errorf("the second time %d bytes came", d.down)
	}
}

// isContainerDisk demands that the first layer is what KubeVirt wants: one file in /disk,
// of qemu's, that stands alone. It is the base image, byte for byte.
func (d *depot) isContainerDisk(v publishView, g artifact.Generation) {
	d.t.Helper()
	disks := 0
	for i, l := range v.Layers {
		file, err := os.Open(d.blob(l.Digest))
		if err != nil {
			d.t.Fatal(err)
		}
		defer file.Close()
		for read := tar.NewReader(file); ; {
			h, err := read.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				d.t.Fatal(err)
			}
			if h.Uid != 107 || h.Gid != 107 || h.ModTime.Unix() != 0 || h.Uname+h.Gname != "" {
				d.t.Errorf("%s belongs to %d:%d, of %v", h.Name, h.Uid, h.Gid, h.ModTime)
			}
			if !strings.HasPrefix(h.Name, "disk/") || h.Typeflag == tar.TypeDir {
				continue
			}
			disks++
			content, err := io.ReadAll(read)
			if err != nil || i != 0 || h.Name != "disk/disk.qcow2" || h.Mode != 0o440 {
				d.t.Errorf("layer %d: %s, %o, %v", i, h.Name, h.Mode, err)
			}
			want := g.Manifest.Base.SHA256
			if l.Title == "disk.qcow2" {
				want = g.Manifest.Files["disk.qcow2"].SHA256
			}
			if hexDigest(content) != want || l.Content != want {
				d.t.Errorf("the disk is %s, want %s", hexDigest(content), want)
			}
		}
	}
	if disks != 1 {
		d.t.Errorf("there are %d disks", disks)
	}
}

// TestPublishFlat: a disk that stands alone travels without its base image, at its size.
func TestPublishFlat(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	if o := s.run("image", "--host", "zap", "--flatten", "--locked"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	g := s.open("latest")
	sent := s.moved(0, "", "publish", "--host", "zap", "--generation", "latest", "--to", d.address)
	if len(sent.Tags) != 1 || sent.Layers[0].Title != "disk.qcow2" {
		t.Errorf("%+v", sent)
	}
	d.isContainerDisk(sent, g)
	s.there(0, "is here\n", d.address, "--generation", g.Manifest.Generation)
	far, err := artifact.Open(filepath.Join(s.dir, "far/out"), "zap", "latest")
	if err != nil || far.Manifest.Generation != g.Manifest.Generation || far.Verify(t.Context()) != nil {
		t.Errorf("%v, %v", far.Manifest.Generation, err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "far/out/zap/current")); err == nil {
		t.Error("what nobody has tried is current")
	}
	s.attest(0, "baked and signed by desk", "--config", "far", "--out", "far/out", "--generation", "latest")
}

// TestPublishFleet: all hosts on one base image move it once, there and back. The same
// with fifty is TestE2EPublishFleet.
func TestPublishFleet(t *testing.T) { publishFleet(t, 5) }

func publishFleet(t *testing.T, hosts int) {
	var names []string
	for i := range hosts - 1 {
		names = append(names, fmt.Sprintf("h%02d", i))
	}
	s, d := newFleet(t, names...), newDepot(t)
	var all []publishView
	o := s.run("--json", "publish", "--all", "--to", d.address)
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil || o.code != 0 || len(all) != hosts {
		t.Fatalf("%d hosts, %v\n%s", len(all), err, o.stderr)
	}
	base := all[0].Layers[0]
	for _, v := range all {
		if v.Layers[0].Digest != base.Digest || v.Layers[0].Title != "base" {
			t.Errorf("%s has the base layer %+v", v.Host, v.Layers[0])
		}
	}
	rest := int64(hosts * 64 << 10) // what is said about an image, and lists
	for _, v := range all {
		rest += wholeOf(v.Layers[1:]) // a host's own: its seed, which has the program that attests, its list of packages
	}
	if base.Size < 4<<20 || d.up < base.Size || d.up > base.Size+rest {
		t.Errorf("%d bytes went up, the base has %d, all the rest %d", d.up, base.Size, rest)
	}
	up := d.up
	d.reset(nil)
	var fetch []string
	for _, v := range all {
		fetch = append(fetch, "--host", v.Host)
	}
	if o := s.run(append([]string{"--config", "far", "--out", "far/out", "fetch", "--from", d.address}, fetch...)...); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	path := "/v2/fleet/machines/blobs/" + base.Digest
	if got := d.asked["GET "+path]; got != 1 || d.down < base.Size || d.down > base.Size+rest {
		t.Errorf("the base was fetched %d times, %d bytes in all", got, d.down)
	}
	t.Logf("%d hosts, a base of %d bytes: %d bytes up, %d bytes down; without sharing it %d", hosts, base.Size, up, d.down, int64(hosts-1)*base.Size+up)
}

// TestPublishRefuses: what must not be published is not.
func TestPublishRefuses(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	publish := []string{"publish", "--host", "zap", "--to", d.address}
	for _, test := range []struct {
		code  int
		words string
		args  []string
	}{
		{2, "--to names the place", []string{"publish", "--host", "zap"}},
		{2, "it has no scheme: want oci://", []string{"publish", "--host", "zap", "--to", "registry/x"}},
		{2, "its scheme is ftp", []string{"publish", "--host", "zap", "--to", "ftp://a/b"}},
		{2, "that is no repository", []string{"publish", "--host", "zap", "--to", "oci://just-a-name"}},
		{2, "that is no bucket", []string{"fetch", "--host", "zap", "--from", "s3://a/../b"}},
		{2, "--generation latest", []string{"fetch", "--host", "zap", "--from", d.address, "--generation", "latest"}},
		{2, "unexpected argument", []string{"publish", "--host", "zap", "--to", d.address, "more"}},
		{4, "host zip has no generation", []string{"publish", "--host", "zip", "--generation", "latest", "--to", d.address}},
		{6, "could not read the tag zap-current: it is not there", []string{"fetch", "--host", "zap", "--from", d.address}},
	} {
		if o := s.run(test.args...); o.code != test.code || !strings.Contains(o.stderr, test.words) {
			t.Errorf("%q: exit status %d, want %d, %q\n%s", test.args, o.code, test.code, test.words, o.stderr)
		}
	}

	// A secret in the host file, or in a layer.
	text, err := os.ReadFile(filepath.Join(s.dir, "hosts/zap.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	secret := "cloud-config:\n  write_files:\n    - path: /etc/token\n      content: ghp_" + strings.Repeat("a1B2", 10) + "\n      permissions: '0600'\n"
	s.write(t, "hosts/zap.yaml", string(text)+secret, 0o644)
	if o := s.run("image", "--host", "zap", "--locked"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	latest := append(publish, "--generation", "latest")
	line := strings.Count(string(text)+secret[:strings.Index(secret, "ghp_")], "\n") + 1
	d.reset(nil)
	if o := s.run(latest...); o.code != 3 || !strings.Contains(o.stderr, fmt.Sprintf("hosts/zap.yaml:%d:16: error: a GitHub token would be published", line)) ||
		!strings.Contains(o.stderr, "--with-secrets") || d.up > 0 {
		t.Errorf("%+v, %d bytes", o, d.up)
	}
	if o := s.run(append(latest, "--with-secrets")...); o.code != 0 {
		t.Errorf("%+v", o)
	}
	s.write(t, "hosts/zap.yaml", string(text), 0o644)

	// What nobody has signed, what was changed, and what was forged.
	g := s.open("current")
	forge(t, g, "seed.iso")
	if o := s.run(publish...); o.code != 5 || !strings.Contains(o.stderr, "is another manifest") {
		t.Errorf("%+v", o)
	}
	if err := os.Remove(g.Path("provenance.intoto.jsonl")); err != nil {
		t.Fatal(err)
	}
	if o := s.run(publish...); o.code != 5 || !strings.Contains(o.stderr, "it is not signed") {
		t.Errorf("%+v", o)
	}
}

// TestSecretsStay: the volume of secrets does not travel; it is made again there from the
// host file that is there.
func TestSecretsStay(t *testing.T) {
	s, d := newFleet(t), newDepot(t)
	const word = "correct-horse-battery"
	text, err := os.ReadFile(filepath.Join(s.dir, "hosts/zap.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	with := string(text) + "secrets:\n  api: {file: ../api}\n"
	s.write(t, "hosts/zap.yaml", with, 0o644)
	s.write(t, "api", word, 0o600)
	s.must(0, nil)
	if !holds(t, filepath.Join(s.dir, "out/zap/secrets.iso"), word) {
		t.Fatal("the secret is not where it is looked for")
	}
	s.moved(0, "", "publish", "--host", "zap", "--to", d.address)
	if holds(t, d.dir, word) {
		t.Error("the registry has the secret")
	}
	s.there(0, "its secrets do not travel: far/out/zap/secrets.iso must bring api", d.address)
	s.tool(t, "rm", "-rf", "far/out")
	s.write(t, "far/hosts/zap.yaml", with, 0o644)
	s.there(3, "far/api: no such file", d.address) // the secret is not there: nothing is installed
	if _, err := os.Lstat(filepath.Join(s.dir, "far/out/zap/current")); err == nil {
		t.Error("it was installed without its secrets")
	}
	s.write(t, "far/api", word, 0o600)
	s.there(0, "is here and current", d.address)
	if !holds(t, filepath.Join(s.dir, "far/out/zap/secrets.iso"), word) {
		t.Error("the secrets were not made")
	}
}

// holds says whether some file below a path has a word in it.
func holds(t *testing.T, root, word string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(word))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPointed: of what is said about a tag only what fits counts.
func TestPointed(t *testing.T) {
	mine, _, err := provenance.CreateKey(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := provenance.CreateKey(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	say := func(k provenance.Key, tag, image string, number int64) []byte {
		st, err := provenance.Of(&provenance.Pointer{Tag: tag, Number: number}, provenance.Descriptor{Name: "image", Digest: sha256Of(image)})
		if err != nil {
			t.Fatal(err)
		}
		line, err := k.Sign(st)
		if err != nil {
			t.Fatal(err)
		}
		return line
	}
	all := [][]byte{say(mine, "zap-current", "aa", 3), say(mine, "zap-current", "aa", 2), say(mine, "zip-current", "aa", 9),
		say(mine, "zap-current", "bb", 8), say(theirs, "zap-current", "aa", 7), []byte("{}")}
	if n, ok := pointed(provenance.Ring{mine.Public}, all, "zap-current", "sha256:aa"); n != 3 || !ok {
		t.Errorf("%d, %v", n, ok)
	}
	if n, ok := pointed(provenance.Ring{mine.Public}, all[2:], "zap-current", "sha256:aa"); n != 0 || ok {
		t.Errorf("%d, %v", n, ok)
	}
}
