package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/verify"
)

// page is what page.tmpl shows, in its order.
type page struct {
	frame
	Subject
	Host     string
	Verdict  string   // in words
	Why      string   // it is not good, beside claims that failed
	About    []string // the machine, in a few words each
	Facts    []fact
	Strip    []tick
	Failed   []claimView // what to look at
	Follows  []claimView // failed, too, as a machine that stays shut lets nobody in and seals nothing
	Layers   []layerView
	Claims   int
	Bad      int // of them
	Cover    []coverView
	Boot     *timeline
	Exposure *timeline
	Ports    []portView
	Asked    int // ports in all that a prober asked
	Packages []packageView
	Brought  int // of the packages: what came with the generation
	Chain    []link
	History  []nightView
}

// fact is a number worth a glance.
type fact struct{ Value, Words string }

// tick is a claim in the strip under the verdict.
type tick struct {
	OK    bool
	First bool // of its layer
}

func newPage(s Subject) page {
	r := s.Report
	p := page{Subject: s, Host: r.Host, Claims: len(r.Results), Bad: failures(r), Why: why(r)}
	p.Verdict = verdict(r)
	p.frame = newFrame(r.Host+": "+p.Verdict, r.Err() == nil)
	p.About = about(r)
	p.Layers = layersOf(s)
	for _, l := range p.Layers {
		for i, c := range l.Claims {
			p.Strip = append(p.Strip, tick{c.OK, i == 0})
			if !c.OK {
				p.Failed = append(p.Failed, c)
			}
		}
	}
	if isShut(r) {
		p.Failed, p.Follows = causes(p.Failed)
	}
	p.Cover = cover(p.Layers)
	p.Boot, p.Exposure = bootLine(r), exposureLine(s)
	p.Ports, p.Asked = portsOf(s)
	p.Packages, p.Brought = packagesOf(s)
	p.Chain = chainOf(s)
	p.History = historyOf(s.Nights, r.Host)
	p.Facts = factsOf(p)
	return p
}

// attested is what verify.Report.Attestation is of a machine that opened.
const attested = "ok"

// verdict is what a report comes to.
func verdict(r verify.Report) string {
	all, bad := len(r.Results), failures(r)
	switch {
	case all == 0:
		return "nothing was tried"
	case bad > 0 && isShut(r):
		return fmt.Sprintf("stayed shut, %s failed", of(bad, all, "claim"))
	case isShut(r):
		return "stayed shut"
	case bad > 0:
		return of(bad, all, "claim") + " failed"
	}
	return fmt.Sprintf("all %s hold", count(all, "claim"))
}

// why says what the claims do not.
func why(r verify.Report) string {
	if isShut(r) {
		return "The machine answers nobody. On its console it said why: " + r.Attestation
	}
	return ""
}

// isShut says whether a machine did not open.
func isShut(r verify.Report) bool { return r.Attestation != "" && r.Attestation != attested }

// causes parts what failed in a machine that stayed shut: what a layer claims of its inside is
// why. Where there is no such claim nothing is known to follow from another.
func causes(failed []claimView) (why, follows []claimView) {
	for _, c := range failed {
		if c.Where == "inside" && c.Layer != attest.Layer && !isBoot(c.Layer) {
			why = append(why, c)
		} else {
			follows = append(follows, c)
		}
	}
	if len(why) == 0 {
		return failed, nil
	}
	return why, follows
}

func failures(r verify.Report) (n int) {
	for _, result := range r.Results {
		if !holds(result) {
			n++
		}
	}
	return n
}

// holds says whether a claim held and, where that was to be shown, can fail.
func holds(r verify.Result) bool { return r.OK && (r.Falsified == nil || *r.Falsified) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func of(n, all int, what string) string { return fmt.Sprintf("%d of %s", n, count(all, what)) }

// when is a time for people.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2 Jan 2006, 15:04 UTC")
}

func about(r verify.Report) []string {
	words := []string{r.Guest.OS}
	if r.Guest.Kernel != "" {
		words = append(words, "kernel "+r.Guest.Kernel)
	}
	switch {
	case r.Live != "":
		words = append(words, "at work, at "+r.Live)
	case r.Accelerator != "":
		words = append(words, "booted for this under "+map[string]string{"tcg": "emulation", "kvm": "KVM"}[r.Accelerator])
	}
	if r.Again != "" {
		words = append(words, "started once more: before anything of the seed ran, "+r.Again)
	}
	if r.Guest.RebootDue {
		words = append(words, "a reboot is due")
	}
	return slices.DeleteFunc(words, func(s string) bool { return s == "" })
}

func factsOf(p page) (all []fact) {
	r := p.Report
	add := func(words, format string, args ...any) {
		all = append(all, fact{fmt.Sprintf(format, args...), words})
	}
	add("claims hold", "%d/%d", len(r.Results)-failures(r), len(r.Results))
	if r.Falsify {
		add("seen to fail when broken", "%d/%d", r.Falsified, len(r.Results))
	}
	covered := 0
	for _, c := range p.Cover {
		if c.Number != "" && len(c.Layers) > 0 {
			covered++
		}
	}
	if covered > 0 {
		add("layers of the security document", "%d/%d", covered, len(documentLayers))
	}
	if r.Moments.Attested > 0 {
		add(map[bool]string{true: "of uptime, and it stayed shut", false: "of uptime, then it opened"}[isShut(r)], "%s", span(time.Duration(r.Moments.Attested)*time.Millisecond))
	}
	if n := open(p.Ports); len(p.Ports) > 0 {
		add(strings.TrimPrefix(count(n, "open port"), fmt.Sprint(n, " ")), "%d", n)
	}
	if p.Brought > 0 {
		add("packages brought along", "%d", p.Brought)
	}
	return all
}

// span is a duration for people.
func span(d time.Duration) string {
	switch s := d.Seconds(); {
	case s >= 100:
		return fmt.Sprintf("%d\u00a0min\u00a0%02d\u00a0s", int(s)/60, int(s)%60) // on one line
	default:
		return fmt.Sprintf("%.1f\u00a0s", s)
	}
}

// link is a place in the chain from who signed the base image to the machine.
type link struct {
	What  string
	Words string
	Terms []term
}

// term is a name and a value, a long one in the letters of machines.
type term struct{ Name, Value string }

func chainOf(s Subject) (all []link) {
	m, r := s.Manifest, s.Report
	if m.Generation != "" {
		signer := link{What: "Signer", Words: "Whose key vouched for the base image", Terms: []term{{"key", m.Base.Signer}}}
		if m.Base.Signer == "" {
			signer = link{What: "No signer", Words: "The base image was a file of yours, or named by its digest: nobody else vouches for it."}
		}
		base := link{What: "Base image", Words: m.Base.Reference, Terms: terms("serial", m.Base.Serial, "from", m.Base.URL, "sha256", m.Base.SHA256)}
		layers := link{What: count(len(m.Layers), "layer"), Words: "In the order in which they take effect, by the digest of what went in"}
		for _, l := range m.Layers {
			layers.Terms = append(layers.Terms, term{l.Name, l.SHA256})
		}
		generation := link{What: "Generation " + m.Generation, Words: "Made by " + m.Tool + " as instance " + m.InstanceID + ", of these files"}
		generation.Terms = terms("signed by", s.Signer)
		for _, name := range sortedKeys(m.Files) {
			generation.Terms = append(generation.Terms, term{name, m.Files[name].SHA256})
		}
		all = append(all, signer, base, layers, generation)
	}
	machine := link{What: "Machine", Words: "What answered, and what it tried by itself", Terms: terms("claims", s.Plan.Attest)}
	for _, line := range r.HostKeys {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			machine.Terms = append(machine.Terms, term{strings.TrimPrefix(key.Type(), "ssh-"), ssh.FingerprintSHA256(key)})
		}
	}
	return append(all, machine)
}

// terms are those of pairs that have a value.
func terms(pairs ...string) (all []term) {
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			all = append(all, term{pair[0], pair[1]})
		}
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// isBoot says whether a layer is the claims that are made for every machine.
func isBoot(name string) bool { return cmp.Or(name, claim.BootLayer) == claim.BootLayer }
