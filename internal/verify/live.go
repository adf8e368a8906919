package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bake/internal/claim"
	"bake/internal/vm"
)

// LiveOptions say how to get at a machine that is at work.
type LiveOptions struct {
	Plan       Plan
	Generation string
	Address    string // of the machine, for what is seen from here
	// Login opens a root shell in it; end cuts it off. Nobody but root and the admin
	// is tried to be: attempts that must fail would have fail2ban shut this address
	// out of a machine that is needed.
	Login func(ctx context.Context) (stdin io.Writer, stdout, stderr io.Reader, end func(), err error)
	Stage func(text string) // is told what is being done: the next takes its place
	// Domain is what is not as it was baked in the domain that libvirt runs the machine as, a
	// line each; nil where nobody has asked, and empty for nothing.
	Domain []string
}

const (
	// knockTime is how long a port may be silent until it counts as such.
	knockTime = 5 * time.Second

	claimSame   = "It tries the claims of this generation at each boot."
	claimDomain = "What runs under libvirt is what is defined there, and that what was baked."

	// tidy takes away what claims were tried on, as the guest does after its own.
	tidy = `for script in /usr/local/lib/bake/tidy.d/*; do [ ! -x "$script" ] || "$script"; done`
)

// Live tries the claims of a generation on a machine that is at work: those about the
// inside by commands of root's, those about ports from here. Logins are left out, and
// nothing is falsified. The error says that the machine could not be tried at all.
func Live(ctx context.Context, o LiveOptions) (Report, error) {
	stdin, stdout, stderr, end, err := o.Login(ctx)
	if err != nil {
		return Report{}, err
	}
	r := run{Options: Options{Plan: o.Plan, Generation: o.Generation, Stage: o.Stage}, machine: live{address: o.Address},
		root: newShell(stdin, stdout, stderr, end), report: &Report{Schema: schema, Host: o.Plan.Host, Generation: o.Generation, Began: now(), Live: o.Address}}
	defer r.leave()
	if _, _, err := r.execute(ctx, ":"); err != nil {
		return Report{}, err
	}
	r.guestFacts(ctx)
	same := claim.Check{Layer: claim.BootLayer, Claim: claimSame,
		Inside: &claim.Inside{Run: "sha256sum < /usr/local/lib/bake/claims.json | cut -d' ' -f1", Is: &o.Plan.Attest}}
	if o.Plan.Attest != "" {
		r.try(ctx, same)
	}
	if o.Domain != nil {
		r.result(claim.Check{Layer: claim.BootLayer, Claim: claimDomain}, Result{Result: claim.Result{Layer: claim.BootLayer, Claim: claimDomain,
			Where: "outside", OK: len(o.Domain) == 0, Ran: "bake status", Want: "nothing else", Got: strings.Join(o.Domain, "\n")}})
	}
	for _, l := range o.Plan.Layers {
		for _, check := range l.Checks {
			if check.Outside == nil || check.Outside.SSH == nil {
				r.try(ctx, check)
			}
		}
	}
	r.noteSockets(ctx)
	_, exit, err := r.execute(ctx, tidy)
	if err == nil && exit != 0 {
		err = fmt.Errorf("taking away what claims were tried on: exit status %d", exit)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return *r.report, err
}

// live is a machine that bake has not started: it can be knocked at.
type live struct {
	machine // nothing else is asked of it
	address string
}

// Knock asks a port of the machine from here.
func (l live) Knock(ctx context.Context, port int) (vm.Answer, error) {
	conn, err := (&net.Dialer{Timeout: knockTime}).DialContext(ctx, "tcp", net.JoinHostPort(l.address, strconv.Itoa(port)))
	var late net.Error
	switch {
	case err == nil:
		return vm.Accepted, conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED):
		return vm.Refused, nil
	case ctx.Err() == nil && errors.As(err, &late) && late.Timeout():
		return vm.Silent, nil
	}
	return vm.Silent, err
}
