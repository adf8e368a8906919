package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bake/internal/archive"
)

// sends FILE HOST AGE SIZE [INTEGRITY] writes what a machine sends of its state: a
// directory with a text and a database of so many bytes, frozen so long ago.
func sends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 || len(args) > 5 {
		ts.Fatalf("usage: sends FILE HOST AGE SIZE [INTEGRITY]")
	}
	age, err := time.ParseDuration(args[2])
	ts.Check(err)
	size, err := strconv.Atoi(args[3])
	ts.Check(err)
	integrity := append(args, "ok")[4]
	content, err := streamOf(args[1], integrity, time.Now().Add(-age), map[string][]byte{"text": []byte("hello\n"), "x.sqlite": bytes.Repeat([]byte("SQLite\x00\n"), size/8)})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

// stateOf is a stream as package archive has it, of files in var/lib/openclaw.
func stateOf(host string, at time.Time, files map[string][]byte) ([]byte, error) {
	return streamOf(host, "ok", at, files)
}

// streamOf is one of a machine whose database x.sqlite is so sound.
func streamOf(host, integrity string, at time.Time, files map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	old := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	m := archive.Manifest{Format: 1, Host: host, Generation: "0123456789abcdef", Method: "frozen", Asked: at, Frozen: at, Thawed: at, Roots: []archive.Path{"var/lib/openclaw"}}
	if files["x.sqlite"] != nil {
		m.Databases = []archive.Database{{Path: "var/lib/openclaw/x.sqlite", Integrity: integrity}}
	}
	var failed error
	add := func(kind string, h tar.Header, body []byte) {
		h.Uid, h.Gid, h.ModTime, h.Format, h.Size = 782, 782, old, tar.FormatPAX, int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			failed = err
		}
		if _, err := w.Write(body); err != nil {
			failed = err
		}
		e := archive.Entry{Path: archive.Path(filepath.Clean(h.Name)), Type: kind, Mode: archive.Mode(h.Mode), UID: 782, GID: 782, Size: h.Size, MTime: old.UnixNano()}
		if kind == "file" {
			sum := sha256.Sum256(body)
			e.SHA256 = hex.EncodeToString(sum[:])
		}
		m.Bytes += e.Size
		m.Entries = append(m.Entries, e)
	}
	for _, dir := range []string{"var/", "var/lib/", "var/lib/openclaw/"} {
		add("dir", tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o700}, nil)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		add("file", tar.Header{Typeflag: tar.TypeReg, Name: "var/lib/openclaw/" + name, Mode: 0o600}, files[name])
	}
	sum := sha256.New()
	for _, e := range m.Entries {
		fmt.Fprintf(sum, "%s\x00%s\x00%04o\x00%d\x00%d\x00%d\x00%d\x00%s\x00\x00\n", string(e.Path), e.Type, uint32(e.Mode), e.UID, e.GID, e.Size, e.MTime, e.SHA256)
	}
	m.Count, m.Digest = len(m.Entries), hex.EncodeToString(sum.Sum(nil))
	content, err := json.Marshal(m)
	if err != nil || failed != nil {
		return nil, fmt.Errorf("%w, %w", err, failed)
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ".bake/manifest.json", Size: int64(len(content)), Mode: 0o600}); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return out.Bytes(), w.Close()
}
