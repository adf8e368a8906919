// Package cluster is what the workers of one night know of each other when a night is done by
// several machines: which hosts are whose, who may promote one, and what all of them came to.
//
// Hosts are divided by rendezvous hashing (Shard). What must not happen twice is guarded by a
// small object for each host, in a store that writes only if what is there is still what was
// read:
//
//	nightly/hosts/HOST      Entry: night, worker, a token that grows with each claim, what came of it
//	nightly/nights/NIGHT    the report of a night, when every host has one; written once
//
// and for what all need and one does (Turn), by a name that the caller gives, who that is.
//
// It promises:
//   - Who has claimed a host last is the only one whose promotion is written down. Whoever
//     claimed it before, and wakes up late, gets a *LostError from Promote and Finish.
//   - A host that has had this night is not claimed again in it.
//   - A worker of an older night claims nothing that a newer one has.
//   - Of the workers of a night one has a turn, until it passes or another of its shard comes.
//   - A report is written when every host has an outcome of this night, and not before.
//
// # Decisions
//
// 2026-11: a claim has no time in it and never expires: the clock of a node is nobody's proof.
// The controller of an Indexed Job starts a second pod for an index only when it takes the first
// for dead, so the newer claim is the one to believe; if the first was not dead, it is fenced.
// Would change if workers were started that know nothing of each other.
//
// 2026-11: in a bucket and not in a Lease of Kubernetes: the fence must be where the generations
// are, or a worker that is cut off from one and not from the other gets past it. It also spares
// bake a client of Kubernetes.
//
// 2026-11: rendezvous hashing and not a queue: which pod has which host is known before anything
// runs, a pod that is started again finds its cache, and adding a shard moves one host in so many.
// A shard is as slow as its slowest hosts; nobody takes them off it. Would change if the work of
// hosts differed by much more than it does.
package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"bake/internal/lazy"
	"bake/internal/nightly"
)

const (
	entrySchema = "bake.claim/1"
	maxTries    = 20 // of a claim that others claim at the same time

	exitNetwork     = 6 // bake's exit status
	maxNetworkTries = 3
)

// ErrMoved is what a Store returns when something else is there than was read.
var ErrMoved = errors.New("somebody else has written it meanwhile")

// A Store keeps small objects.
type Store interface {
	// Get returns an object and its version; nothing and "" when it is not there.
	Get(ctx context.Context, name string) (content []byte, version string, err error)
	// Put writes an object if its version is still this one, "" for none, and returns the
	// new one. The error is ErrMoved if it is not.
	Put(ctx context.Context, name string, content []byte, version string) (string, error)
}

// An Entry is what is written down of a host.
type Entry struct {
	Schema     string           `json:"schema"`
	Host       string           `json:"host"`
	Night      string           `json:"night"`
	Worker     string           `json:"worker"`          // for people
	Token      int64            `json:"token"`           // of the claim
	Nonce      string           `json:"nonce"`           // of the claim: workers may be called alike
	Tries      int              `json:"tries,omitempty"` // that came to an Outcome in this night
	Generation string           `json:"generation,omitempty"`
	Image      string           `json:"image,omitempty"`     // that was promoted in this night, sha256:HEX
	Statement  []byte           `json:"statement,omitempty"` // signed, that the image is to be current: who comes after the worker signs nothing that he has only read here
	Outcome    *nightly.Outcome `json:"outcome,omitempty"`   // of this night; nil while it is not over
}

// IsOver says whether the host has had its night. What the network was to blame for is tried
// again, a few times.
func (e Entry) IsOver() bool {
	return e.Outcome != nil && (e.Outcome.Exit != exitNetwork || e.Tries >= maxNetworkTries)
}

// A Ledger is where a night's workers write down what they do.
type Ledger struct {
	Store  Store
	Night  string // the same for all workers; see CheckNight
	Worker string
}

// A LostError says that a host is somebody else's by now.
type LostError struct{ Host, Night, Worker string }

func (e *LostError) Error() string {
	return fmt.Sprintf("host %s is no longer this worker's: %s of night %s has claimed it since", e.Host, e.Worker, e.Night)
}

var nightForm = lazy.Regexp(`^[a-z0-9][a-z0-9.-]{0,120}$`)

// CheckNight says what is wrong with the name of a night. Of two names that differ in the
// number at their end alone, as those of a CronJob's Jobs do, the larger is the newer.
func CheckNight(night string) error {
	if !nightForm.MatchString(night) {
		return fmt.Errorf("%q is no name of a night: want a-z, 0-9, . and -, at most 121", night)
	}
	return nil
}

var ending = lazy.Regexp(`^(.*?)([0-9]{1,18})$`)

// isNewer says whether night a is known to be newer than b.
func isNewer(a, b string) bool {
	m, n := ending.FindStringSubmatch(a), ending.FindStringSubmatch(b)
	if m == nil || n == nil || m[1] != n[1] {
		return false
	}
	x, _ := strconv.ParseInt(m[2], 10, 64)
	y, _ := strconv.ParseInt(n[2], 10, 64)
	return x > y
}

const nightsKey = "nightly/nights"

func hostKey(host string) string { return "nightly/hosts/" + host }

func nightKey(night string) string { return nightsKey + "/" + night }

// A Reported is a night that is over, and its name.
type Reported struct {
	Name string `json:"name"`
	nightly.Night
}

// Nights returns the last nights of a store, at most so many, the oldest first. names are all
// objects below a name.
func Nights(ctx context.Context, store Store, names func(ctx context.Context, below string) ([]string, error), most int) ([]Reported, error) {
	all, err := names(ctx, nightsKey)
	if err != nil {
		return nil, err
	}
	var nights []Reported
	for _, name := range all {
		content, version, err := store.Get(ctx, nightKey(name))
		if err != nil || version == "" {
			if err == nil {
				continue // it was removed meanwhile
			}
			return nil, err
		}
		n := Reported{Name: name}
		if err := json.Unmarshal(content, &n.Night); err != nil {
			return nil, fmt.Errorf("the report of night %s in the store is damaged: remove %s", name, nightKey(name))
		}
		nights = append(nights, n)
	}
	slices.SortFunc(nights, func(a, b Reported) int { return a.Began.Compare(b.Began) })
	return nights[max(0, len(nights)-most):], nil
}

func (l Ledger) read(ctx context.Context, host string) (e Entry, version string, err error) {
	content, version, err := l.Store.Get(ctx, hostKey(host))
	if err != nil || version == "" {
		return e, "", err
	}
	if err := json.Unmarshal(content, &e); err != nil || e.Schema != entrySchema || e.Host != host {
		return e, "", fmt.Errorf("the claim of host %s in the store is damaged: remove %s", host, hostKey(host))
	}
	return e, version, nil
}

func (l Ledger) write(ctx context.Context, e Entry, version string) (string, error) {
	content, err := json.Marshal(e)
	if err != nil {
		return "", err
	}
	return l.Store.Put(ctx, hostKey(e.Host), content, version)
}

// A Claim is the right to promote a host, until somebody else claims it.
type Claim struct {
	Entry
	ledger  Ledger
	version string
}

// Claim claims a host, and takes it from whoever has it. One with an Outcome has had its
// night and is not claimed; one with an Image was promoted by a worker of this night that
// did not live to see the end of it.
func (l Ledger) Claim(ctx context.Context, host string) (*Claim, error) {
	for range maxTries {
		e, version, err := l.read(ctx, host)
		switch {
		case err != nil:
			return nil, err
		case e.Night == l.Night && e.IsOver():
			return &Claim{e, l, version}, nil
		case isNewer(e.Night, l.Night):
			return nil, &LostError{host, e.Night, e.Worker}
		}
		mine := Entry{Schema: entrySchema, Host: host, Night: l.Night, Worker: l.Worker, Token: e.Token + 1, Nonce: rand.Text()}
		if e.Night == l.Night {
			mine.Generation, mine.Image, mine.Statement, mine.Tries = e.Generation, e.Image, e.Statement, e.Tries
		}
		version, err = l.write(ctx, mine, version)
		if errors.Is(err, ErrMoved) {
			continue
		}
		return &Claim{mine, l, version}, err
	}
	return nil, fmt.Errorf("host %s is claimed by too many at once", host)
}

// Promote writes down which generation is to be current, and the signed word for that, before
// anybody is told. The error is a *LostError when the host is somebody else's by now.
func (c *Claim) Promote(ctx context.Context, generation, image string, statement []byte) error {
	e := c.Entry
	e.Generation, e.Image, e.Statement = generation, image, statement
	return c.update(ctx, e)
}

// Finish writes down what the night came to for the host.
func (c *Claim) Finish(ctx context.Context, o nightly.Outcome) error {
	e := c.Entry
	if o.Verdict == nightly.Unchanged && e.Image != "" && e.Generation == o.Generation {
		o.Verdict = nightly.Promoted // by the worker before, in this night
	}
	e.Outcome = &o
	e.Tries++
	return c.update(ctx, e)
}

func (c *Claim) update(ctx context.Context, e Entry) error {
	version, err := c.ledger.write(ctx, e, c.version)
	if errors.Is(err, ErrMoved) {
		now, _, failed := c.ledger.read(ctx, e.Host)
		return errors.Join(&LostError{e.Host, now.Night, now.Worker}, failed)
	}
	if err == nil {
		c.Entry, c.version = e, version
	}
	return err
}

// Report adds up what all workers wrote down. missing are the hosts of which there is nothing
// yet; when there are none the night is over, and the first to see that writes it down.
func (l Ledger) Report(ctx context.Context, hosts []string, n nightly.Night, exit func(nightly.Night) int) (all nightly.Night, missing []string, err error) {
	key := nightKey(l.Night)
	if content, version, err := l.Store.Get(ctx, key); err != nil || version != "" {
		if err == nil {
			err = json.Unmarshal(content, &all)
		}
		return all, nil, err
	}
	all = n
	all.Hosts = nil
	for _, host := range hosts {
		e, _, err := l.read(ctx, host)
		if err != nil {
			return all, nil, err
		}
		if e.Night != l.Night || !e.IsOver() {
			missing = append(missing, host)
			continue
		}
		all.Hosts = append(all.Hosts, *e.Outcome)
	}
	if len(missing) > 0 {
		return all, missing, nil
	}
	all.Exit = exit(all)
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return all, nil, err
	}
	_, err = l.Store.Put(ctx, key, append(content, '\n'), "")
	if errors.Is(err, ErrMoved) { // another was quicker
		content, _, err = l.Store.Get(ctx, key)
		if err == nil {
			all = nightly.Night{}
			err = json.Unmarshal(content, &all)
		}
	}
	return all, nil, err
}
