package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
	t.Cleanup(func() {
		_ = input.Close()
		_ = cmd.Wait() // and all in its namespaces with it
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
		if time.Now().After(deadline) {
			t.Fatal("libvirtd does not start")
		}
	}
}
