//go:build bench

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bake/internal/artifact"
	"bake/internal/domain"
	"bake/internal/seed"
	"bake/layers"
)

// renderDir has this test binary render the hosts of that directory and do nothing else.
const renderDir = "BAKE_BENCH_RENDER"

// TestBenchHosts renders 10, 100 and 1,000 hosts, each in a process of its own: host file
// and layers are read and merged, and the seed, domain.xml and manifest.json are written,
// on as many processors as there are. What is written lies in memory and is overwritten by
// the next host: the disk, of which 1,000 seeds need 3 GiB, is not measured.
func TestBenchHosts(t *testing.T) {
	if dir := os.Getenv(renderDir); dir != "" {
		render(t, dir)
		// The kernel's own count: that of wait4 begins with what the parent had.
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.Write(status)
		return
	}
	config := t.TempDir()
	if err := os.Mkdir(filepath.Join(config, "hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "rendering hosts on %d processors; the budget for 1,000 is 10 s and 256 MiB\n%8s %10s %10s %14s %10s\n", runtime.NumCPU(), "hosts", "s", "ms/host", "CPU ms/host", "MiB")
	made := 0
	for _, n := range []int{10, 100, 1000} {
		for ; made < n; made++ {
			name := fmt.Sprintf("h%04d", made)
			text := strings.Replace(hostFixture, "host: zap", "host: "+name, 1)
			if err := os.WriteFile(filepath.Join(config, "hosts", name+".yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchHosts$")
		cmd.Env = append(os.Environ(), renderDir+"="+config)
		start := time.Now()
		output, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		took := time.Since(start)
		used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		_, rest, _ := strings.Cut(string(output), "VmHWM:")
		var resident int // KiB, then MiB
		if _, err := fmt.Sscan(rest, &resident); err != nil {
			t.Fatal(err)
		}
		resident /= 1024
		fmt.Fprintf(&out, "%8d %10.2f %10.2f %14.2f %10d\n", n, took.Seconds(), float64(took.Milliseconds())/float64(n), float64(used.Milliseconds())/float64(n), resident)
		if resident > 256 {
			t.Errorf("%d hosts took %d MiB", n, resident)
		}
	}
	t.Log("\n" + out.String())
}

// render is what bake image does for each host but for the disk.
func render(t *testing.T, config string) {
	scratch := t.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if scratch, err = os.MkdirTemp("/dev/shm", "bake-bench-"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(scratch)
	}
	e := env{Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Layers: layers.FS}
	a := &app{env: e, ui: &ui{env: e}, config: config, out: scratch}
	entries, err := os.ReadDir(filepath.Join(config, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(chan string)
	var workers sync.WaitGroup
	for i := range runtime.NumCPU() {
		workers.Go(func() {
			dir := filepath.Join(scratch, strconv.Itoa(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Error(err)
			}
			for name := range names {
				if err := a.renderOne(name, dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, entry := range entries {
		names <- strings.TrimSuffix(entry.Name(), ".yaml")
	}
	close(names)
	workers.Wait()
}

func (a *app) renderOne(name, dir string) error {
	all, err := a.prepare([]string{name})
	if err != nil {
		return err
	}
	h := all[0]
	m, err := manifest(h.Host, h.words, artifact.Base{Reference: "file:base.qcow2", SHA256: strings.Repeat("0", 64)}, diskForm{}, nil, "bake bench")
	if err != nil {
		return err
	}
	if err := seed.Write(filepath.Join(dir, "seed.iso"), seed.ISO, h.words); err != nil {
		return err
	}
	machine, err := domain.XML(h.Host, m.Generation)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "domain.xml"), machine, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "manifest.json"), text, 0o600)
}

// TestBenchQuietNight times bake nightly as a process for fifty hosts for which there is
// nothing new: two questions to a mirror on loopback, every file of every current
// generation known by its times, every signature verified.
func TestBenchQuietNight(t *testing.T) {
	s := newSleep(t)
	for i := range 49 {
		s.host(fmt.Sprintf("h%02d", i))
	}
	var used time.Duration // by the last
	night := func(want string) time.Duration {
		cmd := s.child("nightly")
		cmd.Env = append(cmd.Env, testVerdict+"=ok")
		start := time.Now()
		output, err := cmd.CombinedOutput()
		took := time.Since(start)
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if !bytes.Contains(output, []byte("\n"+want+"\n")) {
			t.Fatalf("want %s\n%s", want, output)
		}
		return took
	}
	night("50 promoted")
	s.settle()
	night("50 unchanged") // remembers what it has hashed
	var times []float64
	for range 11 {
		times = append(times, float64(night("50 unchanged").Microseconds())/1000)
	}
	slices.Sort(times)
	t.Logf("a night of 50 hosts with nothing new: median %.0f ms, best %.0f ms of %d, %d ms of CPU; the budget is 300 ms", times[len(times)/2], times[0], len(times), used.Milliseconds())
}
