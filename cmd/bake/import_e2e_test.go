//go:build e2e

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/tool"
	"bake/internal/vm"
)

const threeParts = "testdata/foreign/three.mime"

// bootForeign boots a base image with user-data as it is and returns what its
// commands printed on the console, up to the end of cloud-init.
func bootForeign(t *testing.T, base, userData string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	defer cancel()
	meta := filepath.Join(t.TempDir(), "meta-data")
	if err := os.WriteFile(meta, []byte("instance-id: foreign\nlocal-hostname: foreign\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(t.TempDir(), "seed.img")
	if out, err := exec.CommandContext(ctx, "cloud-localds", seed, userData, meta).CombinedOutput(); err != nil {
		t.Fatalf("cloud-localds: %v: %s", err, out)
	}
	accel, _, err := vm.Accelerator(ctx, tool.Box{}, "", "amd64", os.Getenv("BAKE_ACCEL"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := vm.Start(ctx, tool.Box{}, vm.Spec{Disk: base, Seed: seed, Accel: accel, Firmware: "uefi", VCPUs: 2, Memory: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	end, err := m.WaitConsole(ctx, regexp.MustCompile(`Cloud-init v\. \S+ finished at.*`))
	if err != nil {
		t.Fatalf("%v\n%s", err, m.Console())
	}
	t.Log(end)
	return regexp.MustCompile(`lab: \w+ of [a-z ]*\.`).FindAllString(m.Console(), -1)
}

// TestFullImport boots a naive multipart of three parts as it is, and as what
// bake import makes of it: of the first, one part has an effect, of the other
// all three.
func TestFullImport(t *testing.T) {
	l := newLab(t, "debian-12")
	t.Run("as it is", func(t *testing.T) {
		got := bootForeign(t, l.base, threeParts)
		if want := []string{"lab: three of three."}; !slices.Equal(got, want) {
			t.Errorf("the console shows %q, want %q", got, want)
		}
	})
	t.Run("imported", func(t *testing.T) {
		l.write(t, "ops.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example\n")
		if code, _ := l.bake(t, "import", threeParts, "--name", "three", "--key", filepath.Join(l.config, "ops.pub")); code != 0 {
			t.Fatalf("bake import: exit %d", code)
		}
		for _, part := range []string{"one", "two", "three"} {
			path := filepath.Join(l.config, "layers/three-"+part+"/layer.yaml")
			layer, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			l.write(t, "layers/three-"+part+"/layer.yaml", string(layer)+`checks:
  inside:
    - claim: The file and the command of part `+part+` are in effect.
      run: cat /etc/lab/`+part+`; grep -cx `+part+` /var/lib/lab-ran
      is: "`+part+map[bool]string{true: `\n`, false: ""}[part == "one"]+`1"
      falsify: rm /etc/lab/`+part+`
`)
		}
		host, err := os.ReadFile(filepath.Join(l.config, "hosts/three.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		l.write(t, "hosts/three.yaml", strings.Replace(string(host), "memory: 3GiB", "memory: 1GiB", 1))
		code, report := l.verified(t, "three")
		if code != 0 || report.Failed != 0 {
			t.Errorf("verify: exit %d, %d claims failed", code, report.Failed)
		}
		for _, part := range []string{"one", "two", "three"} {
			find(t, report, "three-"+part, "The file and the command")
		}
	})
}
