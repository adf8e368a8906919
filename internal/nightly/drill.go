package nightly

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
)

// A DrillPolicy says when a night rehearses the restore of a host's backup, and when
// somebody should worry. The zero value is never.
type DrillPolicy struct {
	Every time.Duration // since the last proven restore; 0: it is people who rehearse
	Alarm time.Duration // a night is red with an older proof, or with none; 0: none is
}

// drillSlack is because nights do not begin on the second: what was proven at half past
// three a week ago is a week old at three.
const drillSlack = 12 * time.Hour

// isDue says whether a restore that was proven at a time, the zero one for never, is to
// be rehearsed again. A proof that is yet to come was written by a clock that was wrong.
func (p DrillPolicy) isDue(proven, now time.Time) bool {
	age := now.Sub(proven)
	return p.Every > 0 && (proven.IsZero() || age < 0 || age >= p.Every-drillSlack)
}

// Check returns a *LateError when a restore was not proven as lately as it must have been.
func (p DrillPolicy) Check(proven, now time.Time) error {
	age := now.Sub(proven)
	if p.Alarm > 0 && (proven.IsZero() || age > p.Alarm || age < -drillSlack) {
		return &LateError{Proven: proven, Age: age, Limit: p.Alarm}
	}
	return nil
}

// A LateError says that it is too long ago that a restore was proven.
type LateError struct {
	Proven     time.Time // zero: none ever was
	Age, Limit time.Duration
}

func (e *LateError) Error() string {
	if e.Proven.IsZero() {
		return "no restore was ever proven"
	}
	if e.Age < 0 {
		return fmt.Sprintf("a restore was proven last at %s, which is still to come: one of two clocks was wrong, and nobody knows how old the proof is", e.Proven.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("a restore was proven last %s ago, at %s, and %s is the limit", span(e.Age), e.Proven.Local().Format(time.DateTime), span(e.Limit))
}

// span is a time for people: in days when there are some.
func span(d time.Duration) string {
	if days := d / (24 * time.Hour); days >= 2 {
		return fmt.Sprintf("%d days", days)
	}
	if d >= time.Minute {
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.String()
}

// A Drill is how it stands with the restores of a host: what the last proven one was, and
// what rehearsing one came to if this night did.
type Drill struct {
	Tried     bool      `json:"tried,omitempty"`       // on this night
	Reason    string    `json:"reason,omitempty"`      // why somebody should look: it failed, or the proof is old
	IsLate    bool      `json:"late,omitempty"`        // the proof is older than it may be, or there is none
	Postponed string    `json:"postponed,omitempty"`   // why it was due and was not tried, where that is no failure
	Proven    time.Time `json:"last_proven,omitzero"`  // when a restore was, last
	RPO       float64   `json:"rpo_seconds,omitempty"` // of that: the state's age
	RTO       float64   `json:"rto_seconds,omitempty"` // and the time to a machine that is ready
}

// drill rehearses the restore of a host, if its time has come, and looks how long ago one
// was proven. It is of the host's backup: what the night made of its generation counts
// neither for it nor against it.
func (r *run) drill(ctx context.Context, o *Outcome) {
	if r.Drills == nil || ctx.Err() != nil {
		return
	}
	policy, known, err := r.Drills(o.Host)
	if err == nil && policy == (DrillPolicy{}) {
		return
	}
	isDue := policy.isDue(known.Proven, r.Now())
	if r.Dry {
		if isDue && err == nil {
			o.Notes = append(o.Notes, "a restore would be rehearsed")
		}
		return
	}
	if isDue {
		var failed error
		known, failed = r.rehearse(ctx, o.Host, known)
		err = errors.Join(err, failed)
	}
	late := policy.Check(known.Proven, r.Now())
	if known.IsLate = late != nil; late != nil {
		late = fmt.Errorf("%s: %w", o.Host, late)
	}
	if err = errors.Join(err, late); err != nil {
		known.Reason = cut(err.Error())
		o.err = errors.Join(o.err, err)
		if o.Exit == 0 {
			o.Exit = r.Exit(err)
		}
	}
	o.Drill = &known
}

// rehearse is a drill with one of the places to boot in. The proof from before stays what
// it was unless there is a newer one.
func (r *run) rehearse(ctx context.Context, host string, known Drill) (d Drill, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			d, err = known, fmt.Errorf("bake broke down: %v\n%s", cause, debug.Stack())
			d.Tried = true
		}
	}()
	if !take(ctx, r.boots) {
		return known, context.Cause(ctx)
	}
	defer func() { <-r.boots }()
	d, err = r.Drill(ctx, host)
	if err != nil || d.Proven.IsZero() {
		d.Proven, d.RPO, d.RTO = known.Proven, known.RPO, known.RTO
	}
	d.Tried = d.Postponed == ""
	return d, err
}
