package seed

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/layer"
)

// contents that a here-document could get wrong.
var awkward = map[string]string{
	"text": "#!/bin/sh\necho hello\n", "no final newline": "exit 0", "empty": "", "newlines": "\n\n\n",
	"the delimiter": "a\nEND\nb\n", "the delimiter first": "END\nid\n", "the delimiter last": "a\nEND\n", "nothing but it": "END\n",
	"all delimiters": "END\nEND_\nEND__\n", "almost": " END\nEND \nxEND\n", "unended delimiter": "a\nEND",
	"expansions": "$HOME $(id) `id` ${x} \\ \\\\ \\n \"'\n", "tabs": "\tEND\n\t\tx\n", "percent": "%s %d\n", "leading dash": "-n\n",
	"binary": "a\x00b\xff\n", "all bytes": string(allBytes()), "crlf": "a\r\nb\r\n", "escape": "\x1b[2J\n", "unicode": "é\u2028\u202e😀\n", "latin1": "\xe9\n",
	"long": strings.Repeat("0123456789abcdef", 20000) + "\n", "yaml": "a: b\n- c\n#d\n",
}

func allBytes() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

// A real shell writes what the here-document says, byte for byte, with its
// mode, and goes on behind it.
func TestHereDocument(t *testing.T) {
	for name, content := range awkward {
		for _, mode := range []fs.FileMode{0o600, 0o755} {
			dir := t.TempDir()
			path := filepath.Join(dir, "usr/local/lib/file")
			// As cloud-init puts bootcmd together: one script, no set -e.
			script := "#!/bin/sh\n" + hereDocument(layer.File{Path: path, Mode: mode, Content: []byte(content)}) + "echo behind\n"
			if err := os.WriteFile(filepath.Join(dir, "bootcmd"), []byte(script), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // at every boot
				out, err := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "bootcmd")).CombinedOutput()
				if err != nil || string(out) != "behind\n" {
					t.Errorf("%s: %q, %v", name, out, err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, []byte(content)) {
				t.Errorf("%s: %.60q, %v, want %.60q", name, got, err, content)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode() != mode {
				t.Errorf("%s: %v, %v, want %v", name, info, err, mode)
			}
			wantEntries(t, filepath.Dir(path), "file")
		}
	}
}

// A file that cannot be written whole is left as it was.
func TestHereDocumentFails(t *testing.T) {
	for name, content := range map[string]string{"text": "new\n", "base64": "new"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(path+".bake/in-the-way", 0o755); err != nil {
			t.Fatal(err)
		}
		script := hereDocument(layer.File{Path: path, Mode: 0o755, Content: []byte(content)})
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", script).CombinedOutput(); err == nil {
			t.Errorf("%s: it did not fail: %s", name, out)
		}
		got, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(got) != "old" || info.Mode() != 0o640 {
			t.Errorf("%s: %q, %v, %v", name, got, info.Mode(), err)
		}
	}
}

// Auditors read text in place; only what is no text is encoded.
func TestHereDocumentReads(t *testing.T) {
	for name, content := range awkward {
		text := hereDocument(layer.File{Path: "/x", Mode: 0o644, Content: []byte(content)})
		plain := isText([]byte(content)) && strings.HasSuffix(content, "\n")
		if plain != strings.Contains(text, content) || plain == strings.Contains(text, "base64 -d") {
			if content != "" {
				t.Errorf("%s: %.80q", name, text)
			}
		}
	}
}
