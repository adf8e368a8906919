package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	schema = "bake.manifest/1"
	idSize = 8 // bytes of a generation's name
)

// Manifest says what a generation was made from and what it consists of. Its
// JSON is part of the artifact: fields are added, not renamed, under one schema.
// Fields stand in the order of their keys, as they do in the file.
type Manifest struct {
	Base       Base            `json:"base"`
	Files      map[string]File `json:"files"` // by name; without manifest.json and reports; set by Commit
	Generation string          `json:"generation"`
	Host       string          `json:"host"` // set by Commit
	InstanceID string          `json:"instance_id"`
	Layers     []Layer         `json:"layers"`            // in the order in which they take effect
	Payload    *Payload        `json:"payload,omitempty"` // what is on payload.squashfs
	Schema     string          `json:"schema"`            // "bake.manifest/1"; set by Commit
	Secrets    []string        `json:"secrets,omitempty"` // names of those that the machine is given, and nothing else of them
	Tool       string          `json:"tool"`              // bake's version
}

// Base is the image under the disk.
type Base struct {
	Reference   string `json:"reference"`        // as bake.lock has it; for a local file file: and its name
	Serial      string `json:"serial,omitempty"` // the publisher's name of the build
	SHA256      string `json:"sha256"`
	Signer      string `json:"signer,omitempty"` // fingerprint of the key that vouched for it, if one did
	URL         string `json:"url,omitempty"`    // the publisher's, whatever mirror it came from
	VirtualSize int64  `json:"virtual_size"`     // bytes
}

// Layer is one layer in the form in which it went in.
type Layer struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of the rendered layer, parameters filled in
}

// Payload is what the machine installs from payload.squashfs.
type Payload struct {
	Packages []string `json:"packages"`        // "NAME VERSION" each
	Trees    []string `json:"trees,omitempty"` // paths of what else is there
}

// File is what a file must be.
type File struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"` // bytes
}

// ID derives the name of a generation from everything that determines it: 16
// hexadecimal digits of a SHA-256. Parts are told apart by their lengths, so
// ("ab", "c") and ("a", "bc") differ.
func ID(parts ...[]byte) string {
	hash := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		hash.Write(length[:])
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil)[:idSize])
}

// encode returns the one form in which a manifest is written.
func (m Manifest) encode() ([]byte, error) {
	if m.Layers == nil {
		m.Layers = []Layer{}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(m); err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	return out.Bytes(), nil
}

// DecodeManifest reads a manifest that came from elsewhere. It accepts what Commit writes
// and nothing else; the host is not held against anything.
func DecodeManifest(data []byte) (Manifest, error) {
	m, err := decodeManifest(data)
	if err == nil {
		err = errors.Join(vetName("host", m.Host), vetGeneration(m.Generation))
	}
	if err != nil {
		return Manifest{}, &IntegrityError{File: manifestName, Want: "a manifest", Got: "none: " + err.Error()}
	}
	return m, nil
}

// decodeManifest accepts nothing but what encode writes: then there is no second
// way to read it.
func decodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, err
	}
	if m.Schema != schema {
		return Manifest{}, fmt.Errorf("schema %q is not %q", m.Schema, schema)
	}
	for name := range m.Files {
		if err := vetName("file", name); err != nil {
			return Manifest{}, err
		}
	}
	again, err := m.encode()
	if err != nil {
		return Manifest{}, err
	}
	if !bytes.Equal(again, data) {
		return Manifest{}, errors.New("it is not in the form in which bake writes it")
	}
	return m, nil
}

func isReport(name string) bool { return strings.HasPrefix(name, reportPrefix) }

// hashFile returns what a file is. It refuses links and whatever is not a
// regular file.
func hashFile(ctx context.Context, path string) (File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return File{}, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil {
		return File{}, err
	} else if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is not a regular file", path)
	}
	hash := sha256.New()
	size, err := io.Copy(hash, patient{ctx, file})
	if err != nil {
		return File{}, err
	}
	return File{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size}, nil
}

// patient reads until its context ends.
type patient struct {
	ctx context.Context
	io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if p.ctx.Err() != nil {
		return 0, context.Cause(p.ctx)
	}
	return p.Reader.Read(b)
}
