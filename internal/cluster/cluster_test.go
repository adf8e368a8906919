package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"bake/internal/nightly"
)

// memory is a store, with conditions unless it is told to forget them.
type memory struct {
	mutex    sync.Mutex
	objects  map[string]string
	versions map[string]int
	careless bool
}

func newMemory() *memory { return &memory{objects: map[string]string{}, versions: map[string]int{}} }

func (m *memory) Get(_ context.Context, name string) ([]byte, string, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.versions[name] == 0 {
		return nil, "", nil
	}
	return []byte(m.objects[name]), fmt.Sprint(m.versions[name]), nil
}

func (m *memory) Put(_ context.Context, name string, content []byte, version string) (string, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	is := ""
	if m.versions[name] > 0 {
		is = fmt.Sprint(m.versions[name])
	}
	if is != version && !m.careless {
		return "", ErrMoved
	}
	m.objects[name] = string(content)
	m.versions[name]++
	return fmt.Sprint(m.versions[name]), nil
}

func someHosts(r *rand.Rand, n int) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("h%d-%x", i, r.Uint32()))
	}
	return hosts
}

// TestShards: every host is in one shard; a shard more takes its part, from all, and
// nothing else moves.
func TestShards(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for range 30 {
		hosts, n := someHosts(r, 200+r.IntN(300)), 1+r.IntN(20)
		where, moved := map[string]int{}, 0
		for i := range n {
			for _, host := range (Shard{i, n}).Pick(hosts) {
				if _, twice := where[host]; twice {
					t.Fatalf("%s is in two shards of %d", host, n)
				}
				where[host] = i
			}
		}
		if len(where) != len(hosts) {
			t.Fatalf("%d of %d hosts are in a shard of %d", len(where), len(hosts), n)
		}
		for i := range n + 1 {
			for _, host := range (Shard{i, n + 1}).Pick(hosts) {
				if where[host] == i {
					continue
				}
				if moved++; i != n {
					t.Errorf("%s moves from shard %d to %d of %d, which was there before", host, where[host], i, n+1)
				}
			}
		}
		if fair := len(hosts) / (n + 1); moved > 2*fair+10 || moved < fair/2-10 {
			t.Errorf("shard %d of %d takes %d of %d hosts", n, n+1, moved, len(hosts))
		}
	}
}

func TestParseShard(t *testing.T) {
	for text, want := range map[string]Shard{"0/1": {0, 1}, "2/3": {2, 3}, "5": {4, 5}} {
		if s, err := ParseShard(text, "4"); err != nil || s != want {
			t.Errorf("%s: %v, %v", text, s, err)
		}
	}
	for _, c := range [][2]string{{"3/3", ""}, {"-1/3", ""}, {"1/0", ""}, {"x/3", ""}, {"1/", ""}, {"3", ""}, {"3", "3"}, {"1/1001", ""}, {"", ""}} {
		if s, err := ParseShard(c[0], c[1]); err == nil {
			t.Errorf("%q with %q is taken for %v", c[0], c[1], s)
		}
	}
}

// TestStale: who was taken for dead and is not promotes nothing, and does not end the night
// of a host; nor does a worker of the night before.
func TestStale(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	first, err := Ledger{m, "n-7", "first"}.Claim(ctx, "zap")
	if err != nil {
		t.Fatal(err)
	}
	second, err := Ledger{m, "n-7", "second"}.Claim(ctx, "zap")
	if err != nil || second.Token != first.Token+1 {
		t.Fatal(second, err)
	}
	var lost *LostError
	if err := first.Promote(ctx, "old", "sha256:0", nil); !errors.As(err, &lost) || lost.Worker != "second" {
		t.Errorf("a stale worker promotes: %v", err)
	}
	if err := first.Finish(ctx, nightly.Outcome{Host: "zap"}); !errors.As(err, &lost) {
		t.Errorf("a stale worker ends a night: %v", err)
	}
	if err := second.Promote(ctx, "new", "sha256:1", nil); err != nil {
		t.Fatal(err)
	}
	// It dies here. Who comes after it sees what was promoted.
	third, err := Ledger{m, "n-7", "third"}.Claim(ctx, "zap")
	if err != nil || third.Image != "sha256:1" || third.Outcome != nil {
		t.Fatal(third, err)
	}
	if err := third.Finish(ctx, nightly.Outcome{Host: "zap", Verdict: nightly.Unchanged, Generation: "new"}); err != nil || third.Outcome.Verdict != nightly.Promoted {
		t.Error(third.Outcome, err)
	}
	if again, err := (Ledger{m, "n-7", "fourth"}).Claim(ctx, "zap"); err != nil || again.Outcome == nil || again.Worker != "third" {
		t.Error("a host has a second night", again, err)
	}
	if _, err := (Ledger{m, "n-10", "x"}).Claim(ctx, "zap"); err != nil {
		t.Error(err)
	}
	if _, err := (Ledger{m, "n-9", "late"}).Claim(ctx, "zap"); !errors.As(err, &lost) || !strings.Contains(err.Error(), "n-10") {
		t.Errorf("the night before takes a host back: %v", err)
	}
	m.careless = true // the fence is the store's condition, and nothing else
	if err := first.Promote(ctx, "old", "sha256:0", nil); err != nil {
		t.Errorf("without conditions a stale worker is stopped, by what? %v", err)
	}
}

// TestTogether: of many that claim and promote a host at once, one does.
func TestTogether(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	var all sync.WaitGroup
	var mutex sync.Mutex
	var promoted []string
	for i := range 12 {
		all.Go(func() {
			c, err := Ledger{m, "n-1", fmt.Sprint(i)}.Claim(ctx, "zap")
			if err == nil && c.Outcome == nil && c.Promote(ctx, fmt.Sprint(i), "sha256:"+fmt.Sprint(i), nil) == nil &&
				c.Finish(ctx, nightly.Outcome{Host: "zap", Verdict: nightly.Promoted}) == nil {
				mutex.Lock()
				promoted = append(promoted, fmt.Sprint(i))
				mutex.Unlock()
			}
		})
	}
	all.Wait()
	if len(promoted) != 1 {
		t.Errorf("promoted by %q", promoted)
	}
}

// forgetful is a store whose answers are lost: what is there as it was to be counts as written, as
// with a bucket's.
type forgetful struct {
	*memory
	before func() // is done before the next write
}

func (f *forgetful) Put(ctx context.Context, name string, content []byte, version string) (string, error) {
	if do := f.before; do != nil {
		f.before = nil
		do()
	}
	now, err := f.memory.Put(ctx, name, content, version)
	if errors.Is(err, ErrMoved) {
		is, version, _ := f.Get(ctx, name)
		if string(is) == string(content) {
			return version, nil
		}
	}
	return now, err
}

// TestNamesakes: two workers that are called the same, because HOSTNAME is not set where they run,
// are two: of a claim that both make at once one of them knows nothing.
func TestNamesakes(t *testing.T) {
	ctx, f := t.Context(), &forgetful{memory: newMemory()}
	l := Ledger{f, "n-1", "bake 0/1"}
	var inner *Claim
	f.before = func() {
		var err error
		if inner, err = l.Claim(ctx, "zap"); err != nil {
			t.Error(err)
		}
	}
	outer, err := l.Claim(ctx, "zap")
	if err != nil {
		t.Fatal(err)
	}
	var lost *LostError
	if err := inner.Promote(ctx, "new", "sha256:1", nil); !errors.As(err, &lost) {
		t.Errorf("both have it: %v", err)
	}
	if err := outer.Promote(ctx, "new", "sha256:1", nil); err != nil || outer.Token != 2 {
		t.Errorf("nobody has it: %v, token %d", err, outer.Token)
	}
}

// TestReport: it is whole or there is none, and it stays as the first has written it.
func TestReport(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	l := Ledger{m, "n-1", "w"}
	exit := func(n nightly.Night) int { return map[bool]int{false: 7}[n.IsGood()] }
	hosts := []string{"a", "b", "c"}
	for i, host := range hosts {
		if _, missing, err := l.Report(ctx, hosts, nightly.Night{}, exit); err != nil || !slices.Equal(missing, hosts[i:]) {
			t.Errorf("%d: missing are %q, %v", i, missing, err)
		}
		c, err := l.Claim(ctx, host)
		if err != nil {
			t.Fatal(err)
		}
		verdict := nightly.Promoted
		if host == "b" {
			verdict = nightly.Failed
		}
		if err := c.Finish(ctx, nightly.Outcome{Host: host, Verdict: verdict}); err != nil {
			t.Fatal(err)
		}
	}
	n, missing, err := l.Report(ctx, hosts, nightly.Night{Schema: "bake.night/1"}, exit)
	if err != nil || len(missing) > 0 || n.Exit != 7 || n.String() != "2 promoted, 1 failed (b)" {
		t.Errorf("%v, missing %q, %v", n, missing, err)
	}
	if again, _, err := l.Report(ctx, []string{"a"}, nightly.Night{}, exit); err != nil || again.String() != n.String() {
		t.Errorf("afterwards it is %v, %v", again, err)
	}
}

// TestNetwork: what the network was to blame for is tried again, and not for ever.
func TestNetwork(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	l, tries := Ledger{m, "n-1", "w"}, 0
	for ; tries < 10; tries++ {
		c, err := l.Claim(ctx, "zap")
		if err != nil {
			t.Fatal(err)
		}
		if c.IsOver() {
			break
		}
		if err := c.Finish(ctx, nightly.Outcome{Host: "zap", Verdict: nightly.CouldNot, Exit: exitNetwork}); err != nil {
			t.Fatal(err)
		}
	}
	if tries != maxNetworkTries {
		t.Errorf("it was tried %d times", tries)
	}
}

// TestNights: the last ones, the oldest first; a damaged report is named.
func TestNights(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	names := func(context.Context, string) ([]string, error) { return []string{"c", "a", "gone", "b"}, nil }
	for i, name := range []string{"a", "b", "c"} {
		if _, err := m.Put(ctx, nightKey(name), fmt.Appendf(nil, `{"began": "2026-11-0%dT03:00:00Z", "exit": %d}`, i+1, i), ""); err != nil {
			t.Fatal(err)
		}
	}
	nights, err := Nights(ctx, m, names, 2)
	if err != nil || len(nights) != 2 || nights[0].Name != "b" || nights[1].Name != "c" || nights[1].Exit != 2 {
		t.Errorf("%+v, %v", nights, err)
	}
	m.objects[nightKey("b")] = "x"
	if _, err := Nights(ctx, m, names, 1); err == nil || !strings.Contains(err.Error(), "night b in the store is damaged: remove nightly/nights/b") {
		t.Error(err)
	}
}

// TestTurn: one of many does what all need; whoever replaces it does it again, and when it
// gives up another does.
func TestTurn(t *testing.T) {
	ctx, m := t.Context(), newMemory()
	turn := func(night string, shard int, worker string) string {
		t.Helper()
		other, err := Ledger{m, night, worker}.Turn(ctx, "x", Shard{shard, 12})
		if err != nil {
			t.Fatal(err)
		}
		return other
	}
	var all sync.WaitGroup
	others := make([]string, 12)
	for i := range others {
		all.Go(func() { others[i] = turn("n-1", i, fmt.Sprint(i)) })
	}
	all.Wait()
	first := slices.Index(others, "")
	if first < 0 || !slices.Equal(slices.Compact(slices.Sorted(slices.Values(others))), []string{"", fmt.Sprint(first)}) {
		t.Fatalf("who does it: %q", others)
	}
	second := (first + 1) % 12
	if got := turn("n-1", first, "replaces it"); got != "" {
		t.Errorf("its shard again: %s", got)
	}
	if got := turn("n-1", second, "second"); got != "replaces it" {
		t.Errorf("another: %s", got)
	}
	pass := func(shard int, worker string) {
		if err := (Ledger{m, "n-1", worker}).Pass(ctx, "x", Shard{shard, 12}); err != nil {
			t.Error(err)
		}
	}
	pass(first, fmt.Sprint(first)) // the one that was replaced has nothing to give up
	if got := turn("n-1", second, "second"); got != "replaces it" {
		t.Errorf("after one gave up that had nothing: %s", got)
	}
	pass(first, "replaces it")
	if got := turn("n-1", second, "second"); got != "" {
		t.Errorf("after it gave up: %s", got)
	}
	if got := turn("n-2", first, "next night"); got != "" {
		t.Errorf("the next night: %s", got)
	}
}
