package attest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"bake/internal/claim"
)

// maxOutput bounds what is kept of a command's output, in bytes: the report of a
// hundred claims fits into a port's buffers.
const maxOutput = 4 << 10

// execute runs a shell command as the root shell of bake verify does: nothing on
// its standard input, errors shown where it fails. The error says that it could
// not be run or did not end.
func (a *attestation) execute(ctx context.Context, command string) (out string, exit int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.Each, fmt.Errorf("no end within %s", a.Each))
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir = "/"
	if a.Root != "" {
		cmd.Dir = a.Root
	}
	// What a command leaves in the background does not hold its end up.
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", 0, context.Cause(ctx)
	case errors.As(err, &failed):
		exit = failed.ExitCode()
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return "", 0, err
	}
	text := string(stdout)
	if exit != 0 {
		text += string(stderr)
	}
	return claim.Clean(text), exit, nil
}

// limited keeps the start of what is written to it.
type limited []byte

func (l *limited) Write(p []byte) (int, error) {
	*l = append(*l, p[:min(len(p), maxOutput-len(*l))]...)
	return len(p), nil
}
