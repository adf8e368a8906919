package hypervisor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"bake/internal/libvirtlab"
	"bake/internal/tool"
)

// shared is the libvirtd of all tests that do it no harm.
var shared struct {
	sync.Once
	dir string
	end func()
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.end != nil {
		shared.end()
	}
	os.Exit(code)
}

// daemon returns a directory of this test's own and the URI of a libvirtd.
func daemon(t *testing.T) (dir, uri string) {
	t.Helper()
	need(t)
	shared.Do(func() { shared.dir, shared.end, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return t.TempDir(), uriOf(shared.dir)
}

// ownDaemon is for a test that does it harm.
func ownDaemon(t *testing.T) (dir, uri string) {
	t.Helper()
	need(t)
	dir, end, err := start()
	t.Cleanup(end)
	if err != nil {
		t.Fatal(err)
	}
	return dir, uriOf(dir)
}

func uriOf(dir string) string {
	return "qemu:///system?socket=" + filepath.Join(dir, "run/libvirt-sock")
}

func need(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a libvirtd of its own needs root")
	}
	if _, err := exec.LookPath("libvirtd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// start starts a libvirtd in namespaces of its own.
func start() (dir string, end func(), err error) {
	end = func() {}
	if dir, err = os.MkdirTemp("", "bake-libvirt-"); err != nil { // a socket's path must be short
		return dir, end, err
	}
	_, stop, err := libvirtlab.Start(dir)
	return dir, func() {
		stop()
		_ = os.RemoveAll(dir)
	}, err
}

func connect(t *testing.T, uri string) *Hypervisor {
	t.Helper()
	h, err := Connect(context.Background(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}
