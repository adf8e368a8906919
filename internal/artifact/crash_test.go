package artifact

import (
	"context"
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

// The test binary is its own victim: with BAKE_CRASH_AT=N in its environment it
// bakes and promotes generation B under BAKE_CRASH_ROOT, keeps a file or prunes there, and
// kills itself before the Nth change to the disk.
func TestMain(m *testing.M) {
	at, err := strconv.Atoi(os.Getenv("BAKE_CRASH_AT"))
	if err != nil {
		os.Exit(m.Run())
	}
	step = func(name string) {
		if at--; at == 0 {
			fmt.Println(name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	victim := map[string]func(string) error{"bake": bakeAndPromote, "keep": keepNew, "prune": pruneAll}[os.Getenv("BAKE_CRASH_IN")]
	if err := victim(os.Getenv("BAKE_CRASH_ROOT")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func bakeAndPromote(root string) error {
	held, err := Lock(context.Background(), root, "zap")
	if err != nil {
		return err
	}
	defer held.Close()
	g, err := bake(root, genB)
	if err != nil {
		return err
	}
	return g.Promote()
}

// crash runs the victim and reports whether it was killed, and where.
func crash(t *testing.T, in, root string, at int) (where string, killed bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BAKE_CRASH_AT="+strconv.Itoa(at), "BAKE_CRASH_ROOT="+root, "BAKE_CRASH_IN="+in)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", false
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return strings.TrimSpace(string(out)), true
	}
	t.Fatalf("the victim failed: %v %s", err, out)
	return "", false
}

// TestCrash kills a run at every step, in the three situations in which one can
// find its generation: absent, whole and damaged.
func TestCrash(t *testing.T) {
	situations := map[string]func(t *testing.T, root string){
		"absent": func(*testing.T, string) {},
		"whole":  func(t *testing.T, root string) { mustBake(t, root, genB); mustBake(t, root, genA) },
		"damaged": func(t *testing.T, root string) {
			spoil(t, mustBake(t, root, genB).Path("disk.qcow2"))
			mustBake(t, root, genA)
		},
	}
	for name, prepare := range situations {
		t.Run(name, func(t *testing.T) {
			var steps []string
			for at := 1; ; at++ {
				root := t.TempDir()
				if err := mustBake(t, root, genA).Promote(); err != nil {
					t.Fatal(err)
				}
				prepare(t, root)
				where, killed := crash(t, "bake", root, at)
				if !killed {
					break
				}
				steps = append(steps, where)
				mustOpen(t, root, "latest")
				mustOpen(t, root, "current")
				if err := bakeAndPromote(root); err != nil {
					t.Fatalf("after a crash before %q: %v", where, err)
				}
				for _, which := range []string{"latest", "current"} {
					if g := mustOpen(t, root, which); g.Manifest.Generation != genB {
						t.Errorf("after a crash before %q %s is %s", where, which, g.Dir)
					}
				}
				mustOpen(t, root, genA)
				wantClean(t, root)
			}
			if len(steps) < 10 {
				t.Errorf("only %d steps: %q", len(steps), steps)
			}
			t.Logf("killed before each of %q", steps)
		})
	}
}

// wantClean demands that a host's directory holds nothing but the lock,
// generations and the two links.
func wantClean(t *testing.T, root string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(root, "zap", ".*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if name := filepath.Base(path); name != lockName && name != "." && name != ".." {
			t.Errorf("left behind: %s", path)
		}
	}
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is gone", root)
	}
}
