package verify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"bake/internal/claim"
)

const maxOutput = 16 << 10 // bytes kept of a command's output

// shell is a root shell in the guest that stays open from one command to the
// next. Nothing that a command does to sshd, sudo, the user or the firewall
// takes it away; but by ssh the firewall must let established connections be.
type shell struct {
	stdin          io.Writer
	stdout, stderr *bufio.Reader
	mark           string // ends a command's output; a guest cannot foresee it
	close          func() // ends all reading at once
}

func newShell(stdin io.Writer, stdout, stderr io.Reader, close func()) *shell {
	return &shell{stdin: stdin, stdout: bufio.NewReader(stdout), stderr: bufio.NewReader(stderr),
		mark: "bake-" + rand.Text(), close: close}
}

// openShell makes a login a root shell. To close it ends the connection, not
// only the session: one that was cut is not waited for.
func openShell(client *ssh.Client) (*shell, error) {
	session, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	stdin, errIn := session.StdinPipe()
	stdout, errOut := session.StdoutPipe()
	stderr, errErr := session.StderrPipe()
	if err := errors.Join(errIn, errOut, errErr, session.Start("sudo -n /bin/sh")); err != nil {
		return nil, err
	}
	return newShell(stdin, stdout, stderr, func() { client.Close() }), nil
}

// run runs one command with nothing on its standard input. After an error the
// shell is of no more use.
func (s *shell) run(ctx context.Context, command string) (stdout, stderr string, exit int, err error) {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	// When this fails, what comes back ends at once and may say why.
	_, _ = fmt.Fprintf(s.stdin, "/bin/sh -c %s </dev/null\nprintf '\\n%s %%d\\n' $?; printf '\\n%s 0\\n' >&2\n",
		shellWord(command), s.mark, s.mark)
	var failed error
	read := make(chan struct{})
	go func() {
		defer close(read)
		stderr, _, failed = until(s.stderr, s.mark)
	}()
	stdout, exit, err = until(s.stdout, s.mark)
	if err != nil {
		s.close() // so that the other stream ends as well
	}
	<-read
	switch {
	case err == nil && failed == nil:
		return strings.TrimSuffix(stdout, "\n"), strings.TrimSuffix(stderr, "\n"), exit, nil
	case err == nil:
		err = failed
	case errors.Is(err, io.EOF) && stderr != "": // sudo said why there is no shell
		err = errors.New(claim.Clean(stderr))
	}
	return "", "", 0, orCause(ctx, err)
}

// orCause prefers the reason why a connection was cut to its symptom.
func orCause(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF):
		return errors.New("the connection to the guest was cut")
	}
	return err
}

// until reads to the line that begins with the mark and returns what came
// before, at most maxOutput bytes of it, and the number on that line.
func until(r *bufio.Reader, mark string) (text string, number int, err error) {
	var kept limited
	isStart := true
	for {
		piece, err := r.ReadSlice('\n')
		if isStart && err == nil {
			if rest, ok := bytes.CutPrefix(piece, []byte(mark+" ")); ok {
				number, err := strconv.Atoi(strings.TrimSpace(string(rest)))
				return kept.String(), number, err
			}
		}
		kept.Write(piece)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return kept.String(), 0, err
		}
		isStart = err == nil
	}
}

func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// limited keeps the start of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, maxOutput-l.Len()))])
	return len(p), nil
}
