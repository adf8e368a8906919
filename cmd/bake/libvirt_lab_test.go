package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/libvirtlab"
)

// startLibvirt starts a libvirtd in namespaces of its own, with a directory that it
// makes, and returns the number of a process in them. It ends with the test.
func startLibvirt(t *testing.T, dir string) (pid int) {
	t.Helper()
	pid, end, err := libvirtlab.Start(dir)
	t.Cleanup(end)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// killLibvirt kills the libvirtd of a directory.
func killLibvirt(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.Command("pgrep", "-x", "libvirtd").Output()
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, pid := range strings.Fields(string(out)) {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err != nil || !strings.Contains(string(line), dir) {
			continue
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 1 {
		t.Fatalf("killed %d", killed)
	}
}

// reachable waits for a libvirtd that was killed to be back.
func reachable(t *testing.T, uri string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); exec.Command("virsh", "-q", "-c", uri, "list").Run() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("libvirtd does not come back")
		}
	}
}
