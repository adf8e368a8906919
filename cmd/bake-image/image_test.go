package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var epoch = time.Unix(1700000000, 0).UTC()

// tree is a root tree as mmdebstrap writes one, made at some time.
func tree(t *testing.T, made time.Time, extra ...string) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range append([]string{"./", "./usr/", "./usr/bin/", "./usr/bin/install", "./dev/", "./dev/null", "./var/log/", "./var/log/dpkg.log", "./etc/machine-id", "./tmp/"}, extra...) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Uname: "somebody", ModTime: made}
		content := []byte("x")
		if strings.HasSuffix(name, "/") {
			h.Typeflag, content = tar.TypeDir, nil
		} else if strings.Contains(name, "log") {
			content = []byte(made.String())
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "root.tar")
	if err := errors.Join(w.Close(), os.WriteFile(path, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func image(t *testing.T, root, program string) v1.Image {
	t.Helper()
	bake := filepath.Join(t.TempDir(), "bake")
	if err := os.WriteFile(bake, []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	im, err := build(root, bake, t.TempDir(), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func digest(t *testing.T, im v1.Image) string {
	t.Helper()
	d, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestImage: the same packages and the same bake are the same image, whenever and by whom
// they were unpacked; another program or another file is another.
func TestImage(t *testing.T) {
	one := image(t, tree(t, epoch.Add(time.Hour)), "bake")
	want := digest(t, one)
	if again := digest(t, image(t, tree(t, epoch.Add(90*time.Hour)), "bake")); again != want {
		t.Errorf("%s, and then %s", want, again)
	}
	for what, other := range map[string]v1.Image{"program": image(t, tree(t, epoch), "bake 2"), "file": image(t, tree(t, epoch.Add(time.Hour), "./usr/bin/qemu-img"), "bake")} {
		if digest(t, other) == want {
			t.Errorf("with another %s it is the same", what)
		}
	}
	var names []string
	files := mutate.Extract(one)
	defer files.Close()
	for read := tar.NewReader(files); ; {
		h, err := read.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if h.ModTime.After(epoch) || h.Uname != "" {
			t.Errorf("%s is of %v, of %s", h.Name, h.ModTime, h.Uname)
		}
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "dev/ tmp/ usr/ usr/bin/ usr/bin/bake usr/bin/install var/log/" && got != "dev tmp usr usr/bin usr/bin/bake usr/bin/install var/log" {
		t.Errorf("in it are %s", got)
	}
	config, err := one.ConfigFile()
	if err != nil || config.Config.User != user || config.Config.Entrypoint[0] != "/usr/bin/bake" {
		t.Errorf("%+v, %v", config, err)
	}
}

// TestArchive: what is written is what a reader of such archives reads.
func TestArchive(t *testing.T) {
	bake := filepath.Join(t.TempDir(), "bake")
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := errors.Join(os.WriteFile(bake, []byte("x"), 0o700), run(bake, tree(t, epoch), out, "r.example/bake:1", false, epoch.Unix())); err != nil {
		t.Fatal(err)
	}
	im, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if layers, err := im.Layers(); err != nil || len(layers) != 2 {
		t.Errorf("%d layers, %v", len(layers), err)
	}
	left, _ := os.ReadDir(filepath.Dir(out))
	if len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
	if err := run(filepath.Join(t.TempDir(), "none"), tree(t, epoch), filepath.Join(filepath.Dir(out), "b.tar"), "r.example/bake:1", false, epoch.Unix()); err == nil {
		t.Error("an image without bake is one")
	}
}
