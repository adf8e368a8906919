package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startLibvirt starts a libvirtd in namespaces of its own, with a directory that it
// makes, and returns the number of a process in them. It ends with the test.
func startLibvirt(t *testing.T, dir string) (pid int) {
	t.Helper()
	cmd := exec.Command("../../testdata/lab/libvirt", dir)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe() // whose end, when this process dies, too, is its end
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // and all in its namespaces with it
		close(ended)
	}()
	t.Cleanup(func() {
		_ = input.Close()
		<-ended
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			text, err := os.ReadFile(filepath.Join(dir, "pid"))
			if err == nil {
				pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
			}
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
		select {
		case <-ended:
			t.Fatal("there is no libvirtd: the lab has ended, see above")
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("libvirtd does not start")
		}
	}
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
