package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"bake/internal/verify"
)

// three are reports of all kinds.
func three() map[string]Subject {
	shut := good()
	shut.Report.Attestation = "seal: no space left"
	return map[string]Subject{"good": good(), "bad": sample(), "hostile": hostile(), "shut": shut, "empty": {Report: verify.Report{Host: "zap"}}}
}

// cases are how many claims there are to be and how many to have failed: one more where
// each claim is good and the report is not.
func cases(s Subject) (all, bad int) {
	all, bad = len(s.Report.Results), failures(s.Report)
	if bad == 0 && s.Report.Err() != nil {
		return all + 1, 1
	}
	return all, bad
}

func TestJUnit(t *testing.T) {
	for name, s := range three() {
		text, err := JUnit([]Subject{s})
		if err != nil {
			t.Fatal(err)
		}
		var got junitSuites
		if err := xml.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all, bad := cases(s)
		tests, failed, claims := 0, 0, map[string]bool{}
		for _, suite := range got.Suites {
			tests += suite.Tests
			n := 0
			for _, c := range suite.Cases {
				if claims[c.Name] = true; c.Failure != nil {
					n++
				}
			}
			if n != suite.Failures || len(suite.Cases) != suite.Tests {
				t.Errorf("%s: suite %s says %d of %d, has %d of %d", name, suite.Name, suite.Failures, suite.Tests, n, len(suite.Cases))
			}
			failed += n
		}
		if tests != all || failed != bad || got.Tests != all || got.Failures != bad {
			t.Errorf("%s: %d of %d failed, want %d of %d", name, failed, tests, bad, all)
		}
		for _, r := range s.Report.Results {
			if utf8.ValidString(r.Claim) && !strings.ContainsFunc(r.Claim, unicode.IsControl) && !strings.Contains(r.Claim, "\ufffe") && !claims[r.Claim] {
				t.Errorf("%s: no case is %q", name, r.Claim)
			}
		}
	}
	text, err := JUnit([]Subject{sample()})
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{`<testsuite name="zap.ufw" hostname="zap" timestamp="2026-11-28T03:00:00" tests="2" failures="1" time="2.400">`,
		`<property name="generation" value="b16c37723edd9d96"></property>`,
		`<failure message="Status: inactive" type="failed">ran: ufw status verbose&#xA;want: with deny (incoming)&#xA;got: Status: inactive</failure>`,
		`type="cannot fail">`} {
		if !strings.Contains(string(text), words) {
			t.Errorf("there is no %s in\n%s", words, text)
		}
	}
}

func TestTAP(t *testing.T) {
	line := regexp.MustCompile(`^(ok|not ok) (\d+) - (?:[^#\\]|\\[#\\])+$`)
	for name, s := range three() {
		all, bad := cases(s)
		text := string(TAP([]Subject{s}))
		if want := fmt.Sprintf("TAP version 14\n1..%d\n# host ", all); !strings.HasPrefix(text, want) {
			t.Errorf("%s: begins with %q", name, text[:40])
		}
		n, failed, isInside := 0, 0, false
		for row := range strings.Lines(text) {
			row = strings.TrimSuffix(row, "\n")
			switch m := line.FindStringSubmatch(row); {
			case isInside && row == "  ...":
				isInside = false
			case isInside:
				key, value, _ := strings.Cut(strings.TrimPrefix(row, "  "), ": ")
				var got string
				if err := json.Unmarshal([]byte(value), &got); err != nil {
					t.Errorf("%s: %s is %s: %v", name, key, value, err)
				}
			case row == "  ---":
				isInside = true
			case m != nil:
				if n++; fmt.Sprint(n) != m[2] {
					t.Errorf("%s: number %s, want %d", name, m[2], n)
				}
				if m[1] == "not ok" {
					failed++
				}
			case !strings.HasPrefix(row, "# host") && !strings.HasPrefix(row, "TAP") && !strings.HasPrefix(row, "1.."):
				t.Errorf("%s: %q is no line of TAP", name, row)
			}
		}
		if n != all || failed != bad {
			t.Errorf("%s: %d of %d failed, want %d of %d", name, failed, n, bad, all)
		}
	}
	two := string(TAP([]Subject{good(), sample()}))
	if !strings.HasPrefix(two, "TAP version 14\n1..14\n") || strings.Count(two, "\n# host zap") != 2 {
		t.Errorf("two hosts:\n%s", two)
	}
}

var sampleLine = regexp.MustCompile(`^bake_verify_[a-z_]+\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\} [0-9.]+$`)

func TestMetrics(t *testing.T) {
	for name, s := range three() {
		text := string(Metrics([]Subject{s}))
		heads := map[string]bool{}
		for row := range strings.Lines(text) {
			row = strings.TrimSuffix(row, "\n")
			if strings.HasPrefix(row, "# TYPE ") {
				if heads[row] {
					t.Errorf("%s: %s twice", name, row)
				}
				heads[row] = true
				continue
			}
			if !strings.HasPrefix(row, "# HELP ") && !sampleLine.MatchString(row) {
				t.Errorf("%s: %q is no metric", name, row)
			}
			if strings.Contains(row, `{host="other"}`) && !strings.Contains(row, `\"`) {
				t.Errorf("%s: forged: %s", name, row)
			}
		}
		if !utf8.ValidString(text) {
			t.Errorf("%s: it is not UTF-8", name)
		}
	}
	text := string(Metrics([]Subject{sample(), good()}))
	for _, words := range []string{`bake_verify_ok{host="zap"} 0`, `bake_verify_ok{host="zap"} 1`,
		`bake_verify_info{host="zap",generation="b16c37723edd9d96",base="debian:13",serial="20261124-2105",mode="boot"} 1`,
		`bake_verify_claims{host="zap",layer="ufw"} 2`, `bake_verify_claims_failed{host="zap",layer="ufw"} 1`,
		`bake_verify_timestamp_seconds{host="zap"} 1795834800`, `bake_verify_attested_uptime_seconds{host="zap"} 74.9`} {
		if !strings.Contains(text, words+"\n") {
			t.Errorf("there is no %s in\n%s", words, text)
		}
	}
}
