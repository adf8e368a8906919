package attest

import (
	"strings"
	"testing"
)

var (
	digestA = strings.Repeat("a", 64)
	digestB = strings.Repeat("b", 64)
)

func TestVerdictReadsBack(t *testing.T) {
	for _, v := range []Verdict{
		{OK: true, Plan: digestA, Claims: 22, Report: digestB},
		{Plan: digestA, Claims: 22, Failed: 2, Report: digestB, First: "ufw: UFW is active and denies \"incoming\" packets\nby default."},
		{Plan: digestA, Claims: 22, First: "keeping the report: no space left on device"},
		{Plan: digestA, Claims: 1, Failed: 1, Report: digestB, First: strings.Repeat("é", 100)},
		{Refused: "the program or the claims are not those that were baked"},
	} {
		line := v.String()
		if strings.Contains(line, "\n") || len(line) > 900 {
			t.Errorf("not a line for a console: %q", line)
		}
		got, ok := LastVerdict("[ 12.3] noise\r\n" + line + "\r\nmore\n")
		v.First = strings.ReplaceAll(v.First, "\n", " ") // a guest must not begin a line of a report
		if !ok || got != v {
			t.Errorf("%s\nread back as %+v, %v", line, got, ok)
		}
	}
	long := Verdict{Plan: digestA, Claims: 1, Failed: 1, First: strings.Repeat("é", 1000)}
	if got, ok := LastVerdict(long.String() + "\n"); !ok || len(got.First) > maxFirst+3 || !strings.HasSuffix(got.First, "...") {
		t.Errorf("a long reason is read back as %d bytes, %v", len(got.First), ok)
	}
}

func TestLastVerdict(t *testing.T) {
	ok := Verdict{OK: true, Plan: digestA, Claims: 22, Report: digestB}
	fail := Verdict{Plan: digestA, Claims: 22, Failed: 1, Report: digestB, First: "x: y"}
	for name, test := range map[string]struct {
		console string
		want    bool
		isOK    bool
	}{
		"the last counts, bad":     {ok.String() + "\n" + fail.String() + "\n", true, false},
		"the last counts, good":    {fail.String() + "\n" + ok.String() + "\n", true, true},
		"behind what was begun":    {"[ OK ] Start" + ok.String() + "\n", true, true},
		"torn by another program":  {ok.String()[:60] + "[ 3.1] noise\n" + ok.String()[60:] + "\n", false, false},
		"with something in it":     {strings.Replace(ok.String(), "claims=", "[ 3.1] x claims=", 1) + "\n", false, false},
		"cut off":                  {strings.TrimSuffix(ok.String(), " end") + "\n", false, false},
		"ok with a failure":        {strings.Replace(ok.String(), "failed=0", "failed=1", 1) + "\n", false, false},
		"ok without a claim":       {strings.Replace(ok.String(), "claims=22", "claims=0", 1) + "\n", false, false},
		"ok with a first failure":  {strings.Replace(fail.String(), "v1 fail", "v1 ok", 1) + "\n", false, false},
		"more failures than tries": {strings.Replace(fail.String(), "failed=1", "failed=23", 1) + "\n", false, false},
		"a failure without one":    {strings.Replace(ok.String(), "v1 ok", "v1 fail", 1) + "\n", false, false},
		"another version":          {strings.Replace(ok.String(), "v1", "v2", 1) + "\n", false, false},
		"short digest":             {strings.Replace(ok.String(), digestA, "aa", 1) + "\n", false, false},
		"refused without a reason": {`BAKE-RESULT v1 refused reason="" end` + "\n", false, false},
		"refused":                  {`BAKE-RESULT v1 refused reason="x" end` + "\n", true, false},
		"nothing":                  {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := LastVerdict(test.console); ok != test.want || got.OK != test.isOK {
				t.Errorf("%+v, %v", got, ok)
			}
		})
	}
}

func FuzzLastVerdict(f *testing.F) {
	f.Add("BAKE-RESULT v1 ok plan=" + digestA + " claims=22 failed=0 report=" + digestB + " end\n")
	f.Add("BAKE-RESULT v1 fail plan=" + digestA + " claims=2 failed=1 report= first=\"a\\x1bb\" end\n")
	f.Add("BAKE-RESULT v1 refused reason=\"x\" end\n")
	f.Fuzz(func(t *testing.T, console string) {
		v, ok := LastVerdict(console)
		if !ok {
			return
		}
		if v.OK && (v.Failed != 0 || v.Claims == 0 || v.Refused != "" || v.First != "") {
			t.Errorf("a contradiction is believed: %+v", v)
		}
		if strings.ContainsAny(v.First+v.Refused, "\x1b\r\x07\n") {
			t.Errorf("control characters come through: %+v", v)
		}
	})
}
