package claim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Result is one claim, tried.
type Result struct {
	Layer string `json:"layer"`
	Claim string `json:"claim"`
	Where string `json:"where"` // inside, outside or console
	OK    bool   `json:"ok"`
	Ran   string `json:"ran,omitempty"`
	Want  string `json:"want,omitempty"`
	Got   string `json:"got,omitempty"`
	Took  int64  `json:"took_ms,omitempty"` // in the guest, while it attested
}

// Try judges what the command of an inside check printed, cleaned, and exited
// with.
func (c Check) Try(out string, exit int) Result {
	r := Result{Layer: c.Layer, Claim: c.Claim, Where: "inside", Ran: c.Inside.Run}
	if c.Layer == BootLayer && c.Claim == claimInit {
		r.OK, r.Want, r.Got = judgeCloudInit(out)
	} else {
		r.OK, r.Want, r.Got = judge(*c.Inside, out, exit)
	}
	return r
}

// judge compares what a command did with what the claim wants. All matchers
// but exit demand that the command succeeded.
func judge(in Inside, out string, exit int) (ok bool, want, got string) {
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

// Clean makes a guest's words fit for a terminal and a report.
func Clean(text string) string {
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

// Line is Clean, on one line: what a guest says of itself must not look like the next line
// of a report.
func Line(text string) string { return strings.ReplaceAll(Clean(text), "\n", " ") }

// initStatus is cloud-init's own account in status.json. Releases before 23.4 know
// no recoverable errors; the field is then absent.
type initStatus struct {
	V1 map[string]json.RawMessage `json:"v1"`
}

// initStage is what status.json says of one stage. Times are seconds since 1970,
// null for what has not happened.
type initStage struct {
	Start       *float64            `json:"start"`
	Finished    *float64            `json:"finished"`
	Errors      []string            `json:"errors"`
	Recoverable map[string][]string `json:"recoverable_errors"`
}

var initStages = []string{"init-local", "init", "modules-config", "modules-final"}

// judgeCloudInit reads cloud-init's own account. Its exit status and the word
// "done" are no evidence: some releases have them for errors they recovered from.
func judgeCloudInit(out string) (ok bool, want, got string) {
	want = "every stage finished, no errors, no recoverable errors"
	var status initStatus
	start := strings.IndexByte(out, '{')
	if start < 0 || json.Unmarshal([]byte(out[start:]), &status) != nil || len(status.V1) == 0 {
		return false, want, out
	}
	var problems []string
	for _, name := range initStages {
		var stage initStage
		if err := json.Unmarshal(status.V1[name], &stage); err != nil || stage.Start == nil || stage.Finished == nil {
			problems = append(problems, name+" has not finished")
		}
		for _, e := range stage.Errors {
			problems = append(problems, name+": "+e)
		}
		for _, level := range slices.Sorted(maps.Keys(stage.Recoverable)) {
			problems = append(problems, name+": "+level+": "+strings.Join(stage.Recoverable[level], "; "))
		}
	}
	if len(problems) > 0 {
		return false, want, strings.Join(problems, "\n")
	}
	return true, want, "every stage finished"
}
