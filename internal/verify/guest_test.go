package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/claim"
	"bake/internal/vm"
)

// guest is a machine made of a directory. Its root shell is a real one that
// runs there; what it looks like from outside are files in it:
//
//	login-USER  how a login ends: accepted, refused, silent
//	port-N      how a port answers: accepted, refused, silent, down
//	no-sudo     exists when sudo refuses
//
// A file with several words gives one at each look and keeps the last.
type guest struct {
	dir, kept string
	listener  net.Listener
	host      ssh.Signer

	console  string
	noKeys   error // what HostKeys fails with
	noKeep   error // what Snapshot fails with
	noReturn error // what Restore fails with
	restored int
	mutex    sync.Mutex
	conns    []net.Conn // made so far; none survives a Restore
}

func newGuest(t *testing.T, files map[string]string) *guest {
	t.Helper()
	host, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{dir: t.TempDir(), kept: filepath.Join(t.TempDir(), "kept"), host: host}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if g.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.listener.Close() })
	go func() {
		for {
			conn, err := g.listener.Accept()
			if err != nil {
				return
			}
			g.mutex.Lock()
			g.conns = append(g.conns, conn)
			g.mutex.Unlock()
			go g.serve(conn)
		}
	}()
	return g
}

// look returns the next word of a file, "" without one.
func (g *guest) look(name string) string {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	path := filepath.Join(g.dir, name)
	text, _ := os.ReadFile(path)
	word, rest, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	if rest != "" {
		_ = os.WriteFile(path, []byte(rest), 0o600)
	}
	return word
}

func (g *guest) serve(conn net.Conn) {
	defer conn.Close()
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(g.host)
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offer := range channels {
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		go g.session(channel, requests)
	}
}

func (g *guest) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	request := <-requests
	go ssh.DiscardRequests(requests)
	_ = request.Reply(true, nil)
	if g.look("no-sudo") != "" {
		fmt.Fprintln(channel.Stderr(), "sudo: a password is required")
		return
	}
	cmd := exec.Command("/bin/sh")
	cmd.Dir, cmd.Stdout, cmd.Stderr = g.dir, channel, channel.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil && cmd.Start() == nil {
		go func() {
			_, _ = io.Copy(stdin, channel)
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // nothing outlives the test
		}()
		_ = cmd.Wait() // ends with the shell, whether or not its input has
	}
}

func (g *guest) Console() string { return g.console }

func (g *guest) WaitConsole(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	if m := pattern.FindStringSubmatch(g.console); m != nil {
		return m, nil
	}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (g *guest) HostKeys(context.Context) ([]ssh.PublicKey, error) {
	return []ssh.PublicKey{g.host.PublicKey()}, g.noKeys
}

func (g *guest) SSH(ctx context.Context, user string, auth []ssh.AuthMethod, _ []ssh.PublicKey) (*ssh.Client, error) {
	switch how := g.look("login-" + user); how {
	case accepted:
	case "silent":
		return nil, fmt.Errorf("logging in: %w", vm.ErrUnreachable)
	default:
		return nil, fmt.Errorf("logging in: %w", vm.ErrRefused)
	}
	return ssh.Dial("tcp", g.listener.Addr().String(), &ssh.ClientConfig{User: user, Auth: auth,
		HostKeyCallback: ssh.FixedHostKey(g.host.PublicKey())})
}

func (g *guest) Knock(_ context.Context, port int) (vm.Answer, error) {
	switch g.look(fmt.Sprintf("port-%d", port)) {
	case "accepted":
		return vm.Accepted, nil
	case "refused":
		return vm.Refused, nil
	case "down":
		return vm.Silent, fmt.Errorf("knocking: %w", vm.ErrUnreachable)
	case "broken":
		return vm.Silent, errors.New("knocking: no capture")
	}
	return vm.Silent, nil
}

func (g *guest) Snapshot(context.Context, string) error {
	if g.noKeep != nil {
		return g.noKeep
	}
	return os.CopyFS(g.kept, os.DirFS(g.dir))
}

func (g *guest) Restore(context.Context, string) error {
	g.restored++
	if g.noReturn != nil {
		return g.noReturn
	}
	g.mutex.Lock()
	for _, conn := range g.conns {
		conn.Close()
	}
	g.mutex.Unlock()
	files, err := os.ReadDir(g.dir)
	for _, file := range files {
		err = errors.Join(err, os.RemoveAll(filepath.Join(g.dir, file.Name())))
	}
	return errors.Join(err, os.CopyFS(g.dir, os.DirFS(g.kept)))
}

func (g *guest) Port(int) net.Conn { return nil }

func (g *guest) Wire() *vm.Wire { return nil }

func (g *guest) Guest() netip.Addr { return netip.MustParseAddr("10.0.2.15") }

func (g *guest) Close() error { return nil }

// inspect returns a run on the guest that is about to try checks.
func (g *guest) inspect(t *testing.T) *run {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Options: Options{Plan: Plan{Host: "zap", Admin: "ops"}, Say: func(string) {}, Stage: func(string) {},
		Deadline: time.Minute, Falsify: true},
		machine: g, signer: key, keys: []ssh.PublicKey{g.host.PublicKey()}, report: &Report{Host: "zap", Falsify: true}}
	t.Cleanup(r.leave)
	return r
}

// inside is a check that the guest's file holds a word.
func inside(falsify string) claim.Check {
	return claim.Check{Layer: "taste", Claim: "The state is good.", Falsify: falsify,
		Inside: &claim.Inside{Run: "cat state", Is: text("good")}}
}
