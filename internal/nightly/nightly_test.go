package nightly

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// errClaim and errWorld are the two kinds of error that Exit tells apart here.
var (
	errClaim = errors.New("a claim failed")
	errWorld = errors.New("no room")
)

func class(err error) int {
	if errors.Is(err, errClaim) {
		return 7
	}
	return 4
}

// stage is a night whose steps are written down: what each host does, and what was
// called.
type stage struct {
	mutex   sync.Mutex
	calls   []string
	at      map[string]int // how many are in a step now
	most    map[string]int
	current map[string]string
	wanted  map[string]string // generation that a host's inputs give
	damaged map[string]bool
	proof   map[string]Proof
	errs    map[string]error // by "step host"
	panics  map[string]bool
	tidied  int
	adopted []string
	gate    func(step, host string) // called inside each step
}

func newStage(hosts ...string) *stage {
	s := &stage{at: map[string]int{}, most: map[string]int{}, current: map[string]string{}, wanted: map[string]string{},
		damaged: map[string]bool{}, proof: map[string]Proof{}, errs: map[string]error{}, panics: map[string]bool{}}
	for _, host := range hosts {
		s.current[host], s.wanted[host] = "old", "new"
		s.proof[host] = Proof{Claims: 3}
	}
	return s
}

func (s *stage) step(name, host string) error {
	s.mutex.Lock()
	s.calls = append(s.calls, name+" "+host)
	s.at[name]++
	s.most[name] = max(s.most[name], s.at[name])
	s.mutex.Unlock()
	if s.gate != nil {
		s.gate(name, host)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.at[name]--
	if s.panics[name+" "+host] {
		panic("out of order")
	}
	return s.errs[name+" "+host]
}

func (s *stage) steps() Steps {
	return Steps{
		Group:   func(host string) string { return strings.TrimRight(host, "0123456789") },
		Refresh: func(_ context.Context, hosts []string) error { return s.step("refresh", hosts[0]) },
		Plan: func(_ context.Context, host string) (Plan, error) {
			err := s.step("plan", host)
			s.mutex.Lock()
			defer s.mutex.Unlock()
			return Plan{Generation: s.wanted[host], Current: s.current[host], Whole: !s.damaged[host]}, err
		},
		Build: func(_ context.Context, host string) (string, error) {
			err := s.step("build", host)
			return s.wanted[host], err
		},
		Verify: func(_ context.Context, host, generation string) (Proof, error) {
			err := s.step("verify", host)
			s.mutex.Lock()
			defer s.mutex.Unlock()
			p := s.proof[host]
			if err == nil && p.Failed > 0 {
				return p, errClaim
			}
			if err == nil && p.Claims > 0 {
				s.current[host] = generation
			}
			return p, err
		},
		Prune: func(_ context.Context, host string) ([]string, error) { return nil, s.step("prune", host) },
		Adopt: func(_ context.Context, proven []string) ([]string, error) {
			s.adopted = append([]string{}, proven...)
			return []string{"moved"}, s.errs["adopt"]
		},
		Tidy: func(context.Context) error { s.tidied++; return nil },
		Exit: class,
	}
}

func (s *stage) night(ctx context.Context, j Job) (Night, error) {
	j.Steps = s.steps()
	if j.Now == nil {
		j.Now = time.Now
	}
	return j.Run(ctx, Night{})
}

func verdicts(n Night) string {
	var words []string
	for _, o := range n.Hosts {
		words = append(words, string(o.Verdict))
	}
	return strings.Join(words, ", ")
}

func TestVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		set     func(s *stage)
		want    Verdict
		stage   string
		exit    int
		current string // afterwards
		calls   string // of host a
	}{
		"something new":                   {func(*stage) {}, Promoted, "", 0, "new", "refresh plan build verify prune"},
		"nothing new":                     {func(s *stage) { s.wanted["a"] = "old" }, Unchanged, "", 0, "old", "refresh plan prune"},
		"nothing new, but it is damaged":  {func(s *stage) { s.wanted["a"], s.damaged["a"] = "old", true }, Promoted, "", 0, "old", "refresh plan build verify prune"},
		"the first night":                 {func(s *stage) { s.current["a"] = "" }, Promoted, "", 0, "new", "refresh plan build verify prune"},
		"nobody knows what it would be":   {func(s *stage) { s.current["a"], s.wanted["a"] = "", "" }, Promoted, "", 0, "", "refresh plan build verify prune"},
		"a claim fails":                   {func(s *stage) { s.proof["a"] = Proof{3, 1, "ufw", nil} }, Failed, "verify", 7, "old", "refresh plan build verify prune"},
		"there was nothing to try":        {func(s *stage) { s.proof["a"] = Proof{} }, CouldNot, "verify", 4, "old", "refresh plan build verify prune"},
		"it cannot be booted":             {func(s *stage) { s.errs["verify a"] = errWorld }, CouldNot, "verify", 4, "old", "refresh plan build verify prune"},
		"it cannot be built":              {func(s *stage) { s.errs["build a"] = errWorld }, CouldNot, "build", 4, "old", "refresh plan build"},
		"it cannot be planned":            {func(s *stage) { s.errs["plan a"] = errWorld }, CouldNot, "plan", 4, "old", "refresh plan"},
		"it cannot be refreshed":          {func(s *stage) { s.errs["refresh a"] = errWorld }, CouldNot, "refresh", 4, "old", "refresh"},
		"it cannot be pruned":             {func(s *stage) { s.errs["prune a"] = errWorld }, Promoted, "", 0, "new", "refresh plan build verify prune"},
		"the refresh panics":              {func(s *stage) { s.panics["refresh a"] = true }, CouldNot, "refresh", 4, "old", "refresh"},
		"the plan panics":                 {func(s *stage) { s.panics["plan a"] = true }, CouldNot, "plan", 4, "old", "refresh plan"},
		"the verification panics":         {func(s *stage) { s.panics["verify a"] = true }, CouldNot, "verify", 4, "old", "refresh plan build verify"},
		"a damaged one that fails anew":   {func(s *stage) { s.damaged["a"] = true; s.proof["a"] = Proof{3, 3, "x", []string{"base: 1 -> 2"}} }, Failed, "verify", 7, "old", "refresh plan build verify prune"},
		"promoting fails after the claim": {func(s *stage) { s.errs["verify a"] = errWorld; s.proof["a"] = Proof{Claims: 3} }, CouldNot, "verify", 4, "old", "refresh plan build verify prune"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage("a", "b")
			test.set(s)
			n, err := s.night(t.Context(), Job{Hosts: []string{"a", "b"}, Builds: 2, Boots: 2})
			if err != nil {
				t.Fatal(err)
			}
			a, b := n.Hosts[0], n.Hosts[1]
			if a.Verdict != test.want || a.Stage != test.stage || a.Exit != test.exit || s.current["a"] != test.current {
				t.Errorf("%+v, current %s", a, s.current["a"])
			}
			if (a.Err() == nil) != (a.Verdict.IsGood() && name != "it cannot be pruned") || a.Exit != 0 && a.Reason == "" {
				t.Errorf("error %v, reason %q", a.Err(), a.Reason)
			}
			if b.Verdict != Promoted || s.current["b"] != "new" {
				t.Errorf("the other one: %+v", b)
			}
			var calls []string
			for _, call := range s.calls {
				if step, host, _ := strings.Cut(call, " "); host == "a" {
					calls = append(calls, step)
				}
			}
			if got := strings.Join(calls, " "); got != test.calls {
				t.Errorf("called %s, want %s", got, test.calls)
			}
			if got := slices.Contains(s.adopted, "a"); got != test.want.IsGood() || !slices.Contains(s.adopted, "b") {
				t.Errorf("pins of %q were adopted", s.adopted)
			}
		})
	}
}

// Only asking does nothing.
func TestDry(t *testing.T) {
	s := newStage("a", "b")
	s.wanted["b"] = "old"
	n, err := s.night(t.Context(), Job{Hosts: []string{"a", "b"}, Dry: true})
	if err != nil || verdicts(n) != "would build, unchanged" || s.adopted != nil || s.tidied != 0 || n.Moved != nil {
		t.Errorf("%s, %v, adopted %q", verdicts(n), err, s.adopted)
	}
	slices.Sort(s.calls)
	if got := strings.Join(s.calls, ", "); got != "plan a, plan b, refresh a, refresh b" {
		t.Errorf("called %s", got)
	}
}

// Hosts of one group are refreshed once, and if that fails it fails for them alone.
func TestShare(t *testing.T) {
	hosts := []string{"a1", "a2", "a3", "b1", "b2", "7"} // 7 has no group
	s := newStage(hosts...)
	s.errs["refresh b1"], s.errs["refresh b2"] = errWorld, errWorld
	n, err := s.night(t.Context(), Job{Hosts: hosts, Builds: 6, Boots: 6})
	if got := verdicts(n); err != nil || got != "promoted, promoted, promoted, could not, could not, promoted" {
		t.Errorf("%s, %v", got, err)
	}
	count := 0
	for _, call := range s.calls {
		if strings.HasPrefix(call, "refresh") {
			count++
		}
	}
	if count != 2 || s.tidied != 1 {
		t.Errorf("%d refreshes, tidied %d times", count, s.tidied)
	}
	s = newStage("a")
	s.wanted["a"] = "old"
	for tidied, untidy := range map[int]bool{0: false, 1: true} {
		s.tidied = 0
		if n, err := s.night(t.Context(), Job{Hosts: []string{"a"}, Untidy: untidy}); err != nil || s.tidied != tidied {
			t.Errorf("%s, %v, tidied %d times, want %d", n, err, s.tidied, tidied)
		}
	}
	s = newStage("a1", "a2", "b1")
	s.panics["refresh a1"] = true
	n, err = s.night(t.Context(), Job{Hosts: []string{"a1", "a2", "b1"}, Builds: 3, Boots: 1})
	if got := verdicts(n); err != nil || got != "could not, could not, promoted" {
		t.Errorf("%s, %v", got, err)
	}
}

// No more are built or booted at once than may be, and booting does not keep others
// from being built.
func TestBounds(t *testing.T) {
	var hosts []string
	for i := range 12 {
		hosts = append(hosts, fmt.Sprint("h", i))
	}
	s := newStage(hosts...)
	built := make(chan struct{}, len(hosts))
	var first sync.Once
	s.gate = func(step, _ string) {
		switch step {
		case "build":
			built <- struct{}{}
		case "verify":
			first.Do(func() { // the first boot lasts until all others are built
				for range hosts {
					<-built
				}
			})
		}
	}
	n, err := s.night(t.Context(), Job{Hosts: hosts, Builds: 3, Boots: 2})
	if err != nil || len(n.Promoted()) != len(hosts) {
		t.Errorf("%s, %v", n, err)
	}
	if s.most["build"] > 3 || s.most["plan"] > 3 || s.most["verify"] > 2 || s.most["verify"] < 1 {
		t.Errorf("at once: %v", s.most)
	}
}

// A night that is told to stop says which hosts it has not come to.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newStage("a", "b", "c")
	s.gate = func(step, _ string) {
		if step == "verify" {
			cancel()
		}
	}
	n, err := s.night(ctx, Job{Hosts: []string{"a", "b", "c"}, Builds: 1, Boots: 1})
	if err != nil || len(n.Promoted()) != 1 || s.adopted != nil {
		t.Errorf("%s, %v, adopted %q", n, err, s.adopted)
	}
	for _, o := range n.Hosts {
		if o.Verdict != Promoted && (o.Verdict != CouldNot || o.Reason != "interrupted") {
			t.Errorf("%+v", o)
		}
	}
}

// What is reported while the night goes on.
func TestReport(t *testing.T) {
	s := newStage("a", "b")
	s.wanted["b"] = "old"
	var seen []string
	failed := errors.New("no room for reports")
	n, err := s.night(t.Context(), Job{Hosts: []string{"a", "b"}, Builds: 1, Boots: 1, Report: func(n Night) error {
		seen = append(seen, n.String())
		return failed
	}})
	if !errors.Is(err, failed) || verdicts(n) != "promoted, unchanged" || len(seen) != 1 || !strings.Contains(seen[0], "1 promoted") {
		t.Errorf("%q, %v", seen, err)
	}
	s.errs["adopt"] = errWorld
	if _, err := s.night(t.Context(), Job{Hosts: []string{"a"}, Builds: 1, Boots: 1}); !errors.Is(err, errWorld) {
		t.Errorf("error %v", err)
	}
}

func TestNightString(t *testing.T) {
	n := Night{}
	for host, v := range map[string]Verdict{"a": Failed, "b": CouldNot, "c": Unchanged, "d": Promoted} {
		n.Hosts = append(n.Hosts, Outcome{Host: host, Verdict: v})
	}
	if got := n.String(); got != "1 promoted, 1 failed (a), 1 could not (b), 1 unchanged" || n.IsGood() {
		t.Errorf("%q", got)
	}
	if got := (Night{}).String(); got != "no host" || !(Night{}).IsGood() {
		t.Errorf("%q", got)
	}
}

// TestDeploy: a proven generation reaches the machine at work; if that fails, or an
// unchanged night finds another one there, the night is red and current stays.
func TestDeploy(t *testing.T) {
	s := newStage("new", "same", "other", "bad", "none")
	for _, host := range []string{"same", "other"} {
		s.wanted[host] = "old"
	}
	steps := s.steps()
	var asked []string
	steps.Deploy = func(_ context.Context, host, generation string, isNew bool) (string, error) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		asked = append(asked, fmt.Sprint(host, " ", generation, " ", isNew))
		switch host {
		case "other", "bad":
			return "before", errClaim
		case "none":
			return "", nil
		}
		return generation, nil
	}
	night, err := Job{Hosts: []string{"new", "same", "other", "bad", "none"}, Builds: 1, Boots: 1, Steps: steps, Now: time.Now}.Run(t.Context(), Night{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"new": "promoted new", "same": "unchanged old", "other": "undeployed before", "bad": "undeployed before", "none": "promoted "}
	for _, o := range night.Hosts {
		if got := string(o.Verdict) + " " + o.Deployed; got != want[o.Host] {
			t.Errorf("%s: %q, want %q", o.Host, got, want[o.Host])
		}
		if o.Verdict == Undeployed && (o.Stage != "deploy" || o.Exit == 0 || o.Err() == nil || o.Current == "before") {
			t.Errorf("%+v", o)
		}
	}
	if slices.Sort(s.adopted); strings.Join(s.adopted, " ") != "bad new none other same" { // all are proven
		t.Errorf("pins of %q were adopted", s.adopted)
	}
	slices.Sort(asked)
	if got := strings.Join(asked, ", "); got != "bad new true, new new true, none new true, other old false, same old false" {
		t.Error(got)
	}
	if night.IsGood() || !strings.Contains(night.String(), "2 undeployed (other, bad)") {
		t.Error(night.String())
	}
}
