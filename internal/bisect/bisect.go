// Package bisect finds which of many changes together turned something red.
//
// It is delta debugging (Zeller and Hildebrandt, 2002: ddmin). Given is that with none
// of the changes all is good, and with all of them it is bad; what is tried are subsets.
// A subset that cannot be built, or that fails of something else, is unresolved, and
// says nothing about its parts.
//
// It promises:
//   - The result is bad, and was tried (or is everything), and no change can be left
//     out of it alone without its being good or unresolved. Which of several causes is
//     found, each enough by itself, is not promised.
//   - Nothing is tried twice, also not by a later run that is given the trials of one
//     that was cut off: they are kept after each.
//   - A single cause among k changes is found in about 2 log2 k trials; k*k+3k are the
//     most there can be.
//
// What a change is, how a subset is built and what bad means it does not know.
package bisect

import (
	"context"
	"math"
	"slices"
	"strings"
)

// A Verdict is what a trial came to.
type Verdict string

// The verdicts.
const (
	Good       Verdict = "good"
	Bad        Verdict = "bad"
	Unresolved Verdict = "unresolved" // could not be built, or failed otherwise
)

// A Trial is a subset of the changes that was tried.
type Trial struct {
	Changes    []string `json:"changes"`
	Verdict    Verdict  `json:"verdict"`
	Generation string   `json:"generation,omitempty"` // that was booted
	Reason     string   `json:"reason,omitempty"`     // why it is not good
}

// A Search is one search: what there is to try, and what was tried.
type Search struct {
	Changes []string `json:"changes"`
	Trials  []Trial  `json:"trials"`

	Try  func(ctx context.Context, changes []string) (Trial, error) `json:"-"`
	Save func(Search) error                                         `json:"-"` // after each trial; nil: nobody
}

// Guess is about how many trials a search for a single cause takes.
func Guess(changes int) int {
	if changes < 2 {
		return 0
	}
	return int(math.Ceil(2 * math.Log2(float64(changes))))
}

// Do tries a subset, unless that has been done.
func (s *Search) Do(ctx context.Context, changes []string) (Trial, error) {
	for _, t := range s.Trials {
		if slices.Equal(t.Changes, changes) {
			return t, nil
		}
	}
	if ctx.Err() != nil {
		return Trial{}, context.Cause(ctx)
	}
	t, err := s.Try(ctx, changes)
	if err != nil {
		return t, err
	}
	t.Changes = append([]string{}, changes...)
	s.Trials = append(s.Trials, t)
	if s.Save != nil {
		err = s.Save(*s)
	}
	return t, err
}

// Run returns the changes that together are the cause.
func (s *Search) Run(ctx context.Context) ([]string, error) {
	rest := slices.Clone(s.Changes)
	for parts := 2; len(rest) > 1; {
		smaller, isPart, err := s.reduce(ctx, rest, parts)
		switch {
		case err != nil:
			return rest, err
		case smaller != nil && isPart:
			rest, parts = smaller, 2
		case smaller != nil:
			rest, parts = smaller, max(parts-1, 2)
		case parts >= len(rest):
			return rest, nil
		default:
			parts = min(2*parts, len(rest))
		}
	}
	return rest, nil
}

// reduce returns a part of what is left that is bad by itself, or else what is left
// without a part, if that is bad, or nil.
func (s *Search) reduce(ctx context.Context, rest []string, parts int) (smaller []string, isPart bool, err error) {
	chunks := split(rest, parts)
	for _, chunk := range chunks {
		t, err := s.Do(ctx, chunk)
		if err != nil || t.Verdict == Bad {
			return chunk, true, err
		}
	}
	if parts == 2 { // what is left without one is the other
		return nil, false, nil
	}
	for _, chunk := range chunks {
		others := slices.DeleteFunc(slices.Clone(rest), func(c string) bool { return slices.Contains(chunk, c) })
		t, err := s.Do(ctx, others)
		if err != nil || t.Verdict == Bad {
			return others, false, err
		}
	}
	return nil, false, nil
}

// split cuts a list into so many parts of nearly the same length.
func split(list []string, parts int) [][]string {
	var all [][]string
	for i := range parts {
		if part := list[len(list)*i/parts : len(list)*(i+1)/parts]; len(part) > 0 {
			all = append(all, part)
		}
	}
	return all
}

// String is a trial in a line.
func (t Trial) String() string {
	text := string(t.Verdict) + " with " + strings.Join(t.Changes, ", ")
	if len(t.Changes) == 0 {
		text = string(t.Verdict) + " with none of the changes"
	}
	if t.Reason != "" {
		text += ": " + t.Reason
	}
	return text
}
