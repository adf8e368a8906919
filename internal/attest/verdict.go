package attest

import (
	"fmt"
	"strconv"
	"strings"

	"bake/internal/claim"
	"bake/internal/lazy"
)

// Verdict is the line on the console.
type Verdict struct {
	OK      bool
	Refused string // why nothing was tried; the other fields are then empty
	Plan    string // SHA-256 of the plan, in hex
	Claims  int    // that were tried
	Failed  int
	Report  string // SHA-256 of the report, in hex; "" where none could be kept
	First   string // the first claim that failed, or what else went wrong
}

// maxFirst bounds what a line quotes, in bytes.
const maxFirst = 300

// String returns the line, without its end.
func (v Verdict) String() string {
	switch {
	case v.Refused != "":
		return "BAKE-RESULT v1 refused reason=" + quoted(v.Refused) + " end"
	case v.OK:
		return fmt.Sprintf("BAKE-RESULT v1 ok plan=%s claims=%d failed=0 report=%s end", v.Plan, v.Claims, v.Report)
	}
	return fmt.Sprintf("BAKE-RESULT v1 fail plan=%s claims=%d failed=%d report=%s first=%s end",
		v.Plan, v.Claims, v.Failed, v.Report, quoted(v.First))
}

// quoted makes one printable word of ASCII that ends at its quotation mark.
func quoted(text string) string {
	if len(text) > maxFirst {
		text = strings.ToValidUTF8(text[:maxFirst], "") + "..."
	}
	return strconv.QuoteToASCII(text)
}

// Line finds verdicts on a console, complete lines only.
var Line = lazy.Regexp(`(?m)BAKE-RESULT v1 (ok|fail|refused) ([^\n]*?) ?end\r?$`)

var (
	counts = lazy.Regexp(`^plan=([0-9a-f]{64}) claims=(\d{1,6}) failed=(\d{1,6}) report=([0-9a-f]{64}|)(?: first=(".*"))?$`)
	reason = lazy.Regexp(`^reason=(".*")$`)
)

// LastVerdict returns the last verdict on a console, and whether there is one. A
// line into which something else was printed is none.
func LastVerdict(console string) (v Verdict, ok bool) {
	for _, line := range Line.FindAllStringSubmatch(console, -1) {
		if next, isOne := parse(line[1], line[2]); isOne {
			v, ok = next, true
		}
	}
	return v, ok
}

func parse(word, rest string) (v Verdict, ok bool) {
	if word == "refused" {
		m := reason.FindStringSubmatch(rest)
		if m == nil {
			return v, false
		}
		text, err := strconv.Unquote(m[1])
		v.Refused = claim.Line(text)
		return v, err == nil && v.Refused != ""
	}
	m := counts.FindStringSubmatch(rest)
	if m == nil {
		return v, false
	}
	v = Verdict{OK: word == "ok", Plan: m[1], Report: m[4]}
	v.Claims, _ = strconv.Atoi(m[2]) // the pattern has checked it
	v.Failed, _ = strconv.Atoi(m[3])
	if m[5] != "" {
		text, err := strconv.Unquote(m[5])
		if err != nil {
			return v, false
		}
		v.First = claim.Line(text)
	}
	// Nobody is believed who contradicts himself.
	return v, v.OK == (v.First == "") && (!v.OK || v.Failed == 0 && v.Claims > 0) && v.Failed <= v.Claims
}
