//go:build bench

package main

import (
	"bufio"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/hypervisor"
	"bake/internal/tool"
)

// TestBenchUp: from nothing to a machine that has been started, with the base image
// on the hypervisor, against virt-install. Both start the same QEMU; what comes before
// libvirt is told to start it is bake's own share, which is to be at most 300 ms.
func TestBenchUp(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a libvirtd of its own needs root")
	}
	root, err := os.MkdirTemp("", "bake-bench-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	libvirt := filepath.Join(root, "libvirt")
	startLibvirt(t, libvirt)
	uri := "qemu:///system?socket=" + libvirt + "/run/libvirt-sock"
	base, config, out := filepath.Join(root, "base.qcow2"), filepath.Join(root, "config"), filepath.Join(root, "out")
	shell(t, root, `qemu-img create -q -f qcow2 base.qcow2 3G
mkdir -p config/hosts
sed -e 's,^machine:.*,machine: {vcpus: 2\, memory: 512MiB\, disk: 10GiB\, images: '"$1"'/images},' "$2" > config/hosts/zap.yaml
echo 'network: {isolated: false}' >> config/hosts/zap.yaml`, zapFile(t))
	bake := func(args ...string) *exec.Cmd {
		return exec.Command("../../bin/bake", append([]string{"--quiet", "--config", config, "--out", out}, args...)...)
	}
	for range 3 { // the digest of the base is trusted from the third use on
		if said, err := bake("image", "--host", "zap", "--base", base).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		time.Sleep(2500 * time.Millisecond)
	}
	fresh := func() {
		shell(t, root, `for name in zap theirs; do
	virsh -q -c "$2" destroy $name > /dev/null 2>&1 || :
	virsh -q -c "$2" undefine --nvram $name > /dev/null 2>&1 || :
done
rm -rf images/zap theirs.qcow2`, uri)
	}
	ours := "bake up"
	up := func() *exec.Cmd { // it does not wait for the boot, which is status 7
		return exec.Command("sh", "-c", `"$@"; [ $? = 7 ]`, "sh", "../../bin/bake", "--config", config, "--out", out,
			"up", "--host", "zap", "--generation", "latest", "--accel", "tcg", "--deadline", "1ms", "--connect", uri)
	}
	var own []time.Duration
	for range rounds {
		fresh()
		own = append(own, beforeStart(t, up()))
	}
	slices.Sort(own)
	t.Logf("bake's own share, median of %d: %v, best %v", rounds, own[len(own)/2].Round(time.Millisecond), own[0].Round(time.Millisecond))
	result := contest(t, fresh, map[string]func() *exec.Cmd{
		ours: up,
		"qemu-img create + cloud-localds + virt-install --import": func() *exec.Cmd {
			return exec.Command("sh", "-c", `set -e
qemu-img create -q -f qcow2 -F qcow2 -b "$1/base.qcow2" "$1/theirs.qcow2" 10G
echo '#cloud-config' > "$1/user-data"
cloud-localds "$1/theirs.iso" "$1/user-data"
virt-install --quiet --connect "$2" --virt-type qemu --import --name theirs --memory 512 --vcpus 2 --noautoconsole --boot uefi \
  --graphics none --network network=default --disk "$1/theirs.qcow2" --disk "$1/theirs.iso,device=cdrom" --osinfo detect=off,require=off`, "sh", root, uri)
		},
	})
	fresh()
	show(t, "a machine that has been started", result, ours)
}

// beforeStart is how long a bake takes until it has libvirt start the machine.
func beforeStart(t *testing.T, bake *exec.Cmd) (took time.Duration) {
	t.Helper()
	said, err := bake.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := bake.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.Contains(lines.Text(), "starting generation") {
			took = time.Since(begun)
		}
	}
	if err := bake.Wait(); err != nil || took == 0 {
		t.Fatalf("%v, %v", took, err)
	}
	return took
}

// TestBenchSend: a base image of 256 MiB to the hypervisor, against virsh vol-upload.
func TestBenchSend(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a libvirtd of its own needs root")
	}
	root := t.TempDir()
	libvirt := filepath.Join(root, "l")
	startLibvirt(t, libvirt)
	uri := "qemu:///system?socket=" + libvirt + "/run/libvirt-sock"
	content := make([]byte, 256<<20)
	if _, err := rand.Read(content); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "content"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, root, `virsh -q -c "$2" pool-create-as theirs dir --target "$1/theirs" --build`, uri)
	ours := "bake"
	result := contest(t, func() {
		shell(t, root, `virsh -q -c "$2" vol-delete x theirs > /dev/null 2>&1 || :`, uri)
	}, map[string]func() *exec.Cmd{
		ours: func() *exec.Cmd {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestBenchSendOurs$")
			cmd.Env = append(os.Environ(), "BAKE_BENCH_SEND="+root, "BAKE_BENCH_URI="+uri)
			return cmd
		},
		"virsh vol-create-as + vol-upload": func() *exec.Cmd {
			return exec.Command("sh", "-c", `virsh -q -c "$2" vol-create-as theirs x 268435456 && virsh -q -c "$2" vol-upload x "$1/content" theirs`, "sh", root, uri)
		},
	})
	show(t, "256 MiB to a hypervisor", result, ours)
}

func zapFile(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../hosts/zap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shell runs a shell script in a directory, which is its first argument.
func shell(t *testing.T, dir, text string, args ...string) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-ec", text, "sh", dir}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestBenchSendOurs is the process that TestBenchSend times.
func TestBenchSendOurs(t *testing.T) {
	root := os.Getenv("BAKE_BENCH_SEND")
	if root == "" {
		t.Skip("it is started by TestBenchSend")
	}
	at, err := hypervisor.Connect(t.Context(), os.Getenv("BAKE_BENCH_URI"), tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(root, "content"))
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Put(t.Context(), filepath.Join(root, "ours", "x"), file, 256<<20, nil); err != nil {
		t.Fatal(err)
	}
	if err := at.Close(); err != nil {
		t.Fatal(err)
	}
}
