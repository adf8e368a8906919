package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/google/go-cmp/cmp"

	"bake/internal/inspect"
)

// archive is a package archive on loopback, signed by a key of its own.
type archive struct {
	server *httptest.Server
	key    *openpgp.Entity
	valid  time.Time // until when the index says it is
	mu     sync.Mutex
	files  map[string][]byte
	asked  []string // for packages
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	a := &archive{key: newKey(t), valid: time.Now().Add(24 * time.Hour), files: map[string][]byte{}}
	a.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		content, ok := a.files[r.URL.Path]
		if strings.HasSuffix(r.URL.Path, ".deb") {
			a.asked = append(a.asked, filepath.Base(r.URL.Path))
		}
		a.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(content)
	}))
	t.Cleanup(a.server.Close)
	return a
}

func newKey(t *testing.T) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Archive", "test", "archive@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// deb makes a package file, the same bytes for the same words.
func deb(t *testing.T, name, version, depends string) []byte {
	t.Helper()
	dir := t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: d\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	if err := os.MkdirAll(filepath.Join(dir, "DEBIAN"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "x.deb")
	cmd := exec.Command("dpkg-deb", "--root-owner-group", "--build", dir, out)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// publish offers packages: NAME VERSION DEPENDS.
func (a *archive) publish(t *testing.T, packages ...[3]string) {
	t.Helper()
	var index string
	files := map[string][]byte{}
	for _, p := range packages {
		content := deb(t, p[0], p[1], p[2])
		name := fmt.Sprintf("pool/%s_%s_all.deb", p[0], p[1])
		files["/"+name] = content
		index += fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: T <t@example.org>\nDepends: %s\nFilename: %s\nSize: %d\nSHA256: %x\n\n",
			p[0], p[1], p[2], name, len(content), sha256.Sum256(content))
	}
	index = strings.ReplaceAll(index, "Depends: \n", "")
	files["/dists/stable/main/binary-amd64/Packages"] = []byte(index)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files = files
	a.sign(t)
}

func (a *archive) sign(t *testing.T) {
	t.Helper()
	index := a.files["/dists/stable/main/binary-amd64/Packages"]
	stamp := func(at time.Time) string { return at.UTC().Format("Mon, 02 Jan 2006 15:04:05 UTC") }
	release := fmt.Sprintf("Origin: test\nSuite: stable\nCodename: stable\nComponents: main\nArchitectures: amd64\nDate: %s\nValid-Until: %s\nSHA256:\n %x %d main/binary-amd64/Packages\n",
		stamp(a.valid.Add(-48*time.Hour)), stamp(a.valid), sha256.Sum256(index), len(index))
	var out bytes.Buffer
	w, err := clearsign.Encode(&out, a.key.PrivateKey, nil)
	if err == nil {
		_, err = w.Write([]byte(release))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	a.files["/dists/stable/InRelease"] = out.Bytes()
}

// system is a base image that trusts a key.
type system struct {
	findings inspect.Findings
	files    map[string][]byte
}

func (s system) Findings() (inspect.Findings, error) { return s.findings, nil }
func (s system) Close() error                        { return nil }
func (s system) ReadDir(string) ([]string, error)    { return nil, fs.ErrNotExist }
func (s system) ReadFile(name string) ([]byte, error) {
	if content, ok := s.files[name]; ok {
		return content, nil
	}
	return nil, fs.ErrNotExist
}

const keyring = "/usr/share/keyrings/test.gpg"

// world1 is a depot, an archive, and an image that names it. On the image is one
// package already, in an older version.
func world1(t *testing.T) (*archive, Depot, Want) {
	t.Helper()
	a := newArchive(t)
	var ring bytes.Buffer
	if err := a.key.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	image1 := &system{files: map[string][]byte{keyring: ring.Bytes(),
		"/var/lib/dpkg/status": []byte("Package: there\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: d\n")}}
	image1.findings = inspect.Findings{Architecture: "amd64", Keyrings: []inspect.Keyring{{Path: keyring}},
		Sources: []inspect.Source{{File: "/etc/apt/sources.list", Types: []string{"deb"}, URIs: []string{a.server.URL},
			Suites: []string{"stable"}, Components: []string{"main"}, SignedBy: []string{keyring}}}}
	d := Depot{Dir: filepath.Join(t.TempDir(), "cache"), look: func(string) (image, error) { return image1, nil }}
	a.publish(t, [3]string{"there", "1", ""}, [3]string{"want", "1:2.0~rc1+b1", "need, there"}, [3]string{"need", "3", ""}, [3]string{"more", "4", "need"})
	return a, d, Want{Image: "/x/base.qcow2", SHA256: strings.Repeat("a", 64), Packages: []string{"want"}}
}

func resolve(t *testing.T, d Depot, w Want) Set {
	t.Helper()
	s, err := d.Resolve(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	s.Reference = "debian:13"
	return s
}

func build(t *testing.T, d Depot, w Want, s Set) Disk {
	t.Helper()
	if err := d.Fetch(t.Context(), w, s); err != nil {
		t.Fatal(err)
	}
	disk, err := d.Build(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

func TestDisk(t *testing.T) {
	a, d, w := world1(t)
	s := resolve(t, d, w)
	if got := Packages(s); !slices.Equal(got, []string{"need=3", "want=1:2.0~rc1+b1"}) {
		t.Fatalf("resolved to %q", got) // and not "there", which is there
	}
	disk := build(t, d, w, s)
	if got, err := digest(disk.Path); err != nil || got != disk.SHA256 {
		t.Errorf("the disk has %s, %v", got, err)
	}
	// What the guest's apt makes of it: the same packages, with the digests of the archive.
	tree := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("unsquashfs", "-no-progress", "-d", tree, disk.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, deb := range s.Debs {
		if got, err := digest(filepath.Join(tree, "apt", deb.SHA256+".deb")); err != nil || got != deb.SHA256 {
			t.Errorf("%s on the disk: %s, %v", deb.Name, got, err)
		}
	}
	guest := d
	guest.Dir = filepath.Join(t.TempDir(), "guest")
	inside, err := guest.world(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inside.root, "etc/apt/base.sources"), []byte("Types: deb\nURIs: file:"+tree+"/apt\nSuites: ./\nTrusted: yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.server.Close()
	if err := guest.update(t.Context(), inside); err != nil {
		t.Fatal(err)
	}
	got, err := guest.plan(t.Context(), inside, []string{"want"})
	if err == nil && len(got) == 0 { // a file: archive is not fetched from
		var text string
		text, err = guest.apt(t.Context(), inside, "--simulate", "install", "want")
		for _, deb := range s.Debs {
			if !strings.Contains(text, "Inst "+deb.Name+" ("+deb.Version+" ") {
				t.Errorf("the guest would not install %s: %s", deb.Name, text)
			}
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// The second time nothing is asked, run or written.
func TestCached(t *testing.T) {
	a, d, w := world1(t)
	s := resolve(t, d, w)
	disk := build(t, d, w, s)
	a.server.Close()
	again := d
	again.Tools.Getenv = func(string) string { return "" } // no PATH: no program is found
	if err := again.Fetch(t.Context(), w, s); err != nil {
		t.Error(err)
	}
	if got, ok := again.Find(s); !ok || got != disk {
		t.Errorf("found %+v, want %+v", got, disk)
	}
	if err := os.Truncate(disk.Path, 10); err == nil {
		if _, ok := again.Find(s); ok {
			t.Error("a disk of another size was found")
		}
	}
}

// One package more is one download more.
func TestMore(t *testing.T) {
	a, d, w := world1(t)
	build(t, d, w, resolve(t, d, w))
	a.asked = nil
	w.Packages = []string{"more", "want"}
	build(t, d, w, resolve(t, d, w))
	if !slices.Equal(a.asked, []string{"more_4_all.deb"}) {
		t.Errorf("asked for %q", a.asked)
	}
}

func TestReproducible(t *testing.T) {
	_, d, w := world1(t)
	first := build(t, d, w, resolve(t, d, w))
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("TZ", "Pacific/Kiritimati")
	t.Setenv("SOURCE_DATE_EPOCH", "")
	other := d
	other.Dir = filepath.Join(t.TempDir(), "elsewhere")
	if second := build(t, other, w, resolve(t, other, w)); second.SHA256 != first.SHA256 {
		t.Errorf("%s, then %s", first.SHA256, second.SHA256)
	}
}

// What is not what it must be is not in a disk, and whose fault it is is told.
func TestRefused(t *testing.T) {
	const index = "/dists/stable/main/binary-amd64/Packages"
	integrity := func(err error) bool {
		var broken interface{ Integrity() bool }
		return errors.As(err, &broken) && broken.Integrity()
	}
	network := func(err error) bool {
		var remote interface{ Network() bool }
		return errors.As(err, &remote) && remote.Network()
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, a *archive, d *Depot, w *Want)
		is     func(error) bool
		words  string
	}{
		"another key": {func(t *testing.T, a *archive, _ *Depot, _ *Want) { a.key = newKey(t); a.sign(t) }, integrity, "NO_PUBKEY"},
		"an index that is not the signed one": {func(_ *testing.T, a *archive, _ *Depot, _ *Want) {
			a.files[index] = bytes.Replace(a.files[index], []byte("Package: more"), []byte("Package: mxre"), 1)
		}, integrity, "Hash Sum mismatch"},
		"an expired index": {func(t *testing.T, a *archive, _ *Depot, _ *Want) {
			a.valid = time.Now().Add(-time.Hour)
			a.sign(t)
		}, integrity, "expired"},
		"a signature that is gone": {func(_ *testing.T, a *archive, _ *Depot, _ *Want) {
			delete(a.files, "/dists/stable/InRelease")
			a.files["/dists/stable/Release"] = []byte("Suite: stable\n")
		}, integrity, "not signed"},
		"another package file": {func(_ *testing.T, a *archive, _ *Depot, _ *Want) {
			name := "/pool/need_3_all.deb"
			a.files[name] = append(bytes.Clone(a.files[name][:len(a.files[name])-1]), 'x')
		}, integrity, "need"},
		"a package that is not there": {func(_ *testing.T, _ *archive, _ *Depot, w *Want) { w.Packages = []string{"nothing"} }, func(err error) bool {
			var unknown *UnknownError
			return errors.As(err, &unknown) && unknown.Package == "nothing"
		}, "no apt source of base.qcow2"},
		"a file that does not come": {func(_ *testing.T, a *archive, _ *Depot, _ *Want) { delete(a.files, "/pool/need_3_all.deb") }, network, "404"},
		"nobody there":              {func(_ *testing.T, a *archive, _ *Depot, _ *Want) { a.server.Close() }, network, "connect"},
		"a source that wants no signature": {func(t *testing.T, _ *archive, d *Depot, _ *Want) {
			i, err := d.look("")
			if err != nil {
				t.Fatal(err)
			}
			i.(*system).findings.Sources[0].Trusted = true
		}, integrity, "trusted"},
		"no apt": {func(_ *testing.T, _ *archive, d *Depot, _ *Want) { d.Tools.Getenv = func(string) string { return "" } },
			func(err error) bool { return strings.Contains(err.Error(), "apt") }, "not installed"},
	} {
		t.Run(name, func(t *testing.T) {
			a, d, w := world1(t)
			test.change(t, a, &d, &w)
			s, err := d.Resolve(t.Context(), w)
			if err == nil {
				err = d.Fetch(t.Context(), w, s)
			}
			if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%T: %v; want %q", err, err, test.words)
			}
		})
	}
}

// What is pinned and not what the archive has now is refused, and what has changed in
// the cache is found out.
func TestPinned(t *testing.T) {
	a, d, w := world1(t)
	s := resolve(t, d, w)
	moved := s
	moved.Debs = slices.Clone(s.Debs)
	moved.Debs[0].SHA256 = strings.Repeat("0", 64)
	var broken *IntegrityError
	if err := d.Fetch(t.Context(), w, moved); !errors.As(err, &broken) {
		t.Errorf("another digest than the index has: %v", err)
	}
	a.publish(t, [3]string{"there", "1", ""}, [3]string{"want", "1:2.0", "need"}, [3]string{"need", "4", ""})
	var gone *NetworkError
	if err := d.Fetch(t.Context(), w, s); !errors.As(err, &gone) || !strings.Contains(err.Error(), "no longer offered") {
		t.Errorf("a version that is no longer there: %v", err)
	}
	s = resolve(t, d, w)
	build(t, d, w, s)
	path := d.deb(s.Debs[0].SHA256)
	if err := os.WriteFile(path, []byte("other"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(d.Dir, "disk")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Build(t.Context(), s); !errors.As(err, &broken) {
		t.Errorf("a file in the cache that has changed: %v", err)
	}
	build(t, d, w, s) // it is fetched again
}

// A run that is killed leaves nothing that counts, and the next one clears it away.
func TestStale(t *testing.T) {
	_, d, w := world1(t)
	s := resolve(t, d, w)
	left := filepath.Join(d.Dir, "disk", ".new-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Find(s); ok {
		t.Error("found a disk that was never made")
	}
	build(t, d, w, s)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
}

func TestPlace(t *testing.T) {
	_, d, w := world1(t)
	disk := build(t, d, w, resolve(t, d, w))
	dir := filepath.Join(t.TempDir(), "out/.payload")
	path, err := disk.Place(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := digest(path); err != nil || got != disk.SHA256 {
		t.Errorf("%s, %v", got, err)
	}
	other := disk
	other.SHA256 = strings.Repeat("0", 64)
	var broken *IntegrityError
	if _, err := other.Place(dir); !errors.As(err, &broken) {
		t.Errorf("another disk: %v", err)
	}
	if left, _ := filepath.Glob(dir + "/.new-*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestMirrored(t *testing.T) {
	mirrors := map[string]string{"http://a.example/debian": "http://m.example/d/", "http://a.example/debian-security": "http://m.example/s"}
	got := map[string]string{}
	for _, uri := range []string{"http://a.example/debian", "http://a.example/debian/", "http://a.example/debian-security", "http://a.example/debianx", "http://b.example/debian"} {
		got[uri] = mirrored(uri, mirrors)
	}
	if diff := cmp.Diff(map[string]string{
		"http://a.example/debian": "http://m.example/d", "http://a.example/debian/": "http://m.example/d/",
		"http://a.example/debian-security": "http://m.example/s", "http://a.example/debianx": "http://a.example/debianx",
		"http://b.example/debian": "http://b.example/debian"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCancelled(t *testing.T) {
	_, d, w := world1(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Resolve(ctx, w); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
