//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/artifact"
	"bake/internal/nightly"
)

// onOneDisk has all that a fortnight keeps, configuration, artifacts, cache and reports, on an ext4
// of its own, of which nothing is written before somebody syncs it. Power cuts it: what was
// not synced is lost, and the file system is mounted again, with the same name. The mount is seen
// by nobody but this process, which is of TestPowerCut alone.
func (f *fortnight) onOneDisk() (cut func(), again func()) {
	t := f.sleep.t
	aside := t.TempDir()
	image := filepath.Join(aside, "image")
	mount := func() {
		t.Helper()
		// Neither a timer nor a rename has anything written.
		f.sleep.tool(t, "mount", "-o", "loop,commit=300,noauto_da_alloc", image, f.sleep.dir)
	}
	f.sleep.tool(t, "truncate", "-s", "2G", image)
	f.sleep.tool(t, "mkfs.ext4", "-q", image)
	f.sleep.tool(t, "cp", "-a", f.sleep.dir, filepath.Join(aside, "copy"))
	mount()
	f.sleep.tool(t, "sh", "-c", "cp -a "+aside+"/copy/. . && sync -f .")
	unmount := func() {
		var err error
		for range 500 { // until the last program has noticed
			if err = unix.Unmount(f.sleep.dir, 0); !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Fatalf("unmounting: %v", err)
		}
	}
	t.Cleanup(unmount)
	cut = func() {
		const shutdown, noFlush = 0x8004587d, 2 // EXT4_IOC_SHUTDOWN, its journal not written either
		dir, err := os.Open(f.sleep.dir)
		if err == nil {
			err = errors.Join(unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noFlush), dir.Close())
		}
		if err != nil {
			t.Fatalf("cutting the power: %v", err)
		}
	}
	return cut, func() { unmount(); mount() }
}

// ownMounts is set where a test is alone in its process and that in its mount namespace.
const ownMounts = "BAKE_TEST_OWN_MOUNTS"

// inOwnMounts runs the calling test once more, so.
func inOwnMounts(t *testing.T) {
	t.Helper()
	demandRoot(t)
	for _, program := range []string{"unshare", "mkfs.ext4", "mount"} {
		demand(t, program)
	}
	if said, err := exec.Command("losetup", "--find").CombinedOutput(); err != nil { // no package brings one
		t.Skipf("the kernel has no loop devices: %v: %s", err, said)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--", self,
		"-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-exhaustive=%v", *exhaustive))
	cmd.Env = append(os.Environ(), ownMounts+"=1")
	said, err := cmd.CombinedOutput()
	t.Logf("%s", said)
	if err != nil || !bytes.Contains(said, []byte("--- PASS: "+t.Name())) {
		t.Errorf("in a process of its own: %v", err)
	}
}

// TestPowerCut cuts the power of the disk at random points of nights, and at their ends: what is
// current then is whole and was proven, and the next night makes up for what was lost.
func TestPowerCut(t *testing.T) {
	if os.Getenv(ownMounts) == "" {
		inOwnMounts(t)
		return
	}
	t.Setenv("TMPDIR", t.TempDir())
	f := newFortnight(t)
	f.check(f.sleep.must(0, nil))
	cut, again := f.onOneDisk()
	t.Cleanup(func() { beforeKill = func() {} })
	cuts, points := 3, 130 // a night has about as many changes of a name
	if *exhaustive {
		cuts, points = 100, 800 // and of everything
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	proven := map[string][]string{} // all that ever were, by host
	note := func() {
		for _, host := range []string{"zap", "pak"} {
			if now := f.sleep.current(host); !slices.Contains(proven[host], now) {
				proven[host] = append(proven[host], now)
			}
		}
	}
	note()
	for i := range cuts {
		f.build(fmt.Sprint("build ", i))
		f.offer(t, fmt.Sprint(i+10))
		isCut := false
		beforeKill = func() { cut(); isCut = true }
		killed, at := killBefore(t, f.process("ok"), 1+random.IntN(points))
		if !isCut {
			note()
			cut() // at the end of a night
		}
		beforeKill = func() {}
		again()
		for host, all := range proven {
			is := f.sleep.current(host) // fails if it is not whole
			if !killed && is != all[len(all)-1] {
				t.Errorf("cut %d: the night was over, and %s is back at %s", i, host, is)
			}
			if g, err := artifact.Open(filepath.Join(f.sleep.dir, "out"), host, "current"); err != nil || !wasProven(g) {
				t.Errorf("cut %d, before change %q: %s of %s is current and was not proven: %v", i, at, is, host, err)
			}
		}
		o := finish(t, f.process("ok"))
		n := nightOf(t, o)
		if got := f.verdicts(n); o.code != 0 || slices.ContainsFunc(n.Hosts, func(o nightly.Outcome) bool { return !o.IsGood() }) {
			t.Fatalf("cut %d, before change %q: the night after: exit status %d, %s\n%s", i, at, o.code, got, o.stderr)
		}
		for _, host := range []string{"zap", "pak"} {
			f.current[host] = f.sleep.current(host)
		}
		f.check(n)
		if t.Failed() {
			t.Fatalf("cut %d, before change %q", i, at)
		}
		t.Logf("cut %d, before %q: %s", i, at, f.verdicts(n))
		note()
	}
}
