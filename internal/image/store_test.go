package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bake/internal/tool"
)

// later is a clock by which every file on the machine has settled.
func later() time.Time { return time.Now().Add(time.Hour) }

// need skips a test when a program is missing, and fails it in CI.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := (tool.Box{}).Find(program); err == nil {
			continue
		} else if os.Getenv("CI") == "true" {
			t.Fatal(err)
		} else {
			t.Skip(err)
		}
	}
}

func newStore(t testing.TB) Store {
	t.Helper()
	need(t, "prlimit", "qemu-img")
	return Store{Dir: filepath.Join(t.TempDir(), "out", ".base"), now: later}
}

func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "base.qcow2")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}

// deaf is a box in which no program is found: what works with it ran none.
func deaf() tool.Box { return tool.Box{Getenv: func(string) string { return "" }} }

func mustAdd(t testing.TB, s Store, path string) Blob {
	t.Helper()
	blob, err := s.Add(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func wantIntegrity(t *testing.T, err error, path string) {
	t.Helper()
	var damaged *IntegrityError
	if !errors.As(err, &damaged) {
		t.Fatalf("error %v, want an IntegrityError", err)
	}
	if damaged.Path != path || damaged.Want == damaged.Got || !damaged.Integrity() {
		t.Errorf("got %+v, want one for %s", damaged, path)
	}
}

// spoil changes one byte in place and puts the old mtime back.
func spoil(t *testing.T, path string, at int) {
	t.Helper()
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	data[at] ^= 1
	if err := os.WriteFile(path, data, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, before.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, before.Mode()); err != nil {
		t.Fatal(err)
	}
}

func TestAddStoresACopy(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	blob := mustAdd(t, s, source)
	want := Blob{
		Path: filepath.Join(s.Dir, sum(plain())+".qcow2"), SHA256: sum(plain()),
		Size: int64(len(plain())), VirtualSize: 1 << 30,
	}
	if blob != want {
		t.Errorf("got %+v, want %+v", blob, want)
	}
	stored, err := os.Stat(blob.Path)
	if err != nil {
		t.Fatal(err)
	}
	if stored.Mode() != 0o444 {
		t.Errorf("stored with mode %v", stored.Mode())
	}
	if info, _ := os.Stat(source); os.SameFile(info, stored) {
		t.Error("the stored copy is the user's file")
	}
	for path, mode := range map[string]fs.FileMode{s.Dir: fs.ModeDir | 0o700, s.Dir + "/" + knownName: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want mode %v", path, info.Mode(), err, mode)
		}
	}
	if left, _ := filepath.Glob(s.Dir + "/" + newPrefix + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if again := mustAdd(t, s, write(t, plain())); again != blob {
		t.Errorf("a second file with the same bytes is %+v", again)
	}
}

// TestAddTakesLeaks: clusters that nothing uses are no reason to refuse.
func TestAddTakesLeaks(t *testing.T) {
	leaky := append(plain(), make([]byte, testCluster)...)
	leaky[2*testCluster+2*4+1] = 1
	mustAdd(t, newStore(t), write(t, leaky))
}

func TestAddRefuses(t *testing.T) {
	unmapped := plain() // header fine, L1 table pointing past the end of the file
	copy(unmapped[3*testCluster:], "\x80\x00\x00\x00\x7f\x00\x00\x00")
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ path, want string }{
		"missing":       {dir + "/none", "no such file"},
		"directory":     {dir, "not a regular file"},
		"FIFO":          {dir + "/fifo", "not a regular file"},
		"not qcow2":     {write(t, []byte("<html>")), "HTML"},
		"backing file":  {write(t, with(func(h *Header) { h.BackingOffset, h.BackingSize = 512, 11 })), "backing file"},
		"qemu-img says": {write(t, unmapped), "qemu-img"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Add(t.Context(), test.path)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("error %v, want one with %q and the path", err, test.want)
			}
			if stored, _ := filepath.Glob(s.Dir + "/*.qcow2"); stored != nil {
				t.Errorf("stored %v", stored)
			}
		})
	}
}

func TestAddWarm(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	blob := mustAdd(t, s, source)

	s.Tools = deaf()
	if got := mustAdd(t, s, source); got != blob {
		t.Errorf("warm: %+v, want %+v", got, blob)
	}
	spoil(t, source, len(plain())-1)
	var missing *tool.MissingError
	if _, err := s.Add(t.Context(), source); !errors.As(err, &missing) {
		t.Errorf("a changed source did not go through qemu-img: %v", err)
	}
	s.Tools = tool.Box{}
	if got := mustAdd(t, s, source); got.SHA256 == blob.SHA256 {
		t.Error("a changed source has the old digest")
	}
}

// TestAddFresh: files that changed within two seconds before they were hashed
// are not remembered.
func TestAddFresh(t *testing.T) {
	s := newStore(t)
	s.now = func() time.Time { return time.Now().Add(-time.Hour) } // every file is from the future
	source := write(t, plain())
	mustAdd(t, s, source)
	if k := s.recall(); len(k.Sources)+len(k.Stored) != 0 {
		t.Errorf("remembered %+v", k)
	}
	s.now = later
	mustAdd(t, s, source)
	if k := s.recall(); len(k.Sources) != 1 || len(k.Stored) != 1 {
		t.Errorf("remembered %+v, want one source and one stored copy", k)
	}
}

func TestAddFindsADamagedCopy(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	blob := mustAdd(t, s, source)
	spoil(t, blob.Path, len(plain())-1)

	_, err := s.Add(t.Context(), source)
	wantIntegrity(t, err, blob.Path)
	_, err = s.Add(t.Context(), write(t, plain())) // a source that was never seen
	wantIntegrity(t, err, blob.Path)
	_, err = s.Get(t.Context(), blob.SHA256)
	wantIntegrity(t, err, blob.Path)

	if err := os.Remove(blob.Path); err != nil { // what the error says to do
		t.Fatal(err)
	}
	if again := mustAdd(t, s, source); again != blob {
		t.Errorf("got %+v, want %+v", again, blob)
	}
}

func TestKnownIsOnlyACache(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	blob := mustAdd(t, s, source)
	for _, text := range []string{"", "null", "{", `{"schema":"bake.known/2"}`, "[]"} {
		if err := os.WriteFile(filepath.Join(s.Dir, knownName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := mustAdd(t, s, source); got != blob {
			t.Errorf("with %q known: %+v", text, got)
		}
	}
}

func TestGet(t *testing.T) {
	s := newStore(t)
	blob := mustAdd(t, s, write(t, plain()))
	if got, err := s.Get(t.Context(), blob.SHA256); err != nil || got != blob {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.Get(t.Context(), strings.Repeat("0", 64)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unknown digest: %v", err)
	}
	for _, bad := range []string{"", "x", "../../etc/passwd", strings.ToUpper(blob.SHA256)} {
		if _, err := s.Get(t.Context(), bad); err == nil {
			t.Errorf("%q was taken for a digest", bad)
		}
	}
}

func TestAddAtOnce(t *testing.T) {
	s := newStore(t)
	source := write(t, plain())
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(s.Dir, newPrefix+"killed")
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if _, err := s.Add(context.Background(), source); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := os.Lstat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed run left is still there: %v", err)
	}
}

func TestAddEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	unlock, err := s.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Add(ctx, write(t, plain())); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for the lock ended with %v", err)
	}
	if _, err := digest(ctx, &bytes.Buffer{}, bytes.NewReader(plain())); !errors.Is(err, context.Canceled) {
		t.Errorf("hashing ended with %v", err)
	}
}

// BenchmarkAddWarm is the cost of a base image of 300 MB that did not change.
func BenchmarkAddWarm(b *testing.B) {
	s := newStore(b)
	source := write(b, plain())
	if err := os.Truncate(source, 300<<20); err != nil {
		b.Fatal(err)
	}
	mustAdd(b, s, source)
	s.Tools = deaf()
	for b.Loop() {
		mustAdd(b, s, source)
	}
}
