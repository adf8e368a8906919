package payload

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"bake/internal/tool"
)

// find finds a program that makes or judges something. A missing one skips the
// test, but not where CI=true.
func find(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil { // a user's path may lack it
		path, err = exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

func feed(t testing.TB, input, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(find(t, program), args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A world is an archive on loopback, signed by a key of the test, a base image
// that trusts that key, and a builder.
type world struct {
	t     testing.TB
	key   *openpgp.Entity
	url   string
	image string
	b     Builder

	mu    sync.Mutex
	files map[string][]byte
	asked []string
	// what every answer is instead of what it should be, 0 for that
	status int
	said   []string
}

const trustedKey = "usr/share/keyrings/archive.gpg"

// newWorld has an archive with three packages: alpha, which needs beta, and gamma.
// The image has what change makes of it.
func newWorld(t testing.TB, change func(tree map[string]string)) *world {
	for _, program := range []string{"apt-get", "gpgv", "dpkg-deb", "mksquashfs", "unsquashfs", "mke2fs", "sfdisk"} {
		find(t, program)
	}
	w := &world{t: t, files: map[string][]byte{}, key: newKey(t)}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	var index strings.Builder
	for name, depends := range map[string]string{"alpha": "Depends: beta\n", "beta": "", "gamma": ""} {
		w.deb(&index, name, "1:1.0~rc1+x", depends)
	}
	w.publish(index.String(), w.key, "")

	var ring bytes.Buffer
	if err := w.key.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	tree := map[string]string{
		"etc/os-release":      "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n",
		"var/lib/dpkg/status": "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: x\nVersion: 1.22\nDescription: x\n",
		trustedKey:            ring.String(),
		"etc/apt/sources.list.d/archive.sources": "Types: deb\nURIs: " + w.url + "/debian\nSuites: trixie\nComponents: main\n" +
			"Signed-By: /" + trustedKey + "\n",
	}
	if change != nil {
		change(tree)
	}
	w.image = imageOf(t, tree)
	w.b = Builder{Dir: filepath.Join(t.TempDir(), "payload"), Say: func(text string) { w.said = append(w.said, text) }}
	return w
}

func newKey(t testing.TB) *openpgp.Entity {
	t.Helper()
	key, err := openpgp.NewEntity("Archive", "test", "archive@example.org",
		&packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, Time: func() time.Time { return time.Unix(1577836800, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// deb adds a package to the archive, and to its index.
func (w *world) deb(index *strings.Builder, name, version, more string) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), name)
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: x <x@example.org>\n%sDescription: test\n", name, version, more)
	for file, content := range map[string]string{"DEBIAN/control": control, "usr/share/" + name: strings.Repeat(name+"\n", 1000)} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
	feed(w.t, "", "dpkg-deb", "--root-owner-group", "--build", dir, dir+".deb")
	content, err := os.ReadFile(dir + ".deb")
	if err != nil {
		w.t.Fatal(err)
	}
	path := "pool/" + name + version[:1] + ".deb"
	w.put("/debian/"+path, content)
	fmt.Fprintf(index, "%sFilename: %s\nSize: %d\nSHA256: %x\n\n", control, path, len(content), sha256.Sum256(content))
}

// publish puts an index into the archive, with a Release signed by key and more
// lines in it.
func (w *world) publish(index string, key *openpgp.Entity, more string) {
	w.t.Helper()
	const at = "main/binary-amd64/Packages"
	const arm = "main/binary-arm64/Packages"
	release := fmt.Sprintf("Origin: test\nSuite: trixie\nCodename: trixie\nDate: %s\n%sArchitectures: amd64 arm64\nComponents: main\nSHA256:\n %[3]x %[4]d %[5]s\n %[3]x %[4]d %[6]s\n",
		time.Now().Add(-time.Hour).UTC().Format(time.RFC1123), more, sha256.Sum256([]byte(index)), len(index), at, arm)
	var signed bytes.Buffer
	out, err := clearsign.Encode(&signed, key.PrivateKey, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := out.Write([]byte(release)); err != nil {
		w.t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.put("/debian/dists/trixie/InRelease", signed.Bytes())
	w.put("/debian/dists/trixie/"+at, []byte(index))
	w.put("/debian/dists/trixie/"+arm, []byte(index))
}

func (w *world) put(path string, content []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[path] = content
}

func (w *world) get(path string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.files[path])
}

func (w *world) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	w.mu.Lock()
	w.asked = append(w.asked, in.URL.Path)
	content, status := w.files[in.URL.Path], w.status
	w.mu.Unlock()
	if status != 0 {
		out.WriteHeader(status)
		return
	}
	if content == nil {
		http.NotFound(out, in)
		return
	}
	tag := fmt.Sprintf("\"%x\"", sha256.Sum256(content))
	out.Header().Set("ETag", tag)
	if in.Header.Get("If-None-Match") == tag {
		out.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = out.Write(content)
}

// count says how many requests there were for files that end so.
func (w *world) count(ending string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range w.asked {
		if strings.HasSuffix(path, ending) {
			n++
		}
	}
	return n
}

func (w *world) want(names ...string) Want {
	want := Want{Name: "zap", Image: w.image, Arch: "amd64"}
	for _, name := range names {
		want.Packages = append(want.Packages, Part{Layer: "of " + name, Packages: []string{name}})
	}
	return want
}

// imageOf makes a disk with a tree as its root file system.
func imageOf(t testing.TB, tree map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(tree[name]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 16<<20); err != nil {
		t.Fatal(err)
	}
	feed(t, "label: gpt\nstart=1MiB, size=14MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n", "sfdisk", "--quiet", disk)
	feed(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-L", "cloudimg-rootfs", "-E", "offset=1048576", "-d", dir, disk, "14336k")
	return disk
}

// box finds programs in dirs only, and says what else the environment has.
func box(environment map[string]string, dirs ...string) tool.Box {
	return tool.Box{Getenv: func(name string) string {
		if name == "PATH" && len(dirs) > 0 {
			return strings.Join(dirs, ":")
		}
		if value, ok := environment[name]; ok {
			return value
		}
		return os.Getenv(name)
	}}
}

// script makes a directory with a program in it.
func script(t testing.TB, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// left lists what is in a cache under a name that counts, and the rest.
func left(t testing.TB, dir string) (kept, rest []string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if strings.Contains(path, workPrefix) {
			rest = append(rest, path)
		} else {
			kept = append(kept, path)
		}
	}
	works, _ := filepath.Glob(filepath.Join(dir, workPrefix+"*"))
	return kept, append(rest, works...)
}
