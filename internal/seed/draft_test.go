package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const canary = "bake-canary-5f0d1c"

// The test binary is also the process that gets killed, runs with another
// umask or writes to a full disk.
func TestMain(m *testing.M) {
	switch os.Getenv("BAKE_SEED_CHILD") {
	case "":
		os.Exit(m.Run())
	case "write":
		os.Exit(childWrite())
	case "full":
		os.Exit(childFull())
	}
	os.Exit(2)
}

// childWrite writes a seed with the canary and dies where it is told to.
func childWrite() int {
	if mask := os.Getenv("BAKE_SEED_UMASK"); mask != "" {
		bits, err := strconv.ParseInt(mask, 8, 32)
		if err != nil {
			return 2
		}
		syscall.Umask(int(bits))
	}
	if os.Getenv("BAKE_SEED_NAMED") != "" {
		openUnnamed = noUnnamed
	}
	if die := os.Getenv("BAKE_SEED_DIE"); die != "" {
		reached = func(point string) {
			if point == die {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	err := Write(os.Getenv("BAKE_SEED_PATH"), Format(os.Getenv("BAKE_SEED_FORMAT")), marked())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func noUnnamed(string) (*os.File, error) { return nil, syscall.EOPNOTSUPP }

func marked() Seed {
	s := sample()
	s.UserData = append(s.UserData, "# "+canary+"\n"...)
	return s
}

func child(t *testing.T, mode string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "BAKE_SEED_CHILD="+mode)
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// wantEntries wants exactly these entries in a directory. A trailing * stands
// for the rest of a name.
func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	ok := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		prefix, wild := strings.CutSuffix(want[i], "*")
		ok = ok && (got[i] == want[i] || wild && strings.HasPrefix(got[i], prefix))
	}
	if !ok {
		t.Errorf("%s holds %q, want %q", filepath.Base(dir), got, want)
	}
}

// wantPrivate wants every file below dir that holds the canary, and the
// directories that lead to it, to be closed to everyone else.
func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s is %v, want %v", e.Name(), info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantNoCanary(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), canary) {
			t.Errorf("%s holds the canary", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBytesDependOnContentsOnly(t *testing.T) {
	for _, f := range formats {
		here := filepath.Join(t.TempDir(), "seed")
		if err := Write(here, f, marked()); err != nil {
			t.Fatal(err)
		}
		for _, env := range [][]string{
			{"TZ=Pacific/Kiritimati", "BAKE_SEED_UMASK=000"},
			{"TZ=America/St_Johns", "BAKE_SEED_UMASK=077", "SOURCE_DATE_EPOCH=1700000000"},
			{"LC_ALL=tr_TR.UTF-8", "BAKE_SEED_UMASK=777", "SOURCE_DATE_EPOCH=x"},
		} {
			if f == ISO && os.Geteuid() != 0 && env[1] == "BAKE_SEED_UMASK=777" {
				continue // nobody but root can use a stage with mode 0000
			}
			dir, tmp := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "seed")
			cmd := child(t, "write", append(env, "TMPDIR="+tmp, "BAKE_SEED_PATH="+path, "BAKE_SEED_FORMAT="+string(f))...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s, %q: %v: %s", f, env, err, out)
				continue
			}
			wantEntries(t, dir, "seed")
			wantEntries(t, tmp)
			wantPrivate(t, dir)
			wantSeed(t, path, f, marked())
			if f != Dir && digest(t, path) != digest(t, here) {
				t.Errorf("%s: other bytes with %q", f, env)
			}
		}
	}
}

// What a kill leaves is exactly what Write documents, and never more.
func TestKilled(t *testing.T) {
	for _, test := range []struct {
		format Format
		at     string
		had    bool // there was an earlier seed
		named  bool // the file system has no unnamed files
		left   []string
	}{
		{ISO, "staged", false, false, nil},
		{ISO, "staged", true, false, []string{"seed"}},
		{ISO, "written", false, false, nil},
		{ISO, "written", true, false, []string{"seed"}},
		{ISO, "named", true, false, []string{".seed.*", "seed"}},
		{ISO, "written", false, true, []string{".seed.*"}},
		{VFAT, "written", false, false, nil},
		{VFAT, "written", true, false, []string{"seed"}},
		{VFAT, "named", true, false, []string{".seed.*", "seed"}},
		{Dir, "written", false, false, []string{".seed.*"}},
		{Dir, "written", true, false, []string{".seed.*", "seed"}},
		{Dir, "named", false, false, []string{"seed"}},
		{Dir, "named", true, false, []string{".seed.*", "seed"}},
	} {
		name := fmt.Sprintf("%s/%s/had=%t/named=%t", test.format, test.at, test.had, test.named)
		t.Run(name, func(t *testing.T) {
			dir, tmp := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "seed")
			if test.had {
				if err := Write(path, test.format, sample()); err != nil {
					t.Fatal(err)
				}
			}
			env := []string{"TMPDIR=" + tmp, "BAKE_SEED_PATH=" + path, "BAKE_SEED_FORMAT=" + string(test.format),
				"BAKE_SEED_DIE=" + test.at, "BAKE_SEED_UMASK=000"}
			if test.named {
				env = append(env, "BAKE_SEED_NAMED=1")
			}
			var died *exec.ExitError
			out, err := child(t, "write", env...).CombinedOutput()
			if !errors.As(err, &died) || died.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the writer was not killed: %v: %s", err, out)
			}
			if test.at == "staged" {
				wantEntries(t, tmp, "*")
			} else {
				wantEntries(t, tmp)
			}
			wantNoCanary(t, tmp)
			wantEntries(t, dir, test.left...)
			wantPrivate(t, dir)
			if test.had && (test.format != Dir || test.at == "written") {
				wantSeed(t, path, test.format, sample())
			}
			if err := Write(path, test.format, marked()); err != nil {
				t.Errorf("the next run: %v", err)
			}
			wantSeed(t, path, test.format, marked())
		})
	}
}

// childFull fills the small file system it was given in every way it knows.
func childFull() int {
	root := os.Getenv("BAKE_SEED_PATH")
	big := marked()
	big.UserData = append(big.UserData, pattern(5<<20)...)
	bad := 0
	for _, f := range formats {
		for _, open := range []func(string) (*os.File, error){openUnnamed, noUnnamed} {
			openUnnamed = open
			dir := filepath.Join(root, string(f))
			path := filepath.Join(dir, "seed")
			first := errors.Join(os.MkdirAll(dir, 0o700), Write(path, f, sample()))
			err := Write(path, f, big)
			entries, _ := os.ReadDir(dir)
			if first != nil || !errors.Is(err, syscall.ENOSPC) || len(entries) != 1 {
				fmt.Printf("%s: small: %v; big: %v; %d entries\n", f, first, err, len(entries))
				bad = 1
			}
			if err := os.RemoveAll(path); err != nil {
				bad = 1
			}
			if err := Write(path, f, big); !errors.Is(err, syscall.ENOSPC) {
				fmt.Printf("%s: nothing there before: %v\n", f, err)
				bad = 1
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 0 {
				fmt.Printf("%s: left %v\n", f, entries)
				bad = 1
			}
		}
	}
	return bad
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	probe := exec.CommandContext(t.Context(), "unshare", "-m", "true")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no private mount namespace: %v: %s", err, out)
	}
	dir := t.TempDir()
	cmd := child(t, "full", "BAKE_SEED_PATH="+dir)
	self := cmd.Path
	cmd.Path, cmd.Err = probe.Path, nil
	cmd.Args = []string{"unshare", "-m", "--propagation", "private", "sh", "-c",
		`mount -t tmpfs -o size=2m,mode=0700 none "$1" && exec "$2"`, "sh", dir, self}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	wantEntries(t, dir)
}

func TestFailedCheckChangesNothing(t *testing.T) {
	broken := errors.New("broken")
	for _, open := range []func(string) (*os.File, error){openUnnamed, noUnnamed} {
		real := openUnnamed
		openUnnamed = open
		t.Cleanup(func() { openUnnamed = real })
		dir := t.TempDir()
		path := filepath.Join(dir, "seed")
		check := func(readBack []byte) error {
			if string(readBack) != "new" {
				t.Errorf("read back %q", readBack)
			}
			return broken
		}
		if err := publish(path, []byte("new"), make([]byte, 4), check); !errors.Is(err, broken) {
			t.Errorf("%v, want %v", err, broken)
		}
		wantEntries(t, dir)
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := publish(path, []byte("new"), make([]byte, 4), check); !errors.Is(err, broken) {
			t.Errorf("%v, want %v", err, broken)
		}
		wantEntries(t, dir, "seed")
		if b, _ := os.ReadFile(path); string(b) != "old" {
			t.Errorf("the earlier file holds %q", b)
		}
	}
}
