package verify

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"bake/internal/claim"
)

// hereLogin is a root shell of this machine's, or what a test says instead.
func hereLogin(script string) func(context.Context) (io.Writer, io.Reader, io.Reader, func(), error) {
	return func(context.Context) (io.Writer, io.Reader, io.Reader, func(), error) {
		cmd := exec.Command("/bin/sh", "-c", script)
		stdin, errIn := cmd.StdinPipe()
		stdout, errOut := cmd.StdoutPipe()
		stderr, errErr := cmd.StderrPipe()
		return stdin, stdout, stderr, func() { _ = cmd.Process.Kill(); _, _ = cmd.Process.Wait() }, errors.Join(errIn, errOut, errErr, cmd.Start())
	}
}

func TestLive(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := gone.Addr().(*net.TCPAddr).Port
	gone.Close()
	yes := "yes"
	inside := func(run string) claim.Check {
		return claim.Check{Layer: "a", Claim: run, Inside: &claim.Inside{Run: run, Is: &yes}}
	}
	ports := func(text string, p claim.Ports) claim.Check {
		return claim.Check{Layer: "a", Claim: text, Outside: &claim.Outside{TCP: &p}}
	}
	plan := Plan{Host: "zap", Layers: []Layer{{Name: "a", Checks: []claim.Check{
		inside("echo yes"), inside("echo no"),
		ports("open", claim.Ports{Open: []int{port}}), ports("not silent", claim.Ports{Closed: []int{port}}), ports("refuses", claim.Ports{Open: []int{refusing}}),
		{Layer: "a", Claim: "login", Outside: &claim.Outside{SSH: &claim.Login{User: "root", With: "key", Want: refused}}},
	}}}}
	o := LiveOptions{Plan: plan, Generation: "0123", Address: "127.0.0.1", Login: hereLogin("exec /bin/sh"), Stage: func(string) {}}
	report, err := Live(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range report.Results {
		got = append(got, map[bool]string{true: "ok ", false: "FAIL "}[r.OK]+r.Claim)
	}
	if want := "ok echo yes, FAIL echo no, ok open, FAIL not silent, FAIL refuses"; strings.Join(got, ", ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if report.Passed != 2 || report.Failed != 3 || report.Live != "127.0.0.1" || report.Err() == nil {
		t.Errorf("%+v", report)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "at work, at 127.0.0.1\n") {
		t.Errorf("%v\n%s", err, text.String())
	}

	// The domain that it is, where somebody has asked libvirt.
	for _, domain := range [][]string{{}, {"on_crash: preserve is defined, destroy is in its generation"}} {
		o.Domain = domain
		report, err := Live(t.Context(), o)
		if err != nil || report.Results[0].Claim != claimDomain || report.Results[0].OK != (len(domain) == 0) || report.Results[0].Got != strings.Join(domain, "") ||
			report.Failed != 3+len(domain) {
			t.Errorf("%v, %+v", err, report)
		}
	}
	o.Domain = nil

	// A machine that tries the claims of another generation, or none.
	o.Plan.Attest = strings.Repeat("a", 64)
	if report, err = Live(t.Context(), o); err != nil || report.Results[0].Claim != claimSame || report.Results[0].OK {
		t.Errorf("%v, %+v", err, report.Results)
	}
}

func TestLiveCannot(t *testing.T) {
	o := LiveOptions{Plan: Plan{Host: "zap"}, Address: "127.0.0.1", Stage: func(string) {}}
	for script, want := range map[string]string{
		"echo 'Permission denied (publickey).' >&2; exit 255": "Permission denied (publickey).",
		"exit 0": "the connection to the guest was cut",
	} {
		o.Login = hereLogin(script)
		if _, err := Live(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", script, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o.Login = hereLogin("exec sleep 60")
	if _, err := Live(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
