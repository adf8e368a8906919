package nightly

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Outcome is what a night came to for one host.
type Outcome struct {
	Host       string   `json:"host"`
	Verdict    Verdict  `json:"verdict"`
	Stage      string   `json:"stage,omitempty"`  // where it ended: wait, refresh, plan, build, verify, deploy
	Reason     string   `json:"reason,omitempty"` // why
	Exit       int      `json:"exit"`
	Generation string   `json:"generation,omitempty"` // that was wanted
	Current    string   `json:"current,omitempty"`    // afterwards
	Deployed   string   `json:"deployed,omitempty"`   // that the machine at work has, where a night deploys
	Base       Base     `json:"base,omitzero"`
	Packages   int      `json:"packages,omitempty"`
	Claims     int      `json:"claims,omitempty"`
	Failed     int      `json:"failed,omitempty"`
	Changes    []string `json:"changes,omitempty"` // of a red one, since the current generation
	Pruned     []string `json:"pruned,omitempty"`
	Drill      *Drill   `json:"drill,omitempty"` // nil: nothing is rehearsed of it
	Notes      []string `json:"notes,omitempty"`
	Seconds    float64  `json:"seconds"`

	err error
}

// Err is what went wrong, nil in an Outcome that was read from a file.
func (o Outcome) Err() error { return o.err }

// IsGood says whether nobody need look: the host is on the newest that there is, and a
// restore of it was proven when it had to be.
func (o Outcome) IsGood() bool { return o.Verdict.IsGood() && (o.Drill == nil || o.Drill.Reason == "") }

func (o *Outcome) fail(class func(error) int, err error) {
	o.err = errors.Join(o.err, err)
	if err != nil {
		o.Reason, o.Exit = cut(err.Error()), class(err)
	}
}

// cut bounds what a report has of an error, at the end of a character.
func cut(text string) string {
	const most = 4 << 10
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// A Night is what one came to.
type Night struct {
	Schema string    `json:"schema"` // "bake.night/1"
	Number int       `json:"number"` // of the journal; 0 for one that only asked
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"` // zero for one that runs or was cut off
	Exit   int       `json:"exit"`
	Hosts  []Outcome `json:"hosts"`
	Moved  []string  `json:"moved,omitempty"` // in bake.lock
	Notes  []string  `json:"notes,omitempty"` // what else somebody should know: notifications that failed
}

// Unbegun is a night that there was none of, for somebody to hear of it: no journal has it.
func Unbegun(now time.Time, exit int, why string) Night {
	now = now.UTC().Truncate(time.Second)
	return Night{Schema: schema, Began: now, Ended: now, Exit: exit, Notes: []string{cut(why)}}
}

// Promoted are the hosts that have a new current generation.
func (n Night) Promoted() []string { return n.with(Promoted) }

func (n Night) with(v Verdict) (hosts []string) {
	for _, o := range n.Hosts {
		if o.Verdict == v {
			hosts = append(hosts, o.Host)
		}
	}
	return hosts
}

// IsGood says whether every host is.
func (n Night) IsGood() bool {
	return !slices.ContainsFunc(n.Hosts, func(o Outcome) bool { return !o.IsGood() })
}

// String is the night in a line: "2 promoted, 1 failed (zip), 47 unchanged".
func (n Night) String() string {
	var parts []string
	for _, v := range []Verdict{Promoted, Failed, Undeployed, CouldNot, Would, Unchanged} {
		hosts := n.with(v)
		if len(hosts) == 0 {
			continue
		}
		text := fmt.Sprintf("%d %s", len(hosts), v)
		if v == Failed || v == CouldNot || v == Undeployed {
			text += some(hosts)
		}
		parts = append(parts, text)
	}
	var unproven []string
	for _, o := range n.Hosts {
		if o.Drill != nil && o.Drill.Reason != "" {
			unproven = append(unproven, o.Host)
		}
	}
	if len(unproven) > 0 {
		parts = append(parts, fmt.Sprintf("no restore of %d proven%s", len(unproven), some(unproven)))
	}
	switch {
	case len(parts) == 0 && n.Exit != 0 && len(n.Notes) > 0:
		line, _, _ := strings.Cut(n.Notes[0], "\n")
		return "it did not begin: " + line
	case len(parts) == 0:
		return "no host"
	}
	return strings.Join(parts, ", ")
}

// some are the names of a few hosts, for the end of a line.
func some(hosts []string) string {
	if len(hosts) > 5 {
		hosts = append(hosts[:5:5], "...")
	}
	return " (" + strings.Join(hosts, ", ") + ")"
}
