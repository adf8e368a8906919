package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/tool"
)

// A CommandError says that a program gave no secret.
type CommandError struct {
	Name    string // of the secret
	Program string
	Said    string // the end of its complaints, "" when it had none
	Err     error
}

func (e *CommandError) Error() string {
	text := fmt.Sprintf("secret %s: %s: %v", e.Name, e.Program, e.Err)
	if e.Said != "" {
		text += ": " + e.Said
	}
	return text
}

// Unwrap returns why it failed.
func (e *CommandError) Unwrap() error { return e.Err }

var (
	errSilent = errors.New("it printed nothing")
	errLarge  = fmt.Errorf("it printed more than %d KiB", maxSize>>10)
)

// run returns what a program prints.
func (f Finder) run(ctx context.Context, ref Ref) ([]byte, error) {
	program := ref.Command[0]
	failed := func(said string, err error) error {
		return &CommandError{Name: ref.Name, Program: program, Said: said, Err: err}
	}
	path, err := f.program(program)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", ref.Name, err)
	}
	cmd := exec.CommandContext(ctx, path, ref.Command[1:]...)
	cmd.Dir = f.Dir
	var stdout capped
	stderr := tool.Ending{Most: 4 << 10}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second // a killed program's child may hold its output open for ever
	err = cmd.Run()
	content := bytes.TrimSuffix(stdout, []byte("\n"))
	switch {
	case ctx.Err() != nil:
		return nil, failed("", context.Cause(ctx))
	case len(content) > maxSize:
		return nil, failed("", errLarge)
	case err != nil:
		return nil, failed(stderr.Lines(3), err)
	case len(content) == 0:
		return nil, failed(stderr.Lines(3), errSilent)
	}
	return content, nil
}

// program finds a program in PATH, or by a path that has a slash.
func (f Finder) program(name string) (string, error) {
	if !strings.Contains(name, "/") {
		return f.Tools.Find(name)
	}
	path, err := filepath.Abs(f.path(name)) // os/exec would take it as relative to cmd.Dir once more
	if err != nil {
		return "", err
	}
	if _, err := exec.LookPath(path); errors.Is(err, fs.ErrNotExist) {
		return "", &tool.MissingError{Name: name}
	}
	return path, nil
}

// capped keeps the largest secret and a newline. The first byte too many is kept
// as well, and ends the program. It is no bytes.Buffer, whose ReadFrom would read
// all there is.
type capped []byte

func (c *capped) Write(p []byte) (int, error) {
	room := min(len(p), maxSize+2-len(*c))
	*c = append(*c, p[:room]...)
	if room < len(p) {
		return room, errLarge
	}
	return room, nil
}
