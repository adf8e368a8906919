//go:build bench

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/lint"
	"bake/internal/rollout"
	"bake/layers"
)

const (
	fleetShard   = "BAKE_BENCH_SHARD" // I/N: has this test binary work on a shard and do nothing else
	fleetWorkers = 8
)

// TestBenchFleet makes 100, 1,000 and 10,000 hosts of a list, then lints and renders them:
// eight shards, each by a process of its own that has one processor, as many at once as
// this machine has processors. What is rendered overwrites what the host before has left,
// as in TestBenchHosts. The time of eight workers side by side is that of the slowest.
func TestBenchFleet(t *testing.T) {
	if shard := os.Getenv(fleetShard); shard != "" {
		workOnShard(t, os.Getenv(renderDir), shard)
		return
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%d workers, %d at once; the budget of each is 256 MiB\n%8s %8s %10s %10s %12s %12s %10s %10s\n", fleetWorkers, runtime.NumCPU(),
		"hosts", "list s", "list MiB", "CPU s", "CPU ms/host", "slowest s", "MiB", "select s")
	perHost := map[int]float64{}
	for _, n := range []int{100, 1000, 10000} {
		config := t.TempDir()
		made, memory := enlist(t, config, n)
		begun := time.Now()
		if names, err := (&app{config: config}).selected("selector", "ring=1"); err != nil || len(names) != n/10 {
			t.Fatalf("%d hosts are selected, %v", len(names), err)
		}
		selected := time.Since(begun)
		var used, slowest time.Duration
		most := 0
		type result struct {
			cpu, wall time.Duration
			mib       int
			err       error
		}
		results := make(chan result)
		places := make(chan struct{}, runtime.NumCPU())
		for shard := range fleetWorkers {
			go func() {
				places <- struct{}{}
				defer func() { <-places }()
				cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchFleet$", "-test.timeout", "30m")
				cmd.Env = append(os.Environ(), renderDir+"="+config, fmt.Sprintf("%s=%d/%d", fleetShard, shard, fleetWorkers), "GOMAXPROCS=1")
				begun := time.Now()
				output, err := cmd.CombinedOutput()
				if err != nil {
					results <- result{err: fmt.Errorf("%w\n%s", err, output)}
					return
				}
				results <- result{cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), time.Since(begun),
					int(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024), nil}
			}()
		}
		for range fleetWorkers {
			r := <-results
			if r.err != nil {
				t.Fatal(r.err)
			}
			used += r.cpu
			slowest, most = max(slowest, r.wall), max(most, r.mib)
		}
		perHost[n] = float64(used.Microseconds()) / 1000 / float64(n)
		fmt.Fprintf(&out, "%8d %8.2f %10d %10.1f %12.2f %12.1f %10d %10.2f\n", n, made.Seconds(), memory, used.Seconds(), perHost[n], slowest.Seconds(), most, selected.Seconds())
		if most > 256 {
			t.Errorf("%d hosts: a worker took %d MiB", n, most)
		}
	}
	fmt.Fprintf(&out, "a host of 10,000 takes %.2f times the processor that one of 1,000 takes\n", perHost[10000]/perHost[1000])
	benchRecord(t, &out)
	t.Log("\n" + out.String())
}

// enlist makes the host files of a list in a process of its own.
func enlist(t *testing.T, config string, n int) (took time.Duration, mib int64) {
	t.Helper()
	write := func(name, text string) {
		path := filepath.Join(config, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hosts/_defaults.yaml", strings.TrimPrefix(hostFixture, "host: zap\n"))
	write("hosts/_web.yaml", "machine: {memory: 3GiB}\nlabels: {role: web}\n")
	var list strings.Builder
	list.WriteString("host,groups[0],machine.vcpus,labels.ring\n")
	for i := range n {
		fmt.Fprintf(&list, "h%05d,web,%d,%d\n", i, 1+i%4, i%10)
	}
	write("fleet.csv", list.String())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"bake", "-q", "--config", config, "init", "--from", filepath.Join(config, "fleet.csv")}
	begun := time.Now()
	if output, err := cmd.Output(); err != nil || strings.Count(string(output), "\n") != n {
		t.Fatalf("%v, %d lines", err, strings.Count(string(output), "\n"))
	}
	return time.Since(begun), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024
}

// workOnShard lints and renders every host of a shard.
func workOnShard(t *testing.T, config, shard string) {
	number, of, _ := strings.Cut(shard, "/")
	mine, _ := strconv.Atoi(number)
	all, _ := strconv.Atoi(of)
	scratch := t.TempDir()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if scratch, err = os.MkdirTemp("/dev/shm", "bake-bench-"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(scratch)
	}
	e := env{Stdout: io.Discard, Stderr: io.Discard, Getenv: func(string) string { return "" }, Layers: layers.FS}
	a := &app{env: e, ui: &ui{env: e, quiet: true}, config: config, out: scratch}
	entries, err := os.ReadDir(filepath.Join(config, "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".yaml")
		if strings.HasPrefix(name, "_") {
			continue
		}
		if i++; i%all != mine {
			continue
		}
		found, _, err := a.lintHost(t.Context(), name, false)
		if err != nil || lint.Stops(found) {
			t.Fatalf("%s: %v %v", name, found, err)
		}
		if err := a.renderOne(name, scratch); err != nil {
			t.Fatal(err)
		}
	}
}

// instant are machines that do as they are told.
type instant struct{}

func (instant) Runs(context.Context, string) (string, error) { return oldGeneration, nil }

func (instant) Deploy(context.Context, string, string) (rollout.Result, error) {
	return rollout.Result{Changed: true}, nil
}

func (instant) Return(context.Context, string, string, string) (rollout.Result, error) {
	return rollout.Result{}, nil
}

// benchRecord times what a rollout takes beside the deploys: its record, in a directory.
func benchRecord(t *testing.T, out *strings.Builder) {
	fmt.Fprintf(out, "%8s %12s %12s\n", "rollout", "record KiB", "ms/host")
	for _, n := range []int{100, 1000} {
		var hosts []rollout.Host
		for i := range n {
			hosts = append(hosts, rollout.Host{Name: fmt.Sprintf("h%05d", i), To: newGeneration})
		}
		dir := rollout.Dir(t.TempDir())
		job := &rollout.Job{Ledger: dir, Name: "bench", Lease: time.Minute, Say: func(string) {}, Exit: exitCode,
			Machines: func(func() error) rollout.Machines { return instant{} }}
		begun := time.Now()
		if _, err := job.Start(t.Context(), rollout.Plan(hosts, 20, 2, 0), false); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begun)
		content, _, err := dir.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(out, "%8d %12d %12.2f\n", n, len(content)>>10, float64(took.Microseconds())/1000/float64(n))
	}
}
