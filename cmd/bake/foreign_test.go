package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEndlessFile: no more of a foreign file is read than a machine could be given, also of
// one that has no size.
func TestEndlessFile(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.yaml")
	file, err := os.Create(large)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Truncate(maxUserData + 1); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	for _, name := range []string{large, "/dev/zero"} {
		for _, args := range [][]string{{"lint", name}, {"import", "--check", name}} {
			o := inProcess(t, false, args...)
			if o.code != 3 || !strings.Contains(o.stderr, name+": error: the file has more than the 16777216 bytes that are read") {
				t.Errorf("%q: exit status %d, %.300q", args, o.code, o.stderr)
			}
		}
	}
	if err := os.Truncate(large, maxUserData); err != nil {
		t.Fatal(err)
	}
	if o := inProcess(t, false, "import", "--check", large); strings.Contains(o.stderr, "that are read") {
		t.Errorf("as much as there may be: %.300q", o.stderr)
	}
}
