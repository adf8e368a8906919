package tool

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// env is a Box that sees these variables and no others.
func env(pairs ...string) Box {
	return Box{Getenv: func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}}
}

var system = env("PATH", "/usr/bin:/bin")

func script(t *testing.T, path, body string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), mode); err != nil {
		t.Fatal(err)
	}
}

func TestMissing(t *testing.T) {
	for program, want := range map[string]MissingError{
		"qemu-img":       {"qemu-img", "qemu-utils"},
		"virsh":          {"virsh", "libvirt-clients"},
		"bake-no-such-x": {"bake-no-such-x", ""},
	} {
		box := env("PATH", t.TempDir())
		_, found := box.Find(program)
		_, prepared := box.Command(t.Context(), program)
		_, run := box.Run(t.Context(), program)
		for _, err := range []error{found, prepared, run} {
			var missing *MissingError
			if !errors.As(err, &missing) || *missing != want {
				t.Errorf("%s: %v, want %v", program, err, &want)
				continue
			}
			if !strings.Contains(err.Error(), program+" is not installed") {
				t.Errorf("the program has no name in %q", err)
			}
			if named := strings.Contains(err.Error(), "apt-get install "+want.Package); named != (want.Package != "") {
				t.Errorf("%s: how to install it: %q", program, err)
			}
		}
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, sub := range []string{"one", "two", "one/folder", "two/folder"} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script(t, "one/both", "", 0o755)
	script(t, "two/both", "", 0o755)
	script(t, "one/plain", "", 0o644)
	script(t, "two/plain", "", 0o755)
	script(t, "here", "", 0o755)
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	for _, test := range []struct{ path, program, want string }{
		{one + ":" + two, "both", one + "/both"},
		{two + ":" + one, "both", two + "/both"},
		{one + ":" + two, "plain", two + "/plain"}, // one's is not executable
		{one + ":" + two, "folder", ""},
		{"one:.:", "both", ""}, // relative entries and the empty one, which is the working directory
		{"", "here", ""},
		{":", "here", ""},
		{"one:" + two, "both", two + "/both"},
	} {
		got, err := env("PATH", test.path).Find(test.program)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s on %q: %q, %v, want %q", test.program, test.path, got, err, test.want)
		}
	}
}

// A program sees a fixed environment, whatever the user's is.
func TestEnvironment(t *testing.T) {
	t.Setenv("BAKE_TEST_SECRET", "leak")
	dir := t.TempDir()
	box := env("PATH", "/usr/bin:/bin", "HOME", dir, "TMPDIR", "/tmp", "LC_ALL", "de_DE.UTF-8", "TZ", "Asia/Tokyo", "LD_PRELOAD", "x")
	out, err := box.Run(t.Context(), "env")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "HOME=" + dir, "TMPDIR=/tmp"}
	if diff := cmp.Diff(want, strings.Fields(string(out))); diff != "" {
		t.Error(diff)
	}
	t.Setenv("PATH", "/usr/bin:/bin")
	if _, err := (Box{}).Find("env"); err != nil {
		t.Errorf("the zero Box does not use this process's PATH: %v", err)
	}
}

// Arguments are arguments: no shell reads them.
func TestNoShell(t *testing.T) {
	hostile := []string{"$(id)", "`id`", "; id", "a b", "", "*", "-n\n"}
	out, err := system.Run(t.Context(), "printf", append([]string{`%s\0`}, hostile...)...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hostile, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")); diff != "" {
		t.Error(diff)
	}
}

func TestRunError(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"silent":           {"exit 3", "sh: exit status 3"},
		"one line":         {"echo no space >&2; exit 1", "sh: no space (exit status 1)"},
		"the last three":   {"printf 'a\\n\\nb\\nc\\n  \\nd\\n' >&2; exit 1", "sh: b; c; d (exit status 1)"},
		"not from stdout":  {"echo product; exit 1", "sh: exit status 1"},
		"killed by itself": {"kill -9 $$", "sh: signal: killed"},
	} {
		out, err := system.Run(t.Context(), "sh", "-c", test.body)
		var exit *exec.ExitError
		if err == nil || err.Error() != test.want || !errors.As(err, &exit) || out != nil {
			t.Errorf("%s: %q, %v, want %s", name, out, err, test.want)
		}
	}
	if out, err := system.Run(t.Context(), "sh", "-c", "echo product; echo noise >&2"); err != nil || string(out) != "product\n" {
		t.Errorf("%q, %v", out, err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken"), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := env("PATH", dir).Run(t.Context(), "broken"); !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("%v, want %v", err, syscall.ENOEXEC)
	}
}

// A program that complains without end does not fill the memory, and its last
// words are kept.
func TestStderrIsBounded(t *testing.T) {
	_, err := system.Run(t.Context(), "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo; echo the end >&2; exit 1")
	if err == nil || !strings.Contains(err.Error(), "the end (exit status 1)") || len(err.Error()) > 20<<10 {
		t.Errorf("%d bytes: %.80v", len(err.Error()), err)
	}
	for most, kept := range map[int]int{0: 16 << 10, 9: 9} {
		e := Ending{Most: most}
		all := ""
		for _, size := range []int{0, 1, 16 << 10, 1 << 20, 5} {
			text := strings.Repeat("0123456789", size/10+1)[:size]
			all += text
			n, err := e.Write([]byte(text))
			want := all[max(0, len(all)-kept):]
			if got := e.String(); n != size || err != nil || got != want {
				t.Errorf("%d bytes, of which %d are to be kept: %d, %v, and %d are", size, kept, n, err, len(got))
			}
		}
	}
	var e Ending
	if _, err := e.Write([]byte("one\n\n two \n\nthree\n \n")); err != nil || e.Lines(2) != "two; three" || e.Lines(9) != "one; two; three" {
		t.Errorf("its last lines: %v, %q, %q", err, e.Lines(2), e.Lines(9))
	}
}

// fifo returns a named pipe: who opens it waits until somebody else does.
func fifo(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// When the context ends the program is killed, and Run returns although a child
// of the program lives on and holds its output open.
func TestContextKills(t *testing.T) {
	started, never := fifo(t, "started"), fifo(t, "never")
	t.Cleanup(func() { // lets the child go
		if f, err := os.OpenFile(never, os.O_RDWR, 0); err == nil {
			_, _ = f.WriteString("x\n")
			t.Cleanup(func() { _ = f.Close() })
		}
	})
	because := errors.New("the user pressed ^C")
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		if f, err := os.Open(started); err == nil {
			_ = f.Close()
		}
		cancel(because)
	}()
	out, err := system.Run(ctx, "sh", "-c", `(read -r x <"$2") & : >"$1"; wait`, "sh", started, never)
	if !errors.Is(err, because) || out != nil || !strings.HasPrefix(err.Error(), "sh: ") {
		t.Errorf("%q, %v, want %v", out, err, because)
	}
	if _, err := system.Run(ctx, "true"); !errors.Is(err, because) {
		t.Errorf("a context that has ended: %v", err)
	}
}
