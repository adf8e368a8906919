package origin

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"bake/internal/diag"
)

const lockSchema = "bake.lock/1"

// A Lock pins references to images: the content of bake.lock, beside hosts/. It
// is meant to be committed, so that every machine bakes from the same bytes. The
// zero value pins nothing.
//
//	{
//	  "schema": "bake.lock/1",
//	  "images": [
//	    {
//	      "reference": "ubuntu:24.04",
//	      "arch": "amd64",
//	      ...
//
// Behind them, under the key packages, are the sets of package files that hosts
// need beside what is in their images. Both are sorted, so that the file depends
// on its content only.
type Lock struct {
	pins map[pin]Target
	sets []Set // sorted; never changed in place
}

type pin struct{ reference, arch string }

func (t Target) pin() pin { return pin{t.Reference, t.Arch} }

// lockFile is how a lock is written; reading is by hand, for positions.
type lockFile struct {
	Schema   string   `json:"schema"`
	Images   []Target `json:"images"`
	Packages []Set    `json:"packages,omitempty"`
}

// ReadLock reads bake.lock. A file that does not exist pins nothing; one that is
// malformed is a diag.List with its position.
func ReadLock(file string) (Lock, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Lock{}, nil
	}
	if err != nil {
		return Lock{}, err
	}
	l, at, err := parseLock(content)
	if err != nil {
		return Lock{}, diag.List{position(file, content, at, err)}
	}
	return l, nil
}

// position makes a problem of an error at a byte of a file.
func position(file string, content []byte, at int64, err error) diag.Problem {
	at = min(max(at, 0), int64(len(content)))
	if rest := bytes.TrimLeft(content[at:], " \t\r\n"); len(rest) > 0 { // the decoder has not read on to what it means
		at = int64(len(content) - len(rest))
	}
	start := bytes.LastIndexByte(content[:at], '\n') + 1
	line, _, _ := bytes.Cut(content[start:], []byte("\n"))
	return diag.Problem{
		Pos:     diag.Position{File: file, Line: 1 + bytes.Count(content[:at], []byte("\n")), Col: 1 + len([]rune(string(content[start:at])))},
		Message: err.Error(), Source: string(line), Width: 1,
		Hint: "restore the file, or remove it and pin anew with bake pull --update",
	}
}

// parseLock returns the byte of content that an error is about.
func parseLock(content []byte) (Lock, int64, error) {
	if at, err := onceEach(content); err != nil {
		return Lock{}, at, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var read struct {
		Schema   string            `json:"schema"`
		Images   []json.RawMessage `json:"images"`
		Packages []json.RawMessage `json:"packages"`
	}
	if err := decoder.Decode(&read); err != nil {
		return Lock{}, offset(err, 0), plain(err)
	}
	if read.Schema != lockSchema {
		return Lock{}, 0, fmt.Errorf("the schema is %s, want %q", quote(read.Schema), lockSchema)
	}
	l := Lock{pins: map[pin]Target{}}
	at := int64(0) // raw messages are pieces of content, in its order
	for _, raw := range read.Images {
		at += int64(bytes.Index(content[at:], raw))
		var t Target
		entry := json.NewDecoder(bytes.NewReader(raw))
		entry.DisallowUnknownFields()
		if err := entry.Decode(&t); err != nil {
			return Lock{}, at + offset(err, 0), plain(err)
		}
		if err := t.sound(); err != nil {
			return Lock{}, at, err
		}
		if _, twice := l.pins[t.pin()]; twice {
			return Lock{}, at, fmt.Errorf("%s for %s is pinned a second time", t.Reference, t.Arch)
		}
		t.Signed = t.Signed.UTC()
		l.pins[t.pin()] = t
		at += int64(len(raw))
	}
	for _, raw := range read.Packages {
		from := at + int64(max(bytes.Index(content[at:], raw), 0)) // those behind the images, as Write has them
		var s Set
		entry := json.NewDecoder(bytes.NewReader(raw))
		entry.DisallowUnknownFields()
		if err := entry.Decode(&s); err != nil {
			return Lock{}, from + offset(err, 0), plain(err)
		}
		if err := s.sound(); err != nil {
			return Lock{}, from, err
		}
		if slices.ContainsFunc(l.sets, s.same) {
			return Lock{}, from, fmt.Errorf("packages for %s are pinned a second time", s.Reference)
		}
		l.sets = append(l.sets, s)
	}
	slices.SortFunc(l.sets, compareSets)
	return l, 0, nil
}

func offset(err error, otherwise int64) int64 {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return max(syntax.Offset-1, 0) // it counts the bytes read
	case errors.As(err, &kind):
		return max(kind.Offset-1, 0)
	}
	return otherwise
}

// plain leaves the decoder's own name out of its error.
func plain(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s is %s here, which it must not be", cmp.Or(kind.Field, "the file"), kind.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// onceEach refuses what a decoder lets pass: a key twice, of which the last one
// wins, a second document, and nesting without end.
func onceEach(content []byte) (int64, error) {
	const deepest = 8
	decoder := json.NewDecoder(bytes.NewReader(content))
	var open []map[string]bool // keys of each object around, nil for a list
	key := false               // the next token is a key
	for {
		token, err := decoder.Token()
		at := decoder.InputOffset()
		switch {
		case err == io.EOF && len(open) == 0 && at > 0:
			return 0, nil
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return int64(len(content)), errors.New("the file ends in the middle")
		case err != nil:
			return at, plain(err)
		}
		switch t := token.(type) {
		case json.Delim:
			switch {
			case t == '}' || t == ']':
				open = open[:len(open)-1]
			case len(open) == deepest:
				return at, errors.New("this is nested too deeply")
			case t == '{':
				open = append(open, map[string]bool{})
			default:
				open = append(open, nil)
			}
			key = len(open) > 0 && open[len(open)-1] != nil
		case string:
			if key {
				keys, name := open[len(open)-1], strings.ToLower(t) // the decoder takes either case
				if keys[name] {
					return at - 1, fmt.Errorf("the key %s is there a second time", quote(t))
				}
				keys[name] = true
			}
			key = !key && len(open) > 0 && open[len(open)-1] != nil
		default:
			key = len(open) > 0 && open[len(open)-1] != nil
		}
		if len(open) == 0 && decoder.More() {
			return at, errors.New("there is something behind the end")
		}
	}
}

// sound says why an entry cannot be what Resolve has returned.
func (t Target) sound() error {
	ref, err := Parse(t.Reference, t.Arch)
	var list diag.List
	if errors.As(err, &list) {
		return fmt.Errorf("reference %s for %s: %s", quote(t.Reference), quote(t.Arch), list[0].Message)
	}
	u, err := url.Parse(t.URL)
	switch {
	case ref.Kind == File:
		return fmt.Errorf("%s is a local file, which is not pinned", quote(t.Reference))
	case ref.String() != t.Reference:
		return fmt.Errorf("the reference %s is spelled %s here", quote(t.Reference), ref)
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil:
		return fmt.Errorf("the url %s will not do", quote(t.URL))
	case ref.Kind == Release && slices.Contains(strings.Split(u.Path, "/"), ".."):
		return fmt.Errorf("the url %s leads out of its directory", quote(t.URL))
	case !fileName.MatchString(t.Name) || path.Base(u.Path) != t.Name:
		return fmt.Errorf("the name %s is not that of the url", quote(t.Name))
	case !isDigest(t.Algorithm, t.Digest):
		return fmt.Errorf("the digest %s is no %s", quote(t.Digest), quote(t.Algorithm))
	case ref.Kind == Link && (t.URL != ref.URL || t.Digest != ref.Digest):
		return errors.New("url or digest is not that of the reference")
	case t.Size < 0:
		return fmt.Errorf("the size %d is negative", t.Size)
	case t.Signer != "" && (len(t.Signer) < 40 || strings.Trim(t.Signer, "0123456789ABCDEF") != ""):
		return fmt.Errorf("the signer %s is no fingerprint", quote(t.Signer))
	}
	return nil
}

// Pin returns what a reference is pinned to.
func (l Lock) Pin(ref Ref) (Target, bool) {
	t, ok := l.pins[pin{ref.String(), ref.Arch}]
	return t, ok
}

// Pins returns everything that is pinned, in the order of the file.
func (l Lock) Pins() []Target {
	var all []Target
	for _, key := range l.sorted() {
		all = append(all, l.pins[key])
	}
	return all
}

// Set pins the target's reference for its architecture to it. The error says
// what is wrong with a target that Resolve has not returned.
func (l *Lock) Set(t Target) error {
	if err := t.sound(); err != nil {
		return fmt.Errorf("pinning %s: %w", t.Reference, err)
	}
	pins := maps.Clone(l.pins) // a copy of the lock stays as it is, for Changes
	if pins == nil {
		pins = map[pin]Target{}
	}
	t.Signed = t.Signed.UTC() // so that equal targets are equal in a comparison
	pins[t.pin()] = t
	l.pins = pins
	return nil
}

// sorted returns the pins of the lock and, if given, others, in order.
func (l Lock) sorted(others ...Lock) []pin {
	all := maps.Clone(l.pins)
	for _, other := range others {
		if all == nil {
			all = map[pin]Target{}
		}
		maps.Copy(all, other.pins)
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b pin) int {
		return cmp.Or(strings.Compare(a.reference, b.reference), strings.Compare(a.arch, b.arch))
	})
}

// Write puts the lock in place of the file, in one step. Of two that write at a
// time one wins as a whole.
func (l Lock) Write(file string) error {
	out := lockFile{Schema: lockSchema, Images: append([]Target{}, l.Pins()...), Packages: l.sets} // [], not null
	var content bytes.Buffer
	encoder := json.NewEncoder(&content)
	encoder.SetEscapeHTML(false) // for the & in a URL
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return replace(file, content.Bytes(), 0o644)
}

// Changes describes, one line each and in order, what is pinned differently in l
// than it was before:
//
//	ubuntu:24.04 amd64: 20260701 -> 20260722, sha256 ab12cd34ef56... -> 0123456789ab...
func (l Lock) Changes(before Lock) []string {
	var lines []string
	for _, key := range l.sorted(before) {
		was, old := before.pins[key]
		is, found := l.pins[key]
		prefix := key.reference + " " + key.arch + ": "
		switch {
		case !found:
			lines = append(lines, prefix+"no longer pinned, was "+was.build())
		case !old:
			lines = append(lines, prefix+"new, "+is.build())
		case was != is:
			lines = append(lines, prefix+difference(was, is))
		}
	}
	return append(lines, l.setChanges(before)...)
}

// build names an image for people.
func (t Target) build() string {
	text := t.Algorithm + " " + t.Digest[:12] + "..."
	if t.Serial != "" {
		text = t.Serial + ", " + text
	}
	return text
}

func difference(was, is Target) string {
	var parts []string
	arrow := func(label, a, b string) {
		if a != b {
			parts = append(parts, label+cmp.Or(a, "none")+" -> "+cmp.Or(b, "none"))
		}
	}
	if a, b := was.Algorithm+" "+was.Digest, is.Algorithm+" "+is.Digest; a != b {
		arrow("", was.Serial, is.Serial)
		if was.Algorithm == is.Algorithm {
			arrow(was.Algorithm+" ", was.Digest[:12]+"...", is.Digest[:12]+"...")
		} else {
			arrow("", was.Algorithm+" "+was.Digest[:12]+"...", is.Algorithm+" "+is.Digest[:12]+"...")
		}
	} else {
		parts = append(parts, "the same image")
		arrow("serial ", was.Serial, is.Serial)
	}
	arrow("signer ", was.Signer, is.Signer)
	arrow("url ", was.URL, is.URL)
	if len(parts) == 1 && was.Digest == is.Digest {
		parts = append(parts, "size, trust or time of signature differ")
	}
	return strings.Join(parts, ", ")
}
