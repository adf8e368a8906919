package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// scanner reads a stream once and believes nothing of it.
type scanner struct {
	source *source
	limits Limits
	each   func(member) error // is given each member; may be nil

	seen    map[Path]string // type of each member so far
	entries []Entry
	bytes   int64
}

// source is the stream. What goes wrong with it is nobody's fault in the stream.
type source struct {
	context.Context
	io.Reader
	left   int64
	failed error
}

// patient reads until somebody does not wait any more: the holes of a file come without
// the stream.
type patient struct {
	*source
	content io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if p.failed == nil {
		p.failed = context.Cause(p.Context)
	}
	if p.failed != nil {
		return 0, p.failed
	}
	return p.content.Read(b)
}

var errTooLong = errors.New("the stream is longer than the limit")

func (s *source) Read(p []byte) (int, error) {
	if s.failed == nil {
		s.failed = context.Cause(s.Context)
	}
	if s.failed != nil {
		return 0, s.failed
	}
	if s.left <= 0 {
		return 0, errTooLong
	}
	n, err := s.Reader.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err != nil && err != io.EOF {
		s.failed = err
	}
	return n, err
}

// scan reads a stream to its end and returns its manifest, parsed and as it is.
func scan(ctx context.Context, r io.Reader, limits Limits, each func(member) error) (Manifest, []byte, error) {
	s := &scanner{source: &source{Context: ctx, Reader: r, left: limits.bytes()}, limits: limits, each: each, seen: map[Path]string{}}
	// Headers and the manifest come on top of what the state has.
	s.source.left += int64(limits.entries())*1024 + min(manifestBytes, int64(limits.entries())*manifestPerEntry) + trailerBytes
	m, raw, err := s.run()
	var refused *RefusedError
	var own ownError
	switch {
	case err == nil:
		return m, raw, nil
	case errors.As(err, &own):
		return m, nil, own.error
	case s.source.failed != nil:
		return m, nil, fmt.Errorf("reading the stream: %w", s.source.failed)
	case errors.As(err, &refused):
		return m, nil, err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return m, nil, refuse("the stream ends in the middle, after %d members", len(s.entries))
	}
	return m, nil, refuse("the stream cannot be read after %d members: %v", len(s.entries), err)
}

// ownError is what went wrong on this side.
type ownError struct{ error }

func (s *scanner) run() (Manifest, []byte, error) {
	members := tar.NewReader(s.source)
	for {
		header, err := members.Next()
		if err == io.EOF {
			return Manifest{}, nil, refuse("the stream ends without a manifest, after %d members", len(s.entries))
		}
		if err != nil {
			return Manifest{}, nil, err
		}
		if header.Name == manifestMember {
			return s.finish(members, header)
		}
		if err := s.member(header, members); err != nil {
			return Manifest{}, nil, err
		}
	}
}

// member takes one in.
func (s *scanner) member(header *tar.Header, content io.Reader) error {
	if len(s.entries) >= s.limits.entries() {
		return refuse("the stream has more than %d members", s.limits.entries())
	}
	e, err := s.entry(header)
	if err != nil {
		return err
	}
	if e.Type == typeFile {
		if e.Size > s.limits.bytes()-s.bytes {
			return refuse("with %q the state is longer than %d bytes (limits: {size: ...} of backup.yaml)", e.Path, s.limits.bytes())
		}
		s.bytes += e.Size
	}
	sum := sha256.New()
	body := io.TeeReader(patient{s.source, content}, sum)
	if s.each != nil {
		if err := s.each(member{e, header, body}); err != nil {
			return err
		}
	}
	n, err := io.Copy(io.Discard, body) // what nobody has read yet
	if err != nil {
		return err
	}
	switch {
	case e.Type == typeFile:
		e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	case n > 0:
		return refuse("%q is a %s with content", e.Path, e.Type)
	}
	s.seen[e.Path] = e.Type
	s.entries = append(s.entries, e)
	return nil
}

// entry is what a header says, if it may.
func (s *scanner) entry(header *tar.Header) (Entry, error) {
	e := Entry{Path: Path(strings.TrimSuffix(header.Name, "/")), Mode: Mode(header.Mode & 0o7777), UID: header.Uid, GID: header.Gid, MTime: header.ModTime.UnixNano()}
	if err := s.checkPath(e.Path); err != nil {
		return e, err
	}
	if header.Uid < 0 || header.Gid < 0 {
		return e, refuse("%q belongs to nobody: %d:%d", e.Path, header.Uid, header.Gid)
	}
	switch header.Typeflag {
	case tar.TypeDir:
		e.Type = typeDir
	case tar.TypeReg, tar.TypeGNUSparse:
		e.Type, e.Size = typeFile, header.Size
	case tar.TypeSymlink:
		e.Type, e.Target = typeSymlink, Path(header.Linkname)
		if e.Target == "" || len(e.Target) > pathBytes || strings.ContainsRune(string(e.Target), 0) {
			return e, refuse("%q is a link to no path: %.80q", e.Path, e.Target)
		}
	case tar.TypeLink:
		e.Type, e.Target = typeHard, Path(header.Linkname)
		if s.seen[e.Target] != typeFile {
			return e, refuse("%q is a hard link to %q, which is no file of this stream before it", e.Path, e.Target)
		}
	default:
		return e, refuse("%q is neither file, directory nor link but of type %q", e.Path, header.Typeflag)
	}
	if e.Type == typeFile || e.Type == typeDir {
		e.Xattrs = xattrsDigest(xattrs(header))
	}
	return e, nil
}

// checkPath demands that a path is new, and its parent a directory that has come.
func (s *scanner) checkPath(p Path) error {
	text := string(p)
	switch {
	case text == "" || text == "." || text == ".." || path.IsAbs(text) || path.Clean(text) != text || strings.HasPrefix(text, "../"):
		return refuse("%.200q is no path below a directory", text)
	case len(text) > pathBytes || len(path.Base(text)) > nameBytes:
		return refuse("%.80q... is a path of %d bytes", text, len(text))
	case strings.ContainsRune(text, 0):
		return refuse("%.200q has a NUL in it", text)
	case text == ".bake" || strings.HasPrefix(text, ".bake/"):
		return refuse("%.200q is where the manifest is", text)
	}
	if _, twice := s.seen[p]; twice {
		return refuse("%q comes twice", text)
	}
	if parent := path.Dir(text); parent != "." && s.seen[Path(parent)] != typeDir {
		return refuse("%q is in %q, which is no directory of this stream", text, parent)
	}
	return nil
}

// finish reads the manifest and what is behind it, and compares.
func (s *scanner) finish(members *tar.Reader, header *tar.Header) (Manifest, []byte, error) {
	var m Manifest
	limit := int64(manifestRest)
	for _, e := range s.entries { // as one of the entries, and of the databases
		limit += 2 * (manifestWords + 3*int64(len(e.Path)+len(e.Target)))
	}
	limit = min(limit, manifestBytes)
	if header.Typeflag != tar.TypeReg || header.Size > limit {
		return m, nil, refuse("its manifest is no file, or has %d bytes for %d members", header.Size, len(s.entries))
	}
	raw, err := io.ReadAll(members)
	if err != nil {
		return m, nil, err
	}
	switch next, err := members.Next(); {
	case err == nil:
		return m, nil, refuse("%q comes after the manifest", next.Name)
	case err != io.EOF:
		return m, nil, err
	}
	if err := s.drain(); err != nil {
		return m, nil, err
	}
	if m, err = parseManifest(raw, len(s.entries)); err != nil {
		return m, nil, err
	}
	return m, raw, s.compare(m)
}

// drain reads the zeros that fill the last record.
func (s *scanner) drain() error {
	buffer := make([]byte, 32<<10)
	for total := 0; ; {
		n, err := s.source.Read(buffer)
		if total += n; total > trailerBytes || bytes.Count(buffer[:n], []byte{0}) != n {
			return refuse("there is something after the end of the stream")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *scanner) compare(m Manifest) error {
	for i, want := range m.Entries {
		if i == len(s.entries) {
			return refuse("the manifest has %q, which has not come", want.Path)
		}
		if got := s.entries[i]; got != want {
			return refuse("%q is not what the manifest says: %s", got.Path, differ(got, want))
		}
	}
	switch {
	case len(m.Entries) < len(s.entries):
		return refuse("%q is not in the manifest", s.entries[len(m.Entries)].Path)
	case m.Count != len(s.entries) || m.Bytes != s.bytes || m.Digest != digest(s.entries):
		return refuse("the manifest's sums are not those of its entries")
	case m.Host == "" || m.Frozen.IsZero():
		return refuse("the manifest does not say whose state it is, or of when")
	}
	for _, list := range [][]Path{m.Roots, databasePaths(m)} {
		for _, p := range list {
			switch s.seen[p] {
			case "":
				return refuse("the manifest speaks of %q, which has not come", p)
			case typeSymlink:
				return refuse("%q is a link where a directory or a file must be", p)
			}
		}
	}
	return nil
}

func databasePaths(m Manifest) (paths []Path) {
	for _, d := range m.Databases {
		paths = append(paths, d.Path)
	}
	return paths
}

// differ says in which word two entries do.
func differ(got, want Entry) string {
	for _, field := range []struct {
		name      string
		got, want any
	}{
		{"path", string(got.Path), string(want.Path)}, {"type", got.Type, want.Type}, {"mode", got.Mode, want.Mode},
		{"uid", got.UID, want.UID}, {"gid", got.GID, want.GID}, {"size", got.Size, want.Size}, {"mtime", got.MTime, want.MTime},
		{"sha256", got.SHA256, want.SHA256}, {"xattrs", got.Xattrs, want.Xattrs}, {"target", string(got.Target), string(want.Target)},
	} {
		if field.got != field.want {
			return fmt.Sprintf("%s is %v, not %v", field.name, field.got, field.want)
		}
	}
	return "in nothing"
}

const xattrPrefix = "SCHILY.xattr."

// xattrs are a member's extended attributes by their own names: tar encodes what
// would end a name too early.
func xattrs(header *tar.Header) map[string]string {
	var all map[string]string
	for key, value := range header.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[strings.NewReplacer("%3D", "=", "%25", "%").Replace(name)] = value
	}
	return all
}

func xattrsDigest(all map[string]string) string {
	if len(all) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(sum, "%s\x00%d\x00%s", name, len(all[name]), all[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}
