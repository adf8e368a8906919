package verify

import (
	"strings"
	"testing"

	"bake/internal/claim"
)

func text(s string) *string { return &s }

func TestOutputIsBounded(t *testing.T) {
	var l limited
	big := strings.Repeat("x", maxOutput-1)
	for _, part := range []string{big, "yz", "more"} {
		if n, err := l.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if got := l.String(); got != big+"y" {
		t.Errorf("kept %d bytes ending in %q, want %d", len(got), got[len(got)-3:], maxOutput)
	}
}

func TestReport(t *testing.T) {
	r := run{Options: Options{Plan: Plan{Host: "zap"}}, report: &Report{Host: "zap", Generation: "0123", Accelerator: "tcg", Because: "no KVM", UpSeconds: 60}}
	if r.report.Err() == nil {
		t.Error("a report without a claim passes")
	}
	r.result(claim.Check{}, Result{Result: claim.Result{Layer: "ssh", Claim: "Root is refused.", OK: true}})
	if err := r.report.Err(); err != nil {
		t.Errorf("Err = %v", err)
	}
	r.result(claim.Check{}, Result{Result: claim.Result{Layer: "ufw", Claim: "UFW is active.", Ran: "ufw status", Want: "active\nnow", Got: "inactive"}})
	if err := r.report.Err(); err == nil || !strings.Contains(err.Error(), "1 of 2 claims failed, first ufw: UFW is active.") {
		t.Errorf("Err = %v", err)
	}
	r.report.HostKeys = []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f", "ssh-ed25519 AAAA"}
	var out strings.Builder
	if err := r.report.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	const want = `host zap, generation 0123
up after 60 s under tcg (no KVM)
ssh host key SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA (ssh-ed25519)

ok    ssh: Root is refused.
FAIL  ufw: UFW is active.
      ran   ufw status
      want  active
            now
      got   inactive

2 claims: 1 ok, 1 failed
`
	if out.String() != want {
		t.Errorf("text:\n%s\nwant:\n%s", out.String(), want)
	}
}
