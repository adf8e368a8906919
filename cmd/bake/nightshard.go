package main

// A night that several machines do: each has a shard of the hosts, and a bucket has what they
// must know of each other (see package cluster).

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"bake/internal/artifact"
	"bake/internal/cluster"
	"bake/internal/nightly"
	"bake/internal/provenance"
	"bake/internal/publish"
)

// shardOptions are those of a shard; without a place there are none.
type shardOptions struct {
	cluster.Shard
	place       *publish.Place
	night       string
	withSecrets bool
}

func shardFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "shard", Usage: "I/N: do part I of N of the hosts, beside others; N alone: which one JOB_COMPLETION_INDEX says"},
		&cli.StringFlag{Name: "to", Usage: "with --shard: s3://BUCKET/PREFIX for what is proven, and for what the shards know of each other; with status: whose nights"},
		&cli.StringFlag{Name: "night", Usage: "with --shard: name of the night, the same for all shards", DefaultText: "BAKE_NIGHT"},
		&cli.BoolFlag{Name: "plain-http", Usage: "with --to: speak to another machine without TLS, too"},
		&cli.BoolFlag{Name: "with-secrets", Usage: "with --shard: as bake publish has it"},
	}
}

func (a *app) readShard(c *cli.Context) (o shardOptions, err error) {
	if c.Args().First() == "status" && c.IsSet("to") {
		err = a.openShared(c, &o)
		return o, err
	}
	if !c.IsSet("shard") {
		for _, flag := range []string{"to", "night", "plain-http", "with-secrets"} {
			if c.IsSet(flag) {
				with := "--shard"
				if c.Args().First() == "status" {
					with = "--to"
				}
				return o, usageError{fmt.Errorf("--%s goes with %s", flag, with)}
			}
		}
		return o, nil
	}
	if o.Shard, err = cluster.ParseShard(c.String("shard"), a.Getenv("JOB_COMPLETION_INDEX")); err != nil {
		return o, usageError{err}
	}
	o.night, o.withSecrets = cmp.Or(c.String("night"), a.Getenv("BAKE_NIGHT")), c.Bool("with-secrets")
	if err := cluster.CheckNight(o.night); err != nil {
		return o, usageError{fmt.Errorf("--night: %w", err)}
	}
	err = a.openShared(c, &o)
	return o, err
}

// openShared opens the place of --to.
func (a *app) openShared(c *cli.Context, o *shardOptions) (err error) {
	o.place, err = publish.Open(c.String("to"), a.publishWays(c.Bool("plain-http")))
	if err == nil && !o.place.HasConditions() {
		err = errors.New("a registry has no conditional writes, without which a host could be promoted twice: want s3://BUCKET/PREFIX")
	}
	if err != nil {
		return usageError{fmt.Errorf("--to: %w", err)}
	}
	return nil
}

// records is the place as package cluster sees it.
type records struct{ place *publish.Place }

func (r records) Get(ctx context.Context, name string) ([]byte, string, error) {
	return r.place.Record(ctx, name)
}

func (r records) Put(ctx context.Context, name string, content []byte, version string) (string, error) {
	version, err := r.place.SetRecord(ctx, name, content, version)
	if errors.Is(err, publish.ErrMoved) {
		err = cluster.ErrMoved
	}
	return version, err
}

// shift is a shard's night.
type shift struct {
	*night
	o      nightOptions
	ring   provenance.Ring
	ledger cluster.Ledger

	mutex sync.Mutex
	holds map[string]*hold
}

// hold is a host that this worker has claimed.
type hold struct {
	claim *cluster.Claim
	was   publish.Pointer // what the place called current when it was claimed
}

// shardNight does a shard's part of a night.
func (a *app) shardNight(ctx context.Context, o nightOptions) (err error) {
	key, err := a.mustKey() // before anything is built that could not be signed
	if err != nil {
		return err
	}
	ring, err := a.ringOf("")
	if err != nil {
		return err
	}
	dir, err := a.nightDir()
	if err != nil {
		return err
	}
	entry, held, err := a.beginNight(nightly.Journal{Dir: dir, Keep: keptNights})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, entry.Close(), held.Close()) }()
	all := o.hosts
	o.hosts = o.shard.Pick(all)
	ledger := cluster.Ledger{Store: records{o.shard.place}, Night: o.shard.night, Worker: cmp.Or(a.Getenv("HOSTNAME"), "bake") + " " + o.shard.String()}
	common := sharedBases{place: o.shard.place, ledger: ledger, shard: o.shard.Shard, patience: basePatience, poll: basePoll, say: a.say}
	a.bases, a.loads = common, sharedLoads{common, ring, key}
	n, err := a.newNight(dir, o)
	if err != nil {
		return err
	}
	s := &shift{night: n, o: o, ring: ring, holds: map[string]*hold{}, ledger: ledger}
	tonight, err := s.run(ctx, entry, dir)
	err = errors.Join(err, n.release())
	wrong := errors.Join(nightError(tonight), recordedError(tonight))
	if err != nil {
		tonight.Notes = append(tonight.Notes, err.Error())
	}
	tonight.Ended, tonight.Exit = time.Now().UTC().Truncate(time.Second), exitCode(errors.Join(err, wrong))
	if err = errors.Join(err, entry.Write(tonight), a.printNight(tonight)); err != nil {
		return err
	}
	return errors.Join(wrong, s.report(ctx, all, tonight))
}

// run claims what is not done, does it, and writes down what came of it.
func (s *shift) run(ctx context.Context, entry *nightly.Entry, dir string) (nightly.Night, error) {
	tonight := entry.Night(time.Now())
	open, done, err := s.claimAll(ctx)
	if err != nil {
		return tonight, err
	}
	s.say("shard %s of night %s: %d hosts, %d of them are done", s.o.shard, s.o.shard.night, len(open)+len(done), len(done))
	job := nightly.Job{Hosts: open, Builds: s.o.jobs, Boots: cmp.Or(s.o.boots, s.boots()), Steps: s.sharedSteps(), Now: clock,
		Untidy: entry.IsAfterBreak(), Report: func(n nightly.Night) error { return errors.Join(s.finish(ctx, n), entry.Write(n)) }}
	tonight, err = job.Run(ctx, tonight)
	err = errors.Join(err, s.finish(ctx, tonight))
	if failed := s.seen.Write(filepath.Join(dir, seenName)); failed != nil {
		s.say("what was hashed is forgotten: %v", failed)
	}
	tonight.Hosts = append(tonight.Hosts, done...)
	return tonight, err
}

// claimAll claims the hosts, a few at once: the worker that had them before can promote
// nothing from then on.
func (s *shift) claimAll(ctx context.Context) (open []string, done []nightly.Outcome, err error) {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, name := range s.o.hosts {
		group.Go(func() error {
			h, err := s.take(inner, name)
			s.mutex.Lock()
			defer s.mutex.Unlock()
			if err == nil && h.claim.IsOver() {
				done = append(done, *h.claim.Outcome)
			} else if err == nil {
				s.holds[name] = h
				open = append(open, name)
			}
			return err
		})
	}
	err = group.Wait()
	var lost *cluster.LostError
	if errors.As(err, &lost) {
		err = lackError{err}
	}
	slices.Sort(open)
	slices.SortFunc(done, func(a, b nightly.Outcome) int { return cmp.Compare(a.Host, b.Host) })
	return open, done, err
}

// take claims a host. A promotion of this night that was written down, and whose worker did not
// live to tell of it, is told.
func (s *shift) take(ctx context.Context, name string) (h *hold, err error) {
	h = &hold{}
	if h.claim, err = s.ledger.Claim(ctx, name); err != nil || h.claim.IsOver() {
		return h, err
	}
	place := s.o.shard.place
	if h.was, err = place.Read(ctx, publish.TagOf(name, "current")); err != nil || h.claim.Image == "" || h.claim.Image == h.was.Image {
		return h, err
	}
	newer, err := s.isNewer(name, h)
	switch {
	case err != nil:
		return h, err
	case !newer: // who may write to the place need not be who may promote
		s.say("%s: the place has a promotion of generation %s, which nobody who counts has signed, or an older one: it is not heeded", name, h.claim.Generation)
		h.claim.Generation, h.claim.Image, h.claim.Statement = "", "", nil
		return h, nil
	}
	s.say("%s: generation %s was promoted by a worker that did not live to tell of it", name, h.claim.Generation)
	if err = s.point(ctx, name, h, h.claim.Image, h.claim.Statement); err == nil {
		h.was, err = place.Read(ctx, publish.TagOf(name, "current"))
	}
	return h, err
}

// isNewer says whether a promotion that is written down was signed by somebody who counts, and
// after all that is known of the host.
func (s *shift) isNewer(name string, h *hold) (bool, error) {
	tag := publish.TagOf(name, "current")
	number, ok := pointed(s.ring, [][]byte{h.claim.Statement}, tag, h.claim.Image)
	newest, _ := pointed(s.ring, h.was.Tags, tag, h.was.Image)
	seen, err := shownBy(s.out, name, s.o.shard.place.ID())
	return ok && number > max(newest, seen), err
}

// point has the place call an image current, if it still does what it did when the host was
// claimed; statement is the signed word for that.
func (s *shift) point(ctx context.Context, name string, h *hold, image string, statement []byte) error {
	place, tag := s.o.shard.place, publish.TagOf(name, "current")
	err := place.Point(ctx, tag, h.was, image, statement)
	if err == nil {
		number, _ := pointed(s.ring, [][]byte{statement}, tag, image)
		return noteShown(s.out, name, place.ID(), number)
	}
	if errors.Is(err, publish.ErrMoved) {
		now, failed := place.Read(ctx, tag)
		if failed == nil && now.Image == image {
			return nil // whoever has claimed it since has told of it
		}
		err = errors.Join(err, failed)
	}
	return err
}

// sharedSteps are those of a night, with the place in between. A machine at work and a backup
// are no shard's business, and bake.lock is not either: several would write it.
func (s *shift) sharedSteps() nightly.Steps {
	all := s.steps()
	plan, verify := all.Plan, all.Verify
	all.Plan = func(ctx context.Context, name string) (nightly.Plan, error) {
		h := s.holds[name]
		if err := s.fetchCurrent(ctx, name, h); err != nil {
			return nightly.Plan{}, err
		}
		p, err := plan(ctx, name)
		if err == nil && h.was.Image == "" && p.Whole && p.Current == p.Generation { // proven, and then the worker died
			err = s.promote(ctx, name, p.Current)
		}
		return p, err
	}
	all.Verify = func(ctx context.Context, name, generation string) (nightly.Proof, error) {
		proof, err := verify(ctx, name, generation)
		if err == nil && proof.Failed == 0 && proof.Claims > 0 {
			err = s.promote(ctx, name, generation)
		}
		return proof, err
	}
	all.Deploy, all.Drills, all.Drill = nil, nil, nil
	all.Adopt = func(context.Context, []string) ([]string, error) { return nil, nil }
	return all
}

// fetchCurrent has what the place calls current here. One that nobody who counts has signed is
// made anew.
func (s *shift) fetchCurrent(ctx context.Context, name string, h *hold) error {
	if h.was.Image == "" {
		return nil
	}
	_, err := s.receive(ctx, publishOptions{place: s.o.shard.place, generation: "current"}, s.ring, name)
	var broken interface{ Integrity() bool }
	if errors.As(err, &broken) && broken.Integrity() {
		s.say("%s: %v", name, err)
		return nil
	}
	return err
}

// holds says whether a generation passed verification when it was last tried: here or, of one
// that a shard has fetched, where it was signed that its claims held. The report does not travel.
func (n *night) holds(g artifact.Generation) bool {
	if _, err := os.Stat(g.Path("report.json")); n.o.shard.place != nil && errors.Is(err, fs.ErrNotExist) {
		return n.proven(g) == nil
	}
	return n.isProven(g)
}

// promote sends a proven generation, writes down that it is the one, and has the place call it
// current. A worker that has lost the host fails before the place shows anything.
func (s *shift) promote(ctx context.Context, name, generation string) error {
	h := s.holds[name]
	o := publishOptions{place: s.o.shard.place, generation: generation, withSecrets: s.o.shard.withSecrets}
	o.point = func(ctx context.Context, sent *publish.Sent) error {
		statement, number, err := s.pointer(o.place, s.ring, name, h.was, sent.Image)
		if err == nil {
			err = h.claim.Promote(ctx, generation, sent.Image, statement)
		}
		switch {
		case err != nil:
			return err
		case statement == nil: // it is what the place calls current
			return noteShown(s.out, name, o.place.ID(), number)
		}
		return s.point(ctx, name, h, sent.Image, statement)
	}
	_, err := s.publish(ctx, o, s.ring, name)
	return err
}

// finish writes down what is known of hosts that are done.
func (s *shift) finish(ctx context.Context, n nightly.Night) (failed error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, o := range n.Hosts {
		h := s.holds[o.Host]
		if h == nil || h.claim.Outcome != nil || o.Stage == "wait" {
			continue
		}
		failed = errors.Join(failed, h.claim.Finish(ctx, o))
	}
	return failed
}

// report writes the report of the whole night, if this worker is the last.
func (s *shift) report(ctx context.Context, all []string, tonight nightly.Night) error {
	whole, missing, err := s.ledger.Report(ctx, all, tonight, func(n nightly.Night) int { return exitCode(recordedError(n)) })
	switch {
	case err != nil:
	case len(missing) > 0:
		s.say("night %s: %d of %d hosts are not done yet", s.o.shard.night, len(missing), len(all))
	default:
		s.say("night %s: %s", s.o.shard.night, whole)
	}
	return err
}

// recordedError is what was wrong with hosts whose outcomes were read from the place: the
// status of the first that is worst for whoever waits.
func recordedError(n nightly.Night) (all error) {
	for _, o := range n.Hosts {
		if o.Exit != 0 && o.Err() == nil {
			all = errors.Join(all, outcomeError{o})
		}
	}
	return all
}

// outcomeError is an outcome that another worker, or this one before it died, has written
// down.
type outcomeError struct{ nightly.Outcome }

func (e outcomeError) Error() string { return e.Host + ": " + e.Stage + ": " + e.Reason }

// Integrity, Network and Lack are its exit status, for exitCode.
func (e outcomeError) Integrity() bool { return e.Exit == 5 }

func (e outcomeError) Network() bool { return e.Exit == 6 }

func (e outcomeError) Lack() bool { return e.Exit == 4 }

// Unwrap says that a claim had failed, or that the host file was wrong.
func (e outcomeError) Unwrap() error {
	switch e.Exit {
	case 3:
		return foundError{e.Reason}
	case 7:
		return claimError{errors.New(e.Reason)}
	}
	return nil
}
