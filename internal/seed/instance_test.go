package seed

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestInstanceAt(t *testing.T) {
	h := zap(t, "runcmd: [x]")
	s, err := Build(h, []byte("program"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{ISO, VFAT, Dir} {
		path := filepath.Join(t.TempDir(), "seed")
		if got := InstanceAt(path, format); got != "" {
			t.Errorf("%s: nothing has instance %q", format, got)
		}
		if err := Write(path, format, s); err != nil {
			t.Fatal(err)
		}
		if got := InstanceAt(path, format); got != s.InstanceID(h) {
			t.Errorf("%s: %q, want %q", format, got, s.InstanceID(h))
		}
	}
	pipe := filepath.Join(t.TempDir(), "pipe") // nobody writes to it, and nobody waits
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{ISO, VFAT, Dir} {
		if got := InstanceAt(pipe, format); got != "" {
			t.Errorf("%s: a pipe has instance %q", format, got)
		}
	}
	foreign := filepath.Join(t.TempDir(), "file")
	for name, data := range map[string]string{"text": "instance-id: \"x\"\n", "nothing": "", "no image": string(make([]byte, 40*sector))} {
		if err := os.WriteFile(foreign, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []Format{ISO, VFAT} {
			if got := InstanceAt(foreign, format); got != "" {
				t.Errorf("%s as %s: instance %q", name, format, got)
			}
		}
	}
}
