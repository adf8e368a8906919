// Package rollout brings generations to many hosts in waves, and stops when they do not
// prove themselves.
//
// The first wave are canaries; the next begins when all of a wave are done. A host is
// deployed by a [Machines], which says whether its machine has attested. The rollout halts
// when a canary fails, when more than the budget of the others have failed, when what is to
// be deployed cannot be trusted, or when as many machines are down as may be unavailable;
// what is under way then is waited for.
//
// All that is known of a rollout is one JSON document, the Record, in a [Ledger]: a
// directory that operators share or an object in a bucket. It is written before a host is
// touched and when it is done, always under the condition that nobody has written since it
// was read. So a run that ends anywhere is taken up by the next, on whatever machine:
//
//	waiting     nobody has touched it
//	deploying   somebody has begun to: it is deployed again, which finds what is done
//	done        it has attested
//	failed      it has not, or could not be reached; down if it does not run as before
//	returning   somebody has begun to roll it back
//	returned    it runs what it ran before
//
// Who drives holds a lease, which is part of the record, renews it by writing, and stops
// when it could not for as long as the lease lasts. Who wants to take over watches: if the
// record does not change for that long, it is theirs, with a fence that is one higher.
//
// It promises:
//   - A host that is done is not deployed again, and the rollout does not end before every
//     host is done or has failed.
//   - At no time more machines are down or being changed than may be unavailable, as far as
//     one can go on at all.
//   - Of two that drive at once at most one writes: the other's next write fails, and ends
//     it. Before that it is told by Wheel.Check, which whoever changes a machine asks.
//   - Clocks of two machines are never compared.
//
// It does not promise that a hypervisor refuses a driver that was asleep between its last
// look at the lease and what it did next; libvirt has no place for a fence.
//
// # Decisions
//
// 2026-11: halting is not undoing. Machines that have attested stay as they are until
// somebody says rollback; those that have not have gone back by themselves.
//
// 2026-11: resuming a halted rollout begins with those that failed: whether the cause is
// gone shows there first. Failures are counted anew then.
//
// 2026-11: waiting for the whole lease to take over, also after a crash on the same
// machine: half a minute against a way to be wrong about a process number.
//
// 2026-11: the record is written whole, at some 200 bytes a host. Would change for fleets of
// many thousands, where it could be a journal.
package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"bake/internal/lazy"
)

const schema = "bake.rollout/1"

// Phase is how far a rollout is.
type Phase string

// The phases.
const (
	Running    Phase = "running"
	Halted     Phase = "halted"
	Done       Phase = "done"
	Returning  Phase = "rolling back"
	RolledBack Phase = "rolled back"
)

// State is how far a host is.
type State string

// The states of a host.
const (
	waiting   State = "waiting"
	deploying State = "deploying"
	done      State = "done"
	failed    State = "failed"
	returning State = "returning"
	returned  State = "returned"
)

// A Host is one of a rollout.
type Host struct {
	Name    string `json:"name"`
	Wave    int    `json:"wave"` // 0 for the canaries
	To      string `json:"to"`   // generation
	From    string `json:"from,omitempty"`
	IsNew   bool   `json:"new,omitempty"` // there was no machine before
	State   State  `json:"state"`
	Changed bool   `json:"changed,omitempty"`
	Down    bool   `json:"down,omitempty"` // it does not run as before, or nobody knows
	Tries   int    `json:"tries,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Exit    int    `json:"exit,omitempty"` // class of the reason
}

// A Driver is who drives.
type Driver struct {
	Name  string        `json:"name"` // for people
	Token string        `json:"token"`
	Lease time.Duration `json:"lease"`
}

// A Record is all that is known of a rollout.
type Record struct {
	Schema   string    `json:"schema"` // "bake.rollout/1"
	Number   int       `json:"number"` // of the rollouts of a ledger
	Began    time.Time `json:"began"`
	Selector string    `json:"selector,omitempty"` // for people
	Most     int       `json:"max_unavailable"`
	Canaries int       `json:"canaries"`
	Budget   int       `json:"failure_budget"`
	Phase    Phase     `json:"phase"`
	Reason   string    `json:"reason,omitempty"` // why it halted
	Fence    int64     `json:"fence"`            // grows with each that takes over
	Beat     int64     `json:"beat"`             // grows with each write
	Driver   *Driver   `json:"driver,omitempty"` // nil when nobody drives
	Hosts    []Host    `json:"hosts"`
}

// Plan makes a record of hosts that nobody has touched: canaries first, then waves of as
// many as may be unavailable, in the order that is given.
func Plan(hosts []Host, most, canaries, budget int) Record {
	r := Record{Schema: schema, Most: most, Canaries: min(canaries, len(hosts)), Budget: budget, Phase: Running}
	for i, h := range hosts {
		h.State = waiting
		if i >= r.Canaries {
			h.Wave = 1 + (i-r.Canaries)/most
		}
		r.Hosts = append(r.Hosts, h)
	}
	return r
}

// Waves are the names of the hosts by their waves; there may be no canaries.
func (r *Record) Waves() [][]string {
	var waves [][]string
	for _, h := range r.Hosts {
		for len(waves) <= h.Wave {
			waves = append(waves, nil)
		}
		waves[h.Wave] = append(waves[h.Wave], h.Name)
	}
	return waves
}

// Count counts the hosts of a state.
func (r *Record) Count(s State) (n int) {
	for _, h := range r.Hosts {
		if h.State == s {
			n++
		}
	}
	return n
}

// String is a rollout in a line.
func (r *Record) String() string {
	text := fmt.Sprintf("rollout %d, %s: %d of %d done", r.Number, r.Phase, r.Count(done), len(r.Hosts))
	for _, s := range []State{deploying, failed, returning, returned, waiting} {
		if n := r.Count(s); n > 0 {
			text += fmt.Sprintf(", %d %s", n, s)
		}
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// IsOver says whether nothing is left to be done.
func (r *Record) IsOver() bool {
	return r.Phase == RolledBack || r.Phase == Done
}

func decode(content []byte) (*Record, error) {
	var r Record
	err := json.Unmarshal(content, &r)
	if err == nil && (r.Schema != schema || r.Most < 1) {
		err = fmt.Errorf("the schema is %q, want %q", r.Schema, schema)
	}
	if err == nil {
		err = r.vet()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of a rollout: %w", err)
	}
	return &r, nil
}

// word is what a host or a generation is called: never a path.
var word = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9-]{0,62}$`)

// vet says what no rollout has written into a record: others may have.
func (r *Record) vet() error {
	if !slices.Contains([]Phase{Running, Halted, Done, Returning, RolledBack}, r.Phase) {
		return fmt.Errorf("the phase is %q", r.Phase)
	}
	seen := map[string]bool{}
	for i, h := range r.Hosts {
		switch {
		case !word.MatchString(h.Name) || !word.MatchString(h.To) || h.From != "" && !word.MatchString(h.From):
			return fmt.Errorf("host %d is called %q, to run %q after %q", i, h.Name, h.To, h.From)
		case seen[h.Name]:
			return fmt.Errorf("host %s is there twice", h.Name)
		case h.Wave < 0 || h.Wave > len(r.Hosts):
			return fmt.Errorf("host %s is in wave %d", h.Name, h.Wave)
		case !slices.Contains([]State{waiting, deploying, done, failed, returning, returned}, h.State):
			return fmt.Errorf("host %s is %q", h.Name, h.State)
		}
		seen[h.Name] = true
	}
	return nil
}

// ErrNone says that a ledger has no rollout.
var ErrNone = errors.New("there has been no rollout")

// A HaltedError says why a rollout did not come to its end, or not to a good one.
type HaltedError struct {
	Reason string
	Exit   int // 7 for claims, 5 for trust, 6 for anything else
	First  *Host
}

func (e *HaltedError) Error() string {
	text := e.Reason
	if e.First != nil {
		text += fmt.Sprintf("; the first is %s: %s", e.First.Name, e.First.Reason)
	}
	return text
}

// Integrity says whether something could not be trusted.
func (e *HaltedError) Integrity() bool { return e.Exit == exitTrust }

// Network says whether hosts could not be worked on, and no claim has failed.
func (e *HaltedError) Network() bool { return e.Exit == exitWorld }

// Exit classes of failures.
const (
	exitTrust = 5
	exitWorld = 6
	exitClaim = 7
)

// verdict makes an error of a reason and the hosts that have come to grief in a state,
// nil if there is none.
func (r *Record) verdict(reason string, in State) error {
	e := &HaltedError{Reason: reason, Exit: exitWorld}
	if reason == "" {
		return nil
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if h.Reason == "" || h.State != in {
			continue
		}
		if e.First == nil {
			e.First = h
		}
		switch {
		case h.Exit == exitTrust:
			e.Exit = exitTrust
		case h.Exit == exitClaim && e.Exit != exitTrust:
			e.Exit = exitClaim
		}
	}
	return e
}
