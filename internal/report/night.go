package report

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"bake/internal/nightly"
)

// nightView is a night in a strip, for one host.
type nightView struct {
	Class string // good, new, bad, gap
	Sign  string // one character: nothing is said by a colour alone
	Words string
	When  string
	Why   string
}

const mostNights = 60

// historyOf are the nights that had a host, the newest last.
func historyOf(nights []nightly.Night, host string) (all []nightView) {
	for _, n := range nights[max(0, len(nights)-mostNights):] {
		for _, o := range n.Hosts {
			if o.Host == host {
				all = append(all, nightOf(n, o))
			}
		}
	}
	return all
}

func nightOf(n nightly.Night, o nightly.Outcome) nightView {
	v := nightView{Class: "bad", Sign: "✗", Words: string(o.Verdict), When: when(n.Began), Why: shorten(o.Reason)}
	switch o.Verdict {
	case nightly.Unchanged:
		v.Class, v.Sign, v.Words = "good", "–", "nothing new"
	case nightly.Promoted:
		v.Class, v.Sign, v.Words = "new", "✓", "a new generation proved itself"
	case nightly.CouldNot:
		v.Class, v.Sign, v.Words = "gap", "?", "could not be tried"
	case nightly.Undeployed:
		v.Sign, v.Words = "!", "proven, and the machine at work does not run it"
	}
	if d := o.Drill; d != nil && d.Reason != "" {
		if o.Verdict.IsGood() {
			v.Class, v.Sign = "bad", "!"
		}
		v.Words += "; no restore is proven"
		v.Why = cmp.Or(v.Why, shorten(d.Reason))
	}
	if o.Claims > 0 && o.Failed > 0 {
		v.Words += fmt.Sprintf(": %s failed", of(o.Failed, o.Claims, "claim"))
	}
	return v
}

// hostView is a host in the index.
type hostView struct {
	Host, Link       string
	OK               bool
	Words, Why       string
	Generation, Base string
	Claims, Time     string
	Restore          string // how it stands with that, "" where none is rehearsed
	Unproven         string // why somebody should look at it
	History          []nightView
}

// index is what index.tmpl shows.
type index struct {
	frame
	Verdict string
	When    string
	Took    string
	Hosts   []hostView
	Notes   []string
	Nights  []nightView // all hosts of each together
}

// Index is a page about all hosts as the nights left them, the newest night last. Link is
// where the report of a host is that a night came to, "" for none.
func Index(nights []nightly.Night, link func(nightly.Outcome) string) ([]byte, error) {
	nights = slices.DeleteFunc(slices.Clone(nights), func(n nightly.Night) bool { return n.Began.IsZero() })
	page := index{Verdict: "there was no night yet", frame: newFrame("bake: nights", false)}
	if len(nights) > 0 {
		last := nights[len(nights)-1]
		page = index{Verdict: last.String(), When: when(last.Began), Notes: last.Notes}
		page.frame = newFrame("Nights: "+last.String(), last.IsGood() && !last.Ended.IsZero())
		if !last.Ended.IsZero() {
			page.Took = span(max(last.Ended.Sub(last.Began), 0))
		}
		seen := map[string]bool{}
		for at, n := range slices.Backward(nights) { // of one that the last was not about, what was said before
			for _, o := range n.Hosts {
				if seen[o.Host] {
					continue
				}
				v := newHostView(o, historyOf(nights, o.Host), link(o))
				if seen[o.Host] = true; at < len(nights)-1 {
					v.Words += ", on " + when(n.Began)
				}
				page.Hosts = append(page.Hosts, v)
			}
		}
	}
	for _, n := range nights[max(0, len(nights)-mostNights):] {
		v := nightView{Class: "good", Sign: "✓", Words: n.String(), When: when(n.Began)}
		switch {
		case n.Ended.IsZero():
			v.Class, v.Sign, v.Words = "gap", "?", "runs, or was cut off"
		case !n.IsGood():
			v.Class, v.Sign = "bad", "✗"
		}
		page.Nights = append(page.Nights, v)
	}
	return execute("index.tmpl", page)
}

func newHostView(o nightly.Outcome, history []nightView, link string) hostView {
	v := hostView{Host: o.Host, Link: link, OK: o.IsGood(), Words: string(o.Verdict), Generation: o.Generation,
		Base: o.Base.Reference, History: history, Why: shorten(o.Reason), Time: span(seconds(o.Seconds))}
	if o.Base.Serial != "" {
		v.Base += " " + o.Base.Serial
	}
	if v.Generation == "" {
		v.Generation = o.Current
	}
	if o.Claims > 0 {
		v.Claims = fmt.Sprintf("%d/%d", o.Claims-o.Failed, o.Claims)
	}
	if d := o.Drill; d != nil {
		v.Restore, v.Unproven = "a restore was never proven", shorten(d.Reason)
		if !d.Proven.IsZero() {
			v.Restore = fmt.Sprintf("a restore was proven last on %s, of a state %s old, in %s", when(d.Proven), span(seconds(d.RPO)), span(seconds(d.RTO)))
		}
	}
	return v
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
