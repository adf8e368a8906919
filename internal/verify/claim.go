package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/layer"
	"bake/internal/vm"
)

const (
	commandTime = 3 * time.Minute // one command in the guest, under emulation, with room
	loginTime   = time.Minute
)

// What a login attempt ends with.
const (
	accepted = "accepted"
	refused  = "refused"
)

// evidence is how much an observation says against a claim that it does not
// bear out.
type evidence int

const (
	nothing evidence = iota // the observation could not be made
	absence                 // nobody answers any more: a restart looks the same for a moment
	proof                   // seen
)

// try finds out whether one claim holds.
func (r *run) try(ctx context.Context, c layer.Check) {
	if c.Outside != nil && c.Outside.None != "" {
		return
	}
	r.Stage(fmt.Sprintf("%s: %s: %s", r.Plan.Host, c.Layer, c.Claim))
	result, _ := r.observe(ctx, c)
	r.result(c, result)
}

// observe makes the observation of a check once. The evidence is of interest
// only when the claim does not hold.
func (r *run) observe(ctx context.Context, c layer.Check) (Result, evidence) {
	result := Result{Layer: c.Layer, Claim: c.Claim}
	var against evidence
	if c.Inside != nil {
		against = r.tryInside(ctx, *c.Inside, &result)
	} else {
		against = r.tryOutside(ctx, *c.Outside, &result)
	}
	return result, against
}

func (r *run) tryInside(ctx context.Context, in layer.Inside, result *Result) evidence {
	result.Where, result.Ran = "inside", in.Run
	if err := r.enter(ctx); err != nil {
		result.Got = fmt.Sprintf("not tried, nobody can log in: %v", err)
		return nothing
	}
	out, exit, err := r.execute(ctx, in.Run)
	if err != nil {
		result.Got = err.Error()
		return nothing
	}
	if result.Claim == claimInit {
		result.OK, result.Want, result.Got = judgeCloudInit(out)
	} else {
		result.OK, result.Want, result.Got = judge(in, out, exit)
	}
	return proof
}

// execute runs a shell command as root in the guest, where enter has
// succeeded. The error says that it could not be run or did not end; a failing
// command is an exit status.
func (r *run) execute(ctx context.Context, command string) (out string, exit int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTime, fmt.Errorf("no end within %s", commandTime))
	defer cancel()
	stdout, stderr, exit, err := r.root.run(ctx, command)
	if err != nil {
		r.leave()
		return "", 0, fmt.Errorf("asking the guest: %w", err)
	}
	if exit != 0 {
		stdout += stderr
	}
	return clean(stdout), exit, nil
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

func (r *run) tryOutside(ctx context.Context, out layer.Outside, result *Result) evidence {
	result.Where = "outside"
	if out.SSH != nil {
		return r.tryLogin(ctx, *out.SSH, result)
	}
	return r.tryPorts(ctx, *out.TCP, result)
}

func (r *run) tryPorts(ctx context.Context, ports layer.Ports, result *Result) evidence {
	result.OK = true
	against := nothing
	for _, group := range []struct {
		ports []int
		want  vm.Answer
	}{{ports.Open, vm.Accepted}, {ports.Closed, vm.Silent}} {
		for _, port := range group.ports {
			answer, err := r.machine.Knock(ctx, port)
			got := answer.String()
			if err != nil {
				got = err.Error()
			}
			result.Want += fmt.Sprintf("%d %s, ", port, group.want)
			result.Got += fmt.Sprintf("%d %s, ", port, got)
			if err == nil && answer == group.want {
				continue
			}
			result.OK = false
			switch {
			case group.want == vm.Accepted && (err == nil || errors.Is(err, vm.ErrUnreachable)):
				against = max(against, absence)
			case err == nil:
				against = proof
			}
		}
	}
	result.Want, result.Got = strings.TrimSuffix(result.Want, ", "), strings.TrimSuffix(result.Got, ", ")
	return against
}

func (r *run) tryLogin(ctx context.Context, l layer.Login, result *Result) evidence {
	result.Ran = fmt.Sprintf("ssh %s@%s with %s", l.User, r.Plan.Host, l.With)
	result.Want = l.Want
	if r.keys == nil {
		result.Got = "not tried, the machine's host keys are not known"
		return nothing
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
	against := proof
	switch {
	case err == nil:
		client.Close()
		result.Got = accepted
	case errors.Is(err, vm.ErrRefused):
		result.Got = refused
	default:
		result.Got = err.Error()
		against = nothing
		if l.Want == accepted && errors.Is(err, vm.ErrUnreachable) {
			against = absence
		}
	}
	result.OK = result.Got == result.Want
	return against
}
