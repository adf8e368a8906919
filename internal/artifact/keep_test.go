package artifact

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func keepText(root, text string) error {
	return Keep(root, "zap", "known_hosts", func([]byte) ([]byte, error) { return []byte(text), nil })
}

func keepNew(root string) error { return keepText(root, "new") }

func TestKeep(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	root := t.TempDir()
	path := filepath.Join(root, "zap", "known_hosts")
	for _, text := range []string{"first", "second"} {
		if err := keepText(root, text); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if got, _ := os.ReadFile(path); string(got) != text || err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("kept %q, %v, %v", got, info.Mode(), err)
		}
	}
	before, _ := os.Stat(path)
	err := Keep(root, "zap", "known_hosts", func(old []byte) ([]byte, error) {
		if string(old) != "second" {
			t.Errorf("given %q", old)
		}
		return old, nil
	})
	if after, _ := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the same content was written again, %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := keepText(root, "second"); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	failed := errors.New("no")
	if err := Keep(root, "zap", "known_hosts", func([]byte) ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("error %v", err)
	}
	wantClean(t, root)
}

func TestKeepRefuses(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "link"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "link", "known_hosts")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "dir", "known_hosts"), 0o700); err != nil {
		t.Fatal(err)
	}
	nothing := func([]byte) ([]byte, error) { return nil, nil }
	for _, test := range []struct{ host, name, want string }{
		{"link", "known_hosts", "refusing to replace"}, {"dir", "known_hosts", "refusing to replace"},
		{"zap", "../x", "no name of a file"}, {"zap", ".lock", "no name of a file"}, {"a/b", "x", "no name of a host"},
	} {
		if err := Keep(root, test.host, test.name, nothing); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s/%s: error %v, want one with %q", test.host, test.name, err, test.want)
		}
	}
	if got, _ := os.ReadFile(outside); string(got) != "mine" {
		t.Errorf("outside there is %q", got)
	}
}

// A file that root keeps in somebody's directory is theirs.
func TestKeepGives(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can do this")
	}
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "zap"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(root, "zap"), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if err := keepNew(root); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(root, "zap", "known_hosts"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestKeepCrash kills a run at every step: the file is the old one or the new one,
// and what is left goes away.
func TestKeepCrash(t *testing.T) {
	var steps []string
	for at := 1; ; at++ {
		root := t.TempDir()
		if err := keepText(root, "old"); err != nil {
			t.Fatal(err)
		}
		where, killed := crash(t, "keep", root, at)
		if !killed {
			break
		}
		steps = append(steps, where)
		got, err := os.ReadFile(filepath.Join(root, "zap", "known_hosts"))
		if want := map[bool]string{true: "new", false: "old"}[where == "sync known_hosts"]; err != nil || string(got) != want {
			t.Errorf("after a crash before %q there is %q, %v", where, got, err)
		}
		left, _ := filepath.Glob(filepath.Join(root, "zap", keepPrefix+"*"))
		for _, path := range left {
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-2*keepTime)); err != nil {
				t.Fatal(err)
			}
		}
		if err := keepText(root, "newer"); err != nil {
			t.Fatal(err)
		}
		wantClean(t, root)
	}
	if got := strings.Join(steps, ", "); got != "keep known_hosts, write known_hosts, rename known_hosts, sync known_hosts" {
		t.Errorf("killed before each of %s", got)
	}
}

// TestKeepTurns: what one run has kept the next is given, also when they come at once: numbers
// that are to be used once are counted in such a file.
func TestKeepTurns(t *testing.T) {
	root := t.TempDir()
	const runs, each = 4, 25
	var all sync.WaitGroup
	for range runs {
		all.Go(func() {
			for range each {
				err := Keep(root, "zap", "places.json", func(old []byte) ([]byte, error) {
					n, _ := strconv.Atoi(string(old)) // 0 at first
					return strconv.AppendInt(nil, int64(n+1), 10), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got, err := os.ReadFile(filepath.Join(root, "zap", "places.json")); string(got) != strconv.Itoa(runs*each) || err != nil {
		t.Errorf("counted to %s, want %d, %v", got, runs*each, err)
	}
}
