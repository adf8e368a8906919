package main

import (
	"context"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/term"

	"bake/internal/tool"
	"bake/internal/verify"
	"bake/layers"
)

// env is all that a command may touch of the world besides the paths it is
// given, so that every command runs in-process in tests.
type env struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Getenv   func(string) string
	Layers   fs.FS // the built-in layers
	Tools    tool.Box
	Terminal bool       // Stderr is a terminal that understands cursor movement
	Colour   bool       // Stdout is one, too, and nobody has said NO_COLOR
	Columns  func() int // of the terminal at the moment, 0 where it does not say; nil for 80
	Asks     bool       // there is a person at Stdin who can be asked

	// Exec ends this process and starts a program in its place, with the same
	// environment: its exit status is bake's.
	Exec func(path string, argv []string) error
	// Boot tries a generation in a throwaway machine: verify.Boot.
	Boot func(context.Context, verify.Options) (verify.Report, error)
	// Fleet stands between a rollout and the machines, nil for nothing between.
	Fleet func(machines) machines
}

func systemEnv() env {
	isTerminal := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" }
	return env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Layers: layers.FS,
		Exec:     func(path string, argv []string) error { return syscall.Exec(path, argv, os.Environ()) },
		Boot:     verify.Boot,
		Terminal: isTerminal(os.Stderr),
		Colour:   isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "",
		Columns: func() int {
			columns, _, _ := term.GetSize(int(os.Stderr.Fd())) // 0 with an error
			return columns
		},
		Asks: term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())),
	}
}
