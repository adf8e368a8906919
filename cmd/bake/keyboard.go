package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// leave is the key that ends a console, ^], as it does in virsh and telnet.
const leave = 0x1d

// keyboard is what a person types at a console. On a terminal each key is handed on as
// it is pressed, until the one that leaves; what is not a terminal is handed on as it
// is, and has no end before ctx.
type keyboard struct {
	isTerminal bool

	ctx      context.Context
	from     io.Reader
	readOnly bool
	close    func() error
}

// openKeyboard sets the terminal, if it is one, so that it hands on each key; Close
// sets it back. One that is read only keeps its own keys, such as Ctrl-C.
func (a *app) openKeyboard(ctx context.Context, machine string, readOnly bool) (*keyboard, error) {
	k := &keyboard{ctx: ctx, from: a.Stdin, readOnly: readOnly, close: func() error { return nil }}
	file, ok := a.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return k, nil
	}
	a.say("%s: this is its console, ^] leaves", machine)
	set := term.MakeRaw
	if readOnly {
		set = noEcho
	}
	before, err := set(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("setting the terminal: %w", err)
	}
	k.isTerminal = true
	k.close = func() error {
		if err := term.Restore(int(file.Fd()), before); err != nil {
			return fmt.Errorf("setting the terminal back: %w", err)
		}
		_, err := fmt.Fprintln(a.Stderr) // what was printed last need not be a whole line
		return err
	}
	return k, nil
}

// noEcho has a terminal hand on each key, and show none.
func noEcho(fd int) (before *term.State, err error) {
	before, err = term.GetState(fd)
	if err != nil {
		return nil, err
	}
	now, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	now.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	return before, unix.IoctlSetTermios(fd, unix.TCSETS, now)
}

func (k *keyboard) Read(p []byte) (int, error) {
	for {
		n, err := k.from.Read(p)
		if !k.isTerminal && err == io.EOF { // the machine may have more to say
			<-k.ctx.Done()
			return 0, io.EOF
		}
		if i := bytes.IndexByte(p[:n], leave); i >= 0 && k.isTerminal {
			n, err = i, io.EOF
		}
		if k.readOnly {
			n = 0
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Close sets the terminal back.
func (k *keyboard) Close() error { return k.close() }
