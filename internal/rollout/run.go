package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Result is what came of a host.
type Result struct {
	Changed bool
	Down    bool // with an error: the machine does not run as before, or nobody knows
}

// Machines works on hosts. It may be asked for several hosts at once, never for one twice.
type Machines interface {
	// Runs returns the generation that a host's machine has, "" for no machine.
	Runs(ctx context.Context, host string) (string, error)
	// Deploy has a host run a generation and attest. One that does already, or that was
	// left half done, is brought to its end.
	Deploy(ctx context.Context, host, generation string) (Result, error)
	// Return has a host run the generation that it ran before, if it runs the other.
	Return(ctx context.Context, host, generation, before string) (Result, error)
}

// A Job drives rollouts.
type Job struct {
	Ledger   Ledger
	Name     string        // who we are, for people
	Lease    time.Duration // how long others wait for us
	Say      func(text string)
	Exit     func(error) int // class of an error: 5 trust, 7 claims
	Machines func(check func() error) Machines
}

// Start begins a rollout. One that has halted is left behind if abandon says so; one that
// is not over otherwise is an error.
func (j *Job) Start(ctx context.Context, plan Record, abandon bool) (Record, error) {
	return j.drive(ctx, func(is *Record) (*Record, error) {
		plan.Number = 1
		if is != nil {
			plan.Number = is.Number + 1
			if !is.IsOver() && (is.Phase != Halted || !abandon) {
				return nil, &UnfinishedError{j.Ledger.String(), is}
			}
		}
		plan.Began = time.Now().UTC().Truncate(time.Second)
		return &plan, nil
	}, j.forward)
}

// An UnfinishedError says that the last rollout is not over.
type UnfinishedError struct {
	Place string
	Is    *Record
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("%s: %s: --resume goes on with it, --rollback takes it back, and --abandon begins another over one that has halted", e.Place, e.Is)
}

// Resume goes on with a rollout, or with the rolling back of one.
func (j *Job) Resume(ctx context.Context) (Record, error) {
	back := false
	return j.drive(ctx, func(is *Record) (*Record, error) {
		if is == nil {
			return nil, ErrNone
		}
		next := *is
		back = is.Phase == Returning
		if is.Phase == Halted || is.Phase == Done {
			for i := range next.Hosts {
				if h := &next.Hosts[i]; h.State == failed {
					h.State, h.Reason, h.Exit = waiting, "", 0
				}
			}
		}
		if !back && is.Phase != RolledBack {
			next.Phase, next.Reason = Running, ""
		}
		return &next, nil
	}, func(ctx context.Context, w *Wheel) error {
		switch {
		case back:
			return j.back(ctx, w)
		case w.Record().Phase == RolledBack:
			return nil
		}
		return j.forward(ctx, w)
	})
}

// Rollback has every host that was deployed run what it ran before.
func (j *Job) Rollback(ctx context.Context) (Record, error) {
	return j.drive(ctx, func(is *Record) (*Record, error) {
		if is == nil {
			return nil, ErrNone
		}
		next := *is
		next.Phase, next.Reason = Returning, ""
		return &next, nil
	}, j.back)
}

// drive takes the wheel, does something and lets go of it.
func (j *Job) drive(ctx context.Context, change func(*Record) (*Record, error), do func(context.Context, *Wheel) error) (Record, error) {
	w, driving, err := take(ctx, j.Ledger, j.Name, j.Lease, j.Say, change)
	if err != nil {
		return Record{}, err
	}
	err = do(driving, w)
	if gone := w.Check(); gone != nil {
		err = gone
	}
	err = errors.Join(err, w.letGo(ctx))
	return w.Record(), err
}

// pass is a way over hosts, of which as many are worked on at once as may be down.
type pass struct {
	w        *Wheel
	do       func(ctx context.Context, i int) error // works on a host, and puts down what came of it
	halt     func(r *Record) string                 // why to begin with no other, "" to go on
	stubborn bool                                   // goes on with one host, however many are down
}

// over works on hosts by their numbers in the record, and returns those that it did not
// come to. What it has begun with it waits for.
func (p *pass) over(ctx context.Context, pending []int) ([]int, error) {
	type outcome struct {
		host int
		err  error
	}
	outcomes := make(chan outcome)
	running := map[int]bool{}
	var broken error
	mayBegin := func() bool {
		r := p.w.Record()
		if len(pending) == 0 || broken != nil || ctx.Err() != nil || p.halt(&r) != "" {
			return false
		}
		down := len(running)
		for i, h := range r.Hosts {
			if h.Down && i != pending[0] && !running[i] {
				down++
			}
		}
		return down < r.Most || p.stubborn && len(running) == 0
	}
	for {
		for mayBegin() {
			i := pending[0]
			pending, running[i] = pending[1:], true
			go func() { outcomes <- outcome{i, p.do(ctx, i)} }()
		}
		if len(running) == 0 {
			break
		}
		o := <-outcomes
		delete(running, o.host)
		broken = errors.Join(broken, o.err)
	}
	if broken == nil && ctx.Err() != nil {
		broken = context.Cause(ctx)
	}
	return pending, broken
}

// downFirst sorts hosts so that those come first which cannot become worse.
func downFirst(r *Record, pending []int) {
	slices.SortStableFunc(pending, func(a, b int) int {
		rank := map[bool]int{true: 0, false: 1}
		return rank[r.Hosts[a].Down] - rank[r.Hosts[b].Down]
	})
}

// why says why a rollout must not begin with another host, "" if it may.
func (r *Record) why() string {
	canaries, others := 0, 0
	for _, h := range r.Hosts {
		switch {
		case h.State != failed:
		case h.Exit == exitTrust:
			return "what is to be deployed cannot be trusted"
		case h.Wave == 0:
			canaries++
		default:
			others++
		}
	}
	switch {
	case canaries > 0:
		return fmt.Sprintf("%s of %d failed", plural(canaries, "canary", "canaries"), r.Canaries)
	case others > r.Budget:
		return fmt.Sprintf("%s failed, and %d may", plural(others, "host", "hosts"), r.Budget)
	}
	return ""
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// forward deploys what is not done, wave by wave.
func (j *Job) forward(ctx context.Context, w *Wheel) error {
	machines := j.Machines(w.Check)
	p := &pass{w: w, halt: (*Record).why, do: func(ctx context.Context, i int) error { return j.deploy(ctx, w, machines, i) }}
	r := w.Record()
	for wave, names := range r.Waves() {
		r = w.Record()
		var pending []int
		for i, h := range r.Hosts {
			if h.Wave == wave && (h.State == waiting || h.State == deploying) {
				pending = append(pending, i)
			}
		}
		if len(pending) == 0 {
			continue
		}
		downFirst(&r, pending)
		j.Say(fmt.Sprintf("%s: %d of %s to do", waveName(wave), len(pending), plural(len(names), "host", "hosts")))
		left, err := p.over(ctx, pending)
		if err != nil {
			return err
		}
		r = w.Record()
		why := r.why()
		if why == "" && len(left) > 0 {
			why = fmt.Sprintf("%s down, and no more than %d may be", plural(r.down(), "machine is", "machines are"), r.Most)
		}
		if why != "" {
			return j.end(ctx, w, Halted, failed, why)
		}
	}
	why := ""
	r = w.Record()
	if n := r.Count(failed); n > 0 {
		why = fmt.Sprintf("%s failed, which the budget of %d allows", plural(n, "host", "hosts"), r.Budget)
	}
	return j.end(ctx, w, Done, failed, why)
}

func (r *Record) down() (n int) {
	for _, h := range r.Hosts {
		if h.Down {
			n++
		}
	}
	return n
}

func waveName(wave int) string {
	if wave == 0 {
		return "canaries"
	}
	return fmt.Sprintf("wave %d", wave)
}

// end puts down how it ended, and returns what is wrong with that.
func (j *Job) end(ctx context.Context, w *Wheel, phase Phase, in State, why string) error {
	err := w.update(context.WithoutCancel(ctx), func(r *Record) { r.Phase, r.Reason = phase, why })
	if err != nil {
		return err
	}
	r := w.Record()
	if phase == Halted {
		why = "halted: " + why
	}
	return r.verdict(why, in)
}

// put puts down something of a host. That is done although we were told to stop: it has
// happened.
func put(ctx context.Context, w *Wheel, i int, change func(*Host)) error {
	return w.update(context.WithoutCancel(ctx), func(r *Record) { change(&r.Hosts[i]) })
}

// deploy works on one host.
func (j *Job) deploy(ctx context.Context, w *Wheel, machines Machines, i int) error {
	h := w.Record().Hosts[i]
	if h.Tries == 0 {
		runs, err := machines.Runs(ctx, h.Name)
		if err != nil {
			return j.fail(ctx, w, i, failed, Result{Down: h.Down}, err)
		}
		h.From, h.IsNew = runs, runs == ""
	}
	err := put(ctx, w, i, func(to *Host) {
		to.From, to.IsNew, to.State, to.Down = h.From, h.IsNew, deploying, true
		to.Tries++
	})
	if err != nil {
		return err
	}
	result, err := machines.Deploy(ctx, h.Name, h.To)
	if err != nil {
		return j.fail(ctx, w, i, failed, result, err)
	}
	j.Say(fmt.Sprintf("%s: generation %s has attested", h.Name, h.To))
	return put(ctx, w, i, func(to *Host) { to.State, to.Down, to.Reason, to.Changed = done, false, "", result.Changed })
}

// fail puts down that a host has failed, unless that is because we were told to stop.
func (j *Job) fail(ctx context.Context, w *Wheel, i int, state State, result Result, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	class := j.Exit(err)
	if class != exitClaim && class != exitTrust {
		class = exitWorld
	}
	name := w.Record().Hosts[i].Name
	reason := cut(strings.TrimPrefix(err.Error(), name+": "))
	j.Say(fmt.Sprintf("%s: failed: %s", name, reason))
	return put(ctx, w, i, func(to *Host) { to.State, to.Down, to.Reason, to.Exit = state, result.Down, reason, class })
}

// cut bounds what a record has of an error.
func cut(text string) string {
	const most = 1 << 10
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}

// back rolls back what was deployed. It does not halt: each host that runs what it ran
// before is one less to look after.
func (j *Job) back(ctx context.Context, w *Wheel) error {
	machines := j.Machines(w.Check)
	r := w.Record()
	var pending []int
	for i, h := range r.Hosts {
		touched := h.State == done || h.State == deploying || h.State == returning || h.State == failed && h.Down
		switch {
		case !touched || !h.IsNew && (h.From == "" || h.From == h.To):
		case h.IsNew:
			j.Say(fmt.Sprintf("%s: had no machine before, and keeps the one it has: bake destroy takes it away", h.Name))
		default:
			pending = append(pending, i)
		}
	}
	downFirst(&r, pending)
	p := &pass{w: w, stubborn: true, halt: func(*Record) string { return "" }, do: func(ctx context.Context, i int) error {
		h := w.Record().Hosts[i]
		err := put(ctx, w, i, func(to *Host) { to.State, to.Down, to.Reason, to.Exit = returning, true, "", 0 })
		if err != nil {
			return err
		}
		result, err := machines.Return(ctx, h.Name, h.From, h.To)
		if err != nil {
			return j.fail(ctx, w, i, returning, result, err)
		}
		j.Say(fmt.Sprintf("%s: generation %s is back", h.Name, h.From))
		return put(ctx, w, i, func(to *Host) { to.State, to.Down = returned, false })
	}}
	if _, err := p.over(ctx, pending); err != nil {
		return err
	}
	r = w.Record()
	if n := r.Count(returning); n > 0 {
		return j.end(ctx, w, Returning, returning, fmt.Sprintf("%s could not be rolled back", plural(n, "host", "hosts")))
	}
	return j.end(ctx, w, RolledBack, returning, "")
}
