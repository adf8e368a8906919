package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"bake/internal/tool"
)

// dial reaches the daemon's socket.
func (p place) dial(ctx context.Context, tools tool.Box) (net.Conn, error) {
	if p.Host != "" {
		return p.dialSSH(ctx, tools)
	}
	getenv := tools.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	var first error
	for _, path := range p.sockets(getenv) {
		conn, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// dialSSH runs ssh, whose input and output are the daemon's socket.
func (p place) dialSSH(ctx context.Context, tools tool.Box) (net.Conn, error) {
	args := []string{"-T", "-e", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"}
	if p.Port != "" {
		args = append(args, "-p", p.Port)
	}
	if p.User != "" {
		args = append(args, "-l", p.User)
	}
	if p.Keyfile != "" {
		args = append(args, "-i", p.Keyfile, "-o", "IdentitiesOnly=yes")
	}
	args = append(args, "--", p.Host, p.helper())
	cmd, err := tools.Command(context.WithoutCancel(ctx), "ssh", args...)
	if err != nil {
		return nil, err
	}
	tools.Pass(cmd, "SSH_AUTH_SOCK", "USER", "LOGNAME")
	cmd.WaitDelay = time.Second // a child of its own may hold its output open for ever
	ends, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a pair of sockets: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "libvirt"), os.NewFile(uintptr(ends[1]), "ssh")
	defer ours.Close()
	defer theirs.Close()
	link := &sshLink{cmd: cmd, said: tool.Ending{Most: 2 << 10}, done: make(chan struct{})}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, &link.said
	if link.Conn, err = net.FileConn(ours); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, link.Conn.Close())
	}
	go func() {
		_ = cmd.Wait() // what it says is in said
		close(link.done)
		link.Conn.Close()
	}()
	return link, nil
}

// helper is the command at the other end, a line for its shell.
func (p place) helper() string {
	if p.Socket != "" {
		return "exec nc -U " + p.Socket
	}
	return fmt.Sprintf("if command -v virt-ssh-helper > /dev/null; then exec virt-ssh-helper qemu:///%s; "+
		"else exec nc -U /run/libvirt/libvirt-sock; fi", p.Instance)
}

// sshLink is a connection by way of an ssh.
type sshLink struct {
	net.Conn
	cmd  *exec.Cmd
	said tool.Ending
	done chan struct{}
}

// Close ends the ssh. The error is what it has complained of, if it ended before.
func (l *sshLink) Close() error {
	err := l.Conn.Close()
	select {
	case <-l.done:
	case <-time.After(2 * time.Second):
		_ = l.cmd.Process.Kill() // it was asked by the end of its input
		<-l.done
	}
	if text := strings.Join(strings.Fields(l.said.String()), " "); text != "" {
		return errors.New("ssh: " + text)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
