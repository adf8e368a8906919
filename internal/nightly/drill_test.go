package nightly

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

const day = 24 * time.Hour

// monday is when these nights are.
var monday = time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return monday.Add(-d) }

// TestDrillPolicy: when a restore is rehearsed, and when a proof is too old.
func TestDrillPolicy(t *testing.T) {
	weekly := DrillPolicy{Every: 7 * day, Alarm: 30 * day}
	for name, test := range map[string]struct {
		policy    DrillPolicy
		proven    time.Time
		due, late bool
	}{
		"never":                               {weekly, time.Time{}, true, true},
		"an hour ago":                         {weekly, ago(time.Hour), false, false},
		"yesterday":                           {weekly, ago(day), false, false},
		"six days ago":                        {weekly, ago(6 * day), false, false},
		"a week ago, but for half an hour":    {weekly, ago(7*day - 30*time.Minute), true, false},
		"a week and a half ago":               {weekly, ago(10 * day), true, false},
		"thirty days ago to the second":       {weekly, ago(30 * day), true, false},
		"a second more":                       {weekly, ago(30*day + time.Second), true, true},
		"tomorrow, by a clock that was wrong": {weekly, ago(-day), true, true},
		"in three years, and only an alarm":   {DrillPolicy{Alarm: day}, ago(-1000 * day), false, true},
		"a clock a minute ahead":              {weekly, ago(-time.Minute), true, false},
		"every night":                         {DrillPolicy{Every: time.Hour}, ago(time.Minute), true, false},
		"only an alarm":                       {DrillPolicy{Alarm: day}, ago(2 * day), false, true},
		"no alarm":                            {DrillPolicy{Every: day}, ago(300 * day), true, false},
		"no policy":                           {DrillPolicy{}, time.Time{}, false, false},
	} {
		if got := test.policy.isDue(test.proven, monday); got != test.due {
			t.Errorf("%s: due %v", name, got)
		}
		err := test.policy.Check(test.proven, monday)
		var late *LateError
		if errors.As(err, &late) != test.late {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := weekly.Check(ago(31*day), monday); !strings.Contains(err.Error(), "last 31 days ago") || !strings.Contains(err.Error(), "30 days is the limit") {
		t.Error(err)
	}
	if err := weekly.Check(ago(-day), monday); !strings.Contains(err.Error(), "which is still to come") {
		t.Error(err)
	}
}

// rehearsal is what a drill of a host comes to.
type rehearsal struct {
	policy   DrillPolicy
	known    Drill
	unknown  error // of what is known
	drill    Drill
	err      error
	panics   bool
	set      func(s *stage)
	verdict  Verdict
	exit     int    // of the host
	reason   string // of the drill, in part
	isLate   bool
	proven   time.Time
	is, good bool // there is a Drill in the outcome; the outcome is good
	tried    bool
}

func TestDrill(t *testing.T) {
	weekly := DrillPolicy{Every: 7 * day, Alarm: 30 * day}
	proof := Drill{Proven: monday, RPO: 3600, RTO: 120}
	for name, test := range map[string]rehearsal{
		"no policy":                        {verdict: Promoted, good: true},
		"not due":                          {policy: weekly, known: Drill{Proven: ago(day)}, is: true, verdict: Promoted, proven: ago(day), good: true},
		"due":                              {policy: weekly, known: Drill{Proven: ago(8 * day)}, drill: proof, is: true, tried: true, verdict: Promoted, proven: monday, good: true},
		"the first":                        {policy: weekly, drill: proof, is: true, tried: true, verdict: Promoted, proven: monday, good: true},
		"late, and proven tonight":         {policy: weekly, known: Drill{Proven: ago(80 * day)}, drill: proof, is: true, tried: true, verdict: Promoted, proven: monday, good: true},
		"it fails":                         {policy: weekly, known: Drill{Proven: ago(8 * day)}, err: errClaim, is: true, tried: true, verdict: Promoted, exit: 7, reason: "a claim failed", proven: ago(8 * day)},
		"it fails for long":                {policy: weekly, known: Drill{Proven: ago(31 * day)}, err: errWorld, is: true, tried: true, verdict: Promoted, exit: 4, reason: "last 31 days ago", isLate: true, proven: ago(31 * day)},
		"the first fails":                  {policy: weekly, err: errWorld, is: true, tried: true, verdict: Promoted, exit: 4, reason: "no room", isLate: true},
		"it breaks down":                   {policy: weekly, known: Drill{Proven: ago(8 * day)}, panics: true, is: true, tried: true, verdict: Promoted, exit: 4, reason: "bake broke down", proven: ago(8 * day)},
		"only an alarm":                    {policy: DrillPolicy{Alarm: day}, known: Drill{Proven: ago(2 * day)}, is: true, verdict: Promoted, exit: 4, reason: "proven last 2 days ago", isLate: true, proven: ago(2 * day)},
		"a backup is under way":            {policy: weekly, known: Drill{Proven: ago(8 * day)}, drill: Drill{Postponed: "busy"}, is: true, verdict: Promoted, proven: ago(8 * day), good: true},
		"a backup is under way, for long":  {policy: weekly, known: Drill{Proven: ago(31 * day)}, drill: Drill{Postponed: "busy"}, is: true, verdict: Promoted, exit: 4, reason: "last 31 days ago", isLate: true, proven: ago(31 * day)},
		"nobody knows what was proven":     {policy: weekly, unknown: errWorld, drill: proof, is: true, tried: true, verdict: Promoted, exit: 4, reason: "no room", proven: monday},
		"nothing is new":                   {policy: weekly, drill: proof, set: func(s *stage) { s.wanted["a"] = "old" }, is: true, tried: true, verdict: Unchanged, proven: monday, good: true},
		"the host cannot be built":         {policy: weekly, drill: proof, set: func(s *stage) { s.errs["build a"] = errWorld }, is: true, tried: true, verdict: CouldNot, exit: 4, proven: monday},
		"a claim of the generation failed": {policy: weekly, drill: proof, set: func(s *stage) { s.proof["a"] = Proof{3, 1, "ufw", nil} }, is: true, tried: true, verdict: Failed, exit: 7, proven: monday},
	} {
		t.Run(name, func(t *testing.T) { test.run(t) })
	}
}

func (test rehearsal) run(t *testing.T) {
	s := newStage("a", "b")
	if test.set != nil {
		test.set(s)
	}
	steps := s.steps()
	steps.Drills = func(host string) (DrillPolicy, Drill, error) {
		if host == "b" {
			return DrillPolicy{}, Drill{}, nil
		}
		return test.policy, test.known, test.unknown
	}
	steps.Drill = func(_ context.Context, host string) (Drill, error) {
		_ = s.step("drill", host)
		if test.panics {
			panic("a drill that breaks down")
		}
		return test.drill, test.err
	}
	reported := 0
	j := Job{Hosts: []string{"a", "b"}, Builds: 2, Boots: 1, Steps: steps, Now: func() time.Time { return monday }, Report: func(Night) error { reported++; return nil }}
	n, err := j.Run(t.Context(), Night{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := n.Hosts[0], n.Hosts[1]
	if a.Verdict != test.verdict || a.Exit != test.exit || a.IsGood() != test.good || (a.Err() == nil) != test.good || n.IsGood() != test.good {
		t.Errorf("%+v, %v", a, a.Err())
	}
	if b.Verdict != Promoted || b.Drill != nil || !b.IsGood() {
		t.Errorf("the other one: %+v", b)
	}
	if reported != 2 {
		t.Errorf("reported %d times", reported)
	}
	if (a.Drill != nil) != test.is {
		t.Fatalf("%+v", a.Drill)
	}
	if a.Drill == nil {
		return
	}
	if d := *a.Drill; d.Tried != test.tried || d.IsLate != test.isLate || !d.Proven.Equal(test.proven) || !strings.Contains(d.Reason, test.reason) || (d.Reason == "") != (test.reason == "") {
		t.Errorf("%+v", d)
	}
	if strings.Contains(n.String(), "no restore of 1 proven (a)") != (test.reason != "") {
		t.Error(n)
	}
	pinned := strings.Join(s.adopted, " ") // by what is proven of the generation alone
	if want := map[bool]string{true: "a b", false: "b"}[test.verdict.IsGood()]; pinned != want {
		t.Errorf("adopted %q, want %q", pinned, want)
	}
}

// TestDrillBounds: drills are boots, of which there are not more than may be.
func TestDrillBounds(t *testing.T) {
	s := newStage("a", "b", "c", "d")
	at, most := 0, 0
	count := func(by int) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		at += by
		most = max(most, at)
	}
	s.gate = func(step, _ string) {
		if step == "verify" || step == "drill" {
			count(1)
			runtime.Gosched() // so that others would come in, if they could
			count(-1)
		}
	}
	steps := s.steps()
	steps.Drills = func(string) (DrillPolicy, Drill, error) { return DrillPolicy{Every: day}, Drill{}, nil }
	steps.Drill = func(_ context.Context, host string) (Drill, error) {
		return Drill{Proven: monday}, s.step("drill", host)
	}
	j := Job{Hosts: []string{"a", "b", "c", "d"}, Builds: 4, Boots: 1, Steps: steps, Now: func() time.Time { return monday }}
	if n, err := j.Run(t.Context(), Night{}); err != nil || !n.IsGood() {
		t.Errorf("%v, %v", n, err)
	}
	if most != 1 {
		t.Errorf("%d machines at once", most)
	}
}

// TestDrillDry: a night that only asks says what it would do; one that is stopped says
// that it was.
func TestDrillDry(t *testing.T) {
	s := newStage("a")
	s.wanted["a"] = "old"
	steps := s.steps()
	steps.Drills = func(string) (DrillPolicy, Drill, error) { return DrillPolicy{Every: day, Alarm: day}, Drill{}, nil }
	steps.Drill = func(ctx context.Context, _ string) (Drill, error) { return Drill{}, context.Cause(ctx) }
	j := Job{Hosts: []string{"a"}, Dry: true, Steps: steps, Now: func() time.Time { return monday }}
	n, err := j.Run(t.Context(), Night{})
	if err != nil || !n.IsGood() || len(n.Hosts[0].Notes) != 1 || !strings.Contains(n.Hosts[0].Notes[0], "would be rehearsed") {
		t.Errorf("%+v, %v", n, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	j.Dry, j.Drill = false, func(ctx context.Context, _ string) (Drill, error) {
		stop()
		return Drill{}, context.Cause(ctx)
	}
	n, _ = j.Run(ctx, Night{})
	if o := n.Hosts[0]; o.Verdict != Unchanged || !errors.Is(o.Err(), context.Canceled) || o.IsGood() {
		t.Errorf("%+v, %v", o, o.Err())
	}
}
