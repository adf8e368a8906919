//go:build bench

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBenchPayload: a generation whose packages are locked and whose payload is made
// already, against one that makes it from the downloads that are there, and one whose
// packages come from the network: what the latter lacks is the payload's own share (aim: at
// most 100 ms). The cache is one of its own.
func TestBenchPayload(t *testing.T) {
	base := os.Getenv("BAKE_E2E_DEBIAN_13")
	if base == "" {
		t.Fatal("no base image: run this by `make bench`")
	}
	defer func(before int) { rounds = before }(rounds)
	rounds = 7

	zap, err := os.ReadFile("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, cache := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(config, "hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(config, "out") // with one copy of the base, which has settled when the first is made
	baker := func(host, words string) func() *exec.Cmd {
		text := strings.Replace(string(zap), "host: zap", "host: "+host, 1) + "  - fail2ban\n  - docker\n" + words
		if err := os.WriteFile(filepath.Join(config, "hosts", host+".yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return func() *exec.Cmd {
			cmd := exec.Command("../../bin/bake", "--quiet", "--config", config, "--out", out, "image", "--host", host, "--base", base)
			cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, keyVariable+"="+filepath.Join(config, "signing.key"))
			return cmd
		}
	}
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	image, without := baker("zap", ""), baker("bare", "payload: none\n")
	if text, err := image().CombinedOutput(); err != nil { // downloads
		t.Fatalf("%v\n%s", err, text)
	}
	unchanged, none := "unchanged", "without: packages from the network"
	result := contest(t, func() { remove(filepath.Join(out, "zap")); remove(filepath.Join(out, "bare")) }, map[string]func() *exec.Cmd{
		"made from downloads": func() *exec.Cmd {
			remove(filepath.Join(cache, "bake/payload/disk"))
			return image()
		},
		unchanged: image, // after the other, which sorts before it
		none:      without,
	})
	show(t, "an image with a payload", result, unchanged)
	t.Logf("the payload's own share, unchanged: %.1f ms (medians), %.1f ms (best)",
		result[unchanged][0]-result[none][0], result[unchanged][1]-result[none][1])
}
