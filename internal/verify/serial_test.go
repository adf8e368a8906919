package verify

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// served gives a guest a shell at the end of two socket pairs, as its
// virtio-serial ports have.
func served(t *testing.T, g *guest) *serial {
	t.Helper()
	pair := func() (net.Conn, *os.File) {
		ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours := os.NewFile(uintptr(ends[0]), "port")
		defer ours.Close()
		conn, err := net.FileConn(ours)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn, os.NewFile(uintptr(ends[1]), "port")
	}
	stdio, inner := pair()
	stderr, errors := pair()
	cmd := exec.Command("/bin/sh")
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = g.dir, inner, inner, errors
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		inner.Close()
		errors.Close()
	})
	return &serial{stdio: stdio, stderr: stderr, isServed: true}
}

// A shell on the ports needs no login, not even after a command was given up
// and its output is still under way.
func TestSerial(t *testing.T) {
	g := newGuest(t, map[string]string{"state": "good", "login-ops": "refused"})
	r := g.inspect(t)
	r.serial = served(t, g)
	r.try(context.Background(), inside("true"))
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
	if _, _, err := r.execute(ctx, "echo rest; echo rest >&2; sleep 1; echo rest; echo rest >&2"); !errors.Is(err, enough) {
		t.Fatalf("execute: %v", err)
	}
	r.try(context.Background(), inside("true"))
	for _, got := range r.report.Results {
		if !got.OK {
			t.Errorf("%+v", got)
		}
	}
	if r.serial.isLost {
		t.Error("the shell was given up")
	}
}

// Where the shell is gone, a login is the way in until the next Restore.
func TestSerialLost(t *testing.T) {
	g := newGuest(t, whole())
	r := g.inspect(t)
	r.serial = served(t, g)
	r.serial.stderr.Close()
	r.try(context.Background(), inside("true"))
	if got := r.report.Results[0]; !got.OK || !r.serial.isLost {
		t.Errorf("the shell is lost: %v; %+v", r.serial.isLost, got)
	}
}

// A guest without the ports is asked by the login's shell.
func TestSerialAbsent(t *testing.T) {
	g := newGuest(t, whole())
	r := g.inspect(t)
	r.serial = served(t, g)
	r.serial.isServed = false
	r.try(context.Background(), inside("true"))
	if got := r.report.Results[0]; !got.OK || r.serial.isServed || !r.serial.isLost {
		t.Errorf("%+v: %+v", *r.serial, got)
	}
}
