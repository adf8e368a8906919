package report

import (
	"fmt"
	"slices"
	"time"

	"bake/internal/exposure"
	"bake/internal/verify"
)

// timeline is a chart and the same in words.
type timeline struct {
	Summary string
	Charts  []chart // wide and narrow
	Steps   []step
	Verdict struct { // on an exposure
		OK    bool
		Words string
	}
}

// step is a moment of a timeline.
type step struct {
	N     int // of its mark, 0 for none
	At    string
	Words string
	Bad   bool
	Key   bool // what the others are measured by
}

// moment is a step before it has a place in a chart.
type moment struct {
	at    time.Duration
	words string // what happens
	then  string // what is so afterwards
	class string // of the band after it
}

// bootLine is what the guest says of its boot, nil where it said nothing.
func bootLine(r verify.Report) *timeline {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	m := r.Moments
	if m.Closed == 0 && m.Attested == 0 {
		return nil
	}
	last := moment{ms(m.Attested), "every claim held: it opens", "open", "open"}
	if r.Attestation != attested {
		last = moment{ms(m.Attested), "a claim did not hold: it stays shut", "shut", "shut"}
	}
	all := []moment{{0, "the kernel starts", "no network yet", "early"}}
	for _, next := range []moment{
		{ms(m.Closed), "the gate closes: nobody is answered", "shut, no network", "shut"},
		{ms(m.Network), "the network may come up", "shut", "shut"},
		{ms(m.SSH), "sshd has started; nobody reaches it", "shut", "shut"},
		{ms(m.Trying), "the boot is over, the claims are tried", "its claims", "trying"},
		last,
	} {
		if next.at > 0 {
			all = append(all, next)
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return int(a.at - b.at) })
	last = all[len(all)-1]
	total := last.at + last.at/8 // so that what it ends with is seen
	t := &timeline{Summary: "By the guest's own clock, from the start of its kernel."}
	if r.UpSeconds > 0 {
		t.Summary += fmt.Sprintf(" From power-on to its verdict it was %s here.", span(time.Duration(r.UpSeconds)*time.Second))
	}
	for i, m := range all {
		t.Steps = append(t.Steps, step{N: i + 1, At: span(m.at), Words: m.words})
	}
	for _, c := range []chart{newChart("wide", 860, total), newChart("narrow", 340, total)} {
		c.bands(all)
		t.Charts = append(t.Charts, c)
	}
	return t
}

// lane is a kind of answer over time.
type lane struct {
	words string
	at    time.Duration // the first
	isOK  bool
	more  int // others like it that it stands for
}

const mostLanes = 14 // that a guest can make us draw

// seen is what a prober got for an answer.
type seen struct {
	lanes []lane
	left  int // kinds of answers for which there is no lane
	all   int
	bad   int // answers that nobody was to get
}

// lanesOf sorts the answers that a prober got. Of ports that refuse over one family only
// the first is there.
func lanesOf(s Subject) (found seen) {
	e := s.Report.Exposure
	want, _ := wantOpen(s.Plan)
	refused := map[int]int{} // lanes, by family
	for _, a := range e.First {
		opened := e.Opens > 0 && a.After >= e.Opens
		ok := a.Kind == exposure.Frame || opened && (a.Kind == exposure.Echo || a.Kind == exposure.Accepted && slices.Contains(want, a.Port))
		found.all++
		if !ok {
			found.bad++
		}
		if i, known := refused[a.Family]; known && a.Kind == exposure.Refused {
			found.lanes[i].more++
			continue
		}
		if len(found.lanes) == mostLanes {
			found.left++
			continue
		}
		if a.Kind == exposure.Refused {
			refused[a.Family] = len(found.lanes)
		}
		found.lanes = append(found.lanes, lane{words: laneWords(a), at: a.After, isOK: ok})
	}
	return found
}

func laneWords(a exposure.Answer) string {
	over := ""
	if a.Family != 0 {
		over = fmt.Sprintf(" over IPv%d", a.Family)
	}
	switch a.Kind {
	case exposure.Frame:
		return "a packet of any kind: its network card is up"
	case exposure.Accepted:
		return fmt.Sprintf("port %d takes connections%s", a.Port, over)
	case exposure.Refused:
		return fmt.Sprintf("port %d refuses%s", a.Port, over)
	case exposure.Echo:
		return "a ping is answered" + over
	case exposure.Reject:
		return "something is said to be unreachable" + over
	}
	return a.String()
}

// exposureLine is what the guest's neighbours saw, nil where nobody looked.
func exposureLine(s Subject) *timeline {
	e := s.Report.Exposure
	if e == nil {
		return nil
	}
	total := time.Duration(e.Seconds * float64(time.Second))
	found := lanesOf(s)
	lanes := found.lanes
	t := &timeline{Summary: fmt.Sprintf("%d probes in %s, from power-on: port 22 was asked %.0f times a second over each of IPv4 and IPv6, %d other ports and pings in turn.",
		e.Probes, span(total), e.Rate, max(0, len(e.Asked)-1))}
	for _, l := range lanes {
		words := "first answer: " + l.words
		if l.more > 0 {
			words += fmt.Sprintf(", and %s more", count(l.more, "port"))
		}
		t.Steps = append(t.Steps, step{At: span(l.at), Words: words, Bad: !l.isOK})
	}
	t.judge(found, e.Opens > 0)
	if e.Opens > 0 {
		at := slices.IndexFunc(lanes, func(l lane) bool { return l.at >= e.Opens })
		if at < 0 {
			at = len(t.Steps)
		}
		t.Steps = slices.Insert(t.Steps, at, step{At: span(e.Opens), Words: "its claims hold, it opens", Key: true})
	}
	if found.left > 0 {
		t.Steps = append(t.Steps, step{Words: fmt.Sprintf("and answers of %d other kinds", found.left)})
	}
	for _, c := range []chart{newChart("wide", 860, total), newChart("narrow", 340, total)} {
		c.lanes(lanes, e.Opens)
		t.Charts = append(t.Charts, c)
	}
	return t
}

// judge says what a neighbour would.
func (t *timeline) judge(found seen, opened bool) {
	switch t.Verdict.OK = found.bad == 0 && found.all > 0; {
	case found.all == 0:
		t.Verdict.Words = "Not one packet of the machine was seen, so nothing was measured."
	case found.bad > 0:
		t.Verdict.Words = count(found.bad, "answer") + " came that nobody was to get."
	case opened:
		t.Verdict.Words = "Nobody got an answer before it opened, and then from the listed ports alone."
	default:
		t.Verdict.Words = "Nobody got an answer, as it never opened."
	}
}
