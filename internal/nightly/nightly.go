// Package nightly is the job that keeps hosts on the newest base images and packages
// of which it is known that they work.
//
// For each host a night refreshes what its machine is made of, sees from digests
// whether that gives another generation than the current one, builds it, boots it
// and tries its claims, and prunes. What the steps are is given to it as functions:
// it knows no flags, no files of a generation, no network and no printing, and can be
// tried with steps that were written down. What belongs here is their order, how many
// are taken at once, what one host's failure means for the others (nothing), and what
// is said of it afterwards.
//
// A [Journal] keeps what the nights of one configuration came to, and sees to it that
// there is one at a time:
//
//	lock           held during a night; has the number of its process
//	000042.json    a Night, 0600; written when it begins, after each host that was
//	               worked on, and at its end
//	index.html     a page about them, see package report; written after a night
//
// It promises:
//   - A host is promoted by its own proof and nothing else: by a step Verify that
//     came back with claims of which none failed.
//   - Whatever a step of one host does, be it to panic, every other host gets its
//     night. What hosts share is refreshed once; if that fails, it fails for these
//     hosts alone.
//   - A night that was killed has left a Night without an end; the next one begins
//     anew, and what was built and proven by then need not be done again, because the
//     steps find it.
//   - The number of nights that are kept is bounded, and their order is that of their
//     numbers, not of a clock.
//
// # Decisions
//
// 2026-11: pins move last (Steps.Adopt), when the hosts that go by them are proven.
// Until then a night works with pins of its own, which it makes anew from bake.lock
// each time. So bake.lock never names a base image that did not prove itself, and a
// night after a red one asks, builds and boots again, until it is green or the
// publisher has something newer. A red night is never followed by one that says all
// is well because there was nothing to do.
//
// 2026-11: a generation that failed is tried again the next night, although it is the
// same: a claim can fail because of the world, a slow disk, say. That costs one boot a
// night as long as it is red, which somebody should look at anyway.
//
// 2026-11: a pin that several hosts go by moves only if all of them in this night are
// proven. Those that are have the newer image all the same, in their generations.
// Would change if bake.lock could pin by host.
//
// 2026-11: the pair of OpenClaw and Node is not moved by a night. A new release of the
// application is somebody's decision: bake pull --update openclaw.
//
// 2026-11: a second night does not wait and is no success: who asked for one did not
// get it.
//
// 2026-11: reports are not in the directory of artifacts. A night in which nothing
// changed writes nothing there.
//
// 2026-11: how long something took is taken from the monotonic clock, and which night
// was last from its number: a clock that jumps changes neither.
//
// 2026-11: a machine at work is changed on the night on which its generation is proven,
// or the first after it on which it may be (Policy), and not again: a generation that its
// hypervisor does not bear would otherwise shut it down every night. What it runs is
// looked at on every other night, and red if it is not the current generation.
package nightly

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// A Verdict is what a night came to for one host.
type Verdict string

// The verdicts. Unchanged means that the current generation is what would be built,
// and whole; Would is for a night that only asks.
const (
	Unchanged  Verdict = "unchanged"
	Promoted   Verdict = "promoted"
	Failed     Verdict = "failed"
	CouldNot   Verdict = "could not"
	Undeployed Verdict = "undeployed" // proven, and the machine at work does not run it
	Would      Verdict = "would build"
)

// IsGood says whether a host is on the newest that there is.
func (v Verdict) IsGood() bool { return v == Unchanged || v == Promoted }

// A Plan is what a host's generation would be.
type Plan struct {
	Generation string
	Current    string // that passed verification last, "" for none
	Whole      bool   // the current one is as it was baked, and its last proof is there and good
	Base       Base
	Packages   int // on its payload
}

// Base is the image that a generation stands on.
type Base struct {
	Reference string    `json:"reference"`
	Serial    string    `json:"serial,omitempty"`
	SHA256    string    `json:"sha256,omitempty"`
	Signed    time.Time `json:"signed,omitzero"` // by the publisher
}

// A Proof is what trying a generation's claims came to.
type Proof struct {
	Claims, Failed int
	First          string   // what is wrong, in words, if anything is
	Changes        []string // since the current generation, if something is wrong
}

// Steps are what a night does. Each is called for one host at a time and for several
// hosts at once.
type Steps struct {
	Group   func(host string) string                                           // hosts of one group share a refresh; "" has none
	Refresh func(ctx context.Context, hosts []string) error                    // what is newest, for one group
	Plan    func(ctx context.Context, host string) (Plan, error)               // writes nothing of the host's
	Build   func(ctx context.Context, host string) (string, error)             // returns the generation
	Verify  func(ctx context.Context, host, generation string) (Proof, error)  // and makes it current if no claim failed
	Prune   func(ctx context.Context, host string) (removed []string, e error) // what need not stay
	// Deploy brings a generation that is new to the machine at work, and looks at what it
	// has otherwise. It returns that, "" for a host that is not deployed, and a *WaitError
	// for one whose time has not come. nil: none is.
	Deploy func(ctx context.Context, host, generation string, isNew bool) (at string, e error)
	// Drills says when the restore of a host is rehearsed, and how it stands with that. It
	// is asked when all else of the host is done. nil: none is.
	Drills func(host string) (DrillPolicy, Drill, error)
	Drill  func(ctx context.Context, host string) (Drill, error)        // rehearses one
	Adopt  func(ctx context.Context, proven []string) ([]string, error) // pins what these hosts are on; says what moved
	Tidy   func(ctx context.Context) error                              // what no host needs any more, after changes
	Exit   func(error) int                                              // the class of an error
}

// A Job is one night.
type Job struct {
	Hosts  []string
	Builds int // at once
	Boots  int // at once
	Dry    bool
	Untidy bool // what others have left is to be tidied in any case: the last night was cut off
	Steps
	Now    func() time.Time
	Report func(Night) error // after each host that was worked on; nil: nobody
}

// Run does a night and returns what it came to: n with its Hosts filled in. The
// errors of hosts are in their outcomes; the error is that of the night as a whole.
func (j Job) Run(ctx context.Context, n Night) (Night, error) {
	r := &run{Job: j, night: n, builds: make(chan struct{}, max(j.Builds, 1)), boots: make(chan struct{}, max(j.Boots, 1))}
	r.night.Hosts = make([]Outcome, len(j.Hosts))
	for i, host := range j.Hosts {
		r.night.Hosts[i] = Outcome{Host: host, Verdict: CouldNot, Stage: "wait", Reason: "interrupted"}
	}
	r.share()
	var all sync.WaitGroup
	for i, host := range j.Hosts {
		all.Go(func() { r.note(i, r.host(ctx, host)) })
	}
	all.Wait()
	err := errors.Join(r.failed, r.finish(ctx))
	return r.night, err
}

// run is a Job at work.
type run struct {
	Job
	builds, boots chan struct{}
	refresh       map[string]func(context.Context) error // by group

	mutex   sync.Mutex
	night   Night
	changed bool
	failed  error // of reporting
}

// share prepares the refreshes that hosts have in common.
func (r *run) share() {
	r.refresh = map[string]func(context.Context) error{}
	groups := map[string][]string{}
	for _, host := range r.Hosts {
		if group := r.Group(host); group != "" {
			groups[group] = append(groups[group], host)
		}
	}
	for group, hosts := range groups {
		var once sync.Once
		var err error
		r.refresh[group] = func(ctx context.Context) error {
			once.Do(func() {
				err = errors.New("the refresh broke off") // should it panic: for whoever waits
				err = r.Refresh(ctx, hosts)
			})
			return err
		}
	}
}

// note keeps what a host's night came to.
func (r *run) note(i int, o Outcome) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.night.Hosts[i] = o
	r.changed = r.changed || o.Verdict != Unchanged || len(o.Pruned) > 0 // what a host could not be made of was fetched all the same
	if o.Verdict == Unchanged && (o.Drill == nil || !o.Drill.Tried) || r.Report == nil {
		return
	}
	if err := r.Report(r.night); err != nil && r.failed == nil {
		r.failed = err
	}
}

// host is one host's night.
func (r *run) host(ctx context.Context, host string) (o Outcome) {
	began := r.Now()
	o = Outcome{Host: host, Verdict: CouldNot}
	defer func() {
		if cause := recover(); cause != nil {
			o.fail(r.Exit, fmt.Errorf("bake broke down: %v\n%s", cause, debug.Stack()))
		}
		o.Seconds = r.Now().Sub(began).Seconds()
	}()
	if !take(ctx, r.builds) {
		o.Stage, o.Reason = "wait", "interrupted"
		return o
	}
	if r.build(ctx, &o) && take(ctx, r.boots) {
		r.verify(ctx, &o)
	}
	r.drill(ctx, &o)
	return o
}

// take waits for one of few places, which the caller gives back.
func take(ctx context.Context, places chan struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// build goes as far as a generation that is to be verified; goOn is false when there
// is none.
func (r *run) build(ctx context.Context, o *Outcome) (goOn bool) {
	defer func() { <-r.builds }()
	o.Stage = "refresh"
	if refresh := r.refresh[r.Group(o.Host)]; refresh != nil {
		if err := refresh(ctx); err != nil {
			o.fail(r.Exit, err)
			return false
		}
	}
	o.Stage = "plan"
	plan, err := r.Plan(ctx, o.Host)
	o.Base, o.Packages, o.Current, o.Generation = plan.Base, plan.Packages, plan.Current, plan.Generation
	switch {
	case err != nil:
		o.fail(r.Exit, err)
		return false
	case plan.Whole && plan.Current == plan.Generation && plan.Current != "":
		o.Verdict, o.Stage = Unchanged, ""
		r.deploy(ctx, o, false)
		r.prune(ctx, o)
		return false
	case r.Dry:
		o.Verdict, o.Stage = Would, ""
		return false
	}
	o.Stage = "build"
	if o.Generation, err = r.Build(ctx, o.Host); err != nil {
		o.fail(r.Exit, err)
		return false
	}
	o.Stage, o.Reason = "wait", "interrupted" // until there is room to boot
	return true
}

// verify tries a generation's claims.
func (r *run) verify(ctx context.Context, o *Outcome) {
	defer func() { <-r.boots }()
	o.Stage, o.Reason = "verify", ""
	proof, err := r.Verify(ctx, o.Host, o.Generation)
	o.Claims, o.Failed, o.Changes = proof.Claims, proof.Failed, proof.Changes
	switch {
	case err == nil && proof.Failed == 0 && proof.Claims > 0:
		o.Verdict, o.Stage, o.Current = Promoted, "", o.Generation
		r.deploy(ctx, o, true)
	case proof.Claims > 0 && proof.Failed > 0:
		if err == nil {
			err = errors.New(proof.First)
		}
		o.Verdict = Failed
		o.fail(r.Exit, err)
		o.Reason = cut(proof.First)
	case err == nil:
		o.fail(r.Exit, errors.New("there was no claim to try"))
	default:
		o.fail(r.Exit, err)
	}
	r.prune(ctx, o)
}

// deploy brings a proven generation to the machine at work. The generation stays
// current if that fails: it is the machine that is not what it should be.
func (r *run) deploy(ctx context.Context, o *Outcome, isNew bool) {
	if r.Dry || r.Deploy == nil {
		return
	}
	var err error
	o.Deployed, err = r.Deploy(ctx, o.Host, o.Current, isNew)
	var waits *WaitError
	if errors.As(err, &waits) {
		o.Notes = append(o.Notes, waits.Error())
		return
	}
	if err != nil {
		o.Verdict, o.Stage = Undeployed, "deploy"
		o.fail(r.Exit, err)
	}
}

// prune removes what need not stay. That it cannot be is told, and changes nothing
// about the verdict: it is about room, not about the machine.
func (r *run) prune(ctx context.Context, o *Outcome) {
	if r.Dry || ctx.Err() != nil {
		return
	}
	var err error
	if o.Pruned, err = r.Prune(ctx, o.Host); err != nil {
		o.Notes = append(o.Notes, cut(err.Error()))
		o.err = errors.Join(o.err, err)
	}
}

// finish is what there is to do when all hosts have had their night.
func (r *run) finish(ctx context.Context) error {
	if r.Dry || ctx.Err() != nil {
		return nil
	}
	var proven []string
	for _, o := range r.night.Hosts {
		if o.Verdict.IsGood() || o.Verdict == Undeployed { // proven, whatever became of the machine at work
			proven = append(proven, o.Host)
		}
	}
	moved, err := r.Adopt(ctx, proven)
	r.night.Moved = moved
	if err == nil && (r.changed || r.Untidy) {
		err = r.Tidy(ctx)
	}
	return err
}
