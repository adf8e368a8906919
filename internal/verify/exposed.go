package verify

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"bake/internal/claim"
	"bake/internal/exposure"
)

const claimExposure = "Nobody got an answer before the machine had attested, and then from the listed ports alone."

// Exposure is what the guest's neighbours saw, and what the guest says it did
// meanwhile.
type Exposure struct {
	exposure.Record
	Moments []exposure.Event `json:"moments"`
	Opens   time.Duration    `json:"opens_ns,omitempty"` // by then it may answer; 0 when it never said so
}

// openPorts are the TCP ports that some claim wants to answer, and those and the
// ones that must not.
func (p Plan) openPorts() (open, all []int) {
	for _, l := range p.Layers {
		for _, c := range l.Checks {
			if c.Outside != nil && c.Outside.TCP != nil {
				open = append(open, c.Outside.TCP.Open...)
				all = append(all, c.Outside.TCP.Closed...)
			}
		}
	}
	slices.Sort(open)
	open = slices.Compact(open)
	return open, slices.Concat(open, all)
}

func (r *run) beginExposure() error {
	if !r.Exposure {
		return nil
	}
	mac, err := net.ParseMAC(r.Plan.MAC)
	if err != nil {
		return err
	}
	_, ports := r.Plan.openPorts()
	r.prober, err = exposure.Start(r.machine.Wire(), exposure.Target{MAC: mac, V4: r.machine.Guest()}, ports...)
	return err
}

// endProbing forgets what a machine was asked that is not the one to judge.
func (r *run) endProbing() {
	if r.prober != nil {
		r.prober.Stop()
		r.prober = nil
	}
}

// endExposure judges what was answered. A machine that never said it opens was to
// answer nobody, ever.
func (r *run) endExposure() {
	if r.prober == nil {
		return
	}
	e := &Exposure{Record: r.prober.Stop()}
	r.report.Exposure = e
	opening := time.Duration(math.MaxInt64)
	opened := r.watch.opened()
	if !opened.IsZero() {
		opening = r.prober.At(opened)
		e.Opens = opening
	}
	m := r.report.Moments
	for _, moment := range []struct {
		name string
		ms   int64
	}{{"the guest: gate closed", m.Closed}, {"the guest: network may come up", m.Network}, {"the guest: sshd up", m.SSH},
		{"the guest: its claims hold, it opens", m.Attested}} {
		if moment.ms > 0 && !opened.IsZero() { // its clock and ours meet when it opens
			e.Moments = append(e.Moments, exposure.Event{Name: moment.name,
				At: opening - time.Duration(m.Attested-moment.ms)*time.Millisecond})
		}
	}
	if r.Plan.Attest == "" {
		return
	}
	r.result(claim.Check{Layer: claim.BootLayer, Claim: claimExposure}, r.judgeExposure(e, opening))
}

func (r *run) judgeExposure(e *Exposure, opening time.Duration) Result {
	open, _ := r.Plan.openPorts()
	result := Result{Result: claim.Result{Layer: claim.BootLayer, Claim: claimExposure, Where: "outside", OK: true,
		Want: fmt.Sprintf("nothing, and after the guest opens: %v", open)}}
	var found []string
	for _, a := range e.Answers(opening, open) {
		found = append(found, fmt.Sprintf("%s after %.1f s", a, a.After.Seconds()))
	}
	alive := slices.ContainsFunc(e.First, func(a exposure.Answer) bool { return a.Kind == exposure.Frame })
	switch {
	case len(found) > 0:
		result.OK, result.Got = false, strings.Join(found, "\n")
	case !alive:
		result.OK, result.Got = false, "not one packet of the guest was seen, so nothing was measured"
	}
	return result
}
