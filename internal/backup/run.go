package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"bake/internal/tool"
)

// call is one run of restic.
type call struct {
	args    []string
	dir     string
	checks  bool                   // what it complains of is damage
	patient bool                   // it says nothing while it works, so that silence is no sign
	grows   string                 // a directory whose files show that it gets on; "": they do not
	line    func(line []byte) bool // is given what it prints, and tells whether it got on; nil: it is returned
}

const (
	defaultStall = 10 * time.Minute
	maxOutput    = 64 << 20
	goodbye      = 10 * time.Second // for restic to remove its lock
)

// run runs restic. The error is a *fault, a *tool.MissingError or the context's.
func (r *restic) run(ctx context.Context, c call) ([]byte, error) {
	stall := r.Limits.Stall
	if stall == 0 {
		stall = defaultStall
	}
	said := &tool.Ending{}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watch := time.AfterFunc(stall, func() {
		stop(stalled(r.Repository, stall, said.String()))
	})
	defer watch.Stop()
	if c.patient {
		watch.Stop()
	}
	if c.grows != "" {
		done := make(chan struct{})
		defer close(done)
		go look(c.grows, max(stall/10, time.Millisecond), done, func() { watch.Reset(stall) })
	}
	cmd, err := r.command(ctx, c)
	if err != nil {
		return nil, err
	}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting restic: %w", err)
	}
	kept, reading := consume(out, c.line, func() { watch.Reset(stall) })
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &exit):
		f := diagnose(r.String(), said.String(), exit.ExitCode())
		if f.Said == "" {
			f.Said = exit.Error()
		}
		if c.checks && f.Cause == causeFailed {
			f.Cause = causeDamaged
		}
		return nil, f
	case err != nil:
		return nil, fmt.Errorf("restic: %w", err)
	}
	return kept, reading
}

// look tells of every change of the files in a directory until it is done.
func look(dir string, every time.Duration, done <-chan struct{}, moved func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	was := ""
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		is := ""
		entries, _ := os.ReadDir(dir) // what cannot be read does not grow
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil { // else it has just gone
				is += fmt.Sprintln(entry.Name(), info.Size(), info.ModTime().UnixNano(), info.Sys().(*syscall.Stat_t).Blocks)
			}
		}
		if is != was {
			was = is
			moved()
		}
	}
}

// stalled says why a program that goes on trying does not get on. One that does not say
// so itself may just have nobody to talk to.
func stalled(repository string, after time.Duration, said string) *fault {
	f := diagnose(repository, said, 0)
	if f.Cause == causeFailed {
		f.Cause = causeStalled
		if err := knock(repository); err != nil {
			f.Cause, f.Said = causeUnreachable, err.Error()
		}
	}
	f.Said = strings.TrimSuffix(fmt.Sprintf("no progress for %v: %s", after, f.Said), ": ")
	return f
}

// knock looks whether anybody is there at all, where that can be asked.
func knock(repository string) error {
	_, address, isURL := strings.Cut(repository, "://")
	if !isURL {
		return nil
	}
	address, _, _ = strings.Cut(address, "/")
	if _, _, err := net.SplitHostPort(address); err != nil {
		port := "443"
		if strings.Contains(repository, "http://") {
			port = "80"
		}
		address = net.JoinHostPort(strings.Trim(address, "[]"), port)
	}
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// command prepares restic. All that is secret is in its environment.
func (r *restic) command(ctx context.Context, c call) (*exec.Cmd, error) {
	var args []string
	if r.Limits.Upload > 0 {
		args = append(args, fmt.Sprintf("--limit-upload=%d", max(r.Limits.Upload>>10, 1)))
	}
	if r.Limits.Download > 0 {
		args = append(args, fmt.Sprintf("--limit-download=%d", max(r.Limits.Download>>10, 1)))
	}
	if r.Cache == "" {
		args = append(args, "--no-cache")
	}
	cmd, err := r.Tools.Command(ctx, "restic", append(args, c.args...)...)
	if err != nil {
		return nil, err
	}
	r.Tools.Pass(cmd, append([]string{"SSH_AUTH_SOCK", "XDG_RUNTIME_DIR"}, tool.Proxies...)...)
	cmd.Env = append(cmd.Env, "RESTIC_REPOSITORY="+r.Repository, "RESTIC_PASSWORD="+string(r.Password.Reveal()), "RESTIC_PROGRESS_FPS=2")
	if r.Cache != "" {
		cmd.Env = append(cmd.Env, "RESTIC_CACHE_DIR="+r.Cache)
	}
	if r.Keys.isSet() {
		cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID="+string(r.Keys.Access.Reveal()), "AWS_SECRET_ACCESS_KEY="+string(r.Keys.Secret.Reveal()))
	}
	if r.Region != "" {
		cmd.Env = append(cmd.Env, "AWS_DEFAULT_REGION="+r.Region)
	}
	if r.Hold != nil {
		cmd.ExtraFiles = []*os.File{r.Hold}
	}
	cmd.Dir = c.dir
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // it takes its lock along
	cmd.WaitDelay = goodbye
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true} // ^C is for bake, which passes it on
	return cmd, nil
}

// consume reads what a program prints, to its end. Without a reader of lines it is kept.
func consume(out io.Reader, line func([]byte) bool, moved func()) (kept []byte, err error) {
	if line == nil {
		kept, err = io.ReadAll(io.LimitReader(out, maxOutput))
		_, _ = io.Copy(io.Discard, out) // so that it can end
		return kept, err
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line(lines.Bytes()) {
			moved()
		}
	}
	_, _ = io.Copy(io.Discard, out)
	return nil, lines.Err()
}
