package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/crypto/ssh"

	"bake/internal/layer"
	"bake/internal/vm"
)

const (
	commandTime = 3 * time.Minute // one command in the guest, under emulation, with room
	loginTime   = time.Minute
	maxOutput   = 16 << 10 // what is kept of a command's output
)

// try finds out whether one claim holds.
func (r *run) try(ctx context.Context, c layer.Check) {
	if c.Outside != nil && c.Outside.None != "" {
		return
	}
	r.Stage(fmt.Sprintf("%s: %s: %s", r.Plan.Host, c.Layer, c.Claim))
	result := Result{Layer: c.Layer, Claim: c.Claim}
	if c.Inside != nil {
		r.tryInside(ctx, *c.Inside, &result)
	} else {
		r.tryOutside(ctx, *c.Outside, &result)
	}
	r.result(result)
}

func (r *run) tryInside(ctx context.Context, in layer.Inside, result *Result) {
	result.Where, result.Ran = "inside", in.Run
	if r.client == nil {
		result.Got = fmt.Sprintf("not tried, nobody can log in: %v", r.noLogin)
		return
	}
	out, exit, err := r.execute(ctx, in.Run)
	if err != nil {
		result.Got = err.Error()
		return
	}
	if result.Claim == claimInit {
		result.OK, result.Want, result.Got = judgeCloudInit(out)
		return
	}
	result.OK, result.Want, result.Got = judge(in, out, exit)
}

// execute runs a shell command as root in the guest. The error says that it
// could not be run or did not end; a failing command is an exit status.
func (r *run) execute(ctx context.Context, command string) (stdout string, exit int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("no end within %s", commandTime))
	defer cancel()
	session, err := r.client.NewSession()
	if err != nil {
		return "", 0, fmt.Errorf("asking the guest: %w", err)
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	var out, complaint limited
	session.Stdout, session.Stderr = &out, &complaint
	err = session.Run("sudo -n /bin/sh -c " + shellWord(command))
	var status *ssh.ExitError
	switch {
	case ctx.Err() != nil:
		return "", 0, fmt.Errorf("asking the guest: %w", context.Cause(ctx))
	case errors.As(err, &status):
		return clean(out.String() + complaint.String()), status.ExitStatus(), nil
	case err != nil:
		return "", 0, fmt.Errorf("asking the guest: %w", err)
	}
	return clean(out.String()), 0, nil
}

func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// limited keeps the start of what is written to it.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, maxOutput-l.Len()))])
	return len(p), nil
}

// clean makes a guest's words fit for a terminal and a report.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		if r == '\t' {
			return ' '
		}
		return unicode.ReplacementChar
	}, strings.TrimRight(text, "\n"))
}

// judge compares what a command did with what the claim wants. All matchers
// but exit demand that the command succeeded.
func judge(in layer.Inside, out string, exit int) (ok bool, want, got string) {
	got = out
	if exit != 0 {
		got = strings.TrimPrefix(fmt.Sprintf("%s\nexit status %d", out, exit), "\n")
	}
	switch {
	case in.Exit != nil:
		return exit == *in.Exit, "exit status " + strconv.Itoa(*in.Exit), fmt.Sprintf("%s (exit status %d)", out, exit)
	case in.Is != nil:
		return exit == 0 && out == strings.TrimRight(*in.Is, "\n"), *in.Is, got
	case in.Has != nil:
		return exit == 0 && strings.Contains(out, *in.Has), "with " + *in.Has, got
	case in.Lacks != nil:
		return exit == 0 && !strings.Contains(out, *in.Lacks), "without " + *in.Lacks, got
	}
	return false, "a matcher", "the check has none"
}

// judgeCloudInit reads cloud-init's own account. Releases before 23.4 know no
// extended_status and no recoverable_errors; those fields are then absent.
func judgeCloudInit(out string) (ok bool, want, got string) {
	want = "status done, no errors, no recoverable errors"
	var status struct {
		Status      string              `json:"status"`
		Extended    string              `json:"extended_status"`
		Errors      []string            `json:"errors"`
		Recoverable map[string][]string `json:"recoverable_errors"`
	}
	start := strings.IndexByte(out, '{')
	if start < 0 || json.Unmarshal([]byte(out[start:]), &status) != nil {
		return false, want, out
	}
	got = "status " + status.Status
	if status.Extended != "" {
		got = "status " + status.Extended
	}
	for _, e := range status.Errors {
		got += "; " + e
	}
	for level, warnings := range status.Recoverable {
		got += "; " + level + ": " + strings.Join(warnings, "; ")
	}
	ok = status.Status == "done" && (status.Extended == "" || status.Extended == "done") &&
		len(status.Errors) == 0 && len(status.Recoverable) == 0
	return ok, want, got
}

func (r *run) tryOutside(ctx context.Context, out layer.Outside, result *Result) {
	result.Where = "outside"
	if out.SSH != nil {
		r.tryLogin(ctx, *out.SSH, result)
		return
	}
	result.OK = true
	for _, group := range []struct {
		ports []int
		want  vm.Answer
	}{{out.TCP.Open, vm.Accepted}, {out.TCP.Closed, vm.Silent}} {
		for _, port := range group.ports {
			answer, err := r.machine.Knock(ctx, port)
			got := answer.String()
			if err != nil {
				got = err.Error()
			}
			result.Want += fmt.Sprintf("%d %s, ", port, group.want)
			result.Got += fmt.Sprintf("%d %s, ", port, got)
			result.OK = result.OK && err == nil && answer == group.want
		}
	}
	result.Want, result.Got = strings.TrimSuffix(result.Want, ", "), strings.TrimSuffix(result.Got, ", ")
}

func (r *run) tryLogin(ctx context.Context, l layer.Login, result *Result) {
	result.Ran = fmt.Sprintf("ssh %s@%s with %s", l.User, r.Plan.Host, l.With)
	result.Want = l.Want
	if r.keys == nil {
		result.Got = "not tried, the machine's host keys are not known"
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loginTime, fmt.Errorf("no end within %s", loginTime))
	defer cancel()
	var methods []ssh.AuthMethod
	switch l.With {
	case "key":
		methods = append(methods, ssh.PublicKeys(r.signer))
	case "password":
		methods = append(methods, ssh.Password("secret"))
	}
	client, err := r.machine.SSH(ctx, l.User, methods, r.keys)
	switch {
	case err == nil:
		client.Close()
		result.Got = "accepted"
	case errors.Is(err, vm.ErrRefused):
		result.Got = "refused"
	default:
		result.Got = err.Error()
	}
	result.OK = result.Got == result.Want
}
