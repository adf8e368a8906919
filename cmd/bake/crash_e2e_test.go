//go:build e2e

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/vm"
)

// crashHost has much to install, all of it on its payload.
const crashHost = `host: zap
base: debian:13
machine: {vcpus: 2, memory: 2GiB, disk: 10GiB}
admin:
  name: ops
  keys:
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example
layers:
  - attest: {on_failure: ssh} # for whoever must find out why
  - ssh
  - ufw
  - fail2ban
  - docker
`

const crashes = 5

// TestFullCrash ends the machine like a power cut, with SIGKILL to its QEMU, while
// dpkg is at work, again and again with the same disk. Nobody gets in meanwhile, and
// the first boot that is let run to its end has every claim hold.
func TestFullCrash(t *testing.T) {
	l := newLab(t, "debian-13")
	l.write(t, "hosts/zap.yaml", crashHost)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Minute)
	defer cancel()
	disk := filepath.Join(l.out, "zap/latest/disk.qcow2")
	for i := range crashes {
		next := filepath.Join(t.TempDir(), fmt.Sprintf("crashed-%d.qcow2", i))
		t.Run(fmt.Sprint(i+1), func(t *testing.T) {
			h := begin(ctx, t, l, func(s *vm.Spec) { s.Disk = disk })
			if _, err := h.WaitConsole(ctx, regexp.MustCompile(`Starting bake-payload`)); err != nil {
				t.Fatal(err)
			}
			wait := time.Duration(rand.Int64N(int64(30 * time.Second)))
			select {
			case <-time.After(wait): // the moment is the point: any will do
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
			if answer, err := h.Knock(ctx, 22); err != nil || answer != vm.Silent {
				t.Errorf("port 22: %v, %v", answer, err)
			}
			pid, overlay := emulator(t)
			defer overlay.Close()
			t.Logf("killed %s after the installation began", wait.Round(time.Millisecond))
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WaitConsole(ctx, regexp.MustCompile(`[^\s\S]`)); err == nil || ctx.Err() != nil {
				t.Fatalf("QEMU is still there: %v", err)
			}
			copyTo(t, overlay, next)
		})
		if t.Failed() {
			return
		}
		disk = next
	}
	h := begin(ctx, t, l, func(s *vm.Spec) { s.Disk = disk })
	if verdict := h.verdicts(t, 1); !verdict.OK {
		h.enter(t)
		said, err := h.try("systemctl --failed --no-legend; journalctl --no-pager -b -n 40 -u docker -u containerd -u bake-payload; find /etc /usr/local -xdev -type f -empty")
		t.Fatalf("the machine stayed shut: %+v\n%s%v", verdict, said, err)
	}
	h.enter(t)
	if got := h.run(t, "dpkg --audit; dpkg-query -W -f '${db:Status-Status}\\n' | sort -u"); got != "installed" {
		t.Errorf("packages are\n%s", got)
	}
	if verdict := h.again(t, 2); !verdict.OK {
		t.Errorf("and at the next boot: %+v", verdict)
	}
}

// emulator finds the QEMU that this process runs and opens the disk that it writes
// to, which is gone with the machine.
func emulator(t *testing.T) (pid int, overlay *os.File) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, child := range strings.Fields(string(children)) {
			if name, _ := os.ReadFile("/proc/" + child + "/comm"); !strings.HasPrefix(string(name), "qemu-system") {
				continue
			}
			if _, err := fmt.Sscan(child, &pid); err != nil {
				t.Fatal(err)
			}
			files, _ := filepath.Glob("/proc/" + child + "/fd/*")
			for _, file := range files {
				if target, _ := os.Readlink(file); filepath.Base(target) == "root.qcow2" {
					if overlay, err = os.Open(target); err != nil {
						t.Fatal(err)
					}
					return pid, overlay
				}
			}
		}
	}
	t.Fatal("there is no QEMU of this process with a disk")
	return 0, nil
}

func copyTo(t *testing.T, from io.Reader, path string) {
	t.Helper()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
}
