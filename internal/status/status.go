// Package status says what a machine under libvirt has made of itself, by the log
// of its serial console and nothing else: nobody is asked, and nobody logs in.
//
//	not started   there is no log
//	not yet       it boots, as far as the log can tell; Stages say how far it is
//	attested      every claim holds, and it answers
//	stayed shut   a claim failed, or something else went wrong in the guest
//	refused       the guest had no claims to try, or others than were baked
//	died          it ended, or waits for somebody, before it had a verdict; or it panicked
//	off           it had attested, and was switched off in good order since
//	unknown       the log cannot tell: its beginning is gone, or the verdict is torn
//
// It promises that a state is about the boot that the log shows last, and that
// attested, stayed shut and refused are the guest's own words, whole and not
// contradictory. It refuses a log that is no regular file and reads at most its
// last 4 MiB, whatever the guest writes.
//
// What a log cannot tell: whether the machine still runs. One that was destroyed,
// paused or hangs has a log that no longer grows, as has one that has nothing to
// say; virsh domstate knows. And root in the guest can print any line. What must
// not be believed is verified from outside.
//
// # Decisions
//
// 2026-11: the log, not libvirt's API: it is there where bake has no connection,
// and holds what the guest said before anybody looked. Would change for the state
// of the domain, which only libvirt has.
//
// 2026-11: a verdict counts until the next boot begins, however old it is. There
// is no clock in it that would be of any use: what runs is what has attested.
package status

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"bake/internal/console"
)

// State is what has become of a machine, in the words of the package comment.
type State string

// The states that callers ask for, and the others.
const (
	NotYet   State = "not yet"
	Attested State = "attested"
	Unknown  State = "unknown"

	notStarted State = "not started"
	shut       State = "stayed shut"
	refused    State = "refused"
	died       State = "died"
	off        State = "off"
)

// IsFinal says whether this boot will come to no other state by itself.
func (s State) IsFinal() bool { return s == Attested || s.IsFailed() }

// IsFailed says whether the machine is not what was specified.
func (s State) IsFailed() bool { return s == shut || s == refused || s == died }

// Status is what a log says of a machine.
type Status struct {
	Host     string          `json:"host"`
	State    State           `json:"state"`
	Reason   string          `json:"reason,omitempty"` // the first failure, what the guest refused, how it ended
	Console  string          `json:"console"`          // the log's path
	Bytes    int64           `json:"console_bytes"`
	Grew     time.Time       `json:"console_grew,omitzero"`    // when the log last did
	Boots    int             `json:"boots"`                    // that the log shows from their beginning
	Stages   []console.Stage `json:"stages"`                   // of the last of them
	Uptime   float64         `json:"uptime_seconds,omitempty"` // the guest's clock when it last told it
	End      string          `json:"end,omitempty"`            // how it ended, or where it hangs
	Claims   int             `json:"claims"`                   // that were tried, or that it set out to try
	Failed   int             `json:"failed"`
	Failures []string        `json:"failures"`         // by name, as far as the guest has listed them
	Said     []string        `json:"said,omitempty"`   // what else bake's programs in the guest said
	Plan     string          `json:"plan,omitempty"`   // SHA-256 of the claims that it tried
	Report   string          `json:"report,omitempty"` // SHA-256 of the report that it keeps

	isLost bool // the log has grown past what it would have said
}

// Of judges a log as far as it has been read.
func Of(host string, l *Log) Status {
	r := l.Reading()
	s := Status{Host: host, Console: cmp.Or(l.Name, l.Path), Bytes: l.Size, Grew: l.Grew.UTC(), Boots: r.Boots,
		Stages: append([]console.Stage{}, r.Stages...), Uptime: r.Uptime, End: r.End,
		Claims: r.Trying, Failures: append([]string{}, r.Failed...), Said: r.Said}
	if v := r.Verdict; v != nil {
		s.Plan, s.Report, s.Failed = v.Plan, v.Report, v.Failed
		if v.Refused == "" {
			s.Claims = v.Claims
		}
	}
	s.State, s.Reason = judge(r, l)
	s.isLost = s.Reason == lost
	return s
}

// NoteReport takes the verdict from what the guest has written to its port, where its log has
// grown past that: it says the same, and is kept as long.
func (s *Status) NoteReport(port []byte) {
	var report struct {
		OK      bool
		Plan    string
		Problem string
		Results []struct {
			OK           bool
			Layer, Claim string
		}
	}
	if !s.isLost || json.Unmarshal(LastReport(port), &report) != nil || report.Plan == "" {
		return
	}
	s.State, s.Reason, s.Plan, s.Claims = Attested, "", report.Plan, len(report.Results)
	if report.OK {
		return
	}
	s.State, s.Reason = shut, report.Problem
	for _, r := range report.Results {
		if !r.OK {
			s.Failures = append(s.Failures, r.Layer+": "+r.Claim)
		}
	}
	if s.Failed = len(s.Failures); s.Failed > 0 {
		s.Reason = s.Failures[0]
	}
}

// LastReport is the last of the reports that a guest has written to its port, one a line and
// a boot; nil where that is none.
func LastReport(port []byte) json.RawMessage {
	lines := bytes.Split(bytes.TrimSpace(port), []byte("\n"))
	if last := lines[len(lines)-1]; json.Valid(last) {
		return last
	}
	return nil
}

const lost = "the beginning of the log is gone, and a verdict may have gone with it"

// NoteOff takes note of what no log tells: the machine is off.
func (s *Status) NoteOff() {
	const by = "it was switched off, libvirt says"
	switch s.State {
	case Attested:
		s.State, s.Reason = off, by
	case NotYet:
		s.State, s.Reason = died, by
	}
}

func judge(r console.Reading, l *Log) (State, string) {
	switch v := r.Verdict; {
	case !l.IsThere:
		return notStarted, ""
	case v != nil && v.Refused != "":
		return refused, v.Refused
	case v != nil && !v.OK:
		return shut, v.First
	case v != nil && r.IsOff:
		return off, r.End
	case r.End != "": // attested or not
		return died, r.End
	case v != nil:
		return Attested, ""
	case r.IsTorn:
		return Unknown, "its verdict is on the console, but something else was printed into it"
	case l.IsCut && r.Boots == 0:
		return Unknown, lost
	}
	return NotYet, ""
}

// Stage is how far the boot has come, in words for people.
func (s Status) Stage() string {
	if len(s.Stages) == 0 {
		return "nothing is on the console"
	}
	last := s.Stages[len(s.Stages)-1]
	if last.Uptime > 0 {
		return fmt.Sprintf("%s after %.1f s of its uptime", last.Words, last.Uptime)
	}
	return last.Words
}

// String is the state in a sentence without the host.
func (s Status) String() string {
	switch s.State {
	case notStarted:
		return "not started: there is no log " + s.Console
	case NotYet:
		return "not yet: " + s.Stage()
	case Attested:
		return fmt.Sprintf("attested: %d claims hold", s.Claims)
	case shut:
		if s.Failed == 0 {
			return "stayed shut: " + s.Reason
		}
		return fmt.Sprintf("stayed shut: %d of %d claims failed, first %s", s.Failed, s.Claims, s.Reason)
	case died:
		return fmt.Sprintf("died: %s; the last stage was: %s", s.Reason, s.Stage())
	case off:
		return "off: it had attested, then " + s.Reason
	}
	return string(s.State) + ": " + s.Reason
}
