//go:build bench

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBenchPayload: a generation whose packages are locked and whose payload is made
// already (aim: at most 100 ms), against one that makes it from the downloads that are
// there. The cache is one of its own.
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
	if err := os.WriteFile(filepath.Join(config, "hosts/zap.yaml"), append(zap, "  - fail2ban\n  - docker\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(config, "out")
	image := func() *exec.Cmd {
		cmd := exec.Command("../../bin/bake", "--quiet", "--config", config, "--out", out, "image", "--host", "zap", "--base", base)
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, keyVariable+"="+filepath.Join(config, "signing.key"))
		return cmd
	}
	if text, err := image().CombinedOutput(); err != nil { // downloads
		t.Fatalf("%v\n%s", err, text)
	}
	remove := func(path string) {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	unchanged := "unchanged"
	result := contest(t, func() { remove(filepath.Join(out, "zap")) }, map[string]func() *exec.Cmd{
		"made from downloads": func() *exec.Cmd {
			remove(filepath.Join(cache, "bake/payload/disk"))
			return image()
		},
		unchanged: image, // after the other, which sorts before it
	})
	show(t, "an image with a payload", result, unchanged)
}
