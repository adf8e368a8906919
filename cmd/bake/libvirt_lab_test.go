//go:build e2e || bench

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// startLibvirt starts a libvirtd in namespaces of its own, with a directory that it
// makes, and returns the number of its first process. It ends with the test.
func startLibvirt(t *testing.T, dir string) (pid int) {
	t.Helper()
	cmd := exec.Command("../../testdata/lab/libvirt", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, and all in its namespaces with it
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "ready")); err == nil {
			return cmd.Process.Pid
		}
		if time.Now().After(deadline) {
			t.Fatal("libvirtd does not start")
		}
	}
}
