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
	Results     []Result `json:"results"`
}

// Guest is what the guest says it is.
type Guest struct {
	OS        string `json:"os"`
	Kernel    string `json:"kernel"`
	CloudInit string `json:"cloud_init"`
	Systemd   string `json:"systemd"`
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
}

// Err returns an error that names the first claim that failed, or nil.
func (r Report) Err() error {
	for _, result := range r.Results {
		if !result.OK {
			return fmt.Errorf("%s is not what was specified: %d of %d claims failed, first %s: %s",
				r.Host, r.Failed, len(r.Results), result.Layer, result.Claim)
		}
	}
	if len(r.Results) == 0 {
		return fmt.Errorf("%s: there was no claim to try", r.Host)
	}
	return nil
}

// WriteText prints the report for people: one sentence a claim, and under a
// failed one what was run, wanted and seen.
func (r Report) WriteText(w io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "host %s, generation %s\n", r.Host, r.Generation)
	if r.Guest.OS != "" {
		fmt.Fprintf(&out, "%s, kernel %s, cloud-init %s, systemd %s\n",
			r.Guest.OS, r.Guest.Kernel, r.Guest.CloudInit, r.Guest.Systemd)
	}
	fmt.Fprintf(&out, "up after %d s under %s (%s)\n\n", r.UpSeconds, r.Accelerator, r.Because)
	for _, result := range r.Results {
		if result.OK {
			fmt.Fprintf(&out, "ok    %s: %s\n", result.Layer, result.Claim)
			continue
		}
		fmt.Fprintf(&out, "FAIL  %s: %s\n", result.Layer, result.Claim)
		for _, line := range [][2]string{{"ran", result.Ran}, {"want", result.Want}, {"got", result.Got}} {
			if line[1] != "" {
				fmt.Fprintf(&out, "      %-5s %s\n", line[0], strings.ReplaceAll(line[1], "\n", "\n            "))
			}
		}
	}
	fmt.Fprintf(&out, "\n%d claims: %d ok, %d failed\n", len(r.Results), r.Passed, r.Failed)
	_, err := io.WriteString(w, out.String())
	return err
}
