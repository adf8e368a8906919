//go:build linux

package main

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beforeKill is what happens to the world while the program that is to be killed stands still.
var beforeKill = func() {}

var exhaustive = flag.Bool("exhaustive", false, "kill before every change, not only before those of a name")

// TestKill kills bake image immediately before a change that it makes to the
// file system, for one change after another: in an empty output directory, and
// over a generation that was verified. Whatever is found then must be whole,
// and the next run must succeed and leave nothing of the killed one.
func TestKill(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // who is killed leaves blank files there
	w := newWorkshop(t)
	w.write(t, "hosts/zap.yaml", hostFixture, 0o644)
	w.expect(t, w.command("image", "--host", "zap"), 0)
	w.tool(t, "cp", "-dP", "out/zap/latest", "out/zap/current") // as if it had passed verification
	w.tool(t, "mv", "out", "verified")
	for _, scenario := range []struct {
		name, host string
		prepare    func()
	}{
		{"first", hostFixture, func() {}},
		{"again", hostFixture, func() { w.tool(t, "cp", "-a", "verified", "out") }},
		{"changed", hostFixture + "cloud-config: {timezone: Etc/UTC}\n", func() { w.tool(t, "cp", "-a", "verified", "out") }},
		{"secrets", hostFixture + "secrets: {path: {env: PATH}}\n", func() { w.tool(t, "cp", "-a", "verified", "out") }},
		{"damaged", hostFixture, func() {
			w.tool(t, "cp", "-a", "verified", "out")
			w.tool(t, "sh", "-c", "echo >> out/zap/latest/domain.xml")
		}},
	} {
		t.Run(scenario.name, func(t *testing.T) {
			w.write(t, "hosts/zap.yaml", scenario.host, 0o644)
			points := 0
			for !t.Failed() {
				w.tool(t, "rm", "-rf", "out")
				scenario.prepare()
				killed, at := killBefore(t, w.command("image", "--host", "zap"), points+1)
				if !killed {
					break
				}
				points++
				w.checkAfterKill(t, scenario.name)
				if t.Failed() {
					t.Errorf("killed before change %d, %s", points, at)
				}
			}
			t.Logf("killed at %d points", points)
			if points < 10 {
				t.Errorf("only %d points: bake changes more than that", points)
			}
		})
	}
}

func (w workshop) checkAfterKill(t *testing.T, scenario string) {
	if scenario == "again" || scenario == "changed" || scenario == "secrets" {
		w.checkWhole(t, "latest")
		w.checkWhole(t, "current")
	}
	w.expect(t, w.command("image", "--host", "zap"), 0)
	w.checkWhole(t, "latest")
	if scenario == "again" || scenario == "changed" {
		w.checkWhole(t, "current")
	}
	checkClean(t, filepath.Join(w.dir, "out"))
}

// killBefore runs a program and kills it as it enters its n-th change to a file
// system; killed is false when it ended before. What the program itself starts
// is left alone, as kill -9 leaves it.
func killBefore(t *testing.T, cmd *exec.Cmd, n int) (killed bool, at string) {
	t.Helper()
	runtime.LockOSThread() // only the thread that started a tracee may direct it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Getenv("CI") != "true" {
			t.Skipf("ptrace: %v", err)
		}
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || !status.Stopped() {
		t.Fatalf("waiting for the first stop: %v, %#x", err, status)
	}
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(pid, options); err != nil {
		t.Fatal(err)
	}
	seen, known := 0, map[int]bool{pid: true}
	for thread, signal := pid, 0; ; {
		if err := unix.PtraceSyscall(thread, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		var err error
		// Of this thread's children only, whatever other tests have started.
		thread, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		for (err == nil && (status.Exited() || status.Signaled()) && thread != pid) || errors.Is(err, syscall.EINTR) {
			thread, err = unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		}
		signal = 0
		switch {
		case err != nil:
			t.Fatal(err)
		case status.Exited(), status.Signaled():
			if !killed && status.ExitStatus() != 0 {
				t.Fatalf("the traced program ended by itself: status %#x", status)
			}
			return killed, at
		case status.StopSignal() == syscall.SIGTRAP|0x80:
			change := changes(t, thread)
			if change == "" || killed || !*exhaustive && !ofName[change] {
				break
			}
			if seen++; seen == n {
				killed, at = true, change
				beforeKill()
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		case status.StopSignal() == syscall.SIGSTOP && !known[thread]: // how a new thread begins
		case status.StopSignal() == syscall.SIGTRAP: // the event that announces one
		default:
			signal = int(status.StopSignal())
		}
		known[thread] = true
	}
}

// changes names the change to a file system that a thread is about to make, or
// returns "" if it makes none.
func changes(t *testing.T, thread int) string {
	const getSyscallInfo, entry = 0x420e, 1
	var info struct {
		op      uint8
		_       [3]uint8
		arch    uint32
		pointer [2]uint64
		number  uint64
		args    [6]uint64
		_       [64]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getSyscallInfo, uintptr(thread),
		unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == syscall.ESRCH { // killed meanwhile
		return ""
	}
	if errno != 0 {
		t.Fatalf("asking for a system call: %v", errno)
	}
	if info.op != entry {
		return ""
	}
	switch info.number {
	case unix.SYS_OPENAT:
		if info.args[2]&unix.O_CREAT != 0 || info.args[2]&unix.O_TMPFILE == unix.O_TMPFILE {
			return "open for writing"
		}
	case unix.SYS_WRITE, unix.SYS_PWRITE64:
		// Eight bytes are the runtime's own, to wake a thread.
		if info.args[0] > 2 && info.args[2] > 8 {
			return "write"
		}
	case unix.SYS_IOCTL:
		if info.args[1] == unix.FICLONE {
			return "clone a file"
		}
	default:
		return changing[info.number]
	}
	return ""
}

var changing = map[uint64]string{
	unix.SYS_MKDIRAT: "mkdir", unix.SYS_UNLINKAT: "unlink", unix.SYS_SYMLINKAT: "symlink",
	unix.SYS_LINKAT: "link", unix.SYS_RENAMEAT: "rename", unix.SYS_RENAMEAT2: "rename",
	unix.SYS_FCHMODAT: "chmod", unix.SYS_FCHMOD: "chmod", unix.SYS_FTRUNCATE: "truncate",
	unix.SYS_FSYNC: "sync", unix.SYS_FLOCK: "lock",
}

// ofName has the changes after which a name means something else.
var ofName = map[string]bool{"unlink": true, "symlink": true, "link": true, "rename": true}

// TestKillTools kills bake while qemu-img works for it: qemu-img lives on and
// finishes, or fails, whenever it likes.
func TestKillTools(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // who is killed leaves blank files there
	w := newWorkshop(t)
	real, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"check", "create"} {
		w.tool(t, "rm", "-rf", "out", "done")
		w.write(t, "tools/qemu-img", "#!/bin/sh\nif [ \"$1\" = "+verb+" ]; then kill -9 $PPID; echo > done; fi\nexec "+real+" \"$@\"\n", 0o755)
		cmd := w.command("image", "--host", "zap")
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(w.dir, "tools")+":"+os.Getenv("PATH"))
		if o := finish(t, cmd); o.code != -1 {
			t.Errorf("%s: not killed: %d\n%s", verb, o.code, o.stderr)
		}
		w.expect(t, w.command("image", "--host", "zap"), 0)
		w.checkWhole(t, "latest")
		checkClean(t, filepath.Join(w.dir, "out"))
	}
}

// TestInterrupt sends a signal from inside qemu-img, which then never ends by
// itself.
func TestInterrupt(t *testing.T) {
	w := newWorkshop(t)
	for _, verb := range []string{"check", "create"} {
		for _, signal := range []string{"INT", "TERM"} {
			w.tool(t, "rm", "-rf", "out")
			w.write(t, "tools/qemu-img", "#!/bin/sh\n[ \"$1\" = "+verb+" ] || exit 0\nkill -"+signal+" $PPID\nexec sleep 1000\n", 0o755)
			cmd := w.command("image", "--host", "zap")
			cmd.Env = append(os.Environ(), "PATH="+filepath.Join(w.dir, "tools")+":"+os.Getenv("PATH"))
			w.expect(t, cmd, 130, "bake: interrupted")
			checkClean(t, filepath.Join(w.dir, "out"))
			if left, err := filepath.Glob(filepath.Join(w.dir, "out/zap/[^.]*")); err != nil || left != nil {
				t.Errorf("%s at %s: %s is left behind (%v)", signal, verb, strings.Join(left, ", "), err)
			}
			w.expect(t, w.command("image", "--host", "zap"), 0)
		}
	}
}
