package rollout

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var errClaim = errors.New("a claim failed")

// fleet are machines that only remember what they run.
type fleet struct {
	mutex    sync.Mutex
	runs     map[string]string
	fail     map[string]error  // what becomes of a deploy, by host
	stays    map[string]bool   // a failed one stays down
	begun    []string          // hosts, in the order in which work on them began
	at, most int               // at once
	block    map[string]func() // is called in the midst of a deploy
	check    func() error
}

func (f *fleet) Runs(_ context.Context, host string) (string, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if err := f.fail["runs "+host]; err != nil {
		return "", err
	}
	return f.runs[host], nil
}

func (f *fleet) Deploy(ctx context.Context, host, generation string) (Result, error) {
	f.mutex.Lock()
	f.begun = append(f.begun, host)
	f.at++
	f.most = max(f.most, f.at)
	block := f.block[host]
	f.mutex.Unlock()
	if block != nil {
		block()
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.at--
	if err := f.check(); err != nil {
		return Result{Down: true}, err
	}
	if err := f.fail[host]; err != nil {
		return Result{Down: f.stays[host]}, err
	}
	changed := f.runs[host] != generation
	f.runs[host] = generation
	return Result{Changed: changed}, nil
}

func (f *fleet) Return(ctx context.Context, host, generation, before string) (Result, error) {
	return f.Deploy(ctx, host, generation)
}

func newFleet(n int) (*fleet, []Host) {
	f := &fleet{runs: map[string]string{}, fail: map[string]error{}, stays: map[string]bool{}, block: map[string]func(){}}
	var hosts []Host
	for i := range n {
		name := fmt.Sprintf("h%02d", i)
		f.runs[name] = "old"
		hosts = append(hosts, Host{Name: name, To: "new"})
	}
	return f, hosts
}

func (f *fleet) job(l Ledger) *Job {
	return &Job{Ledger: l, Name: "a test", Lease: time.Minute, Say: func(string) {}, Exit: func(err error) int {
		switch {
		case errors.Is(err, errClaim):
			return 7
		case errors.Is(err, os.ErrInvalid):
			return 5
		}
		return 1
	}, Machines: func(check func() error) Machines {
		f.check = check
		return f
	}}
}

func TestWaves(t *testing.T) {
	f, hosts := newFleet(10)
	plan := Plan(hosts, 3, 2, 0)
	if got := fmt.Sprint(plan.Waves()); got != "[[h00 h01] [h02 h03 h04] [h05 h06 h07] [h08 h09]]" {
		t.Error(got)
	}
	r, err := f.job(Dir(t.TempDir())).Start(t.Context(), plan, false)
	if err != nil || r.Phase != Done || r.Count(done) != 10 || r.Number != 1 {
		t.Errorf("%s, %v", &r, err)
	}
	if f.most > 3 || len(f.begun) != 10 || !slices.Contains(f.begun[:2], "h01") {
		t.Errorf("%d at once, in the order %v", f.most, f.begun)
	}
	for _, h := range r.Hosts {
		if h.From != "old" || h.Tries != 1 || h.Down || !h.Changed {
			t.Errorf("%+v", h)
		}
	}
	none, hosts := newFleet(4) // no canaries
	if r, err := none.job(Dir(t.TempDir())).Start(t.Context(), Plan(hosts, 9, 0, 0), false); err != nil || r.Count(done) != 4 {
		t.Errorf("%s, %v", &r, err)
	}
}

// What ends a rollout, with which exit class, and how many it has touched by then.
func TestHalts(t *testing.T) {
	for _, test := range []struct {
		name        string
		prepare     func(f *fleet)
		budget      int
		exit, begun int
		words       string
	}{
		{"canary", func(f *fleet) { f.fail["h01"] = errClaim }, 5, 7, 2, "1 canary of 2 failed; the first is h01: a claim failed"},
		{"canary that cannot be reached", func(f *fleet) { f.fail["runs h01"] = errors.New("no route") }, 5, 6, 1, "no route"},
		{"budget of none", func(f *fleet) { f.fail["h03"] = errClaim }, 0, 7, 4, "1 host failed, and 0 may"},
		{"budget", func(f *fleet) { f.fail["h02"], f.fail["h05"] = errClaim, errClaim }, 1, 7, 6, "2 hosts failed, and 1 may"},
		{"within", func(f *fleet) { f.fail["h02"], f.fail["h05"] = errClaim, errClaim }, 2, 7, 8, "2 hosts failed, which the budget of 2 allows"},
		{"world", func(f *fleet) { f.fail["h03"] = errors.New("libvirt is gone") }, 0, 6, 4, "1 host failed"},
		{"both", func(f *fleet) { f.fail["h02"], f.fail["h03"] = errors.New("libvirt is gone"), errClaim }, 0, 7, 4, "2 hosts failed"},
		{"trust", func(f *fleet) { f.fail["h03"] = os.ErrInvalid }, 9, 5, 4, "cannot be trusted"},
		{"down", func(f *fleet) {
			for _, name := range []string{"h02", "h03"} {
				f.fail[name], f.stays[name] = errClaim, true
			}
		}, 9, 7, 4, "2 machines are down, and no more than 2 may be"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, hosts := newFleet(8)
			test.prepare(f)
			_, err := f.job(Dir(t.TempDir())).Start(t.Context(), Plan(hosts, 2, 2, test.budget), false)
			var halted *HaltedError
			if !errors.As(err, &halted) || halted.Exit != test.exit || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%v", err)
			}
			if len(f.begun) != test.begun {
				t.Errorf("began with %v", f.begun)
			}
		})
	}
}

// One that stays down takes the place of one that may be down.
func TestDownCounts(t *testing.T) {
	f, hosts := newFleet(12)
	f.fail["h01"], f.stays["h01"] = errClaim, true
	f.job(Dir(t.TempDir())).Start(t.Context(), Plan(hosts, 3, 0, 1), false)
	f.mutex.Lock()
	f.most = 0
	f.mutex.Unlock()
	g, hosts := newFleet(12)
	l := Dir(t.TempDir())
	plan := Plan(hosts, 3, 0, 1)
	plan.Hosts[0].Down, plan.Hosts[0].State = true, failed // as it is left by one that has not gone back
	if r, err := g.job(l).Start(t.Context(), plan, false); r.Count(done) != 11 || g.most > 2 {
		t.Errorf("%d at once beside one that is down; %s, %v", g.most, &r, err)
	}
}

func TestResume(t *testing.T) {
	f, hosts := newFleet(9)
	l := Dir(t.TempDir())
	job := f.job(l)
	if _, err := job.Resume(t.Context()); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	f.fail["h04"], f.stays["h04"] = errClaim, true
	if _, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), false); err == nil {
		t.Fatal("it did not halt")
	}
	before := len(f.begun)
	var unfinished *UnfinishedError
	if _, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), false); !errors.As(err, &unfinished) {
		t.Errorf("another began over one that has halted: %v", err)
	}
	delete(f.fail, "h04")
	r, err := job.Resume(t.Context())
	if err != nil || r.Phase != Done || r.Count(done) != 9 || r.Fence < 2 {
		t.Errorf("%s, %v", &r, err)
	}
	again := f.begun[before:]
	if again[0] != "h04" || len(again) != 9-before+1 {
		t.Errorf("%v, then %v", f.begun[:before], again)
	}
	if r.Hosts[4].From != "old" || r.Hosts[4].Tries != 2 {
		t.Errorf("%+v", r.Hosts[4])
	}
	if _, err := job.Resume(t.Context()); err != nil || len(f.begun) != before+len(again) {
		t.Errorf("resuming what is done: %v, %v", err, f.begun)
	}
	if r, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), false); err != nil || r.Number != 2 {
		t.Errorf("%s, %v", &r, err)
	}
}

func TestAbandon(t *testing.T) {
	f, hosts := newFleet(3)
	job := f.job(Dir(t.TempDir()))
	f.fail["h00"] = errClaim
	if _, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), false); err == nil {
		t.Fatal("it did not halt")
	}
	delete(f.fail, "h00")
	if r, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), true); err != nil || r.Count(done) != 3 || r.Number != 2 {
		t.Errorf("%s, %v", &r, err)
	}
}

func TestRollback(t *testing.T) {
	f, hosts := newFleet(8)
	l := Dir(t.TempDir())
	job := f.job(l)
	f.runs["h01"] = ""    // new
	f.runs["h02"] = "new" // already
	f.fail["h05"] = errClaim
	if _, err := job.Start(t.Context(), Plan(hosts, 2, 1, 0), false); err == nil {
		t.Fatal("it did not halt")
	}
	delete(f.fail, "h05")
	f.fail["h03"], f.stays["h03"] = errors.New("no route"), true
	r, err := job.Rollback(t.Context())
	var halted *HaltedError
	if !errors.As(err, &halted) || halted.Exit != 6 || r.Phase != Returning {
		t.Errorf("%s, %v", &r, err)
	}
	delete(f.fail, "h03")
	before := len(f.begun)
	if r, err = job.Resume(t.Context()); err != nil || r.Phase != RolledBack {
		t.Errorf("%s, %v", &r, err)
	}
	if again := f.begun[before:]; !slices.Equal(again, []string{"h03"}) {
		t.Errorf("returned again: %v", again)
	}
	for name, generation := range f.runs {
		if want := map[string]string{"h01": "new", "h02": "new"}[name]; generation != "old" && generation != want {
			t.Errorf("%s runs %q", name, generation)
		}
	}
	if _, err := job.Resume(t.Context()); err != nil {
		t.Errorf("resuming what was rolled back: %v", err)
	}
}

// Of two that drive, the second is refused while the first lives; when the first is
// silent for its lease, it is the second's, and the first can neither write nor change.
func TestTwoDrivers(t *testing.T) {
	f, hosts := newFleet(4)
	l := Dir(t.TempDir())
	stuck, release := make(chan struct{}), make(chan struct{})
	f.block["h00"] = func() { close(stuck); <-release }
	first := f.job(silent{l, stuck})
	first.Lease = 2 * time.Second
	ended := make(chan error)
	go func() {
		_, err := first.Start(t.Context(), Plan(hosts, 1, 1, 0), false)
		ended <- err
	}()
	<-stuck
	g := &fleet{runs: f.runs, fail: map[string]error{}, block: map[string]func(){}}
	r, err := g.job(l).Resume(t.Context())
	if err != nil || r.Count(done) != 4 || r.Fence != 2 {
		t.Errorf("%s, %v", &r, err)
	}
	close(release)
	var lost *LostError
	if err := <-ended; !errors.As(err, &lost) {
		t.Errorf("the first ended with %v", err)
	}
	if len(f.begun) != 1 {
		t.Errorf("the first went on: %v", f.begun)
	}

	h, hosts := newFleet(2)
	l = Dir(t.TempDir())
	stuck, release = make(chan struct{}), make(chan struct{})
	h.block["h00"] = func() { close(stuck); <-release }
	lively := h.job(l)
	lively.Lease = 2 * time.Second
	go func() {
		_, err := lively.Start(t.Context(), Plan(hosts, 1, 1, 0), false)
		ended <- err
	}()
	<-stuck
	var busy *BusyError
	if _, err := g.job(l).Resume(t.Context()); !errors.As(err, &busy) || busy.Name != "a test" {
		t.Errorf("%v", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// silent is a ledger that cannot be written to from a moment on.
type silent struct {
	Dir
	from chan struct{}
}

func (s silent) Write(ctx context.Context, content []byte, version string) (string, error) {
	select {
	case <-s.from:
		return "", errors.New("no route to the ledger")
	default:
		return s.Dir.Write(ctx, content, version)
	}
}

// deaf is a ledger whose answers to some writes are lost.
type deaf struct {
	Dir
	writes int
}

func (d *deaf) Write(ctx context.Context, content []byte, version string) (string, error) {
	d.writes++
	now, err := d.Dir.Write(ctx, content, version)
	if d.writes%2 == 0 && err == nil {
		return "", ErrMoved // as a client says that has asked twice
	}
	return now, err
}

func TestLostAnswers(t *testing.T) {
	f, hosts := newFleet(5)
	d := &deaf{Dir: Dir(t.TempDir())}
	if r, err := f.job(d).Start(t.Context(), Plan(hosts, 1, 1, 0), false); err != nil || r.Count(done) != 5 || d.writes < 10 {
		t.Errorf("%s after %d writes, %v", &r, d.writes, err)
	}
}

// Interrupted, a rollout is left to be resumed, and nobody has to wait.
func TestInterrupted(t *testing.T) {
	f, hosts := newFleet(3)
	l := Dir(t.TempDir())
	ctx, stop := context.WithCancel(t.Context())
	f.block["h01"] = stop
	f.fail["h01"] = context.Canceled
	job := f.job(l)
	r, err := job.Start(ctx, Plan(hosts, 1, 1, 0), false)
	if !errors.Is(err, context.Canceled) || r.Hosts[1].State != deploying || r.Phase != Running {
		t.Errorf("%s, %v", &r, err)
	}
	f.block, f.fail = nil, nil
	job.Say = func(text string) {
		if strings.Contains(text, "waiting") {
			t.Errorf("it says %q", text)
		}
	}
	if r, err = job.Resume(t.Context()); err != nil || r.Count(done) != 3 || r.Hosts[1].From != "old" {
		t.Errorf("%s, %v", &r, err)
	}
}

// TestLetGo: a renewal that is due while the wheel is let go of writes nothing any more: whoever
// has read the record in between would be told that somebody was quicker.
func TestLetGo(t *testing.T) {
	_, hosts := newFleet(1)
	l, plan := Dir(t.TempDir()), Plan(hosts, 1, 1, 0)
	w, driving, err := take(t.Context(), l, "a test", time.Minute, func(string) {}, func(*Record) (*Record, error) { return &plan, nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := w.letGo(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, version, _ := l.Read(t.Context())
	var gone *LostError
	if err := w.update(driving, func(*Record) {}); !errors.As(err, &gone) {
		t.Errorf("a renewal afterwards: %v", err)
	}
	if err := w.Check(); !errors.As(err, &gone) {
		t.Errorf("the wheel afterwards: %v", err)
	}
	if _, now, err := l.Read(t.Context()); now != version || version != "2" || err != nil {
		t.Errorf("version %s of the record has become %s, %v", version, now, err)
	}
}

func TestDir(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "new"))
	if content, version, err := d.Read(t.Context()); content != nil || version != "" || err != nil {
		t.Fatalf("%q %q %v", content, version, err)
	}
	version := ""
	for i := range 10 {
		now, err := d.Write(t.Context(), fmt.Append(nil, i), version)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write(t.Context(), []byte("stale"), version); !errors.Is(err, ErrMoved) {
			t.Errorf("a stale write: %v", err)
		}
		version = now
	}
	content, now, err := d.Read(t.Context())
	if string(content) != "9" || now != version || err != nil {
		t.Errorf("%q %q %v", content, now, err)
	}
	if entries, _ := os.ReadDir(string(d)); len(entries) != keptRecords {
		t.Errorf("%v are kept", entries)
	}

	// Many go past a writer between its look and its link, and its number is free again.
	t.Cleanup(func() { linked = func(string) {} })
	linked = func(string) {
		linked = func(string) {}
		at := version
		for range keptRecords + 3 {
			if at, err = d.Write(t.Context(), []byte("ours"), at); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := d.Write(t.Context(), []byte("stale"), version); !errors.Is(err, ErrMoved) {
		t.Errorf("a stale write is %v", err)
	}
	if content, _, err := d.Read(t.Context()); string(content) != "ours" || err != nil {
		t.Errorf("%q, %v", content, err)
	}

	// Of eight at once one writes.
	_, version, _ = d.Read(t.Context())
	var won, all = make(chan error, 8), sync.WaitGroup{}
	for i := range 8 {
		all.Go(func() {
			_, err := d.Write(t.Context(), fmt.Append(nil, "writer ", i), version)
			won <- err
		})
	}
	all.Wait()
	close(won)
	winners := 0
	for err := range won {
		if err == nil {
			winners++
		} else if !errors.Is(err, ErrMoved) {
			t.Error(err)
		}
	}
	if winners != 1 {
		t.Errorf("%d have written", winners)
	}
}

func TestDecode(t *testing.T) {
	for _, text := range []string{"", "{", `{"schema": "bake.night/1", "max_unavailable": 1}`, `{"schema": "bake.rollout/1"}`} {
		if _, err := decode([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestDecodeForged: a record that no rollout can have is refused, whoever has written it: it would
// take all memory, end bake, or lead elsewhere.
func TestDecodeForged(t *testing.T) {
	good := `{"schema": "bake.rollout/1", "max_unavailable": 1, "phase": "halted", "hosts": [{"name": "zap", "to": "00aa", "from": "00bb", "state": "done"}, {"name": "zip", "wave": 1, "to": "00aa", "state": "waiting"}]}`
	if r, err := decode([]byte(good)); err != nil || len(r.Waves()) != 2 {
		t.Fatal(err)
	}
	for was, is := range map[string]string{
		`"wave": 1`:             `"wave": -1`,
		`"wave": 1, `:           `"wave": 2000000000, `,
		`"name": "zip"`:         `"name": "zap"`,
		`"name": "zap"`:         `"name": "../zap"`,
		`"to": "00aa", "from"`:  `"to": "../../etc", "from"`,
		`"from": "00bb"`:        `"from": "a/b"`,
		`"to": "00aa", "state"`: `"to": "", "state"`,
		`"state": "waiting"`:    `"state": "lost"`,
		`"phase": "halted"`:     `"phase": "x"`,
	} {
		if _, err := decode([]byte(strings.Replace(good, was, is, 1))); err == nil {
			t.Errorf("%s is a record", is)
		}
	}
}
