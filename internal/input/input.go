// Package input keeps what a generation was made from, so that it can be made again,
// and takes apart and puts together what two were made from.
//
// It is written as one JSON file, inputs.json, which is part of the generation and so
// of what is signed:
//
//	host     the host's name
//	disk     what form its disk has
//	base     the image under it, as the manifest has it
//	image    what bake.lock pinned its reference to, for fetching it again
//	debs     the package files of its payload, as bake.lock pinned them
//	files    the files of the configuration by their paths below its directory: the host
//	         file, those of its groups and of all hosts, the user's own layers that it names, openclaw-lock.json
//
// Bytes that come from elsewhere (image, packages, OpenClaw's tree) are kept by digest
// and not by value, and secrets are neither: their references are in the host file, as
// they are in the configuration directory.
//
// It promises:
//   - The same inputs give the same bytes. There is no time, no path of a machine, and
//     no reading that accepts what was not written like this.
//   - Mix of nothing is what was, Mix of all changes is what is, as a host file is read:
//     comments and the order of keys may differ.
//   - Restore writes below the directory it is given, whatever a file says.
//
// # Decisions
//
// 2026-11: the host file is kept as it was written, comments included: it is what
// somebody will want to read when the configuration has moved on.
//
// 2026-11: built-in layers and the program that attests are not kept: they are bake's
// version, which the manifest has.
package input

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"bake/internal/artifact"
	"bake/internal/origin"
)

const (
	// FileName is that of the inputs in a generation.
	FileName = "inputs.json"

	schema   = "bake.inputs/1"
	lockName = "openclaw-lock.json"
	most     = 16 << 20 // bytes of all files
)

// Inputs are what one generation was made from.
type Inputs struct {
	Schema string          `json:"schema"` // "bake.inputs/1"; set by Encode
	Host   string          `json:"host"`
	Disk   string          `json:"disk,omitempty"`
	Base   artifact.Base   `json:"base"`
	Image  *origin.Target  `json:"image,omitempty"` // nil for a local file
	Debs   []origin.Deb    `json:"debs,omitempty"`
	Files  map[string]Text `json:"files"`
}

// Text is the content of a file: in JSON a string if it is UTF-8, and what base64 makes
// of it otherwise.
type Text []byte

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	var err error
	if utf8.Valid(t) {
		err = encoder.Encode(string(t))
	} else {
		err = encoder.Encode(map[string]string{"base64": base64.StdEncoding.EncodeToString(t)})
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*t = Text(text)
		return nil
	}
	var binary struct {
		Base64 []byte `json:"base64"`
	}
	err := json.Unmarshal(data, &binary)
	*t = binary.Base64
	return err
}

// Collect reads the files of a host from a configuration directory: its host file, those
// beside it that it shares with others, and of the layers in a file system those that are
// named.
func Collect(config, host string, shared []string, layers fs.FS, own []string) (map[string]Text, error) {
	files, size := map[string]Text{}, 0
	read := func(fsys fs.FS, name, as string) error {
		content, err := fs.ReadFile(fsys, name)
		if size += len(content); err == nil && size > most {
			err = fmt.Errorf("the files of host %s are larger than %d MiB together", host, most>>20)
		}
		files[as] = content
		return err
	}
	here := os.DirFS(config)
	for _, file := range append([]string{host + ".yaml"}, shared...) {
		if err := read(here, "hosts/"+file, "hosts/"+file); err != nil {
			return nil, err
		}
	}
	if _, err := fs.Stat(here, lockName); err == nil {
		if err := read(here, lockName, lockName); err != nil {
			return nil, err
		}
	}
	for _, layer := range own {
		err := fs.WalkDir(layers, layer, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			return read(layers, name, "layers/"+name)
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// Encode returns the one form in which inputs are written.
func (in Inputs) Encode() ([]byte, error) {
	in.Schema = schema
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(in); err != nil {
		return nil, fmt.Errorf("writing %s: %w", FileName, err)
	}
	return out.Bytes(), nil
}

// Decode reads what Encode has written, and nothing else.
func Decode(content []byte) (Inputs, error) {
	var in Inputs
	if err := json.Unmarshal(content, &in); err != nil {
		return Inputs{}, fmt.Errorf("reading %s: %w", FileName, err)
	}
	if in.Schema != schema {
		return Inputs{}, fmt.Errorf("reading %s: the schema is %q, want %q", FileName, in.Schema, schema)
	}
	again, err := in.Encode()
	if err == nil && !bytes.Equal(again, content) {
		err = errors.New("it is not in the form in which bake writes it")
	}
	if err != nil {
		return Inputs{}, fmt.Errorf("reading %s: %w", FileName, err)
	}
	return in, nil
}

// Restore writes the files into an empty directory, which is a configuration then, but
// for bake.lock.
func (in Inputs) Restore(dir string) error {
	for name, content := range in.Files {
		if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
			return fmt.Errorf("restoring the inputs of host %s: %q is no path", in.Host, name)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
