//go:build bench

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mostTimes is by how much publishing and fetching may take longer than plain tools that move
// and check the same bytes.
const mostTimes = 1.15

// TestBenchPublish: a generation on a base image of half a GiB into a registry on this
// machine and out of it, beside curl with the same bytes, which a digest is computed of as
// well: a registry wants one, and what comes is worth nothing without. The registry is in
// this process, with its blobs on the disk. skopeo is beside it where it is installed.
func TestBenchPublish(t *testing.T) {
	defer func(n int) { rounds = n }(rounds)
	rounds = 5
	w, d := newWorkshop(t), newDepot(t)
	w.write(t, "raw", "", 0o644)
	fillRandom(t, filepath.Join(w.dir, "raw"), 512<<20)
	w.tool(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "base.qcow2")
	run := func(args ...string) *exec.Cmd {
		path, err := filepath.Abs("../../bin/bake")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, append([]string{"--quiet"}, args...)...)
		cmd.Dir = w.dir
		return cmd
	}
	if out, err := run("image", "--host", "zap").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	number := 0
	fresh := func() string { // a repository that has nothing
		number++
		return fmt.Sprintf("%s-%d", d.address, number)
	}
	out, err := run("--json", "publish", "--host", "zap", "--generation", "latest", "--to", d.address).CombinedOutput()
	var sent []publishView
	if err == nil {
		err = json.Unmarshal(out, &sent)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	api := func(address string) string {
		return strings.Replace(strings.Replace(address, "oci://", "http://", 1), "/fleet/", "/v2/fleet/", 1)
	}
	var files, digests []string
	for i, l := range sent[0].Layers {
		content, err := os.ReadFile(d.blob(l.Digest))
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, fmt.Sprintf("layer%d", i), string(content), 0o644)
		files, digests = append(files, fmt.Sprintf("layer%d", i)), append(digests, l.Digest)
	}
	shell := func(script string, args ...string) *exec.Cmd {
		cmd := exec.Command("bash", append([]string{"-euc", script, "bash"}, args...)...)
		cmd.Dir = w.dir
		return cmd
	}
	const up = `api=$1; shift
for f; do
	sum=$(sha256sum "$f"); sum=${sum%% *}
	at=$(curl -sSf -X POST -o /dev/null -w '%{header_json}' "$api/blobs/uploads/" | sed -n 's/.*"location":\["\([^"]*\)".*/\1/p')
	case $at in /*) at=${api%%/v2/*}$at ;; esac
	curl -sSf -X PATCH -H 'Content-Type: application/octet-stream' -T "$f" "$at" -o /dev/null
	curl -sSf -X PUT "$at?digest=sha256:$sum" -o /dev/null
done`
	const down = `api=$1; shift; rm -rf got; mkdir got
for d; do curl -sSf -o "got/$d" "$api/blobs/$d"; echo "${d#sha256:}  got/$d" | sha256sum -c --quiet; done; sync got/*`
	result := contest(t, func() { d.empty(t) }, map[string]func() *exec.Cmd{
		"bake publish": func() *exec.Cmd {
			return run("publish", "--host", "zap", "--generation", "latest", "--to", fresh())
		},
		"sha256sum, curl -T": func() *exec.Cmd { return shell(up, append([]string{api(fresh())}, files...)...) },
	})
	show(t, "half a GiB into a registry", result, "bake publish")
	keepsUp(t, result, "bake publish", "sha256sum, curl -T")

	if o, err := run("publish", "--host", "zap", "--generation", "latest", "--to", d.address).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, o)
	}
	commands := map[string]func() *exec.Cmd{
		"bake fetch": func() *exec.Cmd {
			return run("--out", "far", "fetch", "--host", "zap", "--generation", sent[0].Generation, "--from", d.address)
		},
		"curl, sha256sum, sync": func() *exec.Cmd { return shell(down, append([]string{api(d.address)}, digests...)...) },
	}
	if _, err := exec.LookPath("skopeo"); err == nil {
		commands["skopeo copy"] = func() *exec.Cmd {
			return shell(`rm -rf skopeo; skopeo copy --quiet --src-tls-verify=false "$1" dir:skopeo`,
				"docker://"+strings.TrimPrefix(d.address, "oci://")+":zap-"+sent[0].Generation)
		}
	}
	result = contest(t, func() {
		if err := os.RemoveAll(filepath.Join(w.dir, "far")); err != nil {
			t.Fatal(err)
		}
	}, commands)
	show(t, "half a GiB out of a registry", result, "bake fetch")
	keepsUp(t, result, "bake fetch", "curl, sha256sum, sync")
}

// keepsUp demands that ours takes at most so much longer, by the fastest of each: a busy
// machine makes both slower, and neither faster.
func keepsUp(t *testing.T, result map[string][2]float64, ours, theirs string) {
	t.Helper()
	ratio := result[ours][1] / result[theirs][1]
	t.Logf("%s beside %s: %.2f by the best", ours, theirs, ratio)
	if ratio > mostTimes {
		t.Errorf("%s takes %.2f times as long as %s, at most %.2f is allowed", ours, ratio, theirs, mostTimes)
	}
}

// empty removes all blobs.
func (d *depot) empty(t *testing.T) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(d.dir, "*"))
	for _, path := range all {
		if err == nil {
			err = os.RemoveAll(path)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func fillRandom(t *testing.T, path string, size int) {
	t.Helper()
	content := make([]byte, size)
	random := rand.NewChaCha8([32]byte{7})
	_, _ = random.Read(content)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
