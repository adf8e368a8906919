package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bake/internal/artifact"
)

const hostFixture = `host: zap
base: ../base.qcow2
machine: {disk: 1GiB}
admin:
  name: ops
  keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example]
layers: [ssh, ufw, sysctl]
`

// workshop is a configuration directory with a host and an empty base image,
// and a bake program that any user may run.
type workshop struct {
	dir  string // hosts/zap.yaml, base.qcow2, bake, out
	bake string
}

// newWorkshop needs qemu-img. The directory is open to all users, which that of
// t.TempDir is not.
func newWorkshop(t *testing.T) workshop {
	t.Helper()
	demand(t, "qemu-img")
	dir, err := os.MkdirTemp("", "bake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(keyVariable, filepath.Join(dir, "signing.key")) // none of this user's
	w := workshop{dir: dir, bake: filepath.Join(dir, "bake")}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "bake", string(program), 0o755)
	w.write(t, "hosts/zap.yaml", hostFixture, 0o644)
	w.tool(t, "qemu-img", "create", "-q", "-f", "qcow2", "base.qcow2", "64M")
	return w
}

// demand skips the test on a machine without a program; CI has all of them or
// the test fails.
func demand(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", program)
	}
	t.Skipf("%s is not installed", program)
}

// demandRoot skips the test for anybody but root.
func demandRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do this")
	}
}

func (w workshop) write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// tool runs a program in the workshop that must succeed.
func (w workshop) tool(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = w.dir
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, output)
	}
}

// command prepares bake in the workshop.
func (w workshop) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.bake, args...)
	cmd.Dir = w.dir
	return cmd
}

// outcome is what a user sees of a run.
type outcome struct {
	code           int
	stdout, stderr string
}

func finish(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// expect runs bake, which must exit with that status and say these words.
func (w workshop) expect(t *testing.T, cmd *exec.Cmd, code int, words ...string) {
	t.Helper()
	o := finish(t, cmd)
	if o.code != code {
		t.Errorf("%q: exit status %d, want %d\n%s", cmd.Args[1:], o.code, code, o.stderr)
	}
	for _, text := range words {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("%q does not say %q:\n%s", cmd.Args[1:], text, o.stderr)
		}
	}
	if code != 0 && o.stdout != "" {
		t.Errorf("%q failed and has a product: %q", cmd.Args[1:], o.stdout)
	}
}

// checkWhole demands that a generation of zap is there, complete and unchanged.
func (w workshop) checkWhole(t *testing.T, which string) {
	t.Helper()
	g, err := artifact.Open(filepath.Join(w.dir, "out"), "zap", which)
	if err != nil {
		t.Errorf("%s: %v", which, err)
		return
	}
	if err := g.Verify(context.Background()); err != nil {
		t.Errorf("%s: %v", which, err)
	}
}

// checkClean demands that nothing unfinished lies in a directory.
func checkClean(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, prefix := range []string{".draft-", ".link-", ".new-", ".kept-", ".seed"} {
			if strings.HasPrefix(filepath.Base(path), prefix) {
				t.Errorf("%s is left behind", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// nobody is a user who owns nothing.
const nobody = 65534

// as makes a command run as another user, who owns the workshop's directory
// home and nothing else.
func (w workshop) as(t *testing.T, cmd *exec.Cmd, uid uint32, home string) {
	t.Helper()
	path := filepath.Join(w.dir, home)
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, int(uid), int(uid)); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}
