package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// monitorLimit bounds one message from QEMU, in bytes.
const monitorLimit = 1 << 20

// monitor speaks the QEMU Machine Protocol: one JSON object per line, answers
// matched to commands by id, so that a command which was given up does not
// confuse the next one.
type monitor struct {
	wire io.ReadWriteCloser

	mu      sync.Mutex
	last    int
	pending map[int]chan answer
	err     error         // why done is closed
	done    chan struct{} // closed when nothing more can be read
}

type answer struct {
	Greeting json.RawMessage `json:"QMP"`
	Event    string          `json:"event"`
	ID       int             `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// newMonitor takes over wire and starts to listen.
func newMonitor(wire io.ReadWriteCloser) *monitor {
	q := &monitor{wire: wire, pending: map[int]chan answer{}, done: make(chan struct{})}
	go q.listen()
	return q
}

func (q *monitor) listen() {
	lines := bufio.NewScanner(q.wire)
	lines.Buffer(nil, monitorLimit)
	err := errors.New("the monitor has closed")
	for lines.Scan() {
		var a answer
		if bad := json.Unmarshal(lines.Bytes(), &a); bad != nil {
			err = fmt.Errorf("the monitor is not understood: %w", bad)
			break
		}
		if a.Event != "" || a.Greeting != nil {
			continue
		}
		q.mu.Lock()
		if waiter, ok := q.pending[a.ID]; ok {
			delete(q.pending, a.ID)
			waiter <- a
		}
		q.mu.Unlock()
	}
	if bad := lines.Err(); bad != nil {
		err = fmt.Errorf("the monitor broke: %w", bad)
	}
	q.err = err
	close(q.done)
}

// do runs one command. args may be nil.
func (q *monitor) do(ctx context.Context, command string, args any) (json.RawMessage, error) {
	q.mu.Lock()
	q.last++
	id, waiter := q.last, make(chan answer, 1)
	q.pending[id] = waiter
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, args, id})
	if err == nil {
		_, err = q.wire.Write(append(line, '\n'))
	}
	q.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	select {
	case a := <-waiter:
		if a.Error != nil {
			return nil, fmt.Errorf("%s: %s", command, a.Error.Desc)
		}
		return a.Return, nil
	case <-q.done:
		return nil, fmt.Errorf("%s: %w", command, q.err)
	case <-ctx.Done():
		q.mu.Lock()
		delete(q.pending, id)
		q.mu.Unlock()
		return nil, fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

// human runs a command of the monitor for people and returns what it printed.
// Such a command has no other way to fail than by words.
func (q *monitor) human(ctx context.Context, line string) (string, error) {
	raw, err := q.do(ctx, "human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", fmt.Errorf("%s: %w", line, err)
	}
	return strings.ReplaceAll(text, "\r\n", "\n"), nil
}
