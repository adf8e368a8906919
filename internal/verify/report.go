package verify

import (
	"fmt"
	"io"
	"strings"
)

const schema = "bake.report/1"

// Report is what was found out about a generation.
type Report struct {
	Schema      string   `json:"schema"`
	Host        string   `json:"host"`
	Generation  string   `json:"generation"`
	Guest       Guest    `json:"guest"`
	Accelerator string   `json:"accelerator"`
	Because     string   `json:"because"`    // why that accelerator
	UpSeconds   int      `json:"up_seconds"` // from power-on to cloud-init's end
	Passed      int      `json:"passed"`
	Failed      int      `json:"failed"`
	Falsify     bool     `json:"falsify,omitempty"` // every claim was to be falsified
	Falsified   int      `json:"falsified,omitempty"`
	Results     []Result `json:"results"`
}

// Guest is what the guest says it is.
type Guest struct {
	OS        string `json:"os"`
	Kernel    string `json:"kernel"`
	CloudInit string `json:"cloud_init"`
	Systemd   string `json:"systemd"`
	RebootDue bool   `json:"reboot_due"` // an update waits for it: /run/reboot-required
}

// Result is one claim, tried.
type Result struct {
	Layer string `json:"layer"`
	Claim string `json:"claim"`
	Where string `json:"where"` // inside, outside or console
	OK    bool   `json:"ok"`
	Ran   string `json:"ran,omitempty"`
	Want  string `json:"want,omitempty"`
	Got   string `json:"got,omitempty"`

	// Falsified says whether the claim failed after its falsify command; nil
	// when it was not falsified, because it did not hold or nobody asked.
	// After is what was seen then, or why there is no falsification.
	Falsified *bool   `json:"falsified,omitempty"`
	Falsify   string  `json:"falsify,omitempty"`
	After     string  `json:"after,omitempty"`
	Seconds   float64 `json:"falsify_seconds,omitempty"`
}

// failed says whether the claim did not hold, or was not proved to be able to
// fail though it should have been.
func (r Result) failed() bool { return !r.OK || r.Falsified != nil && !*r.Falsified }

// Err returns an error that names the first claim that failed, or nil.
func (r Report) Err() error {
	if len(r.Results) == 0 {
		return fmt.Errorf("%s: there was no claim to try", r.Host)
	}
	for _, result := range r.Results {
		if !result.OK {
			return fmt.Errorf("%s is not what was specified: %d of %d claims failed, first %s: %s",
				r.Host, r.Failed, len(r.Results), result.Layer, result.Claim)
		}
	}
	for _, result := range r.Results {
		if result.failed() {
			why, _, _ := strings.Cut(result.After, "\n")
			return fmt.Errorf("%s is not proved: %d of %d claims failed, first %s: %s: %s",
				r.Host, r.Failed, len(r.Results), result.Layer, result.Claim, why)
		}
	}
	return nil
}

// WriteText prints the report for people: one sentence a claim, and under a
// failed one what was run, wanted and seen. With falsification there are two
// columns before the sentence: whether the claim held, and whether it was seen
// to fail.
func (r Report) WriteText(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "host %s, generation %s\n", r.Host, r.Generation)
	if r.Guest.OS != "" {
		fmt.Fprintf(&out, "%s, kernel %s, cloud-init %s, systemd %s\n",
			r.Guest.OS, r.Guest.Kernel, r.Guest.CloudInit, r.Guest.Systemd)
	}
	if r.Guest.RebootDue {
		out.WriteString("a reboot is due\n")
	}
	fmt.Fprintf(&out, "up after %d s under %s (%s)\n\n", r.UpSeconds, r.Accelerator, r.Because)
	if r.Falsify {
		fmt.Fprintf(&out, "claim falsified\n")
	}
	for _, result := range r.Results {
		result.writeText(&out, r.Falsify)
	}
	fmt.Fprintf(&out, "\n%d claims: %d ok, %d failed", len(r.Results), r.Passed, r.Failed)
	if r.Falsify {
		fmt.Fprintf(&out, "; %d falsified", r.Falsified)
	}
	out.WriteByte('\n')
	_, err := io.WriteString(w, out.String())
	return err
}

func (r Result) writeText(out *strings.Builder, falsify bool) {
	held, column := "ok", ""
	if !r.OK {
		held = "FAIL"
	}
	if falsify {
		column = fmt.Sprintf("%-11s", r.verdict())
	}
	fmt.Fprintf(out, "%-5s %s%s: %s\n", held, column, r.Layer, r.Claim)
	why := [][2]string{{"ran", r.Ran}, {"want", r.Want}, {"got", r.Got}}
	if r.OK {
		why = nil
	}
	if r.OK && falsify && (r.Falsified == nil || !*r.Falsified) {
		why = [][2]string{{"why", r.After}}
	}
	for _, line := range why {
		if line[1] != "" {
			fmt.Fprintf(out, "      %-5s %s\n", line[0], strings.ReplaceAll(line[1], "\n", "\n            "))
		}
	}
}

// verdict is the word in the column "falsified".
func (r Result) verdict() string {
	switch {
	case r.Falsified == nil:
		return "-"
	case *r.Falsified:
		return "ok"
	}
	return "FAIL"
}
