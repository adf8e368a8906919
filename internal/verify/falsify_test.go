package verify

import (
	"context"
	"errors"
	"strings"
	"testing"

	"bake/internal/attest"
	"bake/internal/claim"
)

// whole is a guest for which every claim of these tests holds.
func whole() map[string]string {
	return map[string]string{"state": "good", "login-ops": "accepted", "login-root": "refused", "port-22": "accepted"}
}

func login(user, want, falsify string) claim.Check {
	return claim.Check{Layer: "ssh", Claim: user + " is " + want + ".", Falsify: falsify,
		Outside: &claim.Outside{SSH: &claim.Login{User: user, With: "key", Want: want}}}
}

func ports(falsify string) claim.Check {
	return claim.Check{Layer: "ufw", Claim: "Only the listed ports answer.", Falsify: falsify,
		Outside: &claim.Outside{TCP: &claim.Ports{Open: []int{22}, Closed: []int{80}}}}
}

const cut = "; kill -9 $PPID" // the root shell, as a cut connection would

func TestFalsify(t *testing.T) {
	for name, test := range map[string]struct {
		check claim.Check
		want  string // the verdict
		after string
	}{
		"inside":                      {inside("echo bad > state"), "ok", "bad"},
		"inside, output to be tamed":  {inside(`printf 'b\033[2Kd' > state`), "ok", "b\ufffd[2Kd"},
		"inside, cannot fail":         {inside("touch other\n"), "FAIL", "this check cannot fail: it still held after touch other"},
		"inside, the falsify fails":   {inside("echo bad > state; echo because; exit 3"), "FAIL", "its falsify failed: echo bad > state; echo because; exit 3: exit status 3: because"},
		"inside, no falsify":          {inside(""), "FAIL", "names no falsify"},
		"inside, nobody may log in":   {inside("echo bad > state; echo refused > login-ops"), "ok", "bad"},
		"inside, no root any more":    {inside("echo bad > state; echo x > no-sudo"), "ok", "bad"},
		"inside, cut":                 {inside("echo bad > state" + cut), "ok", "bad"},
		"inside, cut, still held":     {inside("true" + cut), "FAIL", "it still held, and its falsify was lost sight of"},
		"inside, cut for good":        {inside("echo bad > state; echo refused > login-ops" + cut), "FAIL", "could not be tried after"},
		"inside, cut, then no root":   {inside("echo bad > state; echo x > no-sudo" + cut), "FAIL", "sudo: a password is required"},
		"login, refused":              {login("ops", accepted, "echo refused > login-ops"), "ok", "refused"},
		"login, refused after a time": {login("ops", accepted, "echo accepted silent refused > login-ops"), "ok", "refused"},
		"login, silent":               {login("ops", accepted, "echo silent > login-ops"), "ok", "nobody answered"},
		"login, silent and cut":       {login("ops", accepted, "echo silent > login-ops"+cut), "ok", "nobody answered"},
		"login, silent for a moment":  {login("ops", accepted, "echo silent silent accepted > login-ops"), "FAIL", "cannot fail"},
		"login, still accepted":       {login("ops", accepted, "true"), "FAIL", "cannot fail"},
		"root, accepted":              {login("root", refused, "echo accepted > login-root"), "ok", "accepted"},
		"root, accepted after a time": {login("root", refused, "echo refused silent accepted > login-root"), "ok", "accepted"},
		"root, silent":                {login("root", refused, "echo silent > login-root"), "FAIL", "could not be tried after"},
		"root, silent for a moment":   {login("root", refused, "echo silent refused > login-root"), "FAIL", "cannot fail"},
		"ports, another open":         {ports("echo accepted > port-80"), "ok", "80 accepted"},
		"ports, another refused":      {ports("echo refused > port-80"), "ok", "80 refused"},
		"ports, shut":                 {ports("echo refused > port-22"), "ok", "22 refused"},
		"ports, silent":               {ports("echo silent > port-22"), "ok", "22 silent"},
		"ports, shut for a moment":    {ports("echo refused accepted > port-22"), "FAIL", "cannot fail"},
		"ports, no network at all":    {ports("echo down > port-22; echo down > port-80"), "ok", "nobody answered"},
		"ports, closed one unseen":    {ports("echo down > port-80"), "FAIL", "could not be tried after"},
		"ports, not looked at":        {ports("echo broken > port-22"), "FAIL", "could not be tried after"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGuest(t, whole()).inspect(t)
			r.try(context.Background(), test.check)
			if got := r.report.Results[0]; !got.OK {
				t.Fatalf("the claim does not hold to begin with: %+v", got)
			}
			if err := r.falsify(context.Background()); err != nil {
				t.Fatal(err)
			}
			got := r.report.Results[0]
			if got.verdict() != test.want || !strings.Contains(got.After, test.after) {
				t.Errorf("%s, %q; want %s, %q", got.verdict(), got.After, test.want, test.after)
			}
			if err := r.report.Err(); (err == nil) != (test.want == "ok") {
				t.Errorf("Err = %v", err)
			}
		})
	}
}

// Each falsification starts from the snapshot, and what did not hold is left
// alone.
func TestFalsifyRestores(t *testing.T) {
	g := newGuest(t, whole())
	r := g.inspect(t)
	for _, check := range []claim.Check{
		inside("echo bad > state"),
		login("ops", refused, "echo refused > login-ops"), // does not hold
		inside("true"), // held after what was done above is undone
		inside("echo worse > state"),
	} {
		r.try(context.Background(), check)
	}
	if err := r.falsify(context.Background()); err != nil {
		t.Fatal(err)
	}
	var verdicts []string
	for _, result := range r.report.Results {
		verdicts = append(verdicts, result.verdict())
	}
	if got := strings.Join(verdicts, " "); got != "ok - FAIL ok" {
		t.Errorf("verdicts %s", got)
	}
	if g.restored != 2 {
		t.Errorf("restored %d times, want once before each but the first", g.restored)
	}
	if r.report.Passed != 2 || r.report.Failed != 2 || r.report.Falsified != 2 {
		t.Errorf("%d passed, %d failed, %d falsified", r.report.Passed, r.report.Failed, r.report.Falsified)
	}
}

func TestFalsifyWithoutAWayIn(t *testing.T) {
	files := whole()
	files["login-ops"] = "refused"
	r := newGuest(t, files).inspect(t)
	r.try(context.Background(), inside("echo bad > state"))
	r.try(context.Background(), ports("echo accepted > port-80"))
	if err := r.falsify(context.Background()); err != nil {
		t.Fatal(err)
	}
	within, without := r.report.Results[0], r.report.Results[1]
	if within.OK || within.verdict() != "-" || !strings.Contains(within.Got, "nobody can log in") {
		t.Errorf("inside: %+v", within)
	}
	if without.verdict() != "FAIL" || !strings.Contains(without.After, "its falsify was not run") {
		t.Errorf("outside: %+v", without)
	}
}

// What the snapshot cannot do is no verdict on the machine.
func TestFalsifyWithoutASnapshot(t *testing.T) {
	broken := errors.New("no room")
	for name, g := range map[string]*guest{"keep": {noKeep: broken}, "return": {noReturn: broken}} {
		t.Run(name, func(t *testing.T) {
			real := newGuest(t, whole())
			real.noKeep, real.noReturn = g.noKeep, g.noReturn
			r := real.inspect(t)
			r.try(context.Background(), inside("echo bad > state"))
			r.try(context.Background(), inside("echo bad > state"))
			if err := r.falsify(context.Background()); !errors.Is(err, broken) {
				t.Errorf("falsify: %v", err)
			}
		})
	}
}

func TestFalsifyStops(t *testing.T) {
	r := newGuest(t, whole()).inspect(t)
	r.try(context.Background(), inside("sleep 600"))
	ctx, cancel := context.WithCancel(context.Background())
	r.Stage = func(string) { cancel() }
	if err := r.falsify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("falsify: %v", err)
	}
}

// The claim that the machine comes up has no falsify command: this is the
// machine for which it fails.
func TestMachineThatTellsNoHostKeys(t *testing.T) {
	for _, falsify := range []bool{false, true} {
		g := newGuest(t, whole())
		g.noKeys = errors.New("the console says nothing")
		r := g.inspect(t)
		r.Falsify = falsify
		r.Plan.Layers = []Layer{{Name: "taste", Checks: []claim.Check{
			inside("echo bad > state"), ports("echo accepted > port-80")}}}
		if err := r.examine(context.Background()); err != nil {
			t.Fatal(err)
		}
		up := r.report.Results[0]
		if up.Claim != claimUp || up.OK || up.Got != "the console says nothing" {
			t.Errorf("%+v", up)
		}
		// Only the ports can be looked at, and nobody gets in to make them wrong.
		want, failed := "-", 2
		if falsify {
			want, failed = "FAIL", 3
		}
		if got := r.report.Results[2].verdict(); got != want || r.report.Failed != failed || r.report.Passed != 3-failed {
			t.Errorf("falsify %v: verdict %s, %d failed, %d passed", falsify, got, r.report.Failed, r.report.Passed)
		}
	}
}

func TestReportWithFalsification(t *testing.T) {
	yes, no := true, false
	r := run{report: &Report{Host: "zap", Generation: "0123", Accelerator: "tcg", Because: "no KVM", UpSeconds: 60, Falsify: true, Falsified: 1,
		Guest: attest.Guest{OS: "Debian", Kernel: "6.12", CloudInit: "25.1", Systemd: "257", RebootDue: true}}}
	for _, result := range []Result{
		{Result: claim.Result{Layer: "boot", Claim: "It comes up.", OK: true}, After: "no falsify: because"},
		{Result: claim.Result{Layer: "ssh", Claim: "Root is refused.", OK: true}, Falsified: &yes, After: "accepted"},
		{Result: claim.Result{Layer: "ufw", Claim: "UFW is active.", Ran: "ufw status", Want: "active", Got: "inactive"}},
	} {
		r.result(claim.Check{}, result)
	}
	r.result(claim.Check{}, Result{Result: claim.Result{Layer: "taste", Claim: "It tastes.", OK: true}, Falsified: &no, After: "this check cannot fail: it still held after a\nb"})
	r.report.Passed, r.report.Failed = 2, 2
	var out strings.Builder
	if err := r.report.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	const want = `host zap, generation 0123
Debian, kernel 6.12, cloud-init 25.1, systemd 257
a reboot is due
up after 60 s under tcg (no KVM)

claim falsified
ok    -          boot: It comes up.
      why   no falsify: because
ok    ok         ssh: Root is refused.
FAIL  -          ufw: UFW is active.
      ran   ufw status
      want  active
      got   inactive
ok    FAIL       taste: It tastes.
      why   this check cannot fail: it still held after a
            b

4 claims: 2 ok, 2 failed; 1 falsified
`
	if out.String() != want {
		t.Errorf("text:\n%s\nwant:\n%s", out.String(), want)
	}
	if err := r.report.Err(); err == nil || !strings.Contains(err.Error(), "first ufw: UFW is active.") {
		t.Errorf("Err = %v", err)
	}
	r.report.Results[2].OK, r.report.Failed = true, 1
	const proved = "zap is not proved: 1 of 4 claims failed, first taste: It tastes.: this check cannot fail: it still held after a"
	if err := r.report.Err(); err == nil || err.Error() != proved {
		t.Errorf("Err = %v", err)
	}
}
