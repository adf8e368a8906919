package status

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/console"
)

func state(l *Log) State {
	s, _ := judge(l.Reading(), l)
	return s
}

// A log as libvirt and virtlogd treat it, each step looked at.
func TestLook(t *testing.T) {
	rename := func(t *testing.T, from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for name, steps := range map[string][]struct {
		do   func(t *testing.T, path string)
		want State
	}{
		"it grows": {
			{func(t *testing.T, path string) { put(t, path, begins) }, NotYet},
			{func(t *testing.T, path string) { grow(t, path, tries+ok[:40]) }, NotYet},
			{func(t *testing.T, path string) { grow(t, path, ok[40:]) }, Attested},
			{func(*testing.T, string) {}, Attested},
		},
		"a start makes another": {
			{func(t *testing.T, path string) { put(t, path, begins+tries+ok) }, Attested},
			{func(t *testing.T, path string) { put(t, path, "") }, NotYet},
			{func(t *testing.T, path string) { grow(t, path, begins+tries+fail) }, shut},
		},
		"a start makes another, as long": {
			{func(t *testing.T, path string) { put(t, path, begins+tries+ok) }, Attested},
			{func(t *testing.T, path string) {
				put(t, path, begins+strings.Repeat("x", len(tries+ok)-2)+"\r\n")
			}, NotYet},
		},
		"it is emptied": {
			{func(t *testing.T, path string) { put(t, path, begins+tries+ok) }, Attested},
			{func(t *testing.T, path string) {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			}, NotYet},
			{func(t *testing.T, path string) { grow(t, path, tries+ok) }, Attested},
		},
		"it is removed": {
			{func(t *testing.T, path string) { put(t, path, begins+tries+ok) }, Attested},
			{func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}, notStarted},
			{func(t *testing.T, path string) { put(t, path, begins) }, NotYet},
		},
		"it is full": {
			{func(t *testing.T, path string) { put(t, path, begins+tries) }, NotYet},
			{func(t *testing.T, path string) { grow(t, path, ok[:40]); rename(t, path, path+".0") }, NotYet},
			{func(t *testing.T, path string) { put(t, path, ok[40:]) }, Attested},
			{func(t *testing.T, path string) {
				rename(t, path+".0", path+".1")
				rename(t, path, path+".0")
				put(t, path, "[  500.0] x\n")
			}, Attested},
		},
		"it is full twice at once": {
			{func(t *testing.T, path string) { put(t, path, begins) }, NotYet},
			{func(t *testing.T, path string) {
				rename(t, path, path+".1")
				put(t, path+".0", tries+ok)
				put(t, path, "[  500.0] x\n")
			}, Attested},
		},
		"it was full before": {
			{func(t *testing.T, path string) {
				put(t, path+".1", begins)
				put(t, path+".0", tries+ok[:9])
				put(t, path, ok[9:]+"[  500.0] x\n")
			}, Attested},
		},
		"its beginning is gone": {
			{func(t *testing.T, path string) {
				put(t, path+".0", "[  400.0] x\n")
				put(t, path, "[  500.0] x\n")
			}, Unknown},
			{func(t *testing.T, path string) { grow(t, path, tries+ok) }, Attested},
		},
		"what is left of an earlier start does not count": {
			{func(t *testing.T, path string) { put(t, path+".0", begins+tries+ok); put(t, path, "") }, NotYet},
			{func(t *testing.T, path string) { grow(t, path, begins) }, NotYet},
			{func(t *testing.T, path string) { put(t, path+".0", begins+tries+ok); put(t, path, begins) }, NotYet},
		},
		"it is longer than can be read": {
			{func(t *testing.T, path string) {
				put(t, path, begins+tries+ok+strings.Repeat("[  500.0] x\n", maxRead/10))
			}, Unknown},
			{func(t *testing.T, path string) { grow(t, path, begins+tries+fail) }, shut},
		},
		"it is long, with its verdict at the end": {
			{func(t *testing.T, path string) {
				put(t, path, begins+strings.Repeat("[  500.0] x\n", maxRead/10)+tries+ok)
			}, Attested},
		},
		"much comes at once": {
			{func(t *testing.T, path string) { put(t, path, begins+tries+ok) }, Attested},
			{func(t *testing.T, path string) { grow(t, path, strings.Repeat("[  500.0] x\n", maxRead/10)) }, Unknown},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := &Log{Path: filepath.Join(t.TempDir(), "console.log")}
			defer l.Close()
			look(t, l)
			if got := state(l); got != notStarted {
				t.Fatalf("without a log it is %s", got)
			}
			for i, step := range steps {
				step.do(t, l.Path)
				look(t, l)
				if got := state(l); got != step.want {
					t.Fatalf("after step %d it is %q, want %q", i+1, got, step.want)
				}
			}
		})
	}
}

// A file that has the beginning of a boot in it needs none before it.
func TestLookAtOneFile(t *testing.T) {
	l := &Log{Path: filepath.Join(t.TempDir(), "console.log")}
	defer l.Close()
	put(t, l.Path+".0", begins+tries+ok)
	put(t, l.Path, begins)
	look(t, l)
	if l.Reading().Boots != 1 || l.IsCut {
		t.Errorf("%d boots, cut %v", l.Reading().Boots, l.IsCut)
	}
}

func TestLookRefuses(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe, "/dev/zero"} {
		if err := (&Log{Path: path}).Look(); err == nil || !strings.Contains(err.Error(), "reading the console: "+path+" is not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := (&Log{Path: filepath.Join(dir, "pipe", "x")}).Look(); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("%v", err)
	}
}

func TestFollow(t *testing.T) {
	first, second := logOf(t, begins), logOf(t, begins+tries+fail)
	first.Reached = func(s console.Stage) {
		if s.Name == "trying" { // what comes next is written when this was seen
			grow(t, first.Path, ok)
		}
	}
	grow(t, first.Path, tries)
	if err := Follow(t.Context(), first, second); err != nil || state(first) != Attested || state(second) != shut {
		t.Errorf("%v, %s, %s", err, state(first), state(second))
	}
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, late)
	defer cancel()
	if err := Follow(ctx, second, logOf(t, begins)); !errors.Is(err, late) {
		t.Errorf("%v", err)
	}
	if err := Follow(t.Context(), &Log{Path: t.TempDir()}); err == nil {
		t.Error("a directory is followed")
	}
}
