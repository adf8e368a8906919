package report

import (
	"fmt"
	"strings"
)

// gauge is a metric and its values.
type gauge struct {
	name, help string
	values     []string
}

func (g *gauge) add(value float64, labels ...string) {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf(`%s="%s"`, labels[i], escapeLabel(labels[i+1])))
	}
	text := strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.3f", value), "0"), ".")
	g.values = append(g.values, fmt.Sprintf("%s{%s} %s\n", g.name, strings.Join(pairs, ","), text))
}

func escapeLabel(text string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(text, "\ufffd"))
}

// Metrics are reports in Prometheus' text format, for the textfile collector of the node
// exporter.
func Metrics(subjects []Subject) []byte {
	ok := &gauge{name: "bake_verify_ok", help: "1 when every claim held, and was proved to be able to fail where that was asked for."}
	info := &gauge{name: "bake_verify_info", help: "What was verified; always 1."}
	claims := &gauge{name: "bake_verify_claims", help: "Claims that were tried, by layer."}
	failed := &gauge{name: "bake_verify_claims_failed", help: "Claims that failed, by layer."}
	began := &gauge{name: "bake_verify_timestamp_seconds", help: "When the verification began."}
	opened := &gauge{name: "bake_verify_attested_uptime_seconds", help: "Uptime of the machine when its claims held and it opened."}
	for _, s := range subjects {
		r := s.Report
		truth := 0.0
		if r.Err() == nil {
			truth = 1
		}
		ok.add(truth, "host", r.Host)
		mode := "boot"
		if r.Live != "" {
			mode = "live"
		}
		info.add(1, "host", r.Host, "generation", r.Generation, "base", s.Manifest.Base.Reference, "serial", s.Manifest.Base.Serial, "mode", mode)
		for _, l := range layersOf(s) {
			claims.add(float64(len(l.Claims)), "host", r.Host, "layer", l.Name)
			failed.add(float64(len(l.Claims)-l.Held), "host", r.Host, "layer", l.Name)
		}
		if !r.Began.IsZero() {
			began.add(float64(r.Began.Unix()), "host", r.Host)
		}
		if r.Moments.Attested > 0 && r.Attestation == attested {
			opened.add(float64(r.Moments.Attested)/1000, "host", r.Host)
		}
	}
	var out strings.Builder
	for _, g := range []*gauge{ok, info, claims, failed, began, opened} {
		if len(g.values) > 0 {
			fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s gauge\n%s", g.name, g.help, g.name, strings.Join(g.values, ""))
		}
	}
	return []byte(out.String())
}
