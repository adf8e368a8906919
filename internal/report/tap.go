package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// TAP is reports in the Test Anything Protocol, version 14: a line for each claim, and
// under one that failed what was seen, as YAML that is also JSON.
func TAP(subjects []Subject) []byte {
	var lines strings.Builder
	n := 0
	for _, s := range subjects {
		fmt.Fprintf(&lines, "# %s\n", oneLine(fmt.Sprintf("host %s, generation %s", s.Report.Host, s.Report.Generation)))
		for _, result := range trials(s.Report) {
			n++
			word := "ok"
			if !holds(result) {
				word = "not ok"
			}
			fmt.Fprintf(&lines, "%s %d - %s\n", word, n, escapeTAP(s.Report.Host+" "+result.Layer+": "+result.Claim))
			if word == "ok" {
				continue
			}
			message, _ := headline(result)
			lines.WriteString("  ---\n")
			for _, part := range [][2]string{{"message", message}, {"ran", result.Ran}, {"want", result.Want}, {"got", result.Got},
				{"broken_by", result.Falsify}, {"then", result.After}} {
				if part[1] != "" {
					fmt.Fprintf(&lines, "  %s: %s\n", part[0], quote(part[1]))
				}
			}
			lines.WriteString("  ...\n")
		}
	}
	return fmt.Appendf(nil, "TAP version 14\n1..%d\n%s", n, lines.String())
}

// escapeTAP keeps words from being a directive.
func escapeTAP(text string) string {
	return strings.NewReplacer(`\`, `\\`, `#`, `\#`).Replace(oneLine(text))
}

// oneLine has no line break and nothing that drives a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// quote is a string of JSON, and of YAML.
func quote(text string) string {
	data, err := json.Marshal(text)
	if err != nil { // of a string: never
		return `""`
	}
	return string(data)
}
