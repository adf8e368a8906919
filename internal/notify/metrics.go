package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/nightly"
)

// metric is one, with its values by host.
type metric struct {
	name, help string
	of         func(o nightly.Outcome, n nightly.Night) (float64, bool) // of the last night of a host
}

var metrics = []metric{
	{"bake_nightly_host_ok", "1 when the last night left the host on the newest that there is, proven.",
		func(o nightly.Outcome, _ nightly.Night) (float64, bool) { return truth(o.Verdict.IsGood()), true }},
	{"bake_nightly_host_claims_failed", "Claims that failed in the last night.",
		func(o nightly.Outcome, _ nightly.Night) (float64, bool) { return float64(o.Failed), true }},
	{"bake_nightly_host_duration_seconds", "How long the host's part of the last night took.",
		func(o nightly.Outcome, _ nightly.Night) (float64, bool) { return o.Seconds, true }},
	{"bake_nightly_host_restore_ok", "1 when a restore of the host's backup was proven when it had to be.",
		func(o nightly.Outcome, _ nightly.Night) (float64, bool) {
			return truth(o.Drill != nil && o.Drill.Reason == ""), o.Drill != nil
		}},
	{"bake_nightly_host_restore_proven_timestamp_seconds", "When a restore was proven last.",
		proven(func(d nightly.Drill) float64 { return float64(d.Proven.Unix()) })},
	{"bake_nightly_host_restore_rpo_seconds", "How old the state was that was restored then.",
		proven(func(d nightly.Drill) float64 { return d.RPO })},
	{"bake_nightly_host_restore_rto_seconds", "How long it took until the machine was ready.",
		proven(func(d nightly.Drill) float64 { return d.RTO })},
}

// proven is a value of the last proven restore of a host, which there may not be.
func proven(of func(nightly.Drill) float64) func(nightly.Outcome, nightly.Night) (float64, bool) {
	return func(o nightly.Outcome, _ nightly.Night) (float64, bool) {
		if o.Drill == nil || o.Drill.Proven.IsZero() {
			return 0, false
		}
		return of(*o.Drill), true
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// exposition is what the nights came to, the newest last, in the text format. A host that
// the last night was not about, or did not come to, has what the night before said of it: whoever
// watches must not lose sight of it.
func exposition(nights []nightly.Night) string {
	var out strings.Builder
	last := nights[len(nights)-1]
	about := map[string]nightly.Night{}
	for _, n := range nights {
		for _, o := range n.Hosts {
			about[o.Host] = n
		}
	}
	head := func(name, help string) { fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }
	single := func(name, help string, value float64) {
		head(name, help)
		fmt.Fprintf(&out, "%s %s\n", name, format(value))
	}
	single("bake_nightly_last_end_timestamp_seconds", "When the last night ended.", float64(last.Ended.Unix()))
	single("bake_nightly_last_exit_status", "Exit status of the last night.", float64(last.Exit))
	single("bake_nightly_last_duration_seconds", "How long the last night took.", max(last.Ended.Sub(last.Began).Seconds(), 0)) // a clock may have been put back
	each := func(name, help string, value func(host string) (float64, bool)) {
		var lines []string
		for host := range about {
			if v, ok := value(host); ok {
				lines = append(lines, fmt.Sprintf("%s{host=\"%s\"} %s\n", name, label(host), format(v)))
			}
		}
		if len(lines) > 0 {
			slices.Sort(lines)
			head(name, help)
			out.WriteString(strings.Join(lines, ""))
		}
	}
	for _, m := range metrics {
		each(m.name, m.help, func(host string) (float64, bool) { return m.of(outcome(about[host], host), about[host]) })
	}
	each("bake_nightly_host_newest_base_signed_timestamp_seconds", "When the publisher signed the base image that was found newest.",
		func(host string) (float64, bool) {
			signed := signed(nights, host, func(nightly.Outcome) bool { return true })
			return float64(signed.Unix()), !signed.IsZero()
		})
	each("bake_nightly_host_base_signed_timestamp_seconds", "When the publisher signed the base image of the current generation.",
		func(host string) (float64, bool) {
			signed := signed(nights, host, isOfCurrent)
			return float64(signed.Unix()), !signed.IsZero()
		})
	each("bake_nightly_host_base_age_seconds", "How old that was when the last night ended.",
		func(host string) (float64, bool) {
			signed := signed(nights, host, isOfCurrent)
			return last.Ended.Sub(signed).Seconds(), !signed.IsZero() && !last.Ended.IsZero()
		})
	each("bake_nightly_host_last_good_timestamp_seconds", "When a night last left the host on the newest that there is; 0: in none of those that are kept.",
		func(host string) (float64, bool) {
			for _, n := range slices.Backward(nights) {
				if outcome(n, host).Verdict.IsGood() && !n.Ended.IsZero() {
					return float64(n.Ended.Unix()), true
				}
			}
			return 0, true
		})
	return out.String()
}

// signed is when the publisher signed the base image of the last outcome of a host that is
// wanted and knows it; the zero time when none does.
func signed(nights []nightly.Night, host string, wanted func(nightly.Outcome) bool) time.Time {
	for _, n := range slices.Backward(nights) {
		if o := outcome(n, host); !o.Base.Signed.IsZero() && wanted(o) {
			return o.Base.Signed
		}
	}
	return time.Time{}
}

// isOfCurrent says whether what an outcome says of a base image is of the current generation.
func isOfCurrent(o nightly.Outcome) bool {
	return o.Verdict.IsGood() || o.Current != "" && o.Current == o.Generation
}

func outcome(n nightly.Night, host string) nightly.Outcome {
	for _, o := range n.Hosts {
		if o.Host == host {
			return o
		}
	}
	return nightly.Outcome{}
}

// format writes a number as people do where that is possible: a time is not 1.7e+09.
func format(value float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", value), "0"), ".")
}

func label(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(text, "\ufffd"))
}

const newPrefix = ".bake-new-"

// writeMetrics puts the text file in place in one step, and removes what runs that
// were killed have left.
func writeMetrics(path, content string) (err error) {
	dir := filepath.Dir(path)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("refusing to replace %s: it is not a regular file", path)
	}
	if left, err := filepath.Glob(filepath.Join(dir, newPrefix+"*")); err == nil {
		for _, old := range left {
			if info, err := os.Lstat(old); err == nil && time.Since(info.ModTime()) > time.Minute {
				_ = os.Remove(old) // what cannot be removed is in nobody's way
			}
		}
	}
	temporary, err := os.CreateTemp(dir, newPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.WriteString(content)
	if err == nil {
		err = temporary.Chmod(0o644) // whoever exports it is another user
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
