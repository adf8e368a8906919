// Package archive reads what a machine sends of its state.
//
// A snapshot is one stream, an uncompressed pax tar. Its members are the state,
// under the paths that it has in the machine without the first slash, each
// directory before what is in it and everything in the order of the bytes of its
// name. The last member is .bake/manifest.json: what the machine says it has sent.
//
//	var/
//	var/lib/
//	var/lib/openclaw/
//	var/lib/openclaw/state/openclaw.sqlite
//	.bake/manifest.json
//
// On this machine a snapshot is a directory with two files, state.tar, which is
// the stream, and manifest.json, which is its last member.
//
// The manifest lists each member: path (percent-encoded but for A-Z a-z 0-9 and
// ._-~/, as a name may be any bytes), type (dir, file, symlink, hard), mode, uid,
// gid, size, mtime in nanoseconds, sha256 of the content and of the extended
// attributes, target. Its digest is the SHA-256 of one line per member:
//
//	path NUL type NUL mode NUL uid NUL gid NUL size NUL mtime NUL sha256 NUL xattrs NUL target LF
//
// with the path and target as they are, mode in octal with at least four digits.
// The digest of extended attributes is over name NUL length NUL value for each, in
// the order of the names, and empty without any; access control lists are among
// them (system.posix_acl_access). A hard link has no size, content and attributes
// of its own.
//
// The stream comes from a machine that may be an attacker's. It promises:
//   - What Receive has stored says the same as its manifest, member for member.
//     A stream that ends early or says otherwise leaves nothing.
//   - No path leaves the tree: no absolute one, no dot-dot, no name twice, nothing
//     below what is not a directory of this stream, no hard link to anything else
//     than a file of this stream.
//   - No device, no pipe, no socket, and no more members and bytes than Limits.
//   - What was asked for is a directory or a file: a link in the place of a directory would
//     lead whoever restores it to one of another's.
//   - Extract writes below its directory alone, whatever the links in it, gives no
//     file a set-user-ID bit, and leaves the directory whole or not there at all.
//
// It does not promise that the state is any good, only that it is what was sent:
// whoever owns the machine makes its manifest.
//
// # Decisions
//
// 2026-11: tar by the machine's GNU tar, read by archive/tar: both are in use
// everywhere, and a snapshot can be unpacked without bake. Its own format would
// have saved nothing but the headers.
//
// 2026-11: the manifest comes last, so that the machine reads its state once and
// a stream that was cut off is known by its lack of an end.
//
// 2026-11: not compressed, and in an order that does not change: the store finds
// what it has already.
//
// 2026-11: every member's parent must be in the stream, as a directory. It costs
// a few headers, and no path has to be resolved to know that it stays inside.
package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"
)

// format is the version of manifests that this package reads.
const format = 1

// Names of the two files of a snapshot.
const (
	StateFile    = "state.tar"
	ManifestFile = "manifest.json"
)

// manifestMember is the last member of a stream.
const manifestMember = ".bake/manifest.json"

// A Manifest is what a machine says of the state that it sends.
type Manifest struct {
	Format     int        `json:"format"`
	Host       string     `json:"host"`
	Generation string     `json:"generation,omitempty"`
	Instance   string     `json:"instance,omitempty"` // cloud-init's instance id
	Method     string     `json:"method"`             // how the state was kept still: frozen, stopped
	Asked      time.Time  `json:"asked"`
	Frozen     time.Time  `json:"frozen"` // what was written before is in it
	Thawed     time.Time  `json:"thawed"` // and what was written after is not
	Roots      []Path     `json:"roots"`  // directories and files that were asked for, as in Entries
	Databases  []Database `json:"databases"`
	Skipped    []Path     `json:"skipped,omitempty"` // sockets, pipes and devices
	Count      int        `json:"count"`
	Bytes      int64      `json:"bytes"` // of all files, holes too
	Digest     string     `json:"digest"`
	Entries    []Entry    `json:"entries"`
}

// A Database is an SQLite database, which is in the stream as SQLite's own backup
// of it and without its journals.
type Database struct {
	Path      Path   `json:"path"`
	Integrity string `json:"integrity"` // of PRAGMA integrity_check on the copy: ok, or its first line
}

// An Entry is a member.
type Entry struct {
	Path   Path   `json:"path"`
	Type   string `json:"type"` // dir, file, symlink or hard
	Mode   Mode   `json:"mode"`
	UID    int    `json:"uid"`
	GID    int    `json:"gid"`
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime"` // nanoseconds
	SHA256 string `json:"sha256,omitempty"`
	Xattrs string `json:"xattrs,omitempty"` // SHA-256, see above
	Target Path   `json:"target,omitempty"` // of a link
}

// Types of members.
const (
	typeDir     = "dir"
	typeFile    = "file"
	typeSymlink = "symlink"
	typeHard    = "hard"
)

// A Path is any bytes; JSON has it percent-encoded.
type Path string

// MarshalText encodes every byte that is not certain to survive everywhere.
func (p Path) MarshalText() ([]byte, error) {
	const hexDigits = "0123456789ABCDEF"
	var out []byte
	for _, c := range []byte(p) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-', c == '~', c == '/':
			out = append(out, c)
		default:
			out = append(out, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return out, nil
}

// UnmarshalText decodes what MarshalText or Python's urllib.parse.quote encodes.
func (p *Path) UnmarshalText(text []byte) error {
	decoded, err := url.PathUnescape(string(text))
	*p = Path(decoded)
	return err
}

// A Mode has the permission bits, set-user-ID, set-group-ID and sticky among them,
// as chmod(2) has them; JSON has it as octal text.
type Mode uint32

// MarshalText writes four digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText reads octal digits.
func (m *Mode) UnmarshalText(text []byte) error {
	var n uint32
	if len(text) == 0 || len(text) > 5 {
		return fmt.Errorf("%q is no mode", text)
	}
	for _, c := range text {
		if c < '0' || c > '7' {
			return fmt.Errorf("%q is no mode", text)
		}
		n = n<<3 | uint32(c-'0')
	}
	*m = Mode(n)
	return nil
}

// digest is that of the package comment, over these members in this order.
func digest(entries []Entry) string {
	sum := sha256.New()
	for _, e := range entries {
		e.writeLine(sum)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (e Entry) writeLine(w io.Writer) {
	fmt.Fprintf(w, "%s\x00%s\x00%04o\x00%d\x00%d\x00%d\x00%d\x00%s\x00%s\x00%s\n",
		string(e.Path), e.Type, uint32(e.Mode), e.UID, e.GID, e.Size, e.MTime, e.SHA256, e.Xattrs, string(e.Target))
}

// Limits bound what a stream may cost this machine. Zero is the default.
type Limits struct {
	Entries int   // default 2 million
	Bytes   int64 // of the stream, and of all files with their holes; default 64 GiB
}

const (
	defaultEntries   = 2_000_000
	defaultBytes     = 64 << 30
	manifestBytes    = 1 << 30
	manifestPerEntry = 16 << 10 // at most: two paths, percent-encoded
	manifestWords    = 1 << 10  // of an entry beside its paths
	manifestRest     = 32 << 20 // what is not about members
	pathBytes        = 4095     // PATH_MAX, without its end
	nameBytes        = 255
	trailerBytes     = 1 << 20 // zeros after the last member
	mostSkipped      = 100_000
)

func (l Limits) entries() int {
	if l.Entries > 0 {
		return l.Entries
	}
	return defaultEntries
}

func (l Limits) bytes() int64 {
	if l.Bytes > 0 {
		return l.Bytes
	}
	return defaultBytes
}

// A RefusedError says why a stream or a snapshot is not what it must be.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return e.Text }

// Integrity says that this is exit status 5.
func (e *RefusedError) Integrity() bool { return true }

func refuse(format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...)}
}

// parseManifest reads the manifest of a stream of so many members. A few bytes of JSON are
// an element, and an element has fifty times as many here: no list may be longer than what
// came can account for.
func parseManifest(data []byte, members int) (m Manifest, err error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return m, refuse("its manifest is no JSON: %v", err)
	}
	if version.Format != format {
		return m, refuse("its manifest has format %d, this bake reads %d", version.Format, format)
	}
	if err := m.read(json.NewDecoder(bytes.NewReader(data)), members); err != nil {
		return Manifest{}, refuse("its manifest cannot be read: %v", err)
	}
	return m, nil
}

// read reads what is known to be an object.
func (m *Manifest) read(d *json.Decoder, members int) error {
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		word := map[json.Token]any{"format": &m.Format, "host": &m.Host, "generation": &m.Generation, "instance": &m.Instance, "method": &m.Method,
			"asked": &m.Asked, "frozen": &m.Frozen, "thawed": &m.Thawed, "count": &m.Count, "bytes": &m.Bytes, "digest": &m.Digest}[key]
		switch {
		case key == "entries":
			err = list(d, members+1, &m.Entries) // one more than came is told of by its name
		case key == "databases":
			err = list(d, members+1, &m.Databases)
		case key == "roots":
			err = list(d, members+1, &m.Roots)
		case key == "skipped":
			err = list(d, mostSkipped, &m.Skipped)
		case word != nil:
			err = d.Decode(word)
		default: // a newer machine's
			err = d.Decode(&json.RawMessage{})
		}
		if err != nil {
			return fmt.Errorf("%v: %w", key, err)
		}
	}
	return nil
}

// list reads a list of at most so many, or null.
func list[T any](d *json.Decoder, most int, to *[]T) error {
	switch begin, err := d.Token(); {
	case err != nil:
		return err
	case begin == nil:
		return nil
	case begin != json.Delim('['):
		return errors.New("it is no list")
	}
	for d.More() {
		var one T
		if len(*to) == most {
			return fmt.Errorf("it has more than %d", most)
		}
		if err := d.Decode(&one); err != nil {
			return err
		}
		*to = append(*to, one)
	}
	_, err := d.Token()
	return err
}
