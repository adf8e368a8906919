package bisect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// search is one in which a subset is bad if it has all of a cause, and cannot be built
// if it has one of a pair without the other.
func search(t *testing.T, n int, cause []string, pairs ...[2]string) *Search {
	seen := map[string]bool{}
	return &Search{Changes: numbered(n), Try: func(_ context.Context, changes []string) (Trial, error) {
		if key := strings.Join(changes, " "); seen[key] {
			t.Errorf("%q was tried twice", key)
		} else {
			seen[key] = true
		}
		for _, p := range pairs {
			if slices.Contains(changes, p[0]) && !slices.Contains(changes, p[1]) {
				return Trial{Verdict: Unresolved, Reason: p[0] + " needs " + p[1]}, nil
			}
		}
		for _, c := range cause {
			if !slices.Contains(changes, c) {
				return Trial{Verdict: Good}, nil
			}
		}
		return Trial{Verdict: Bad}, nil
	}}
}

func TestSingle(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 64, 100} {
		most := 0
		for i := range n {
			s := search(t, n, []string{fmt.Sprint(i)})
			if got, err := s.Run(t.Context()); err != nil || !slices.Equal(got, s.Changes[i:i+1]) {
				t.Errorf("%d of %d: %q, %v", i, n, got, err)
			}
			most = max(most, len(s.Trials))
		}
		if most > Guess(n)+1 {
			t.Errorf("%d changes took %d trials, guessed are %d", n, most, Guess(n))
		}
	}
}

func TestSeveral(t *testing.T) {
	for _, cause := range [][]string{{"0", "1"}, {"0", "9"}, {"2", "3", "7"}, {"1", "4", "5", "8"}, numbered(10)} {
		s := search(t, 10, cause)
		got, err := s.Run(t.Context())
		if err != nil || !slices.Equal(got, cause) {
			t.Errorf("%q: %q, %v", cause, got, err)
		}
		if len(s.Trials) > 10*10+3*10 {
			t.Errorf("%q: %d trials", cause, len(s.Trials))
		}
	}
}

// What cannot be built hides nothing that can.
func TestUnresolved(t *testing.T) {
	s := search(t, 16, []string{"5"}, [2]string{"5", "12"})
	if got, err := s.Run(t.Context()); err != nil || !slices.Equal(got, []string{"5", "12"}) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMinimal: whatever the cause and whatever cannot be built, the result is bad, and
// nothing can be left out of it.
func TestMinimal(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		n := 1 + random.IntN(20)
		var cause []string
		for _, c := range numbered(n) {
			if random.IntN(n) < 2 {
				cause = append(cause, c)
			}
		}
		if cause == nil {
			cause = []string{"0"}
		}
		var pairs [][2]string
		for range random.IntN(4) {
			pairs = append(pairs, [2]string{fmt.Sprint(random.IntN(n)), fmt.Sprint(random.IntN(n))})
		}
		s := search(t, n, cause, pairs...)
		got, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		judge := search(t, n, cause, pairs...).Try
		if v, _ := judge(t.Context(), got); v.Verdict != Bad {
			t.Errorf("%q of %q with %q: %s", got, cause, pairs, v.Verdict)
		}
		for i := range got {
			if v, _ := search(t, n, cause, pairs...).Try(t.Context(), slices.Delete(slices.Clone(got), i, i+1)); len(got) > 1 && v.Verdict == Bad {
				t.Errorf("%q of %q with %q: %s is too many", got, cause, pairs, got[i])
			}
		}
	}
}

// TestResume cuts a search off after each trial in turn, and goes on with what was kept.
func TestResume(t *testing.T) {
	whole := search(t, 12, []string{"3", "8"})
	want, err := whole.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cut := errors.New("cut off")
	for at := range len(whole.Trials) {
		tried, kept := 0, Search{}
		judge := search(t, 12, []string{"3", "8"}).Try
		s := &Search{Changes: numbered(12), Save: func(s Search) error { kept = Search{Changes: s.Changes, Trials: slices.Clone(s.Trials)}; return nil },
			Try: func(ctx context.Context, changes []string) (Trial, error) {
				if tried++; tried > at {
					return Trial{}, cut
				}
				return judge(ctx, changes)
			}}
		if _, err := s.Run(t.Context()); !errors.Is(err, cut) || len(kept.Trials) != at {
			t.Fatalf("%v, %d trials kept of %d", err, len(kept.Trials), at)
		}
		s = &Search{Changes: numbered(12), Trials: kept.Trials, Try: judge} // which fails if it is asked twice
		if got, err := s.Run(t.Context()); err != nil || !slices.Equal(got, want) || len(s.Trials) != len(whole.Trials) {
			t.Errorf("cut off after %d: %q, %v, %d trials", at, got, err, len(s.Trials))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := search(t, 4, []string{"0"}).Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
