package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"bake/internal/console"
	"bake/internal/tool"
)

// process is a QEMU that cannot outlive this process, however that ends.
type process struct {
	name   string // of the program
	pid    int
	done   chan struct{} // closed when it has ended and was reaped
	err    error         // from Wait, valid after done
	stderr *stderr
}

// launch starts QEMU; the end of ctx kills it. Files become its descriptors 3,
// 4 and so on; the caller's copies stay open.
//
// The kernel kills the child when the thread that forked it ends, so a
// goroutine holds that thread until the child is gone. A group of its own
// keeps a terminal's Ctrl-C away from it: this process decides.
func launch(ctx context.Context, tools tool.Box, program string, files []*os.File, args ...string) (*process, error) {
	cmd, err := tools.Command(ctx, program, args...)
	if err != nil {
		return nil, err
	}
	child := &process{name: program, done: make(chan struct{}), stderr: &stderr{grown: make(chan struct{})}}
	cmd.Stderr = child.stderr
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			child.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		child.err = cmd.Wait()
		close(child.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	return child, nil
}

// until waits for a text on standard error or the child's end, and says
// whether the text was there.
func (p *process) until(text string) bool {
	for {
		said, grown := p.stderr.look()
		if strings.Contains(said, text) {
			return true
		}
		select {
		case <-grown:
		case <-p.done:
			said, _ := p.stderr.look()
			return strings.Contains(said, text)
		}
	}
}

// exitCode returns the status of an ended process, -1 after a signal.
func (p *process) exitCode() int {
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// aborted says whether an ended process failed an assertion.
func (p *process) aborted() bool {
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() != syscall.SIGKILL
}

// said returns the first n lines of standard error, joined by "; ": QEMU's
// first words name the cause, what follows are its consequences.
func (p *process) said(n int) string {
	text, _ := p.stderr.look()
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, p.name+": "))
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[:min(n, len(lines))], "; ")
}

// ended describes how an ended process ended.
func (p *process) ended() error {
	if p.err == nil {
		return errors.New("the machine is off: QEMU has ended")
	}
	if said := p.said(3); said != "" {
		return fmt.Errorf("QEMU died: %s (%w)", said, p.err)
	}
	return fmt.Errorf("QEMU died: %w", p.err)
}

// stderr keeps the beginning of what a process complains about.
type stderr struct {
	mu    sync.Mutex
	text  bytes.Buffer
	plain console.Plain
	grown chan struct{} // closed and replaced when text grows
}

const stderrLimit = 64 << 10

func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.plain.Filter(p)
	s.text.Write(text[:min(len(text), stderrLimit-s.text.Len())])
	close(s.grown)
	s.grown = make(chan struct{})
	return len(p), nil
}

// look returns the text so far and a channel that closes when there is more.
func (s *stderr) look() (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String(), s.grown
}
