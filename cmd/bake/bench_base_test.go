//go:build bench

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bake/internal/tool"
	"bake/internal/vm"
)

// labBase returns the newest base image that make lab-base has built.
func labBase(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(cache, "bake/lab/debian-*/base.qcow2"))
	if err != nil || len(found) == 0 {
		t.Skip("no lab image: make lab-base")
	}
	return found[len(found)-1]
}

// TestBenchInspect: looking inside an image, as a file, in the cache for the
// first time and in the cache again; beside it what libguestfs needs for a part
// of that. That boots an appliance: one run, as it takes minutes without KVM.
func TestBenchInspect(t *testing.T) {
	path, dir := labBase(t), t.TempDir()
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) { http.ServeFile(out, in, path) }))
	defer server.Close()
	ca := filepath.Join(dir, "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := fileDigest(t, path)
	inspect := func(subject string) *exec.Cmd {
		cmd := exec.Command("../../bin/bake", "--quiet", "--config", dir, "inspect", subject)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+ca, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
		return cmd
	}
	reference := server.URL + "/base.qcow2#sha256=" + sum
	for range 3 { // the digest of the blob is trusted from the third use on
		if out, err := inspect(reference).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		time.Sleep(2500 * time.Millisecond)
	}
	note := filepath.Join(dir, "cache/bake/base", sum+".json")
	ours := "bake inspect, cached"
	result := contest(t, func() {}, map[string]func() *exec.Cmd{
		ours: func() *exec.Cmd { return inspect(reference) },
		"bake inspect, cold": func() *exec.Cmd {
			if err := os.Remove(note); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			return inspect(reference)
		},
		"bake inspect FILE": func() *exec.Cmd { return inspect(path) },
	})
	accel, _, err := vm.Accelerator(t.Context(), tool.Box{}, "", "amd64", os.Getenv("BAKE_ACCEL"))
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"virt-cat /etc/os-release (1 run)": {"virt-cat", "-a", path, "/etc/os-release"},
		"virt-inspector (1 run)":           {"virt-inspector", "-a", path},
	} {
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("%s is not installed", args[0])
			continue
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct")
		if accel != "kvm" { // libguestfs takes /dev/kvm at its word
			cmd.Env = append(cmd.Env, "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
		}
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("%s: %v\n%s", name, err, out)
			continue
		}
		took := float64(time.Since(start).Microseconds()) / 1000
		result[name] = [2]float64{took, took}
	}
	show(t, "looking inside "+filepath.Base(filepath.Dir(path)), result, ours)
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
