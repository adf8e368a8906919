package inspect

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReal compares the images that the environment names with debugfs.
func TestReal(t *testing.T) {
	var images []string
	for _, key := range []string{"BAKE_E2E_BASE", "BAKE_E2E_DEBIAN_12", "BAKE_E2E_DEBIAN_13"} {
		if path := os.Getenv(key); path != "" {
			images = append(images, path)
		}
	}
	if images == nil {
		t.Skip("BAKE_E2E_BASE names no base image")
	}
	for _, path := range images {
		begin := time.Now()
		f, err := Look(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s %s, %d packages, kernel %q, cloud-init %s, in %v", path, f.PrettyName, f.Architecture,
			len(f.Packages), f.Kernels, f.CloudInit.Version, time.Since(begin))
		if problems := f.Problems(Requirement{}); len(problems) > 0 || len(f.Packages) < 100 || len(f.Keyrings) == 0 {
			t.Errorf("%s: %q, %d packages, %d keyrings", path, problems, len(f.Packages), len(f.Keyrings))
		}
		compare(t, path, f)
	}
}

func compare(t *testing.T, path string, f Findings) {
	t.Helper()
	image := open(t, path)
	schemas, err := image.Schemas()
	if err != nil || len(schemas) == 0 {
		t.Errorf("%d schemas, %v", len(schemas), err)
	}
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	run(t, "qemu-img", "convert", "-O", "raw", path, raw)
	names := []string{"/usr/lib/os-release", "/var/lib/dpkg/status", "/etc/cloud/cloud.cfg", "/usr/bin/dpkg",
		"/boot/vmlinuz-" + f.Kernels[0]}
	for name := range schemas {
		names = append(names, cloudInitDir+"/config/schemas/"+name)
	}
	script := ""
	for i, name := range names {
		script += fmt.Sprintf("dump %s %s/%d\n", name, dir, i)
	}
	feed(t, script, "debugfs", fmt.Sprintf("%s?offset=%d", raw, image.rootAt.Start))
	for i, name := range names {
		want, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := image.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; debugfs has %d", name, len(got), err, len(want))
		}
	}
}
