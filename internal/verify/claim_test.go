package verify

import (
	"strings"
	"testing"

	"bake/internal/layer"
)

func text(s string) *string { return &s }
func code(i int) *int       { return &i }

func TestJudge(t *testing.T) {
	tests := map[string]struct {
		in   layer.Inside
		out  string
		exit int
		want bool
	}{
		"is, equal":                       {layer.Inside{Is: text("10")}, "10", 0, true},
		"is, other":                       {layer.Inside{Is: text("10")}, "60", 0, false},
		"is, a longer text":               {layer.Inside{Is: text("10")}, "100", 0, false},
		"is, equal but the command fails": {layer.Inside{Is: text("10")}, "10", 1, false},
		"is, final newline in the layer":  {layer.Inside{Is: text("a\nb\n")}, "a\nb", 0, true},
		"is, nothing":                     {layer.Inside{Is: text("")}, "", 0, true},
		"is, nothing wanted, something":   {layer.Inside{Is: text("")}, "x", 0, false},
		"has":                             {layer.Inside{Has: text("active")}, "is active now", 0, true},
		"has not":                         {layer.Inside{Has: text("active")}, "off", 0, false},
		"has, but fails":                  {layer.Inside{Has: text("active")}, "active", 3, false},
		"lacks":                           {layer.Inside{Lacks: text("ACCEPT")}, "DROP", 0, true},
		"lacks not":                       {layer.Inside{Lacks: text("ACCEPT")}, "ACCEPT", 0, false},
		"lacks, but fails":                {layer.Inside{Lacks: text("ACCEPT")}, "", 127, false},
		"exit":                            {layer.Inside{Exit: code(2)}, "", 2, true},
		"exit, other":                     {layer.Inside{Exit: code(2)}, "", 0, false},
		"exit 0":                          {layer.Inside{Exit: code(0)}, "", 0, true},
		"no matcher":                      {layer.Inside{}, "", 0, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if ok, want, got := judge(test.in, test.out, test.exit); ok != test.want {
				t.Errorf("judge = %v (want %q, got %q)", ok, want, got)
			}
		})
	}
}

func TestJudgeCloudInit(t *testing.T) {
	tests := map[string]struct {
		out  string
		want bool
		says string
	}{
		"22.4, done":            {`{"boot_status_code": "enabled-by-generator", "errors": [], "status": "done"}`, true, "done"},
		"25.1, done":            {`{"status": "done", "extended_status": "done", "errors": [], "recoverable_errors": {}}`, true, "done"},
		"dots before the JSON":  {"....\n" + `{"status": "done", "errors": []}`, true, "done"},
		"degraded, exit code 0": {`{"status": "done", "extended_status": "degraded done", "errors": [], "recoverable_errors": {"WARNING": ["bad key"]}}`, false, "bad key"},
		"recoverable only":      {`{"status": "done", "errors": [], "recoverable_errors": {"WARNING": ["bad key"]}}`, false, "WARNING: bad key"},
		"error":                 {`{"status": "error", "errors": ["('mounts', boom)"]}`, false, "boom"},
		"errors though done":    {`{"status": "done", "errors": ["late"]}`, false, "late"},
		"running":               {`{"status": "running", "extended_status": "running", "errors": []}`, false, "running"},
		"not run":               {`{"status": "not run", "errors": []}`, false, "not run"},
		"no JSON":               {"sh: cloud-init: not found", false, "not found"},
		"nothing":               {"", false, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ok, _, got := judgeCloudInit(test.out)
			if ok != test.want || !strings.Contains(got, test.says) {
				t.Errorf("judgeCloudInit = %v, %q", ok, got)
			}
		})
	}
}

func TestGuestWordsAreTamed(t *testing.T) {
	if got := clean("ok\x1b[2K\rfake\tx\n\n"); got != "ok�[2K�fake x" {
		t.Errorf("clean = %q", got)
	}
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
	r.result(layer.Check{}, Result{Layer: "ssh", Claim: "Root is refused.", OK: true})
	if err := r.report.Err(); err != nil {
		t.Errorf("Err = %v", err)
	}
	r.result(layer.Check{}, Result{Layer: "ufw", Claim: "UFW is active.", Ran: "ufw status", Want: "active\nnow", Got: "inactive"})
	if err := r.report.Err(); err == nil || !strings.Contains(err.Error(), "1 of 2 claims failed, first ufw: UFW is active.") {
		t.Errorf("Err = %v", err)
	}
	var out strings.Builder
	if err := r.report.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	const want = `host zap, generation 0123
up after 60 s under tcg (no KVM)

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
