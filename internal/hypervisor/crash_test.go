package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/deploy"
	"bake/internal/domain"
	"bake/internal/hypervisor"
	"bake/internal/tool"
)

// deaf is a hypervisor whose machines have nothing to boot, and hear no power button. What
// becomes of one that was pressed, package deploy tries in memory.
type deaf struct{ *hypervisor.Hypervisor }

func (d deaf) Shutdown(_ context.Context, host string) error { return d.Kill(host) }

const stateSize = 8 << 20

// deployment is one whose machine attests when it runs.
func deployment(at *hypervisor.Hypervisor, images string, say func(string)) *deploy.Deployment {
	d := &deploy.Deployment{At: deaf{at}, Patience: time.Minute, Say: say,
		Host: deploy.Host{Name: "zap", Images: images, Network: "default", State: stateSize, Emulated: true}}
	d.Wait = func(context.Context, string) (deploy.Verdict, error) {
		m, err := at.Find("zap")
		return deploy.Verdict{OK: m != nil && m.Running, Reason: "it is off"}, err
	}
	return d
}

// baked is a generation of a small machine, with all kinds of files.
func baked(t *testing.T, images string, number int) deploy.Generation {
	t.Helper()
	dir, name := t.TempDir(), fmt.Sprintf("%016x", number)
	disk := func(dev, format, file, serial string) string {
		return fmt.Sprintf("<disk type='file'><driver name='qemu' type='%s'/><source file='%s/zap/%s'/><target dev='%s' bus='virtio'/><serial>%s</serial></disk>",
			format, images, file, dev, serial)
	}
	text := "<domain type='kvm'><name>zap</name><uuid>" + domain.UUID("zap") + "</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>" +
		"<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>" + disk("vda", "raw", name+"/disk.qcow2", "bake-root") +
		disk("vde", "qcow2", "state.qcow2", "bake-state") + "<memballoon model='none'/></devices></domain>"
	file := func(name string, content []byte) deploy.File {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return deploy.File{Path: filepath.Join(dir, name), Name: name}
	}
	base := file("base.qcow2", []byte("base"))
	return deploy.Generation{Name: name, XML: []byte(text), Base: &base, Secrets: file("secrets.iso", []byte("secret")).Path,
		Files: []deploy.File{file("disk.qcow2", make([]byte, 1<<20)), file("domain.xml", []byte(text))}}
}

// site is where the machine is, and what must not change there.
type site struct {
	at     *hypervisor.Hypervisor
	images string
	state  os.FileInfo
}

// newSite has zap run on a state disk that has something on it.
func newSite(t *testing.T, uri string) *site {
	t.Helper()
	root, err := os.MkdirTemp("", "bake-site-") // for QEMU, which is somebody else there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &site{at: again(t, uri), images: filepath.Join(root, "images")}
	t.Cleanup(func() { _ = errors.Join(s.at.Kill("zap"), s.at.Undefine("zap"), s.at.Close()) })
	d := deployment(s.at, s.images, func(string) {})
	if _, err := d.Up(t.Context(), baked(t, s.images, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	s.disk(t, "write -P 7 0 1M")
	if s.state, err = os.Stat(s.images + "/zap/state.qcow2"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Up(t.Context(), baked(t, s.images, 0)); err != nil {
		t.Fatal(err)
	}
	return s
}

// disk does something to the state disk, whose machine is off.
func (s *site) disk(t *testing.T, command string) {
	t.Helper()
	out, err := exec.Command("qemu-io", "-c", command, s.images+"/zap/state.qcow2").CombinedOutput()
	if err != nil || strings.Contains(string(out), "failed") {
		t.Errorf("%s: %v: %s", command, err, out)
	}
}

// converge runs bake up and demands that all is well: one machine, that runs one of the
// two generations, on the state disk that was there.
func (s *site) converge(t *testing.T, what string, number int, one, two string) (generation string) {
	t.Helper()
	out, err := deployment(s.at, s.images, func(string) {}).Up(t.Context(), baked(t, s.images, number))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	all, err := s.at.Machines()
	if err != nil || len(all) != 1 || !all[0].Running || all[0].Trying || all[0].Leaving {
		t.Fatalf("%s: %+v, %v", what, all, err)
	}
	if out.Generation != one && out.Generation != two {
		t.Errorf("%s: %+v", what, out)
	}
	if now, err := os.Stat(s.images + "/zap/state.qcow2"); err != nil || !os.SameFile(now, s.state) {
		t.Errorf("%s: another state disk, %v", what, err)
	}
	left, err := s.at.List(s.images + "/zap")
	for _, name := range left {
		if name != "state.qcow2" && name != out.Generation && name != out.Previous {
			t.Errorf("%s: %s is left", what, name)
		}
	}
	if err != nil {
		t.Error(err)
	}
	return out.Generation
}

const (
	dieAt  = "BAKE_TEST_DIE_AT" // step, or -1 for the middle of a file
	dieURI = "BAKE_TEST_DIE_URI"
	dieDir = "BAKE_TEST_DIE_DIR"
	dieNew = "BAKE_TEST_DIE_NEW"
)

// TestKilledBake: bake is killed before each thing that a deploy does, and in the middle
// of a file; bake up brings the machine to its end every time.
func TestKilledBake(t *testing.T) {
	_, uri := hypervisor.DaemonForTest(t)
	s := newSite(t, uri)
	runs, points := fmt.Sprintf("%016x", 0), 0
	for at := -1; ; at++ {
		number := at + 2
		child := exec.Command(os.Args[0], "-test.run", "^TestDeployAndDie$", "-test.v")
		child.Env = append(os.Environ(), dieAt+"="+strconv.Itoa(at), dieURI+"="+uri, dieDir+"="+s.images, dieNew+"="+strconv.Itoa(number),
			"TMPDIR="+t.TempDir()) // it cannot tidy up
		said, err := child.CombinedOutput()
		if err == nil {
			break
		}
		if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
			t.Fatalf("%d: %v: %s", at, err, said)
		}
		points++
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		runs = s.converge(t, fmt.Sprintf("killed at %q", lines[len(lines)-1]), number, runs, fmt.Sprintf("%016x", number))
	}
	if points < 10 {
		t.Errorf("it was killed at %d points only", points)
	}
	t.Logf("killed at %d points", points)
	if err := s.at.Kill("zap"); err != nil {
		t.Fatal(err)
	}
	s.disk(t, "read -P 7 0 1M")
}

// TestDeployAndDie is the process that TestKilledBake kills.
func TestDeployAndDie(t *testing.T) {
	if os.Getenv(dieAt) == "" {
		t.Skip("it is started by TestKilledBake")
	}
	at, err := strconv.Atoi(os.Getenv(dieAt))
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(os.Getenv(dieNew))
	if err != nil {
		t.Fatal(err)
	}
	h, err := hypervisor.Connect(t.Context(), os.Getenv(dieURI), tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	die := func() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	step := 0
	d := deployment(h, os.Getenv(dieDir), func(text string) {
		fmt.Println(text)
		if step++; step-1 == at {
			die()
		}
	})
	d.Progress = func(string) func(done, size int64) {
		return func(done, size int64) {
			if at == -1 && done > 0 && done < size {
				die()
			}
		}
	}
	if _, err := d.Deploy(t.Context(), baked(t, d.Host.Images, number)); err != nil {
		t.Fatal(err)
	}
}

// TestKilledLibvirtd: libvirtd is killed while a deploy writes, defines and starts; the
// deploy fails or does not, and bake up brings the machine to its end.
func TestKilledLibvirtd(t *testing.T) {
	root, uri := hypervisor.OwnDaemonForTest(t)
	s := newSite(t, uri)
	runs := fmt.Sprintf("%016x", 0)
	for i, at := range []string{"writing ", "defining ", "starting "} {
		h, err := hypervisor.Connect(t.Context(), uri, tool.Box{})
		if err != nil {
			t.Fatal(err)
		}
		killed := false
		_, err = deployment(h, s.images, func(text string) {
			if strings.HasPrefix(text, at) && !killed {
				killed = true
				for _, number := range hypervisor.DaemonsForTest(t, root) {
					if err := exec.Command("kill", "-KILL", number).Run(); err != nil {
						t.Error(err)
					}
				}
			}
		}).Deploy(t.Context(), baked(t, s.images, i+1))
		if !killed || err == nil {
			t.Errorf("%s: killed %v, %v", at, killed, err)
		}
		_ = errors.Join(h.Close(), s.at.Close()) // they have lost it
		s.at = again(t, uri)
		runs = s.converge(t, "libvirtd killed at "+at, i+1, runs, fmt.Sprintf("%016x", i+1))
	}
	if err := s.at.Kill("zap"); err != nil {
		t.Fatal(err)
	}
	s.disk(t, "read -P 7 0 1M")
}

// again connects to a daemon that comes back.
func again(t *testing.T, uri string) *hypervisor.Hypervisor {
	t.Helper()
	for range 600 {
		if h, err := hypervisor.Connect(t.Context(), uri, tool.Box{}); err == nil {
			return h
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("libvirtd does not come back")
	return nil
}
