//go:build bench

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// rounds is how often each command runs; peers take turns, so that a busy
// moment of the machine hits both.
var rounds = 41

// contest times whole processes, one after another in turns, and returns the
// median and the fastest of each in milliseconds.
func contest(t *testing.T, prepare func(), commands map[string]func() *exec.Cmd) map[string][2]float64 {
	t.Helper()
	times := map[string][]float64{}
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	for range rounds {
		for _, name := range names {
			prepare()
			cmd := commands[name]()
			start := time.Now()
			output, err := cmd.CombinedOutput()
			took := time.Since(start)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, output)
			}
			times[name] = append(times[name], float64(took.Microseconds())/1000)
		}
	}
	result := map[string][2]float64{}
	for name, all := range times {
		slices.Sort(all)
		result[name] = [2]float64{all[len(all)/2], all[0]}
	}
	return result
}

func show(t *testing.T, title string, result map[string][2]float64, ours string) {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "%s (%d runs in turns)\n%-58s %10s %10s %8s\n", title, rounds, "", "median ms", "best ms", "ratio")
	names := make([]string, 0, len(result))
	for name := range result {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r := result[name]
		fmt.Fprintf(&out, "%-58s %10.1f %10.1f %8.2f\n", name, r[0], r[1], r[0]/result[ours][0])
	}
	t.Log("\n" + out.String())
}

// TestBenchSeed: lint + merge + seed of host zap against cloud-localds with the
// same three files.
func TestBenchSeed(t *testing.T) {
	dir := t.TempDir()
	words := filepath.Join(dir, "words")
	bake(t, "seed", "--format", "dir", "--output", words, "--host", "zap")
	ours := "bake seed"
	result := contest(t, func() {}, map[string]func() *exec.Cmd{
		ours: func() *exec.Cmd {
			return exec.Command("../../bin/bake", "--quiet", "--config", "../..", "seed", "--host", "zap",
				"--output", filepath.Join(dir, "ours.iso"))
		},
		"cloud-localds": func() *exec.Cmd {
			return exec.Command("cloud-localds", "--network-config", filepath.Join(words, "network-config"),
				filepath.Join(dir, "theirs.iso"), filepath.Join(words, "user-data"), filepath.Join(words, "meta-data"))
		},
	})
	show(t, "a seed", result, ours)
}

// TestBenchLint: all rules over host zap, with its layers loaded and merged, against
// cloud-init's own validator over the merged words alone.
func TestBenchLint(t *testing.T) {
	words := filepath.Join(t.TempDir(), "words")
	bake(t, "seed", "--format", "dir", "--output", words, "--host", "zap")
	ours := "bake lint"
	result := contest(t, func() {}, map[string]func() *exec.Cmd{
		ours: func() *exec.Cmd {
			return exec.Command("../../bin/bake", "--quiet", "--config", "../..", "lint", "--host", "zap")
		},
		"cloud-init schema -c": func() *exec.Cmd {
			return exec.Command("../../testdata/lab/cloud-init-schema", filepath.Join(words, "user-data"))
		},
	})
	show(t, "words checked", result, ours)
}

// TestBenchImage: a whole generation with a warm base cache, into an empty
// host directory each time, against the three commands that a script would use.
func TestBenchImage(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", base, "3G").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	words, out := filepath.Join(dir, "words"), filepath.Join(dir, "out")
	bake(t, "seed", "--format", "dir", "--output", words, "--host", "zap")
	for range 3 { // the digest of the base is trusted from the third use on
		bake(t, "image", "--host", "zap", "--base", base, "--out", out)
		time.Sleep(2500 * time.Millisecond)
	}
	fresh := func() {
		if err := os.RemoveAll(filepath.Join(out, "zap")); err != nil {
			t.Fatal(err)
		}
	}
	ours, theirs := "bake image", "qemu-img create + cloud-localds + virt-install --print-xml"
	result := contest(t, fresh, map[string]func() *exec.Cmd{
		ours: func() *exec.Cmd {
			return exec.Command("../../bin/bake", "--quiet", "--config", "../..", "--out", out,
				"image", "--host", "zap", "--base", base)
		},
		theirs: func() *exec.Cmd {
			script := `set -e
qemu-img create -q -f qcow2 -F qcow2 -b "$1/base.qcow2" "$1/theirs.qcow2" 10G
cloud-localds --network-config "$1/words/network-config" "$1/theirs.iso" "$1/words/user-data" "$1/words/meta-data"
virt-install --connect test:///default --print-xml --import --name zap --memory 2048 --vcpus 2 \
  --disk "$1/theirs.qcow2" --disk "$1/theirs.iso,device=cdrom" --osinfo detect=off,require=off >/dev/null`
			return exec.Command("sh", "-c", script, "sh", dir)
		},
	})
	show(t, "an image", result, ours)
}

func bake(t *testing.T, args ...string) {
	t.Helper()
	line := append([]string{"--quiet", "--config", "../.."}, args...)
	if out, err := exec.Command("../../bin/bake", line...).CombinedOutput(); err != nil {
		t.Fatalf("bake %v: %v\n%s", args, err, out)
	}
}
