//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"bake/internal/console"
	"bake/internal/tool"
	"bake/internal/verify"
	"bake/internal/vm"
)

// The neighbours of a guest: a network namespace with a tap in it that is the
// guest's second card, one that no rule names. There is no route out of it, so
// no packet of a test is seen by anybody else.

// street is that namespace. It has no name: it goes away with its last open
// file, so that a killed test leaves nothing either.
type street struct {
	space, tap *os.File
}

// Who lives there. The scanner is never one who fails to log in.
const (
	guestV4, guestV6     = "10.77.0.2", "fd77::2"
	scannerV4, scannerV6 = "10.77.0.1", "fd77::1"
	friendV4, friendV6   = "10.77.0.4", "fd77::4"
	managerV4, managerV6 = "10.77.0.5", "fd77::5"
	strangersV4          = "10.77.0.%d" // from 16 on
	strangersV6          = "fd77::%d"
	dockerV4, dockerV6   = "10.201.0.0/16", "fd77:1::/64"
)

// newStreet skips without root, but not in CI: what is not tried is not so.
func newStreet(t *testing.T) *street {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("only root can make a network namespace")
	}
	s := &street{}
	if err := s.found(); err != nil {
		t.Fatalf("making a network namespace: %v", err)
	}
	t.Cleanup(func() { s.space.Close(); s.tap.Close() })
	s.ip(t, "link set lo up")
	s.ip(t, "link set tap0 up")
	for _, v4 := range []string{scannerV4, friendV4, managerV4, fmt.Sprintf(strangersV4, 16), fmt.Sprintf(strangersV4, 17)} {
		s.ip(t, "addr add "+v4+"/24 dev tap0")
	}
	for _, v6 := range []string{scannerV6, friendV6, managerV6, fmt.Sprintf(strangersV6, 16), fmt.Sprintf(strangersV6, 17)} {
		s.ip(t, "addr add "+v6+"/64 dev tap0 nodad")
	}
	// Past the published ports: Docker's networks are behind the guest.
	s.ip(t, "route add "+dockerV4+" via "+guestV4)
	s.ip(t, "route add "+dockerV6+" via "+guestV6)
	return s
}

// found makes the namespace and the tap in it.
func (s *street) found() error {
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.space, err = os.Open("/proc/thread-self/ns/net")
		}
		if err == nil {
			s.tap, err = openTap("tap0")
		}
		made <- err
	}()
	return <-made
}

func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("making the tap %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// inside does something in the namespace: sockets that are opened and programs
// that are started belong there. It must not end the test.
func (s *street) inside(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // see found
		err := unix.Setns(int(s.space.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

func (s *street) run(ctx context.Context, program string, args ...string) (out []byte, err error) {
	err = s.inside(func() error {
		out, err = tool.Box{}.Run(ctx, program, args...)
		return err
	})
	return out, err
}

func (s *street) ip(t *testing.T, line string) {
	t.Helper()
	if _, err := s.run(t.Context(), "ip", strings.Fields(line)...); err != nil {
		t.Fatalf("ip %s: %v", line, err)
	}
}

// neighbourTime is how long a neighbour waits before silence is an answer.
const neighbourTime = 3 * time.Second

// dial opens a connection from one of the addresses; address and port of the
// other end are written as net.Dial wants them.
func (s *street) dial(from, to string) (conn net.Conn, err error) {
	err = s.inside(func() error {
		dialer := net.Dialer{Timeout: neighbourTime, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err = dialer.Dial("tcp", to)
		return err
	})
	return conn, err
}

// What a neighbour meets at a port. Mute is a port that takes connections and
// says nothing.
const (
	silent  = "silent"
	refused = "refused"
	mute    = "mute"
	hello   = "hello"
)

// knock asks for a web page that says hello. Any other outcome than the four
// is a network that does not work, and is returned as the words for it.
func (s *street) knock(from, to string) string {
	conn, err := s.dial(from, to)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return silent
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case err != nil:
		return err.Error()
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(neighbourTime))
	_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	page, _ := io.ReadAll(io.LimitReader(conn, 4<<10))
	if strings.Contains(string(page), "hello") {
		return hello
	}
	return mute
}

// login tries to log in to the guest, once.
func (s *street) login(from, guest, user string, methods ...ssh.AuthMethod) error {
	conn, err := s.dial(from, net.JoinHostPort(guest, "22"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	client, channels, requests, err := ssh.NewClientConn(conn, guest, &ssh.ClientConfig{
		User: user, Auth: methods,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // nothing secret is sent
	})
	if err != nil {
		return err
	}
	return ssh.NewClient(client, channels, requests).Close()
}

// greet answers everybody at an address of the namespace with hello.
func (s *street) greet(t *testing.T, at string) {
	t.Helper()
	var door net.Listener
	err := s.inside(func() (err error) {
		door, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { door.Close() })
	go func() {
		for {
			conn, err := door.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(neighbourTime))
				_, _ = conn.Read(make([]byte, 4<<10))
				_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nhello\n")
			}()
		}
	}()
}

// house is a guest on the street: a generation of zap, booted.
type house struct {
	*vm.Machine
	spec   vm.Spec
	ctx    context.Context // of the test: the machine ends with it
	street *street
	plan   verify.Plan
	signer ssh.Signer // its key opens the administrator's account
	keys   []ssh.PublicKey
	client *ssh.Client
	places chan struct{} // sessions at a time: sshd allows ten in a connection
}

// begin boots the latest generation of zap, changed as the test wants it, and does
// not wait for it.
func begin(ctx context.Context, t *testing.T, l lab, change func(*vm.Spec)) *house {
	t.Helper()
	h := &house{ctx: ctx, signer: newSigner(t), places: make(chan struct{}, 8)}
	generation := filepath.Join(l.out, "zap", "latest")
	claims, err := os.ReadFile(filepath.Join(generation, "claims.json"))
	if err == nil {
		err = json.Unmarshal(claims, &h.plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := vm.LoginCredential(string(ssh.MarshalAuthorizedKey(h.signer.PublicKey())), h.plan.Admin)
	if err != nil {
		t.Fatal(err)
	}
	accel, _, err := vm.Accelerator(ctx, tool.Box{}, "", "amd64", os.Getenv("BAKE_ACCEL"))
	if err != nil {
		t.Fatal(err)
	}
	spec := vm.Spec{
		Disk: filepath.Join(generation, "disk.qcow2"), Seed: filepath.Join(generation, "seed.iso"),
		Accel: accel, Firmware: h.plan.Firmware, VCPUs: h.plan.VCPUs, Memory: h.plan.Memory,
		MAC: h.plan.MAC, Credentials: credentials}
	if secrets := filepath.Join(l.out, "zap", secretsName); fileExists(secrets) {
		spec.Secrets = secrets
	}
	if payload := filepath.Join(generation, payloadName); fileExists(payload) {
		spec.Payload = payload
	}
	change(&spec)
	if path := os.Getenv("BAKE_E2E_CONSOLE"); path != "" { // to watch a boot
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		spec.Console = file
	}
	h.spec = spec
	h.Machine, err = vm.Start(ctx, tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console's end:%s", console.Tail(strings.Split(strings.TrimSpace(h.Console()), "\n")))
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// settle boots the latest generation of zap and gives it its addresses on the
// street. They are given by hand: the artifact knows nothing of that card.
func settle(ctx context.Context, t *testing.T, l lab, s *street) *house {
	t.Helper()
	h := begin(ctx, t, l, func(spec *vm.Spec) { spec.Cards = []*os.File{s.tap} })
	h.street = s
	if h.plan.Attest != "" {
		if verdict := h.verdicts(t, 1); !verdict.OK {
			t.Fatalf("the machine stayed shut: %+v", verdict)
		}
	}
	h.enter(t)
	h.run(t, "cloud-init status --wait || :") // it may be sealed
	h.moveIn(t)
	return h
}

// moveIn finds the card that is not the artifact's and gives it addresses, for
// this boot.
func (h *house) moveIn(t *testing.T) {
	t.Helper()
	h.run(t, `systemctl is-system-running --wait
for device in /sys/class/net/*/device; do
	card=${device%/device}
	[ "$(cat $card/address)" = `+h.plan.MAC+` ] && continue
	ip link set ${card##*/} up
	ip addr add `+guestV4+`/24 dev ${card##*/}
	ip addr add `+guestV6+`/64 dev ${card##*/} nodad
done`)
}

// enter logs in by the first card; sshd may still be starting.
func (h *house) enter(t *testing.T) {
	t.Helper()
	if h.keys == nil {
		keys, err := h.HostKeys(h.ctx)
		if err != nil {
			t.Fatal(err)
		}
		h.keys = keys
	}
	h.await(t, "a login by the first card", func() (bool, error) {
		client, err := h.SSH(h.ctx, h.plan.Admin, []ssh.AuthMethod{ssh.PublicKeys(h.signer)}, h.keys)
		if err != nil {
			// Refused is who comes while the guest boots or shuts down.
			if errors.Is(err, vm.ErrUnreachable) || errors.Is(err, vm.ErrRefused) {
				err = nil
			}
			return false, err
		}
		h.client = client
		return true, nil
	})
}

// await looks until something has happened, and gives up when the test's time
// is up or a look fails.
func (h *house) await(t *testing.T, what string, happened func() (bool, error)) {
	t.Helper()
	if err := h.until(what, happened); err != nil {
		t.Fatal(err)
	}
}

func (h *house) until(what string, happened func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(h.ctx, 10*time.Minute) // of a busy machine
	defer cancel()
	for {
		done, err := happened()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s has not happened: %w", what, context.Cause(ctx))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// run runs a script as root in the guest and returns its standard output.
func (h *house) run(t *testing.T, script string) string {
	t.Helper()
	out, err := h.try(script)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (h *house) try(script string) (string, error) {
	return h.feed("sudo -n /bin/sh", strings.NewReader(script))
}

// feed runs a command with something on its standard input.
func (h *house) feed(command string, input io.Reader) (string, error) {
	h.places <- struct{}{}
	defer func() { <-h.places }()
	session, err := h.client.NewSession()
	if err != nil {
		return "", fmt.Errorf("asking the guest: %w", err)
	}
	defer session.Close()
	var stdout, stderr strings.Builder
	session.Stdin, session.Stdout, session.Stderr = input, &stdout, &stderr
	if err := session.Run(command); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", command, err, stdout.String(), stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// keep and restore take the whole machine back, connections made anew.
func (h *house) keep(t *testing.T, name string) {
	t.Helper()
	h.client.Close()
	if err := h.Snapshot(h.ctx, name); err != nil {
		t.Fatal(err)
	}
	h.enter(t)
}

func (h *house) restore(t *testing.T, name string) {
	t.Helper()
	h.client.Close()
	if err := h.Restore(h.ctx, name); err != nil {
		t.Fatal(err)
	}
	h.enter(t)
}
