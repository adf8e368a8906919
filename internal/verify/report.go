package verify

import (
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/attest"
	"bake/internal/claim"
)

const schema = "bake.report/1"

// Report is what was found out about a generation.
type Report struct {
	Schema      string         `json:"schema"`
	Host        string         `json:"host"`
	Generation  string         `json:"generation"`
	Began       time.Time      `json:"began,omitzero"`
	Guest       attest.Guest   `json:"guest"`
	Moments     attest.Moments `json:"moments"`
	HostKeys    []string       `json:"ssh_host_keys,omitempty"`
	Attestation string         `json:"attestation,omitempty"` // "ok", or why the guest stayed shut; "" where none is made
	Live        string         `json:"live,omitempty"`        // address of a machine at work; "" for one that was booted for this
	Accelerator string         `json:"accelerator"`
	Because     string         `json:"because"`         // why that accelerator
	Again       string         `json:"again,omitempty"` // what an emulated kernel did at first, before anything of the seed ran
	UpSeconds   int            `json:"up_seconds"`      // from power-on to cloud-init's end
	Passed      int            `json:"passed"`
	Failed      int            `json:"failed"`
	Falsify     bool           `json:"falsify,omitempty"` // every claim was to be falsified
	Falsified   int            `json:"falsified,omitempty"`
	Exposure    *Exposure      `json:"exposure,omitempty"`
	Listening   []Socket       `json:"listening,omitempty"` // in the guest, after its claims were tried
	Results     []Result       `json:"results"`
}

// Result is one claim, tried.
type Result struct {
	claim.Result

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

// attested is what Attestation says of a guest that opened.
const attested = "ok"

func seconds(ms int64) string { return fmt.Sprintf("%.1f s", float64(ms)/1000) }

// Err returns an error that names the first claim that failed, or nil.
func (r Report) Err() error {
	if len(r.Results) == 0 {
		return fmt.Errorf("%s: there was no claim to try", r.Host)
	}
	if r.Attestation != "" && r.Attestation != attested {
		return fmt.Errorf("%s is not what was specified and stayed shut: %d of %d claims failed, first %s",
			r.Host, r.Failed, len(r.Results), r.Attestation)
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
	if r.Live != "" {
		fmt.Fprintf(&out, "at work, at %s\n", r.Live)
	} else {
		fmt.Fprintf(&out, "up after %d s under %s (%s)\n", r.UpSeconds, r.Accelerator, r.Because)
		if r.Again != "" {
			fmt.Fprintf(&out, "started once more: before anything of the seed ran, %s\n", claim.Line(r.Again))
		}
	}
	switch m := r.Moments; {
	case r.Attestation == "":
	case r.Attestation != attested:
		fmt.Fprintf(&out, "stayed shut: %s\n", r.Attestation)
	default:
		fmt.Fprintf(&out, "shut after %s, network after %s, sshd after %s, attested after %s of the guest's uptime\n",
			seconds(m.Closed), seconds(m.Network), seconds(m.SSH), seconds(m.Attested))
	}
	for _, line := range r.HostKeys {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			fmt.Fprintf(&out, "ssh host key %s (%s)\n", ssh.FingerprintSHA256(key), key.Type())
		}
	}
	out.WriteByte('\n')
	if r.Falsify {
		fmt.Fprintf(&out, "claim falsified\n")
	}
	for _, result := range r.Results {
		result.writeText(&out, r.Falsify)
	}
	if r.Exposure != nil {
		out.WriteString("\nwhat the guest's neighbours saw, since power-on\n")
		if err := r.Exposure.Timeline(&out, r.Exposure.Moments); err != nil {
			return err
		}
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
