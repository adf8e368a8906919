package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/claim"
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
	confined = "confined"
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
func (r *run) try(ctx context.Context, c claim.Check) {
	if c.Outside != nil && c.Outside.None != "" {
		return
	}
	if c.Inside != nil && r.guest != nil {
		r.result(c, r.attested(c))
		return
	}
	r.Stage(fmt.Sprintf("%s: %s: %s", r.Plan.Host, c.Layer, c.Claim))
	result, _ := r.observe(ctx, c)
	r.result(c, result)
}

// observe makes the observation of a check once. The evidence is of interest
// only when the claim does not hold.
func (r *run) observe(ctx context.Context, c claim.Check) (Result, evidence) {
	result := Result{Result: claim.Result{Layer: c.Layer, Claim: c.Claim}}
	var against evidence
	if c.Inside != nil {
		against = r.tryInside(ctx, c, &result)
	} else {
		against = r.tryOutside(ctx, *c.Outside, &result)
	}
	return result, against
}

func (r *run) tryInside(ctx context.Context, c claim.Check, result *Result) evidence {
	result.Where, result.Ran = "inside", c.Inside.Run
	if err := r.enter(ctx); err != nil {
		result.Got = fmt.Sprintf("not tried, nobody can log in: %v", err)
		return nothing
	}
	out, exit, err := r.execute(ctx, c.Inside.Run)
	if err != nil {
		result.Got = err.Error()
		return nothing
	}
	result.Result = c.Try(out, exit)
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
	return claim.Clean(stdout), exit, nil
}

func (r *run) tryOutside(ctx context.Context, out claim.Outside, result *Result) evidence {
	result.Where = "outside"
	if out.SSH != nil {
		return r.tryLogin(ctx, *out.SSH, result)
	}
	return r.tryPorts(ctx, *out.TCP, result)
}

func (r *run) tryPorts(ctx context.Context, ports claim.Ports, result *Result) evidence {
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

func (r *run) tryLogin(ctx context.Context, l claim.Login, result *Result) evidence {
	result.Ran = fmt.Sprintf("ssh %s@%s with %s", l.User, r.Plan.Host, l.With)
	result.Want = l.Want
	var shut *shutError
	switch {
	case r.keys == nil:
		result.Got = "not tried, the machine's host keys are not known"
		return nothing
	case errors.As(r.noLogin, &shut):
		result.Got = "not tried: " + shut.Error()
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
		result.Got = accepted
		if l.Want == confined {
			result.Got = confinement(ctx, client)
		}
		client.Close()
	case errors.Is(err, vm.ErrRefused):
		result.Got = refused
	default:
		result.Got = err.Error()
		against = nothing
		if l.Want != refused && errors.Is(err, vm.ErrUnreachable) {
			against = absence
		}
	}
	result.OK = result.Got == result.Want
	return against
}
