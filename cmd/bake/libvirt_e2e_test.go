//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// rack is a hypervisor of the test's own: libvirtd in namespaces, on whose network nobody
// else is, and whose machines end with it.
type rack struct {
	lab
	dir, images, share string
	pid                int    // of a process in its namespaces
	login              string // file of the admin's ssh key
	machine            string // more words about the machines
}

func newRack(t *testing.T) *rack { return newRackOf(t, "debian-13") }

func newRackOf(t *testing.T, release string) *rack {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a libvirtd of its own needs root")
	}
	// QEMU is somebody else there, who must get at the images.
	root, err := os.MkdirTemp("", "bake-hv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	h := &rack{lab: newLab(t, release), dir: filepath.Join(root, "libvirt"), images: filepath.Join(root, "images"),
		share: filepath.Join(root, "share"), login: filepath.Join(t.TempDir(), "key")}
	for _, dir := range []string{root, h.share} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.login)
	h.pid = startLibvirt(t, h.dir)
	return h
}

// configure writes the host file, whose swappiness tells generations apart.
func (h *rack) configure(t *testing.T, swappiness int, more string) {
	t.Helper()
	public, err := os.ReadFile(h.login + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	// Bridges of the kernels that tests run on need not know isolated ports.
	h.write(t, "hosts/zap.yaml", `host: zap
base: debian:13
machine: {vcpus: 2, memory: 1GiB, disk: 6GiB, state: 256MiB, images: `+h.images+h.machine+`}
network: {isolated: false, reserve: 192.168.122.77}
domain: {uri: "qemu:///system?socket=`+h.dir+`/run/libvirt-sock"}
admin: {name: ops, keys: ["`+strings.TrimSpace(string(public))+`"]}
layers:
  - ssh
  - ufw: {allow_tcp: [22]}
  - sysctl: {swappiness: `+strconv.Itoa(swappiness)+`}
`+more)
}

// image bakes and returns the generation.
func (h *rack) image(t *testing.T) string {
	t.Helper()
	code, out := h.bake(t, "image", "--host", "zap", "--base", h.base)
	if code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	return filepath.Base(strings.TrimSpace(out))
}

// do runs a command on the machine and returns what became of it.
func (h *rack) do(t *testing.T, want int, args ...string) outcomeView {
	t.Helper()
	code, out := h.bake(t, append(args, "--host", "zap", "--json")...)
	if code != want {
		t.Fatalf("bake %s: exit %d, want %d", args[0], code, want)
	}
	var view outcomeView
	if out != "" {
		if err := json.Unmarshal([]byte(out), &view); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	t.Logf("%s: %+v", args[0], view)
	return view
}

// ssh runs a command in the machine by bake ssh, from within its network.
func (h *rack) ssh(t *testing.T, address, command string) string {
	t.Helper()
	// bake ssh becomes ssh, which has no place in a test's process: the same options.
	options, err := trust("zap", filepath.Join(h.out, "zap", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--net", "--target", strconv.Itoa(h.pid), "ssh", "-F", "none", "-i", h.login}, options...)
	out, err := exec.Command("nsenter", append(args, "-l", "ops", "--", address, command)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

// live tries the claims of the machine at work, from within its network.
func (h *rack) live(t *testing.T, want int) string {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net", "--target", strconv.Itoa(h.pid), "../../bin/bake"},
		h.line("verify", "--host", "zap", "--identity", h.login)...)...)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Errorf("bake verify: exit %d, want %d: %v\n%s", code, want, err, out)
	}
	return string(out)
}

// never is a layer whose claim holds nowhere.
const never = `layer: never
summary: A claim that does not hold.
threat: none
checks:
  inside:
    - claim: This is not so.
      run: "false"
      exit: 0
      falsify: "true"
`

// TestE2EUp: up from nothing to attested, once more for nothing, and a generation
// that does not attest gives way to the one before, on the same state disk.
func TestE2EUp(t *testing.T) {
	h := newRack(t)
	h.write(t, "layers/never/layer.yaml", never)
	h.configure(t, 10, "")
	one := h.image(t)
	up := h.do(t, 0, "up", "--generation", one)
	if !up.Changed || !up.Attested || up.Generation != one || up.Claims < 20 || len(up.Addresses) == 0 {
		t.Fatalf("%+v", up)
	}
	if up.Addresses[0] != "192.168.122.77" {
		t.Errorf("the address that is reserved is not the machine's: %v", up.Addresses)
	}
	var seen struct {
		Domain struct {
			Drift, Edited []any
			Report        struct{ OK bool }
		}
	}
	if code, out := h.bake(t, "status", "--host", "zap", "--json"); code != 0 || json.Unmarshal([]byte(out), &seen) != nil ||
		len(seen.Domain.Drift)+len(seen.Domain.Edited) > 0 || !seen.Domain.Report.OK {
		t.Errorf("exit %d: %s", code, out)
	}
	known, err := os.ReadFile(filepath.Join(h.out, "zap", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	h.ssh(t, up.Addresses[0], "echo mine | sudo tee /var/lib/bake/state/mine && sudo sync")
	if again := h.do(t, 0, "up", "--generation", one); again.Changed || !again.Attested {
		t.Errorf("up once more: %+v", again)
	}

	h.live(t, 0)
	h.ssh(t, up.Addresses[0], "sudo sysctl -q vm.swappiness=60")
	if said := h.live(t, 7); !strings.Contains(said, "FAIL  sysctl: ") {
		t.Errorf("what has drifted is not in\n%s", said)
	}
	h.ssh(t, up.Addresses[0], "sudo sysctl -q vm.swappiness=10")

	h.configure(t, 20, "  - never\n")
	bad := h.image(t)
	if back := h.do(t, 7, "deploy", "--generation", bad); back.Generation != one {
		t.Errorf("%+v", back)
	}
	for _, want := range []string{"generation " + bad + " did not attest", "never: This is not so.", "generation " + one + " is back and has attested"} {
		if said, err := os.ReadFile(h.stderr()); err != nil || !strings.Contains(string(said), want) {
			t.Errorf("nobody said %q, %v", want, err)
		}
	}
	now := h.do(t, 0, "up", "--generation", one)
	if now.Changed || now.Generation != one {
		t.Errorf("%+v", now)
	}
	if got := h.ssh(t, now.Addresses[0], "sudo cat /var/lib/bake/state/mine; cat /proc/sys/vm/swappiness"); got != "mine\n10" {
		t.Errorf("%q", got)
	}
	if again, err := os.ReadFile(filepath.Join(h.out, "zap", "known_hosts")); err != nil || string(again) != string(known) {
		t.Errorf("other host keys: %v\n%s\n%s", err, known, again)
	}
}

// TestFullSecure: what firmware: auto and tpm: auto give a machine that is not emulated,
// here because it is demanded; with the state of one that had neither.
func TestFullSecure(t *testing.T) {
	h := newRack(t)
	h.machine = ", firmware: uefi, tpm: false"
	h.configure(t, 10, "")
	const has = `cd /sys/firmware; od -An -tu1 -j4 -N1 efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c | tr -d ' '
if [ -e acpi/tables/TPM2 ]; then echo a TPM; else echo no TPM; fi`
	first := h.do(t, 0, "up", "--generation", h.image(t))
	if got := h.ssh(t, first.Addresses[0], "echo mine | sudo tee /var/lib/bake/state/mine; "+has); got != "mine\n0\nno TPM" {
		t.Fatalf("%q", got)
	}
	h.machine = ", firmware: uefi-secure, tpm: true"
	h.configure(t, 10, "")
	next := h.do(t, 0, "deploy", "--generation", h.image(t))
	if got := h.ssh(t, next.Addresses[0], "sudo cat /var/lib/bake/state/mine; "+has); !next.Attested || got != "mine\n1\na TPM" {
		t.Errorf("%+v, %q", next, got)
	}
	if code, out := h.bake(t, "status", "--host", "zap"); code != 0 {
		t.Errorf("exit %d\n%s", code, out)
	}
	if back := h.do(t, 0, "rollback"); back.Generation != first.Generation || !back.Attested || h.ssh(t, back.Addresses[0], has) != "0\nno TPM" {
		t.Errorf("%+v", back)
	}
}

// TestFullDeploy: what TestE2EUp leaves out, with a share, and with bake and libvirtd
// killed at what they are at.
func TestFullDeploy(t *testing.T) {
	h := newRack(t)
	shared := "  - virtiofs: {share: " + h.share + ", readonly: false}\n"
	h.configure(t, 10, shared)
	one := h.image(t)
	up := h.do(t, 0, "up", "--generation", one)
	address := up.Addresses[0]
	h.ssh(t, address, "echo mine | sudo tee /var/lib/bake/state/mine > /dev/null; echo guest | sudo tee /srv/workspace/guest > /dev/null")
	if got, err := os.ReadFile(filepath.Join(h.share, "guest")); err != nil || string(got) != "guest\n" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(h.share, "host"), []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := h.ssh(t, address, "sudo cat /srv/workspace/host; sudo stat -c ' %u' /srv/workspace/host"); got != "host 0" {
		t.Errorf("%q", got)
	}
	known, err := os.ReadFile(filepath.Join(h.out, "zap", "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	demand := func(v outcomeView, generation string, swappiness int) {
		t.Helper()
		if v.Generation != generation || !v.Attested {
			t.Fatalf("%+v, want %s", v, generation)
		}
		want := "mine\nguest\n" + strconv.Itoa(swappiness)
		if got := h.ssh(t, v.Addresses[0], "sudo cat /var/lib/bake/state/mine /srv/workspace/guest /proc/sys/vm/swappiness"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if now, err := os.ReadFile(filepath.Join(h.out, "zap", "known_hosts")); err != nil || string(now) != string(known) {
			t.Errorf("other host keys: %v", err)
		}
	}

	// A directory that is not there is found out before the machine is touched.
	h.configure(t, 20, strings.ReplaceAll(shared, h.share, h.share+"-gone"))
	h.do(t, 4, "deploy", "--generation", h.image(t))
	demand(h.do(t, 0, "up", "--generation", one), one, 10)

	h.configure(t, 20, shared)
	two := h.image(t)
	demand(h.do(t, 0, "deploy", "--generation", two), two, 20)

	h.configure(t, 30, shared)
	three := h.image(t)
	for i, at := range []string{"writing ", "shutting down", "defining", "the kernel runs"} {
		h.killedAt(t, at, "deploy", "--generation", three)
		if i == 2 {
			h.killLibvirtd(t)
		}
		v := h.do(t, 0, "up", "--generation", two)
		swappiness := map[string]int{two: 20, three: 30}[v.Generation]
		demand(v, v.Generation, swappiness)
		if v.Generation == three {
			demand(h.do(t, 0, "rollback"), two, 20)
		}
	}
	h.do(t, 0, "down")
	demand(h.do(t, 0, "up"), two, 20)
	if code, _ := h.bake(t, "destroy", "--host", "zap", "--yes", "zap"); code != 0 {
		t.Fatalf("destroy: exit %d", code)
	}
	left, err := os.ReadDir(filepath.Join(h.images, "zap"))
	if err != nil || len(left) != 1 || left[0].Name() != "state.qcow2" {
		t.Errorf("left: %v, %v", left, err)
	}
	demand(h.do(t, 0, "up", "--generation", three), three, 30)
}

// killedAt runs bake as a process and kills it when it says something.
func (h *rack) killedAt(t *testing.T, words string, args ...string) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../../bin/bake", h.line(append(args, "--host", "zap")...)...)
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	defer read.Close()
	var said strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(said.String(), words) {
		n, err := read.Read(buffer)
		if err != nil {
			t.Fatalf("it never said %q: %s", words, said.String())
		}
		said.Write(buffer[:n])
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	t.Logf("killed at %q", words)
}

// killLibvirtd kills the daemon, which comes back as under systemd.
func (h *rack) killLibvirtd(t *testing.T) {
	t.Helper()
	killLibvirt(t, h.dir)
	reachable(t, "qemu:///system?socket="+filepath.Join(h.dir, "run", "libvirt-sock"))
}
