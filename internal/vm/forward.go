package vm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"bake/internal/lazy"
)

// tidyTime bounds what is undone after a context may have ended.
const tidyTime = 10 * time.Second

var forwardLine = lazy.Regexp(`(?m)^\s*TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s`)

// forward opens a free port on 127.0.0.1 that leads to a port of the guest.
// m.forwards must be held.
func (m *Machine) forward(ctx context.Context, guest int) (int, error) {
	if err := m.lan.reachable(); err != nil {
		return 0, err
	}
	before, err := m.forwarded(ctx)
	if err != nil {
		return 0, err
	}
	said, err := m.monitor.human(ctx, fmt.Sprintf("hostfwd_add %s tcp:127.0.0.1:0-%v:%d", netdev, m.lan.guest, guest))
	if err != nil {
		return 0, err
	}
	if said != "" {
		return 0, fmt.Errorf("forwarding a port: %s", said)
	}
	after, err := m.forwarded(ctx)
	if err != nil {
		return 0, err
	}
	for port := range after {
		if !before[port] {
			return port, nil
		}
	}
	return 0, errors.New("forwarding a port: QEMU does not list it")
}

// unforward closes a port that forward has opened. m.forwards must be held.
func (m *Machine) unforward(ctx context.Context, port int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
	defer cancel()
	_, _ = m.monitor.human(ctx, fmt.Sprintf("hostfwd_remove %s tcp:127.0.0.1:%d", netdev, port))
}

// forwarded returns the ports on 127.0.0.1 that QEMU forwards.
func (m *Machine) forwarded(ctx context.Context) (map[int]bool, error) {
	text, err := m.monitor.human(ctx, "info usernet")
	if err != nil {
		return nil, err
	}
	return parseForwards(text), nil
}

func parseForwards(text string) map[int]bool {
	ports := map[int]bool{}
	for _, match := range forwardLine.FindAllStringSubmatch(text, -1) {
		if port, err := strconv.ParseUint(match[1], 10, 16); err == nil {
			ports[int(port)] = true
		}
	}
	return ports
}
