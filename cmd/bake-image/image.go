package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const user = "65532:65532"

// volatile is what differs between two trees of the same packages, or has no place in an image.
var volatile = []string{"dev/", "var/log/", "var/cache/", "tmp/", "run/", "proc/", "sys/", "etc/machine-id", "var/lib/dbus/machine-id"}

// build makes the image of a root tree and a program.
func build(root, bake, scratch string, epoch time.Time) (v1.Image, error) {
	trees := []string{filepath.Join(scratch, "tree"), filepath.Join(scratch, "bake")}
	if err := errors.Join(plain(root, trees[0], epoch), alone(bake, trees[1], epoch)); err != nil {
		return nil, err
	}
	im := empty.Image
	for _, tree := range trees {
		layer, err := tarball.LayerFromFile(tree)
		if err == nil {
			im, err = mutate.AppendLayers(im, layer)
		}
		if err != nil {
			return nil, err
		}
	}
	im, err := mutate.Config(im, v1.Config{Entrypoint: []string{"/usr/bin/bake"}, User: user, WorkingDir: "/",
		Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}})
	if err != nil {
		return nil, err
	}
	config, err := im.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS, config.Created = "amd64", "linux", v1.Time{Time: epoch}
	return mutate.ConfigFile(im, config)
}

// write makes a tar, of which nothing is left if it fails.
func write(to string, fill func(*tar.Writer) error) error {
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	w := tar.NewWriter(file)
	return errors.Join(fill(w), w.Close(), file.Close())
}

// plain copies a tree without what is volatile.
func plain(from, to string, epoch time.Time) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	return write(to, func(w *tar.Writer) error {
		for read := tar.NewReader(file); ; {
			h, err := read.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
			if name == "" || isVolatile(name) {
				continue
			}
			out := &tar.Header{Typeflag: h.Typeflag, Name: name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid,
				ModTime: h.ModTime, Format: tar.FormatPAX}
			if h.Typeflag == tar.TypeDir {
				out.Name += "/"
			}
			if out.ModTime = h.ModTime.Truncate(time.Second); out.ModTime.After(epoch) {
				out.ModTime = epoch
			}
			if h.Typeflag == tar.TypeLink {
				out.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
			}
			if err := w.WriteHeader(out); err != nil {
				return err
			}
			if _, err := io.Copy(w, read); err != nil {
				return err
			}
		}
	})
}

// isVolatile says whether a path is in one of those directories, or one of those files.
func isVolatile(name string) bool {
	for _, v := range volatile {
		if name == v || strings.HasSuffix(v, "/") && strings.HasPrefix(name, v) {
			return true
		}
	}
	return false
}

// alone is a layer with the program.
func alone(program, to string, epoch time.Time) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	return write(to, func(w *tar.Writer) error {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "usr/bin/bake", Size: int64(len(content)), Mode: 0o755, ModTime: epoch, Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	})
}
