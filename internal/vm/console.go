package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"bake/internal/console"
)

const consoleLimit = 4 << 20 // bytes of text kept

// consoleText keeps what the guest writes on its first serial port, as plain text.
type consoleText struct {
	live io.Writer // may be nil; a failed copy is dropped, not the guest

	mu    sync.Mutex
	text  []byte // at most 2*consoleLimit, so that trimming is rare
	lost  int64  // bytes that no longer are in text
	plain console.Plain
	grown chan struct{} // closed and replaced when text grows
}

func newConsole(live io.Writer) *consoleText {
	return &consoleText{live: live, grown: make(chan struct{})}
}

func (c *consoleText) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := c.plain.Filter(p)
	if c.live != nil {
		if _, err := c.live.Write(text); err != nil {
			c.live = nil
		}
	}
	c.text = append(c.text, text...)
	if len(c.text) > 2*consoleLimit {
		extra := len(c.text) - consoleLimit
		c.lost += int64(extra)
		c.text = append(c.text[:0], c.text[extra:]...)
	}
	close(c.grown)
	c.grown = make(chan struct{})
	return len(p), nil
}

// look returns the text so far and a channel that closes when there is more.
func (c *consoleText) look() (string, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), c.grown
}

// tail returns the last lines of the text, indented.
func (c *consoleText) tail() string {
	text, _ := c.look()
	return console.Tail(strings.Split(strings.TrimRight(text, "\n"), "\n"))
}

// Console returns what the guest has written on its first serial port, the
// last 4 MiB at least, as plain text: see Spec.Console.
func (m *Machine) Console() string {
	text, _ := m.console.look()
	return text
}

// WaitConsole waits until a complete line on the console, or several, match a
// pattern, and returns the first match and its groups. What was written before
// the call counts. A line that is still being written does not, so that a
// pattern never matches half a digest.
//
// The error wraps the context's or says that the machine has ended and why;
// its text ends with the last lines of the console.
func (m *Machine) WaitConsole(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		text, grown := m.console.look()
		if match := matchLines(text, pattern); match != nil {
			return match, nil
		}
		var cause error
		select {
		case <-grown:
			continue
		case <-ctx.Done():
		case <-m.heard: // nothing more will come, but the last of it may be new
			text, _ := m.console.look()
			if match := matchLines(text, pattern); match != nil {
				return match, nil
			}
			cause = m.dead()
		}
		if ctx.Err() != nil { // it may be why the machine has ended
			cause = context.Cause(ctx)
		}
		return nil, fmt.Errorf("waiting for %q on the console: %w; its last lines:%s",
			pattern, cause, m.console.tail())
	}
}

// HostKeys waits for the public host keys that are printed on the console at the
// end of a boot, and returns those of the last list. With them the first login
// needs no trust on first use: the console is wired to this process, the network
// is not.
func (m *Machine) HostKeys(ctx context.Context) ([]ssh.PublicKey, error) {
	_, err := m.WaitConsole(ctx, console.HostKeyBlock.Compiled())
	var keys []ssh.PublicKey
	if err == nil {
		keys, err = console.HostKeys(m.Console())
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ssh host keys: %w", err)
	}
	return keys, nil
}

// dead says how the machine ended. It waits for the end, which is near when
// the console has closed.
func (m *Machine) dead() error {
	<-m.child.done
	if m.closed() {
		return errors.New("the machine was closed")
	}
	return m.child.ended()
}

// orDead returns how the machine ended if it has, and err if it runs.
func (m *Machine) orDead(err error) error {
	select {
	case <-m.child.done:
		return m.dead()
	default:
		return err
	}
}

func matchLines(text string, pattern *regexp.Regexp) []string {
	return pattern.FindStringSubmatch(text[:strings.LastIndexByte(text, '\n')+1])
}
