package vm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// An Answer is what an outsider gets who tries to open a TCP connection.
type Answer int

// The answers. Silent means that the question was put on the guest's network
// card and nothing came back within five seconds: a firewall drops it.
const (
	Silent Answer = iota
	Refused
	Accepted
)

func (a Answer) String() string {
	switch a {
	case Silent:
		return "silent"
	case Refused:
		return "refused"
	case Accepted:
		return "accepted"
	}
	return fmt.Sprintf("Answer(%d)", int(a))
}

const (
	patience  = 5 * time.Second       // before silence is an answer
	glance    = 20 * time.Millisecond // between two looks at the packets
	captureID = "capture"
)

// Knock tries to open a connection to a TCP port of the guest, from outside,
// and returns the guest's own answer as seen on its network card. An error
// that wraps ErrUnreachable says that the guest never got the question, for
// its network is not up: that proves nothing about the port.
func (m *Machine) Knock(ctx context.Context, port int) (Answer, error) {
	m.forwards.Lock()
	defer m.forwards.Unlock()
	answer, err := m.knock(ctx, port)
	if err != nil {
		return Silent, fmt.Errorf("knocking at port %d: %w", port, m.orDead(err))
	}
	return answer, nil
}

func (m *Machine) knock(ctx context.Context, port int) (Answer, error) {
	if port < 1 || port > 65535 {
		return Silent, errors.New("no such port")
	}
	if err := m.lan.reachable(); err != nil {
		return Silent, err
	}
	// Captured only meanwhile: a guest's downloads would fill the disk.
	capture := m.scratch.path("knock.pcap")
	if _, err := m.monitor.do(ctx, "object-add", map[string]any{
		"qom-type": "filter-dump", "id": captureID, "netdev": netdev, "file": capture, "maxlen": 128,
	}); err != nil {
		return Silent, err
	}
	defer m.uncapture(ctx, capture)
	local, err := m.forward(ctx, port)
	if err != nil {
		return Silent, err
	}
	defer m.unforward(ctx, local)
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", local))
	if err != nil {
		return Silent, err
	}
	defer conn.Close()
	// QEMU opens the connection to the guest from the port we came from.
	peer := conn.LocalAddr().(*net.TCPAddr).Port
	return watch(ctx, capture, flow{guest: m.lan.guest, port: uint16(port), peer: uint16(peer)})
}

// watch reads the growing capture until the guest has answered or has had
// time to.
func watch(ctx context.Context, capture string, f flow) (Answer, error) {
	ticker := time.NewTicker(glance)
	defer ticker.Stop()
	enough := time.NewTimer(patience)
	defer enough.Stop()
	for {
		file, err := os.ReadFile(capture)
		if err != nil {
			return Silent, err
		}
		isAsked, reply := readCapture(file, f)
		switch reply {
		case accepted:
			return Accepted, nil
		case refused:
			return Refused, nil
		}
		select {
		case <-ctx.Done():
			return Silent, context.Cause(ctx)
		case <-enough.C:
			if !isAsked {
				return Silent, fmt.Errorf("%w: the guest's network is not up", ErrUnreachable)
			}
			return Silent, nil
		case <-ticker.C:
		}
	}
}

func (m *Machine) uncapture(ctx context.Context, capture string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	_, _ = m.monitor.do(ctx, "object-del", map[string]string{"id": captureID})
	os.Remove(capture)
}
