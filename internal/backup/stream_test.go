package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/archive"
)

// received makes a backup as a machine's stream leaves it, of files below var/.
func received(t *testing.T, at time.Time, files map[string]string) Job {
	t.Helper()
	dir := t.TempDir()
	m, err := archive.Receive(t.Context(), bytes.NewReader(stream(t, at, files)), dir, archive.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return Job{Dir: dir, Host: m.Host, Generation: m.Generation, Time: m.Frozen}
}

// stream is what a machine with such files sends. A name that ends in @ is a link, one
// that ends in # a hard link.
func stream(t testing.TB, at time.Time, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	m := archive.Manifest{Format: 1, Host: "zap", Generation: "0123456789abcdef", Method: "frozen", Asked: at, Frozen: at, Thawed: at}
	add := func(h *tar.Header, kind, body string) {
		h.Uid, h.Gid, h.ModTime, h.Format = 782, 782, first.Add(-time.Hour), tar.FormatPAX
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(body))
		e := archive.Entry{Path: archive.Path(strings.TrimSuffix(h.Name, "/")), Type: kind, Mode: archive.Mode(h.Mode), UID: 782, GID: 782,
			Size: h.Size, MTime: h.ModTime.UnixNano(), Target: archive.Path(h.Linkname)}
		if kind == "file" {
			sum := sha256.Sum256([]byte(body))
			e.SHA256 = hex.EncodeToString(sum[:])
			m.Bytes += h.Size
		}
		m.Entries = append(m.Entries, e)
	}
	made := map[string]bool{".": true}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, parent := range parents(name) {
			if !made[parent] {
				made[parent] = true
				add(&tar.Header{Typeflag: tar.TypeDir, Name: parent + "/", Mode: 0o700}, "dir", "")
			}
		}
		body := files[name]
		switch bare := name[:len(name)-1]; name[len(name)-1] {
		case '@':
			add(&tar.Header{Typeflag: tar.TypeSymlink, Name: bare, Linkname: body, Mode: 0o777}, "symlink", "")
		case '#':
			add(&tar.Header{Typeflag: tar.TypeLink, Name: bare, Linkname: body, Mode: 0o600}, "hard", "")
		default:
			add(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(body)), Mode: 0o600}, "file", body)
		}
	}
	sum := sha256.New()
	for _, e := range m.Entries {
		fmt.Fprintf(sum, "%s\x00%s\x00%04o\x00%d\x00%d\x00%d\x00%d\x00%s\x00%s\x00%s\n",
			string(e.Path), e.Type, uint32(e.Mode), e.UID, e.GID, e.Size, e.MTime, e.SHA256, e.Xattrs, string(e.Target))
	}
	m.Count, m.Digest = len(m.Entries), hex.EncodeToString(sum.Sum(nil))
	content, err := json.Marshal(m)
	if err == nil {
		err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".bake/manifest.json", Size: int64(len(content)), Mode: 0o600, Format: tar.FormatPAX})
	}
	_, errBody := w.Write(content)
	if err := errors.Join(err, errBody, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func parents(name string) (all []string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		all = append(all, dir)
	}
	slices.Reverse(all)
	return all
}
