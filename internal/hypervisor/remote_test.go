package hypervisor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"bake/internal/tool"
)

// sshd serves one command per connection on loopback, run where the shared libvirtd
// runs, to whoever has the key.
func sshd(t *testing.T, hostKey ssh.Signer, user ssh.PublicKey) (port int) {
	t.Helper()
	target := daemonPID(t, shared.dir)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), user.Marshal()) {
			return nil, errors.New("another key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn, config, target)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// daemonPID is the number of a process in a daemon's namespaces.
func daemonPID(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func serve(conn net.Conn, config *ssh.ServerConfig, target string) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			var command struct{ Text string }
			if request.Type != "exec" || ssh.Unmarshal(request.Payload, &command) != nil {
				_ = request.Reply(false, nil)
				continue
			}
			_ = request.Reply(true, nil)
			cmd := exec.Command("nsenter", "--mount", "--net", "--target", target, "/bin/sh", "-c", command.Text)
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			input, err := cmd.StdinPipe() // Run would wait for its end
			if err != nil || cmd.Start() != nil {
				return
			}
			go func() { _, _ = io.Copy(input, channel) }()
			_ = cmd.Wait()
			channel.Close()
		}
	}
}

func newKey(t *testing.T) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return private, signer
}

// TestRemote: a libvirt in other namespaces, by a real ssh that knows it; one that
// does not know it, or knows another, goes nowhere.
func TestRemote(t *testing.T) {
	daemon(t)
	_, hostKey := newKey(t)
	private, user := newKey(t)
	port := sshd(t, hostKey, user.PublicKey())

	home := t.TempDir()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	key, known := filepath.Join(home, "key"), filepath.Join(home, "known_hosts")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	// ssh reads its configuration where the password file has the home directory, not
	// by HOME; a wrapper says where it is.
	wrapper := fmt.Sprintf("#!/bin/sh\nexec ssh-real -F none -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=/dev/null \"$@\"\n", known)
	real, err := exec.LookPath("ssh")
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(home, "ssh"), []byte(strings.Replace(wrapper, "ssh-real", real, 1)), 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	box := tool.Box{Getenv: func(name string) string {
		if name == "PATH" {
			return home + ":" + os.Getenv("PATH")
		}
		return os.Getenv(name)
	}}
	uri := fmt.Sprintf("qemu+ssh://ops@127.0.0.1:%d/system?keyfile=%s", port, key)
	knows := func(signer ssh.Signer) {
		t.Helper()
		line := fmt.Sprintf("[127.0.0.1]:%d %s", port, ssh.MarshalAuthorizedKey(signer.PublicKey()))
		if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(words string) {
		t.Helper()
		var nobody *ConnectError
		if _, err := Connect(t.Context(), uri, box); !errors.As(err, &nobody) || !nobody.Network() || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want %q", err, words)
		}
	}
	refused("Host key verification failed")
	_, other := newKey(t)
	knows(other)
	refused("Host key verification failed")
	knows(hostKey)
	h, err := Connect(t.Context(), uri, box)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.CheckNetwork("default"); err != nil || !h.IsRemote() {
		t.Error(err)
	}
	content := bytes.Repeat([]byte("bake"), 1<<20)
	name := filepath.Join(t.TempDir(), "images", "x")
	if err := h.Put(t.Context(), name, bytes.NewReader(content), int64(len(content)), nil); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Read(name); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	share := filepath.Join(t.TempDir(), "shares", "one")
	if err := os.MkdirAll(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if names, err := h.List(filepath.Dir(share)); err != nil || !slices.Equal(names, []string{"one"}) { // by which bake up finds that it is there
		t.Errorf("%q, %v", names, err)
	}
	startParrot(t, h, "far")
	in, keys := io.Pipe()
	screen := newHeard()
	go func() { screen.ended <- h.Attach(t.Context(), "far", in, screen, false) }()
	if _, err := io.WriteString(keys, "from afar"); err != nil {
		t.Fatal(err)
	}
	screen.wait(t, "from afar")
	keys.Close()
	if err := <-screen.ended; err != nil {
		t.Error(err)
	}
}

// TestFullDisk: a hypervisor without room says so, and keeps nothing of the file.
func TestFullDisk(t *testing.T) {
	need(t)
	small := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("no small file system to be had: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", small).Run() })
	dir, uri := ownDaemon(t) // started since, so that it sees the mount
	h := connect(t, uri)
	name := filepath.Join(small, "images", "disk")
	content := make([]byte, 4<<20)
	for i := range content {
		content[i] = byte(i * 7)
	}
	err := h.Put(context.Background(), name, bytes.NewReader(content), int64(len(content)), nil)
	var lacks *LackError // where libvirt has not noticed
	if noticed := IsRefused(err) && strings.Contains(err.Error(), "No space left"); !noticed && !errors.As(err, &lacks) {
		t.Errorf("%v", err)
	}
	if out, err := exec.Command("nsenter", "--mount", "--target", daemonPID(t, dir), "df", small).CombinedOutput(); err != nil || t.Failed() {
		t.Logf("%v: %s", err, out)
	}
	if has, err := h.Has(name); has || err != nil {
		t.Errorf("%v, %v", has, err)
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("it is there")
	}
}
