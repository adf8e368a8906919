package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
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

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"bake/layers"
)

// testKeyring names a file with the keys that a bake which is this test binary
// trusts instead of Ubuntu's. The program that users get has nothing of this.
const testKeyring = "BAKE_TEST_KEYRING"

func init() {
	if path := os.Getenv(testKeyring); path != "" {
		var err error
		if keyring, err = os.ReadFile(path); err != nil {
			panic(err)
		}
	}
}

// What the mirror publishes: a build of yesterday and one of the day before.
var (
	now       = time.Now().UTC().Truncate(time.Second)
	yesterday = now.Add(-24 * time.Hour)
	earlier   = now.Add(-48 * time.Hour)
)

const (
	imageName = "ubuntu-24.04-server-cloudimg-amd64.img"
	newestDir = "/releases/noble/release/"
)

func serialOf(t time.Time) string { return t.Format("20060102") }

func datedDir(t time.Time) string { return "/releases/noble/release-" + serialOf(t) + "/" }

func newSigningKey(t testing.TB, seconds uint32) *openpgp.Entity {
	t.Helper()
	config := keyConfig(now.AddDate(-1, 0, 0))
	config.KeyLifetimeSecs = seconds
	key, err := openpgp.NewEntity("Images", "test", "images@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyConfig(t time.Time) *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return t }}
}

func signList(t testing.TB, list []byte, when time.Time, key *openpgp.Entity) []byte {
	t.Helper()
	var signature bytes.Buffer
	if err := openpgp.DetachSign(&signature, []*openpgp.Entity{key}, bytes.NewReader(list), keyConfig(when)); err != nil {
		t.Fatal(err)
	}
	return signature.Bytes()
}

func hexDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// listOf is a list of checksums with one image, as Ubuntu publishes it.
func listOf(name string, image []byte, serial string) []byte {
	return fmt.Appendf(nil, "%s *%s\n%s *%s.release.20260101.%s.image_changelog.json\n", hexDigest(image), name,
		hexDigest(nil), strings.TrimSuffix(name, ".img"), serial)
}

// mirror is a workshop with a mirror on loopback that has Ubuntu's layout, the
// key it signs with, and a user whose bake trusts that key.
type mirror struct {
	workshop
	t   *testing.T
	key *openpgp.Entity
	url string
	env map[string]string // of bake

	mutex sync.Mutex
	files map[string][]byte
	hooks map[string]http.HandlerFunc
	asked map[string]int
	same  int // questions that were answered with: as before
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{workshop: newWorkshop(t), t: t, key: newSigningKey(t, 0), files: map[string][]byte{},
		hooks: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.url = server.URL
	m.env = map[string]string{"PATH": os.Getenv("PATH"), "XDG_CACHE_HOME": filepath.Join(m.dir, "cache"),
		"XDG_STATE_HOME": filepath.Join(m.dir, "state"), "BAKE_MIRROR_UBUNTU": m.url, keyVariable: filepath.Join(m.dir, "signing.key"), testKeyring: filepath.Join(m.dir, "keyring")}
	m.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "../base.qcow2", "ubuntu:24.04", 1), 0o644)
	m.trust(m.key)
	m.publish(goodImage(t), yesterday)
	return m
}

func (m *mirror) trust(keys ...*openpgp.Entity) {
	var ring bytes.Buffer
	for _, key := range keys {
		if err := key.Serialize(&ring); err != nil {
			m.t.Fatal(err)
		}
	}
	m.write(m.t, "keyring", ring.String(), 0o644)
	before := keyring
	keyring = ring.Bytes()
	m.t.Cleanup(func() { keyring = before })
}

func (m *mirror) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	m.mutex.Lock()
	m.asked[in.URL.Path]++
	hook, content := m.hooks[in.URL.Path], m.files[in.URL.Path]
	m.mutex.Unlock()
	switch {
	case hook != nil:
		hook(out, in)
	case content != nil:
		out.Header().Set("Content-Type", "application/octet-stream")
		tag := `"` + hexDigest(content)[:16] + `"`
		out.Header().Set("ETag", tag)
		if in.Header.Get("If-None-Match") == tag {
			m.mutex.Lock()
			m.same++
			m.mutex.Unlock()
		}
		http.ServeContent(out, in, "", yesterday, bytes.NewReader(content))
	default:
		http.NotFound(out, in)
	}
}

func (m *mirror) put(path string, content []byte) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.files[path] = content
}

func (m *mirror) hook(path string, h http.HandlerFunc) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.hooks[path] = h
}

// times is how often a path was asked for.
func (m *mirror) times(path string) int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.asked[path]
}

// publish makes an image the newest build, of that day and for ever.
func (m *mirror) publish(image []byte, day time.Time) {
	m.list(listOf(imageName, image, serialOf(day)), day, m.key)
	for _, dir := range []string{newestDir, datedDir(day)} {
		m.put(dir+imageName, image)
	}
}

// list puts a signed list of checksums into the directories of a day.
func (m *mirror) list(content []byte, day time.Time, key *openpgp.Entity) {
	for _, dir := range []string{newestDir, datedDir(day)} {
		m.put(dir+"SHA256SUMS", content)
		m.put(dir+"SHA256SUMS.gpg", signList(m.t, content, day.Truncate(24*time.Hour).Add(time.Minute), key))
	}
}

// run runs bake in this process, in the workshop.
func (m *mirror) run(args ...string) outcome {
	m.t.Helper()
	m.t.Chdir(m.dir)
	var stdout, stderr bytes.Buffer
	e := env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Layers: layers.FS,
		Getenv: func(name string) string { return m.env[name] }}
	code := run(context.Background(), e, append([]string{"bake"}, args...))
	return outcome{code, stdout.String(), stderr.String()}
}

// child prepares bake as a process.
func (m *mirror) child(args ...string) *exec.Cmd {
	cmd := m.command(args...)
	for name, value := range m.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// must runs bake, which must exit with that status and say these words.
func (m *mirror) must(code int, words []string, args ...string) outcome {
	m.t.Helper()
	o := m.run(args...)
	m.check(o, code, words, args)
	return o
}

func (m *mirror) check(o outcome, code int, words []string, args []string) {
	m.t.Helper()
	if o.code != code {
		m.t.Errorf("%q: exit status %d, want %d\n%s", args, o.code, code, o.stderr)
	}
	for _, word := range words {
		if !strings.Contains(o.stderr, word) {
			m.t.Errorf("%q does not say %q:\n%s", args, word, o.stderr)
		}
	}
}

// pinned returns bake.lock, "" when there is none.
func (m *mirror) pinned() string {
	content, err := os.ReadFile(filepath.Join(m.dir, "bake.lock"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return string(content)
}

// kept lists everything in the cache and the store that could be taken for an
// image or a part of one, or for what is known of it.
func (m *mirror) kept() []string {
	var found []string
	for _, dir := range []string{"cache", "out/.base"} {
		err := filepath.WalkDir(filepath.Join(m.dir, dir), func(path string, entry fs.DirEntry, err error) error {
			name := filepath.Base(path)
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case entry.IsDir(), name == ".lock", name == ".known.json":
			default:
				found = append(found, name)
			}
			return nil
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	slices.Sort(found)
	return found
}

// guestTree is what bake looks at in an image, and noise that no compression
// makes small.
func guestTree() map[string]string {
	noise := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise)
	status := ""
	for _, name := range []string{"dpkg", "systemd", "cloud-init", "openssh-server", "sudo"} {
		status += "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\n"
	}
	return map[string]string{
		"etc/os-release":      "PRETTY_NAME=\"Ubuntu 24.04.9 LTS\"\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\nID=ubuntu\n",
		"var/lib/dpkg/status": status,
		"etc/cloud/cloud.cfg": "datasource_list: [NoCloud, None]\nsystem_info: {default_user: {name: ubuntu}}\n",
		"usr/lib/python3/dist-packages/cloudinit/version.py": "__VERSION__ = \"25.1\"\n_PACKAGED_VERSION = \"25.1-0ubuntu1\"\n",
		"boot/vmlinuz-6.8.0-90-generic":                      "kernel",
		"etc/apt/sources.list":                               "deb http://archive.ubuntu.com/ubuntu noble main\n",
		"usr/share/keyrings/ubuntu-archive-keyring.gpg":      "keys",
		"opt/noise": string(noise),
	}
}

var (
	goodOnce  sync.Once
	goodBytes []byte
)

// goodImage is an image on which a machine of ubuntu:24.04 could come up.
func goodImage(t *testing.T) []byte {
	t.Helper()
	goodOnce.Do(func() { goodBytes = makeImage(t, guestTree()) })
	if goodBytes == nil {
		t.Skip("no image could be made")
	}
	return goodBytes
}

// changedImage is one with something else in it; an empty text removes a file.
func changedImage(t *testing.T, changes map[string]string) []byte {
	t.Helper()
	tree := guestTree()
	maps.Copy(tree, changes)
	maps.DeleteFunc(tree, func(_, content string) bool { return content == "" })
	return makeImage(t, tree)
}

func makeImage(t *testing.T, tree map[string]string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, content := range tree {
		path := filepath.Join(dir, "tree", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const script = `set -e
PATH=$PATH:/usr/sbin
mke2fs -q -F -t ext4 -U 6d0f5b6e-36f8-4a3c-8b5e-3c8e0a6a3f10 -L cloudimg-rootfs -d tree fs 8192k
truncate -s 11M raw
dd if=fs of=raw bs=1M seek=1 conv=notrunc status=none
printf 'label: gpt\nstart=1MiB, size=8MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n' | sfdisk --quiet raw
qemu-img convert -f raw -O qcow2 raw image`
	for _, program := range []string{"qemu-img", "/usr/sbin/mke2fs", "/usr/sbin/sfdisk"} {
		demand(t, program)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	content, err := os.ReadFile(filepath.Join(dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}
