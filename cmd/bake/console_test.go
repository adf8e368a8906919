package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/domain"
	"bake/internal/hypervisor"
	"bake/internal/tool"
)

// openTerminal makes a terminal: what is written to one end is what the other hears.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// screen collects what is printed on a terminal.
type screen struct {
	text  bytes.Buffer
	lines chan []byte
}

func watchScreen(person *os.File) *screen {
	s := &screen{lines: make(chan []byte, 100)}
	go func() {
		for {
			p := make([]byte, 4096)
			n, err := person.Read(p)
			if err != nil {
				return
			}
			s.lines <- p[:n]
		}
	}()
	return s
}

func (s *screen) wait(t *testing.T, words string) {
	t.Helper()
	for late := time.After(time.Minute); !strings.Contains(s.text.String(), words); {
		select {
		case p := <-s.lines:
			s.text.Write(p)
		case <-late:
			t.Fatalf("nobody says %q: %q", words, s.text.String())
		}
	}
}

// parrot is a boot sector that repeats what it hears on the serial port; package
// hypervisor's tests have it with its text.
const parrot = "fabe2a7cfc2eac84c07406baf803eeebf4bafd03eca80174f8baf803eceeebf1"

// newParrot starts a libvirtd and in it zap, a machine that is a parrot.
func newParrot(t *testing.T) (w workshop, uri string, at *hypervisor.Hypervisor) {
	t.Helper()
	w = newWorkshop(t)
	demandRoot(t)
	demand(t, "libvirtd")
	startLibvirt(t, filepath.Join(w.dir, "l"))
	uri = "qemu:///system?socket=" + w.dir + "/l/run/libvirt-sock"
	at, err := hypervisor.Connect(t.Context(), uri, tool.Box{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { at.Close() })
	code, err := hex.DecodeString(parrot)
	if err != nil {
		t.Fatal(err)
	}
	sector := make([]byte, 1<<20)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	disk := filepath.Join(w.dir, "parrot")
	text := "<domain type='qemu'><name>zap</name><uuid>" + domain.UUID("zap") + "</uuid><metadata>" + domain.Mark{Host: "zap", Generation: "one"}.String() +
		"</metadata><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>" +
		"<devices><disk type='file'><driver name='qemu' type='raw'/><source file='" + disk + "'/><target dev='vda' bus='virtio'/></disk>" +
		"<controller type='virtio-serial' index='0'/><serial type='pty'/><memballoon model='none'/></devices></domain>"
	if err := errors.Join(os.WriteFile(disk, sector, 0o644), at.Define(text), at.Start("zap", false)); err != nil {
		t.Fatal(err)
	}
	return w, uri, at
}

// TestConsole: a person at a terminal sees and types, and however it ends the terminal
// is as it was.
func TestConsole(t *testing.T) {
	w, uri, at := newParrot(t)
	piped(t, exec.Command(w.bake, "--config", w.dir, "console", "--host", "zap", "--connect", uri))
	for _, test := range []struct {
		name   string
		end    func(t *testing.T, bake *exec.Cmd, person *os.File)
		args   []string
		status int
	}{
		{"the key that leaves", func(t *testing.T, _ *exec.Cmd, person *os.File) { write(t, person, "\x1d") }, nil, 0},
		{"the key after others", func(t *testing.T, _ *exec.Cmd, person *os.File) { write(t, person, "ab\x1dcd") }, nil, 0},
		{"read only", func(t *testing.T, _ *exec.Cmd, person *os.File) { write(t, person, "ab\x1d") }, []string{"--read-only"}, 0},
		{"terminated", func(t *testing.T, bake *exec.Cmd, _ *os.File) { signalTo(t, bake, syscall.SIGTERM) }, nil, 130},
		{"hung up", func(t *testing.T, bake *exec.Cmd, _ *os.File) { signalTo(t, bake, syscall.SIGHUP) }, nil, 130},
		{"thrown out", func(t *testing.T, _ *exec.Cmd, _ *os.File) {
			if err := at.Attach(t.Context(), "zap", strings.NewReader(""), &bytes.Buffer{}, true); err != nil {
				t.Error(err)
			}
		}, nil, 4},
		{"libvirtd is killed", func(t *testing.T, _ *exec.Cmd, _ *os.File) { killLibvirt(t, filepath.Join(w.dir, "l")) }, nil, 4},
		{"the machine is another", func(t *testing.T, _ *exec.Cmd, _ *os.File) {
			w.tool(t, "sh", "-c", `for i in $(seq 100); do virsh -q -c "$0" "destroy zap; start zap" && exit; sleep 0.1; done; exit 1`, uri)
		}, nil, 0},
		{"the machine is yet another", func(t *testing.T, _ *exec.Cmd, _ *os.File) {
			w.tool(t, "virsh", "-q", "-c", uri, "destroy zap; start zap")
		}, nil, 0},
		{"the machine goes off", func(t *testing.T, _ *exec.Cmd, _ *os.File) {
			// A libvirtd that was killed has to find the machine again first.
			w.tool(t, "sh", "-c", `for i in $(seq 100); do virsh -q -c "$0" destroy zap && exit; sleep 0.1; done; exit 1`, uri)
		}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			person, program := openTerminal(t)
			before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			seen := watchScreen(person)
			bake := exec.Command(w.bake, append([]string{"--config", w.dir, "console", "--host", "zap", "--connect", uri}, test.args...)...)
			bake.Stdin, bake.Stdout, bake.Stderr = program, program, program
			reachable(t, uri)
			if err := bake.Start(); err != nil {
				t.Fatal(err)
			}
			seen.wait(t, "this is its console")
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // it says so before it sets it
				now, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
				if err != nil || time.Now().After(deadline) {
					t.Fatalf("the terminal is not set: %v", err)
				}
				if now.Lflag&unix.ECHO == 0 {
					break
				}
			}
			if test.args == nil {
				write(t, person, "hello")
				seen.wait(t, "hello")
			}
			test.end(t, bake, person)
			_ = bake.Wait()
			if code := bake.ProcessState.ExitCode(); code != test.status {
				t.Errorf("exit status %d, want %d: %q", code, test.status, seen.text.String())
			}
			after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal is another: %+v, %+v, %v", before, after, err)
			}
		})
	}
	out, err := exec.Command(w.bake, "--config", w.dir, "console", "--host", "zap", "--connect", uri).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 || !strings.Contains(string(out), "zap is off: bake up --host zap") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestStatusDrift: bake status says what runs that is not defined, and what is defined that
// was not baked.
func TestStatusDrift(t *testing.T) {
	w, uri, at := newParrot(t)
	status := func() string {
		t.Helper()
		out, err := exec.Command(w.bake, "--config", w.dir, "--out", filepath.Join(w.dir, "out"), "status", "--host", "zap", "--connect", uri).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	w.write(t, "hosts/zap.yaml", hostFixture[:strings.Index(hostFixture, "machine:")]+"machine: {disk: 1GiB, images: "+w.dir+"/images}\n"+hostFixture[strings.Index(hostFixture, "admin:"):], 0o644)
	if out := status(); strings.Contains(out, "drift") || strings.Contains(out, "edited") {
		t.Errorf("a machine that nobody has touched: %s", out)
	}
	w.write(t, "bell.xml", "<channel type='unix'><target type='virtio' name='bell'/></channel>", 0o644)
	w.tool(t, "virsh", "-q", "-c", uri, "attach-device", "--live", "zap", w.dir+"/bell.xml")
	m, err := at.Find("zap")
	if err != nil {
		t.Fatal(err)
	}
	baked := strings.Replace(m.XML, "<on_crash>destroy", "<on_crash>preserve", 1)
	baked = strings.Replace(baked, w.dir+"/parrot'/>", w.dir+"/zap/one/disk'/>", 1)
	baked = strings.Replace(baked, "<target dev='vda' bus='virtio'/>", "<target dev='vda' bus='virtio'/><serial>bake-root</serial>", 1)
	w.write(t, "images/zap/one/domain.xml", baked, 0o644)
	w.write(t, "images/zap/report.json", `{"guest": {"os": "Debian 13", "kernel": "6.12", "systemd": "257"}}`, 0o600)
	out := status()
	for _, want := range []string{
		"guest       Debian 13, kernel 6.12, systemd 257",
		"drift       devices/channel[bell]: present runs, absent is defined",
		"edited      on_crash: destroy is defined, preserve is in its generation",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

// piped: what is no terminal is typed as it is, and its end is not the end.
func piped(t *testing.T, bake *exec.Cmd) {
	t.Helper()
	read, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	bake.Stdin, bake.Stdout = strings.NewReader("piped\x1d!"), out
	if err := errors.Join(bake.Start(), out.Close()); err != nil {
		t.Fatal(err)
	}
	watchScreen(read).wait(t, "piped\x1d!")
	signalTo(t, bake, os.Interrupt)
	_ = bake.Wait()
	if code := bake.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit status %d", code)
	}
}

func write(t *testing.T, to *os.File, text string) {
	t.Helper()
	if _, err := to.WriteString(text); err != nil {
		t.Error(err)
	}
}

func signalTo(t *testing.T, cmd *exec.Cmd, signal os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(signal); err != nil {
		t.Error(err)
	}
}
