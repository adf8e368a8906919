package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// A Generation is a complete artifact on disk.
type Generation struct {
	Dir      string // <root>/<host>/<generation>, never by way of latest or current
	Manifest Manifest
}

// Open finds a generation of a host: "latest", "current" or a generation's
// name. It reads the manifest and no other file, see Verify. The error wraps
// fs.ErrNotExist when there is none, and says which command makes one; it is an
// *IntegrityError when the manifest is missing or not of this generation.
func Open(root, host, which string) (Generation, error) {
	if err := vetName("host", host); err != nil {
		return Generation{}, err
	}
	dir := filepath.Join(root, host)
	name := which
	if which == latest || which == current {
		target, err := os.Readlink(filepath.Join(dir, which))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Generation{}, missing(host, which)
		case errors.Is(err, syscall.EINVAL):
			err = &IntegrityError{File: filepath.Join(dir, which), Want: "a link", Got: "none"}
		case err == nil && vetGeneration(target) != nil: // it would lead out of here, or to a draft
			err = &IntegrityError{File: filepath.Join(dir, which), Want: "a link to a generation beside it", Got: fmt.Sprintf("one to %q", target)}
		}
		if err != nil {
			return Generation{}, fmt.Errorf("opening a generation of host %s: %w", host, err)
		}
		name = target
	}
	if err := vetGeneration(name); err != nil {
		return Generation{}, fmt.Errorf("opening a generation of host %s: %w", host, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
		return Generation{}, missing(host, name)
	}
	g, err := load(filepath.Join(dir, name))
	if err != nil {
		return Generation{}, fmt.Errorf("opening generation %s of host %s: %w", name, host, err)
	}
	return g, nil
}

func missing(host, which string) error {
	switch which {
	case latest:
		return fmt.Errorf("host %s has no generation yet: run bake image --host %s (%w)", host, host, fs.ErrNotExist)
	case current:
		return fmt.Errorf("no generation of host %s has passed verification: run bake verify --boot --host %s (%w)",
			host, host, fs.ErrNotExist)
	}
	return fmt.Errorf("host %s has no generation %s: run bake image --host %s (%w)", host, which, host, fs.ErrNotExist)
}

// load reads the manifest of the generation in dir and holds it against the
// directory's own name.
func load(dir string) (Generation, error) {
	if info, err := os.Lstat(dir); err != nil {
		return Generation{}, err
	} else if !info.IsDir() {
		return Generation{}, &IntegrityError{File: dir, Want: "a directory", Got: "none"}
	}
	path := filepath.Join(dir, manifestName)
	if info, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return Generation{}, &IntegrityError{File: path, Want: "there", Got: "absent"}
	} else if err != nil {
		return Generation{}, err
	} else if !info.Mode().IsRegular() {
		return Generation{}, &IntegrityError{File: path, Want: "a regular file", Got: "none"}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Generation{}, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return Generation{}, &IntegrityError{File: path, Want: "a manifest", Got: "none: " + err.Error()}
	}
	host, name := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
	if m.Host != host || m.Generation != name {
		return Generation{}, &IntegrityError{File: path,
			Want: "of " + host + "/" + name, Got: "of " + m.Host + "/" + m.Generation}
	}
	return Generation{Dir: dir, Manifest: m}, nil
}

// Path is where a file of the generation is.
func (g Generation) Path(name string) string { return filepath.Join(g.Dir, name) }

// Read returns the content of a file of the generation, if it is what was baked.
func (g Generation) Read(ctx context.Context, name string) ([]byte, error) {
	path := g.Path(name)
	if err := verifyFile(ctx, path, g.Manifest.Files[name]); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(path)
	if sum := sha256.Sum256(content); err == nil && hex.EncodeToString(sum[:]) != g.Manifest.Files[name].SHA256 {
		err = &IntegrityError{File: path, Want: "unchanged", Got: "changing"}
	}
	return content, err
}

// same reports whether a manifest says the same as this generation's.
func (g Generation) same(m Manifest) bool {
	mine, err := g.Manifest.encode()
	other, otherErr := m.encode()
	return err == nil && otherErr == nil && bytes.Equal(mine, other)
}

// Verify hashes every file again. The error is an *IntegrityError that names
// the first file, in the order of names, which is missing, changed or too many.
func (g Generation) Verify(ctx context.Context) error {
	if err := g.verify(ctx, nil); err != nil {
		return fmt.Errorf("verifying generation %s of host %s: %w", g.Manifest.Generation, g.Manifest.Host, err)
	}
	return nil
}

// verify does not hash the files that are known to be what they must be.
func (g Generation) verify(ctx context.Context, known map[string]bool) error {
	now, err := load(g.Dir)
	if err != nil {
		return err
	}
	if !now.same(g.Manifest) {
		return &IntegrityError{File: g.Path(manifestName), Want: "unchanged", Got: "another manifest"}
	}
	entries, err := os.ReadDir(g.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if _, ok := g.Manifest.Files[name]; !ok && name != manifestName && name != sealName && !isReport(name) {
			return &IntegrityError{File: g.Path(name), Want: "absent", Got: "there"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.Manifest.Files)) {
		if known[name] {
			continue
		}
		if err := verifyFile(ctx, g.Path(name), g.Manifest.Files[name]); err != nil {
			return err
		}
	}
	return nil
}

func verifyFile(ctx context.Context, path string, want File) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &IntegrityError{File: path, Want: want.SHA256, Got: "absent"}
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &IntegrityError{File: path, Want: want.SHA256, Got: "not a regular file"}
	}
	got, err := hashFile(ctx, path)
	if err != nil {
		return err
	}
	if got != want {
		return &IntegrityError{File: path, Want: want.SHA256, Got: got.SHA256}
	}
	return nil
}

// Promote makes current point to this generation: it has passed verification.
// The caller holds the host's lock.
func (g Generation) Promote() error {
	if err := pointLink(filepath.Dir(g.Dir), current, filepath.Base(g.Dir)); err != nil {
		return fmt.Errorf("promoting generation %s of host %s: %w", g.Manifest.Generation, g.Manifest.Host, err)
	}
	return nil
}
