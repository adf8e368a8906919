package origin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// All times of the tests: nothing here asks the clock.
var (
	born   = at("2020-01-01T00:00:00Z") // the keys
	signed = at("2026-07-22T19:16:08Z") // the list
	today  = at("2026-08-01T12:00:00Z")
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func clock(t time.Time) *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return t }}
}

// newKey makes a key born in 2020 that is valid for so many seconds, 0 for ever.
func newKey(t testing.TB, seconds uint32) *openpgp.Entity {
	t.Helper()
	config := clock(born)
	config.KeyLifetimeSecs = seconds
	key, err := openpgp.NewEntity("Image Signing", "test", "images@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, list []byte, when time.Time, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var signature bytes.Buffer
	if err := openpgp.DetachSign(&signature, keys, bytes.NewReader(list), clock(when)); err != nil {
		t.Fatal(err)
	}
	return signature.Bytes()
}

func keyring(t testing.TB, keys ...*openpgp.Entity) []byte {
	t.Helper()
	var ring bytes.Buffer
	for _, key := range keys {
		if err := key.Serialize(&ring); err != nil {
			t.Fatal(err)
		}
	}
	return ring.Bytes()
}

func digestOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// sums is a list as Ubuntu publishes it for one release and serial.
func sums(version, serial string) []byte {
	var list strings.Builder
	for _, flavour := range []string{"server", "minimal"} {
		for _, arch := range []string{"amd64", "arm64"} {
			stem := "ubuntu-" + version + "-" + flavour + "-cloudimg-" + arch
			for _, suffix := range []string{".img", ".manifest", "-root.tar.xz", ".release.20260705." + serial + ".image_changelog.json"} {
				fmt.Fprintf(&list, "%s *%s%s\n", digestOf(stem+suffix+serial), stem, suffix)
			}
		}
	}
	return []byte(list.String())
}

// A world is a mirror on loopback, its signing key, and a resolver that trusts
// it.
type world struct {
	t        testing.TB
	key      *openpgp.Entity
	resolver Resolver
	url      string

	mu    sync.Mutex
	files map[string][]byte
	hooks map[string]http.HandlerFunc
	asked []string
}

const (
	newestDir = "/releases/noble/release/"
	datedDir  = "/releases/noble/release-20260722/"
)

func newWorld(t testing.TB) *world {
	w := &world{t: t, key: newKey(t, 0), files: map[string][]byte{}, hooks: map[string]http.HandlerFunc{}}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	w.resolver = Resolver{State: filepath.Join(t.TempDir(), "state"), Mirrors: map[string]string{"ubuntu": w.url, "debian": w.url},
		now: func() time.Time { return today }, timeout: time.Minute}
	w.pin(w.key)
	w.publish(newestDir, sums("24.04", "20260722"), signed)
	w.publish(datedDir, sums("24.04", "20260722"), signed)
	return w
}

func (w *world) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	w.mu.Lock()
	w.asked = append(w.asked, in.URL.Path)
	hook, content := w.hooks[in.URL.Path], w.files[in.URL.Path]
	w.mu.Unlock()
	switch {
	case hook != nil:
		hook(out, in)
	case content != nil:
		out.Header().Set("Content-Type", "text/plain")
		_, _ = out.Write(content)
	default:
		http.NotFound(out, in)
	}
}

// pin makes the resolver trust these keys, as they are now.
func (w *world) pin(keys ...*openpgp.Entity) {
	w.resolver.Keyring = keyring(w.t, keys...)
}

// publish signs a list with the world's key and puts both into a directory.
func (w *world) publish(dir string, list []byte, when time.Time) {
	w.put(dir, list, sign(w.t, list, when, w.key))
}

func (w *world) put(dir string, list, signature []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files = maps.Clone(w.files)
	w.files[dir+"SHA256SUMS"], w.files[dir+"SHA256SUMS.gpg"] = list, signature
}

func (w *world) hook(path string, h http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks[path] = h
}

func (w *world) resolve(reference string) (Target, error) {
	w.t.Helper()
	return w.resolver.Resolve(context.Background(), w.ref(reference))
}

func (w *world) ref(reference string) Ref {
	w.t.Helper()
	ref, err := Parse(reference, "amd64")
	if err != nil {
		w.t.Fatal(err)
	}
	return ref
}

// state is what the resolver remembers, byte for byte.
func (w *world) state() string {
	content, err := os.ReadFile(filepath.Join(w.resolver.State, seenName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(content)
}

// kind is the class of an error, as the exit status has it.
func kind(err error) string {
	var integrity interface{ Integrity() bool }
	var network interface{ Network() bool }
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &integrity) && integrity.Integrity():
		return "integrity"
	case errors.As(err, &network) && network.Network():
		return "network"
	}
	return "other"
}

// refused asserts what an error is and says.
func refused(t *testing.T, err error, wantKind string, fragments ...string) {
	t.Helper()
	if got := kind(err); got != wantKind {
		t.Fatalf("%s, want %s: %v", got, wantKind, err)
	}
	for _, fragment := range fragments {
		if !strings.Contains(err.Error(), fragment) {
			t.Errorf("%q is not in: %v", fragment, err)
		}
	}
}
