package artifact

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManifestBytes pins the form of manifest.json: sorted keys, no path, the
// same bytes wherever and whenever.
func TestManifestBytes(t *testing.T) {
	var first []byte
	for range 2 {
		root := t.TempDir()
		g := mustBake(t, root, genA)
		data, err := os.ReadFile(g.Path(manifestName))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = data
		}
		if string(data) != string(first) {
			t.Errorf("two roots, two manifests:\n%s\n%s", first, data)
		}
		if strings.Contains(string(data), root) {
			t.Errorf("the manifest names %s", root)
		}
	}
	var loose map[string]any
	if err := json.Unmarshal(first, &loose); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.MarshalIndent(loose, "", "  ") // encoding/json sorts the keys of maps
	if err != nil {
		t.Fatal(err)
	}
	if string(first) != string(sorted)+"\n" {
		t.Errorf("keys are not sorted:\n%s", first)
	}
	if !strings.Contains(string(first), `"schema": "bake.manifest/1"`) {
		t.Errorf("no schema:\n%s", first)
	}
}

func TestID(t *testing.T) {
	id := ID([]byte("ab"), []byte("c"))
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("%q is not 16 hexadecimal digits", id)
	}
	if id != ID([]byte("ab"), []byte("c")) {
		t.Error("the same parts, another name")
	}
	for _, other := range []string{ID([]byte("a"), []byte("bc")), ID([]byte("abc")), ID([]byte("ab"), []byte("c"), nil), ID()} {
		if id == other {
			t.Error("other parts, the same name")
		}
	}
	if got, want := ID([]byte("bake")), "a099c281b787b069"; got != want {
		t.Errorf("ID has changed and with it every generation's name: %s, was %s", got, want)
	}
}

// FuzzDecodeManifest: what is accepted has one form and names no file outside.
func FuzzDecodeManifest(f *testing.F) {
	m := manifest(genA)
	m.Schema, m.Host, m.Files = schema, "zap", map[string]File{"seed.iso": {SHA256: "0", Size: 1}}
	data, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(data)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || string(again) != string(data) {
			t.Errorf("a second form: %q, %v", again, err)
		}
		for name := range m.Files {
			if filepath.Base(name) != name || !filepath.IsLocal(name) {
				t.Errorf("accepted the file name %q", name)
			}
		}
	})
}
