package vm

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// listening is a machine of which only the console is there.
func listening(text string) *Machine {
	m := &Machine{console: newConsole(nil), heard: make(chan struct{})}
	m.child = &process{done: make(chan struct{}), stderr: &stderr{grown: make(chan struct{})}}
	m.console.Write([]byte(text))
	return m
}

func TestWaitConsole(t *testing.T) {
	result := regexp.MustCompile(`(?m)^BAKE-RESULT v1 (\w+)`)
	t.Run("seen before", func(t *testing.T) {
		m := listening("x\r\nBAKE-RESULT v1 ok\r\n")
		got, err := m.WaitConsole(context.Background(), result)
		if err != nil || got[1] != "ok" {
			t.Errorf("WaitConsole = %q, %v", got, err)
		}
	})
	t.Run("seen later, in pieces", func(t *testing.T) {
		m := listening("")
		go func() {
			for _, part := range []string{"BAKE-RES", "ULT v1 fa", "il", "\n"} {
				m.console.Write([]byte(part))
			}
		}()
		got, err := m.WaitConsole(context.Background(), result)
		if err != nil || got[1] != "fail" {
			t.Errorf("WaitConsole = %q, %v", got, err)
		}
	})
	t.Run("half a line is none", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if got, err := listening("BAKE-RESULT v1 o").WaitConsole(ctx, result); !errors.Is(err, context.Canceled) {
			t.Errorf("WaitConsole = %q, %v", got, err)
		}
	})
	t.Run("not yet", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		m := listening(strings.Repeat("old\n", 20) + "one\n\x1b[31mtwo\n")
		_, err := m.WaitConsole(ctx, result)
		if !errors.Is(err, context.Canceled) || !strings.HasSuffix(err.Error(), "\n  | one\n  | two") ||
			strings.Count(err.Error(), "\n") != 15 {
			t.Errorf("WaitConsole: %v", err)
		}
	})
	t.Run("dead", func(t *testing.T) {
		m := listening("Kernel panic\n")
		m.child.name = boards[amd64].program
		m.child.stderr.Write([]byte(boards[amd64].program + ": no such \x1b[2Jthing\n"))
		m.child.err = errors.New("exit status 1")
		close(m.child.done)
		close(m.heard)
		_, err := m.WaitConsole(context.Background(), result)
		if err == nil || !strings.Contains(err.Error(), "QEMU died: no such thing (exit status 1)") ||
			!strings.Contains(err.Error(), "  | Kernel panic") {
			t.Errorf("WaitConsole: %v", err)
		}
	})
	t.Run("last words", func(t *testing.T) {
		m := listening("BAKE-RESULT v1 ok\n")
		close(m.child.done)
		close(m.heard)
		if _, err := m.WaitConsole(context.Background(), result); err != nil {
			t.Error(err)
		}
	})
}

func TestConsoleIsBounded(t *testing.T) {
	m := listening("")
	line := []byte(strings.Repeat("x", 1<<16-1) + "\n")
	for range 5 * consoleLimit >> 16 {
		m.console.Write(line)
	}
	m.console.Write([]byte("end\n"))
	text := m.Console()
	if len(text) < consoleLimit || len(text) > 2*consoleLimit || !strings.HasSuffix(text, "x\nend\n") {
		t.Errorf("%d bytes kept, ending %q", len(text), text[len(text)-8:])
	}
}

type brokenWriter struct{ writes int }

func (b *brokenWriter) Write([]byte) (int, error) {
	b.writes++
	return 0, errors.New("full")
}

// A reader who goes away does not stop the guest.
func TestLiveConsoleFails(t *testing.T) {
	var live brokenWriter
	c := newConsole(&live)
	for range 3 {
		if n, err := c.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if live.writes != 1 {
		t.Errorf("%d writes to a broken writer", live.writes)
	}
}
