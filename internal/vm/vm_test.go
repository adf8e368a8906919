package vm

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/tool"
)

// asOwner makes this test program start a machine, tell its names and wait to
// be killed.
const asOwner = "VM_TEST_OWNER_OF"

func TestMain(m *testing.M) {
	if image := os.Getenv(asOwner); image != "" {
		machine, err := Start(context.Background(), tool.Box{}, bare(image))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(machine.child.pid, machine.scratch.dir)
		select {}
	}
	os.Exit(m.Run())
}

// bare is a machine that has firmware and an empty disk.
func bare(image string) Spec {
	return Spec{Disk: image, Accel: tcg, Firmware: uefi, VCPUs: 1, Memory: 256 << 20}
}

// emptyImage makes a qcow2 image, or skips where no machine can be started.
func emptyImage(t *testing.T) string {
	t.Helper()
	needQEMU(t)
	if _, err := findFirmware(boards[amd64], uefi, firmwareDirs); err != nil {
		t.Skip(err)
	}
	// A comma and a space in the name: neither may start an option.
	image := filepath.Join(t.TempDir(), "empty, if=none.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", image, "1M").CombinedOutput(); err != nil {
		t.Skipf("qemu-img: %s", out)
	}
	return image
}

func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func isRemoved(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// within waits for something that another process does.
func within(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not happened", what)
		}
	}
}

func TestStartAndClose(t *testing.T) {
	spec := bare(emptyImage(t))
	spec.Seed, spec.Secrets = filepath.Join(t.TempDir(), "seed,x.iso"), filepath.Join(t.TempDir(), "secrets,x.iso")
	spec.Payload = filepath.Join(t.TempDir(), "payload,x.squashfs")
	for _, path := range []string{spec.Seed, spec.Secrets, spec.Payload} {
		if err := os.WriteFile(path, make([]byte, 2048), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	const secret = "correct horse"
	spec.Credentials = map[string]string{"test": secret}
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pid := m.child.pid
	if info, err := os.Stat(m.scratch.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("scratch directory: %v, %v", info, err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	if encoded := base64.StdEncoding.EncodeToString([]byte(secret)); strings.Contains(string(line), encoded) {
		t.Error("the command line holds a credential")
	}
	for _, serial := range []string{"serial=bake-seed", "serial=bake-secrets", "serial=bake-payload"} {
		if !strings.Contains(string(line), serial) {
			t.Errorf("there is no disk with %s", serial)
		}
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err != nil || !strings.Contains(string(status), "Seccomp:\t2") {
		t.Errorf("QEMU is not confined by seccomp: %v", err)
	}
	if !m.Confined() {
		t.Error("it says that it is not confined")
	}
	if files, _ := filepath.Glob(m.scratch.path("credential*")); len(files) > 0 {
		t.Errorf("QEMU has read the credentials, but they still are in %s", files)
	}
	if _, err := m.WaitConsole(context.Background(), regexp.MustCompile(`BdsDxe`)); err != nil {
		t.Error(err)
	}
	if err := m.Close(); err != nil || !isGone(pid) || !isRemoved(m.scratch.dir) {
		t.Errorf("Close = %v, process gone: %v, files gone: %v", err, isGone(pid), isRemoved(m.scratch.dir))
	}
	if err := m.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := m.WaitConsole(context.Background(), regexp.MustCompile("never said")); err == nil || !strings.Contains(err.Error(), "was closed") {
		t.Errorf("WaitConsole after Close: %v", err)
	}
	if _, err := m.Knock(context.Background(), 22); err == nil || !strings.Contains(err.Error(), "was closed") {
		t.Errorf("Knock after Close: %v", err)
	}
	_, err = m.SSH(context.Background(), "ops", nil, []ssh.PublicKey{signer(t, 1).PublicKey()})
	if err == nil || !strings.Contains(err.Error(), "was closed") || errors.Is(err, ErrUnreachable) {
		t.Errorf("SSH after Close: %v", err)
	}
}

func TestContextEndsTheMachine(t *testing.T) {
	spec := bare(emptyImage(t))
	ctx, cancel := context.WithCancel(context.Background())
	m, err := Start(ctx, tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := m.WaitConsole(ctx, regexp.MustCompile("never said")); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitConsole: %v", err)
	}
	within(t, "the removal of the files", func() bool { return isRemoved(m.scratch.dir) })
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// A guest whose network is not up has not refused anything.
func TestKnockWithoutAGuest(t *testing.T) {
	m, err := Start(context.Background(), tool.Box{}, bare(emptyImage(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, port := range []int{0, 65536} {
		if _, err := m.Knock(context.Background(), port); err == nil || errors.Is(err, ErrUnreachable) {
			t.Errorf("Knock(%d): %v", port, err)
		}
	}
	if got, err := m.Knock(context.Background(), 22); !errors.Is(err, ErrUnreachable) {
		t.Errorf("Knock = %v, %v", got, err)
	}
	if ports, err := m.forwarded(context.Background()); err != nil || len(ports) != 0 {
		t.Errorf("forwarded ports left behind: %v, %v", ports, err)
	}
	if files, _ := filepath.Glob(m.scratch.path("*.pcap")); len(files) > 0 {
		t.Errorf("captures left behind: %s", files)
	}
}

// The kernel ends QEMU when its owner is killed, and the next Start removes
// the files.
func TestKilledOwnerLeavesNothing(t *testing.T) {
	image := emptyImage(t)
	owner := exec.Command("/proc/self/exe")
	owner.Env = append(os.Environ(), asOwner+"="+image)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	defer owner.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil || isGone(pid) || isRemoved(dir) {
		t.Fatalf("the owner said %q: %v", line, err)
	}
	m, err := Start(context.Background(), tool.Box{}, bare(image))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if isRemoved(dir) {
		t.Fatal("another Start has removed the files of a machine that runs")
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	owner.Wait()
	within(t, "the end of QEMU", func() bool { return isGone(pid) || isZombie(pid) })
	m, err = Start(context.Background(), tool.Box{}, bare(image))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if !isRemoved(dir) {
		t.Errorf("%s was left behind", dir)
	}
}

// isZombie says whether a process has ended and init has not noticed yet.
func isZombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(status), ") Z ")
}

func TestStartFails(t *testing.T) {
	image := emptyImage(t)
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"no accelerator", func(s *Spec) { s.Accel = "" }, "accelerator"},
		{"no processor", func(s *Spec) { s.VCPUs = 0 }, "virtual processors"},
		{"little memory", func(s *Spec) { s.Memory = 1 << 20 }, "128 MiB"},
		{"bad MAC", func(s *Spec) { s.MAC = "52:54:00:00:00:01,restrict=off" }, "MAC address"},
		{"group MAC", func(s *Spec) { s.MAC = "01:00:5e:00:00:01" }, "MAC address"},
		{"bad network", func(s *Spec) { s.Address = prefix("192.0.2.1/32") }, "prefix length"},
		{"bad firmware", func(s *Spec) { s.Firmware = "bios" }, `"bios"`},
		{"no disk", func(s *Spec) { s.Disk += "x" }, "No such file"},
		{"raw disk", func(s *Spec) { s.Disk = raw }, "not in qcow2 format"},
		{"no seed", func(s *Spec) { s.Seed = "/nonexistent/seed" }, "/nonexistent/seed"},
		{"no secrets", func(s *Spec) { s.Secrets = "/nonexistent/secrets" }, "/nonexistent/secrets"},
		{"bad credential", func(s *Spec) { s.Credentials = map[string]string{"a=b": ""} }, "name for a credential"},
		{"refused by QEMU", func(s *Spec) { s.VCPUs = 100000 }, "QEMU died"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := bare(image)
			test.change(&spec)
			demandNoStart(t, spec, test.want)
		})
	}
}

// demandNoStart demands that a machine does not start, for what reason, and leaves nothing.
func demandNoStart(t *testing.T, spec Spec, want string) {
	t.Helper()
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err == nil {
		m.Close()
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Start: %v; want %q", err, want)
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), scratchPrefix+"*")); len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

func TestStartWithoutQEMU(t *testing.T) {
	image := emptyImage(t)
	box := tool.Box{Getenv: func(key string) string {
		return map[string]string{"TMPDIR": os.Getenv("TMPDIR")}[key]
	}}
	var missing *tool.MissingError
	if _, err := Start(context.Background(), box, bare(image)); !errors.As(err, &missing) {
		t.Errorf("Start: %v", err)
	}
}

// A QEMU that was built without seccomp runs the machine, which says so.
func TestStartUnconfined(t *testing.T) {
	spec := bare(emptyImage(t))
	real, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := "#!/bin/sh\ncase $1 in -sandbox) echo 'invalid option' >&2; exit 1;; esac\nexec " + real + ` "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "qemu-system-x86_64"), []byte(plain), 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := Start(t.Context(), tool.Box{Getenv: func(key string) string {
		if key == "PATH" {
			return dir + ":" + os.Getenv(key)
		}
		return os.Getenv(key)
	}}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if m.Confined() {
		t.Error("it says that it is confined")
	}
	if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.child.pid)); err != nil || strings.Contains(string(line), "-sandbox") {
		t.Errorf("%q, %v", line, err)
	}
}

// A machine of another processor begins its firmware. KVM runs none of those here.
func TestOtherProcessorStarts(t *testing.T) {
	for _, kind := range []string{uefi, uefiSecure} {
		t.Run(kind, func(t *testing.T) {
			if testing.Short() {
				t.Skip("10 s under emulation")
			}
			spec := bare(emptyImage(t))
			spec.Arch, spec.Firmware, spec.Accel = arm64, kind, tcg
			m, err := Start(context.Background(), tool.Box{}, spec)
			var missing *tool.MissingError
			if errors.As(err, &missing) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if _, err := m.WaitConsole(context.Background(), regexp.MustCompile(`BdsDxe`)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOtherProcessorRefused(t *testing.T) {
	other := map[string]string{amd64: arm64, arm64: amd64}[runtime.GOARCH]
	spec := bare(emptyImage(t))
	spec.Arch, spec.Accel = other, kvm
	if _, err := Start(context.Background(), tool.Box{}, spec); err == nil || !strings.Contains(err.Error(), "KVM runs no machine for "+other) {
		t.Errorf("with KVM: %v", err)
	}
	spec.Arch, spec.Accel = "riscv64", tcg
	if _, err := Start(context.Background(), tool.Box{}, spec); err == nil || !strings.Contains(err.Error(), `"riscv64" is neither amd64 nor arm64`) {
		t.Errorf("of no known processor: %v", err)
	}
	if accel, why, err := Accelerator(context.Background(), tool.Box{}, "", other, ""); err == nil && (accel != tcg || !strings.Contains(why, other)) {
		t.Errorf("%s: %s because %s", other, accel, why)
	}
}

// Secure boot firmware takes its mode of the machine, which QEMU checks.
func TestSecureFirmwareStarts(t *testing.T) {
	if testing.Short() {
		t.Skip("15 s under emulation")
	}
	spec := bare(emptyImage(t))
	spec.Firmware = uefiSecure
	if _, err := findFirmware(boards[amd64], uefiSecure, firmwareDirs); err != nil {
		t.Skip(err)
	}
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.WaitConsole(context.Background(), regexp.MustCompile(`BdsDxe`)); err != nil {
		t.Error(err)
	}
}
