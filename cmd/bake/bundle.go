package main

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/artifact"
)

// A bundle is what a hypervisor without bake needs, laid out as machine.images is there:
//
//	README                        how to define the machine
//	SHA256SUMS                    of all other files
//	.base/NAME                    the base image, where the disk stands on one
//	HOST/GENERATION/...           the generation
//	HOST/secrets.iso              where the host has secrets
type bundleFile struct {
	name   string // in the bundle
	path   string // here, "" for one with content
	sha256 string
	text   []byte
}

// exportLibvirt writes a bundle.
func exportLibvirt(ctx context.Context, a *app, o exportOptions) error {
	list, err := a.toExport(ctx, o)
	if err != nil {
		return err
	}
	e := list[0]
	files, err := a.bundle(ctx, e)
	if err != nil {
		return err
	}
	a.stage("%s: writing %s", e.Name, o.output)
	write := writeTree
	if strings.HasSuffix(o.output, ".tar") {
		write = writeTar
	}
	if err := write(ctx, o.output, files); err != nil {
		return err
	}
	a.say("%s: generation %s; the seed, and the secrets if there are any, are in it: keep it as you keep those", e.Name, e.generation.Manifest.Generation)
	return a.printPath(e.Name, o.output)
}

// bundle lists what goes in, with the digest that each file must have.
func (a *app) bundle(ctx context.Context, e exported) (files []bundleFile, err error) {
	g := e.generation
	home := path.Join(e.Name, g.Manifest.Generation)
	for name, file := range g.Manifest.Files {
		files = append(files, bundleFile{name: path.Join(home, name), path: g.Path(name), sha256: file.SHA256})
	}
	for _, name := range []string{"manifest.json", "provenance.intoto.jsonl"} {
		text, err := os.ReadFile(g.Path(name))
		if errors.Is(err, fs.ErrNotExist) && name != "manifest.json" {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, bundleFile{name: path.Join(home, name), text: text})
	}
	volume, err := a.volumeOf(g)
	if err != nil {
		return nil, err
	}
	if volume != "" {
		text, err := os.ReadFile(volume)
		if err != nil {
			return nil, err
		}
		files = append(files, bundleFile{name: path.Join(e.Name, secretsName), text: text})
	}
	alone, err := standsAlone(g)
	if err != nil {
		return nil, err
	}
	if !alone {
		blob, err := a.store().Get(ctx, g.Manifest.Base.SHA256)
		if err != nil {
			return nil, err
		}
		files = append(files, bundleFile{name: path.Join(".base", filepath.Base(blob.Path)), path: blob.Path, sha256: blob.SHA256})
	}
	slices.SortFunc(files, func(a, b bundleFile) int { return cmp.Compare(a.name, b.name) })
	readme := bundleFile{name: "README", text: []byte(bundleReadme(e))}
	var sums strings.Builder
	for _, f := range append([]bundleFile{readme}, files...) {
		sum := f.sha256
		if sum == "" {
			digest := sha256.Sum256(f.text)
			sum = hex.EncodeToString(digest[:])
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, f.name)
	}
	return append([]bundleFile{readme, {name: "SHA256SUMS", text: []byte(sums.String())}}, files...), nil
}

// bundleReadme says what a person does with a bundle. Names and paths of a host are such
// that a shell takes them for nothing else (see package host), but for blanks.
func bundleReadme(e exported) string {
	images, home := e.Machine.ImagesPath, path.Join(e.Machine.ImagesPath, e.Name)
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	var w strings.Builder
	fmt.Fprintf(&w, "Host %s, generation %s, made by bake. As root on the hypervisor:\n\n", e.Name, e.generation.Manifest.Generation)
	fmt.Fprintf(&w, "  sha256sum --check --quiet SHA256SUMS            # where this file is\n")
	fmt.Fprintf(&w, "  mkdir -p -m 0711 %s\n", quote(images))
	fmt.Fprintf(&w, "  cp -a --no-preserve=ownership .base %s %s/  # .base where there is one\n", quote(e.Name), quote(images))
	if e.Machine.State > 0 {
		fmt.Fprintf(&w, "  # the state disk, once: one that is there is the machine's memory\n")
		fmt.Fprintf(&w, "  [ -e %[1]s ] || qemu-img create -f qcow2 %[1]s %[2]d\n", quote(home+"/state.qcow2"), e.Machine.State)
	}
	fmt.Fprintf(&w, "  virsh define %s\n", quote(path.Join(home, e.generation.Manifest.Generation, "domain.xml")))
	fmt.Fprintf(&w, "  virsh start %s\n\n", quote(e.Name))
	fmt.Fprintf(&w, "The machine stays shut until every claim holds. Its console then has a line that\nbegins with BAKE-RESULT v1 pass: virsh console %s\n", e.Name)
	fmt.Fprintf(&w, "The seed is in here, and the secrets if the host has any: keep it as you keep those.\n")
	return w.String()
}

// to copies a file to w and refuses one that is not what it must be.
func (f bundleFile) to(ctx context.Context, w io.Writer) error {
	if f.path == "" {
		_, err := w.Write(f.text)
		return err
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	stop := context.AfterFunc(ctx, func() { _ = file.Close() })
	defer stop()
	if _, err = io.Copy(io.MultiWriter(w, hash), file); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != f.sha256 {
		return &artifact.IntegrityError{File: f.path, Want: f.sha256, Got: got}
	}
	return nil
}

func (f bundleFile) size() (int64, error) {
	if f.path == "" {
		return int64(len(f.text)), nil
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// writeTar makes an archive that has neither clock nor owner: the same generation gives the
// same bytes. It gets its name when it is whole.
func writeTar(ctx context.Context, to string, files []bundleFile) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(to), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	w := tar.NewWriter(temporary)
	made := map[string]bool{".": true}
	for _, f := range files {
		if dir := path.Dir(f.name); !made[dir] {
			for _, d := range []string{path.Dir(dir), dir} {
				if made[d] {
					continue
				}
				made[d] = true
				if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o711, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}); err != nil {
					return errors.Join(err, temporary.Close())
				}
			}
		}
		size, err := f.size()
		if err == nil {
			err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o600, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		}
		if err == nil {
			err = f.to(ctx, w)
		}
		if err != nil {
			return errors.Join(err, temporary.Close())
		}
	}
	if err := errors.Join(w.Close(), temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), to)
}

// writeTree makes a directory, which must not be there, in one step.
func writeTree(ctx context.Context, to string, files []bundleFile) (err error) {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, usageError{fmt.Errorf("--output %s: it is there already: name a new directory, or a file that ends in .tar", to)})
	}
	draft, err := os.MkdirTemp(filepath.Dir(to), ".new-*") // 0700
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(draft))
		}
	}()
	for _, f := range files {
		into := filepath.Join(draft, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(into), 0o711); err != nil {
			return err
		}
		file, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(f.to(ctx, file), file.Sync(), file.Close()); err != nil {
			return err
		}
	}
	return os.Rename(draft, to)
}
