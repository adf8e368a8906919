package report

import (
	"encoding/xml"
	"fmt"
	"strings"

	"bake/internal/claim"
	"bake/internal/verify"
)

// JUnit's names, as those who read it know them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Hostname   string          `xml:"hostname,attr"`
		Timestamp  string          `xml:"timestamp,attr,omitempty"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property,omitempty"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit is reports as the XML that CI systems show: a suite for each layer of each
// host, a case for each claim.
func JUnit(subjects []Subject) ([]byte, error) {
	all := junitSuites{Name: "bake verify"}
	for _, s := range subjects {
		for _, suite := range suitesOf(s) {
			all.Tests += suite.Tests
			all.Failures += suite.Failures
			all.Suites = append(all.Suites, suite)
		}
	}
	text, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing JUnit: %w", err)
	}
	return append([]byte(xml.Header), append(text, '\n')...), nil
}

func suitesOf(s Subject) (all []junitSuite) {
	r := s.Report
	index, seconds := map[string]int{}, map[string]float64{}
	for _, result := range trials(r) {
		i, known := index[result.Layer]
		if !known {
			i = len(all)
			index[result.Layer] = i
			suite := junitSuite{Name: r.Host + "." + result.Layer, Hostname: r.Host, Properties: []junitProperty{{"generation", r.Generation}}}
			if !r.Began.IsZero() {
				suite.Timestamp = r.Began.UTC().Format("2006-01-02T15:04:05")
			}
			all = append(all, suite)
		}
		took := float64(result.Took)/1000 + result.Seconds
		c := junitCase{Name: result.Claim, Class: r.Host + "." + result.Layer, Time: fmt.Sprintf("%.3f", took)}
		if !holds(result) {
			message, kind := headline(result)
			c.Failure = &junitFailure{Message: message, Type: kind, Text: account(result)}
			all[i].Failures++
		}
		seconds[result.Layer] += took
		all[i].Tests++
		all[i].Time = fmt.Sprintf("%.3f", seconds[result.Layer])
		all[i].Cases = append(all[i].Cases, c)
	}
	return all
}

// trials are the results of a report, and one more where the report as a whole is bad
// though each of them is good: where there is none, say, or the machine stayed shut.
func trials(r verify.Report) []verify.Result {
	err := r.Err()
	if err == nil || failures(r) > 0 {
		return r.Results
	}
	whole := verify.Result{}
	whole.Layer, whole.Claim, whole.Got = claim.BootLayer, "The machine is what was specified, and opens.", err.Error()
	return append([]verify.Result{whole}, r.Results...)
}

// headline says in a line what is wrong with a claim, and of which kind that is.
func headline(r verify.Result) (line, kind string) {
	text, kind := r.Got, "failed"
	if r.OK {
		text, kind = r.After, "cannot fail"
	}
	line, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	return line, kind
}

// account is what was run, wanted and seen.
func account(r verify.Result) string {
	var lines []string
	for _, part := range [][2]string{{"ran", r.Ran}, {"want", r.Want}, {"got", r.Got}, {"broken by", r.Falsify}, {"then", r.After}} {
		if text := strings.TrimSpace(part[1]); text != "" {
			lines = append(lines, part[0]+": "+text)
		}
	}
	return strings.Join(lines, "\n")
}
