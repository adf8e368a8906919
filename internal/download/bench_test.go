//go:build bench

package download

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// benchRounds is how often each takes its turn; the medians are compared.
const benchRounds = 3

// TestBenchFetch: a download with its verification against the two halves of it,
// curl to a file and sha256sum of that. BAKE_BENCH_MIB sets the size, 1024 when
// unset; every second MiB is a hole, as in a disk image.
func TestBenchFetch(t *testing.T) {
	size := int64(1024)
	if text := os.Getenv("BAKE_BENCH_MIB"); text != "" {
		var err error
		if size, err = strconv.ParseInt(text, 10, 32); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "image")
	makeImage(t, source, size)
	server := errand{Serve: dir}.command(t)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = server.Process.Kill(), server.Wait() }()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSpace(url) + "/image"
	sum := benchRun(t, exec.Command("sha256sum", source))
	want := Want{URL: url, Size: size * mib, Algorithm: "sha256", Digest: sum.output[:64]}

	times := map[string][]time.Duration{}
	var peak string
	for range benchRounds {
		copied := filepath.Join(dir, "curl")
		times["curl -o"] = append(times["curl -o"], benchRun(t, exec.Command("curl", "-sS", "-o", copied, url)).took)
		times["sha256sum"] = append(times["sha256sum"], benchRun(t, exec.Command("sha256sum", copied)).took)
		if err := os.Remove(copied); err != nil {
			t.Fatal(err)
		}
		benchRun(t, exec.Command("sync"))
		ours := benchRun(t, errand{Want: want, Dir: filepath.Join(dir, "ours")}.command(t))
		times["fetch"] = append(times["fetch"], ours.took)
		var o outcome
		if err := json.Unmarshal([]byte(ours.output), &o); err != nil {
			t.Fatal(err)
		}
		peak = o.Peak
		if err := os.RemoveAll(filepath.Join(dir, "ours")); err != nil {
			t.Fatal(err)
		}
		benchRun(t, exec.Command("sync"))
	}
	median := func(name string) float64 {
		slices.Sort(times[name])
		return times[name][len(times[name])/2].Seconds()
	}
	t.Logf("%d MiB, median of %d: fetch %.2f s, curl -o %.2f s, sha256sum %.2f s; ratio to the slower %.2f; peak memory %s",
		size, benchRounds, median("fetch"), median("curl -o"), median("sha256sum"),
		median("fetch")/max(median("curl -o"), median("sha256sum")), peak)
}

type benchResult struct {
	took   time.Duration
	output string
}

func benchRun(t *testing.T, cmd *exec.Cmd) benchResult {
	t.Helper()
	cmd.Stderr = os.Stderr
	start := time.Now()
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	return benchResult{time.Since(start), string(output)}
}

func makeImage(t *testing.T, path string, size int64) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size * mib); err != nil {
		t.Fatal(err)
	}
	for at := int64(0); at < size; at += 2 {
		if _, err := file.WriteAt(noise(byte(at/2), mib), at*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
}
