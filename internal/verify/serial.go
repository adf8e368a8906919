package verify

import (
	"context"
	"fmt"
	"net"
	"time"
)

// The virtio-serial ports of the root shell.
const (
	shellPort  = "bake.shell"
	errorsPort = "bake.errors"
)

// agentPort is the channel of QEMU's guest agent. Nobody listens at this end: what
// the layers say of the agent is to be tried where it runs.
const agentPort = "org.qemu.guest_agent.0"

// portTime bounds how long a shell on the ports may take to say its first word.
const portTime = 30 * time.Second

// servePorts starts a root shell on the ports. It is systemd's, not the login's:
// it stays when that ends. A port can be opened once, so for both directions.
const servePorts = `test -c /dev/virtio-ports/` + shellPort + ` &&
systemd-run --quiet --collect --unit=bake-verify --setenv=HOME=/root --property=KillMode=process \
  /bin/sh -c 'exec /bin/sh 0<>/dev/virtio-ports/` + shellPort + ` 1>&0 2>/dev/virtio-ports/` + errorsPort + `'`

// serial is the host's side of the root shell that is part of the guest's
// state. After a Restore it is there again, waiting for its next command,
// whatever became of it, while a login by ssh has to be made anew.
type serial struct {
	stdio, stderr net.Conn
	isServed      bool // there is a shell at the other end, or there was when the snapshot was taken
	isLost        bool // until the next Restore
}

// move replaces the shell of a login by one on the ports, if the guest has
// them: it needs the driver virtio_console.
func (r *run) move(ctx context.Context) {
	if r.serial == nil || r.serial.isServed || r.serial.isLost {
		return
	}
	r.serial.isLost = true
	if _, exit, err := r.execute(ctx, servePorts); err != nil || exit != 0 {
		return
	}
	if s, err := r.serial.open(ctx); err == nil {
		r.leave()
		r.root = s
		r.serial.isServed, r.serial.isLost = true, false
	}
}

// open finds the shell on the ports. What a command left in them when it was
// given up, or the guest was turned back, ends with the first mark.
func (p *serial) open(ctx context.Context) (*shell, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, portTime, fmt.Errorf("no shell on the ports within %s", portTime))
	defer cancel()
	p.deadline(time.Time{})
	s := newShell(p.stdio, p.stdio, p.stderr, func() { p.deadline(time.Unix(1, 0)) })
	_, _, _, err := s.run(ctx, ":")
	return s, err
}

func (p *serial) deadline(t time.Time) {
	_ = p.stdio.SetDeadline(t)
	_ = p.stderr.SetDeadline(t)
}
