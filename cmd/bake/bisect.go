package main

// The search for what turned a claim red: what its trials are, and what is kept of it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/artifact"
	"bake/internal/bisect"
	"bake/internal/diag"
	"bake/internal/input"
	"bake/internal/verify"
)

const (
	bisectDir    = ".bisect"
	journalName  = "search.json"
	bisectReport = "report.bisect.json"
)

// hunt is one search.
type hunt struct {
	app       *app
	bench     bench
	o         bisectOptions
	good, bad artifact.Generation
	was, is   input.Inputs
	changes   map[string]input.Change // by name
	red       []string                // claims of the bad generation that failed
	search    bisect.Search
}

// huntState is what is kept of a search, and whose it is.
type huntState struct {
	Good string `json:"good"`
	Bad  string `json:"bad"`
	Tool string `json:"tool"`
	bisect.Search
}

// bisectView is what --json shows, and what is kept beside the bad generation's report.
type bisectView struct {
	Host    string         `json:"host"`
	Good    string         `json:"good"`
	Bad     string         `json:"bad"`
	Claims  []string       `json:"claims"`  // that the bad one failed
	Changes []input.Change `json:"changes"` // in which they differ
	Cause   []input.Change `json:"cause,omitempty"`
	Why     string         `json:"why,omitempty"` // there is no cause among the changes
	Trials  []bisect.Trial `json:"trials,omitempty"`
	Guess   int            `json:"guess,omitempty"` // boots, of a dry run
}

func runBisect(ctx context.Context, a *app, o bisectOptions) error {
	h, err := a.newHunt(ctx, o)
	if err != nil {
		return err
	}
	view := bisectView{Host: o.host, Good: h.good.Manifest.Generation, Bad: h.bad.Manifest.Generation, Claims: h.red, Changes: h.ordered(h.search.Changes)}
	if o.dryRun {
		view.Guess = bisect.Guess(len(view.Changes))
		return a.printBisect(view)
	}
	err = h.locked(ctx, func() error {
		cause, why, err := h.run(ctx)
		view.Cause, view.Why, view.Trials = h.ordered(cause), why, h.search.Trials
		return err
	})
	a.stage("")
	if err != nil {
		return err
	}
	if err := h.keepAnswer(ctx, view); err != nil {
		return err
	}
	return a.printBisect(view)
}

// newHunt looks at the two generations; nothing is written.
func (a *app) newHunt(ctx context.Context, o bisectOptions) (h *hunt, err error) {
	h = &hunt{app: a, o: o, changes: map[string]input.Change{}}
	if h.good, err = artifact.Open(a.out, o.host, o.good); err != nil {
		return h, err
	}
	if h.bad, err = artifact.Open(a.out, o.host, o.bad); err != nil {
		return h, err
	}
	if h.good.Manifest.Generation == h.bad.Manifest.Generation {
		return h, usageError{fmt.Errorf("%s and %s are one generation, %s: there is nothing in between", o.good, o.bad, h.bad.Manifest.Generation)}
	}
	if h.was, err = a.readInputs(ctx, h.good); err != nil {
		return h, err
	}
	if h.is, err = a.readInputs(ctx, h.bad); err != nil {
		return h, err
	}
	if !o.again && !wasProven(h.good) {
		return h, lackError{fmt.Errorf("there is no report that the claims of generation %s held: --again tries them", h.good.Manifest.Generation)}
	}
	report, err := readReport(h.bad)
	if h.red = failedClaims(report); err != nil || len(h.red) == 0 {
		return h, lackError{fmt.Errorf("there is no report of generation %s in which a claim failed: bake verify --boot --host %s --generation %s",
			h.bad.Manifest.Generation, o.host, h.bad.Manifest.Generation)}
	}
	changes, err := h.was.Changes(h.is)
	for _, c := range changes {
		h.changes[c.Name] = c
		h.search.Changes = append(h.search.Changes, c.Name)
	}
	return h, err
}

func (h *hunt) ordered(names []string) (all []input.Change) {
	for _, name := range names {
		all = append(all, h.changes[name])
	}
	return all
}

// locked does the search under its lock. Its directory goes when it is over, and stays
// when it was cut off.
func (h *hunt) locked(ctx context.Context, search func() error) (err error) {
	root := filepath.Join(h.app.out, bisectDir)
	lock, err := artifact.Lock(ctx, root, h.o.host)
	if err != nil {
		return lackError{err}
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	dir := filepath.Join(root, h.o.host)
	if err := h.resume(dir); err != nil {
		return err
	}
	if h.bench, err = h.app.openBench(dir, "bake "+version()); err != nil {
		return err
	}
	if err := search(); err != nil {
		return fmt.Errorf("%w (what was tried is kept: bake bisect --host %s goes on)", err, h.o.host)
	}
	return errors.Join(os.RemoveAll(dir), removeEmpty(root))
}

// resume reads what a search for the same has tried; that of another is removed.
func (h *hunt) resume(dir string) error {
	path := filepath.Join(dir, journalName)
	want := huntState{Good: h.good.Manifest.Generation, Bad: h.bad.Manifest.Generation, Tool: version(), Search: bisect.Search{Changes: h.search.Changes}}
	var kept huntState
	content, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(content, &kept) == nil && kept.Good == want.Good && kept.Bad == want.Bad && kept.Tool == want.Tool && slices.Equal(kept.Changes, want.Changes) {
		h.search.Trials = kept.Trials
		h.app.say("%s: going on with a search of which %d trials are done", h.o.host, len(kept.Trials))
	} else {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.Name() != ".lock" {
				if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
					return err
				}
			}
		}
	}
	h.search.Try = h.try
	h.search.Save = func(s bisect.Search) error {
		want.Search = s
		content, err := json.MarshalIndent(want, "", "  ")
		if err == nil {
			err = os.WriteFile(path+".new", append(content, '\n'), 0o600)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		return err
	}
	return nil
}

// run searches. Why is set when it is not the changes.
func (h *hunt) run(ctx context.Context) (cause []string, why string, err error) {
	none, all := []string{}, h.search.Changes
	if len(all) == 0 {
		return nil, "both were made from the same: it is bake itself, or chance", nil
	}
	h.app.say("%s: %d changes between %s and %s, about %d boots", h.o.host, len(all), h.good.Manifest.Generation, h.bad.Manifest.Generation, bisect.Guess(len(all)))
	tool := "bake " + version()
	if h.o.again || h.good.Manifest.Tool != tool {
		if t, err := h.search.Do(ctx, none); err != nil || t.Verdict != bisect.Good {
			return nil, "with none of the changes it is " + string(t.Verdict) + " now: it is bake itself, or chance", err
		}
	}
	if h.o.again || h.bad.Manifest.Tool != tool {
		if t, err := h.search.Do(ctx, all); err != nil || t.Verdict != bisect.Bad {
			return nil, "with all of the changes it is " + string(t.Verdict) + " now: it was bake itself, or chance", err
		}
	}
	cause, err = h.search.Run(ctx)
	return cause, "", err
}

// try builds and boots what the good generation is with some of the changes.
func (h *hunt) try(ctx context.Context, names []string) (t bisect.Trial, err error) {
	defer func() {
		if err == nil {
			t.Changes = names
			h.app.say("%s: trial %d: %s", h.o.host, len(h.search.Trials)+1, t)
		}
	}()
	in, err := h.was.Mix(h.is, names)
	if err != nil {
		return t, err
	}
	g, err := h.make(ctx, in)
	if err != nil {
		return untried(t, err)
	}
	t.Generation = g.Manifest.Generation
	if t.Verdict, t.Reason = h.known(t.Generation); t.Verdict != "" {
		return t, nil
	}
	_, report, err := h.bench.boot(ctx, h.o.host, t.Generation, h.o.boot)
	var claim claimError
	if err != nil && !errors.As(err, &claim) {
		return untried(t, err)
	}
	t.Verdict, t.Reason = h.judge(report)
	return t, nil
}

// known is the verdict about a generation that was booted already: a change need not
// make a difference to the machine.
func (h *hunt) known(generation string) (bisect.Verdict, string) {
	switch {
	case h.o.again:
	case generation == h.good.Manifest.Generation:
		return bisect.Good, ""
	case generation == h.bad.Manifest.Generation:
		return bisect.Bad, h.red[0]
	}
	for _, t := range h.search.Trials {
		if t.Generation == generation {
			return t.Verdict, t.Reason
		}
	}
	return "", ""
}

// judge says whether what failed is what failed in the bad generation: the same claim
// or, as a parameter may stand in its words, one of its layer where that is not there.
func (h *hunt) judge(report verify.Report) (bisect.Verdict, string) {
	failed := failedClaims(report)
	if len(failed) == 0 {
		return bisect.Good, ""
	}
	for _, red := range h.red {
		layer, _, _ := strings.Cut(red, ": ")
		isThere := slices.ContainsFunc(report.Results, func(r verify.Result) bool { return r.Layer+": "+r.Claim == red })
		for _, name := range failed {
			if name == red || !isThere && strings.HasPrefix(name, layer+": ") {
				return bisect.Bad, name
			}
		}
	}
	return bisect.Unresolved, "another claim fails: " + failed[0]
}

// untried is a trial that came to nothing because of what was tried; other errors
// end the search.
func untried(t bisect.Trial, err error) (bisect.Trial, error) {
	var invalid diag.List
	var broken interface{ Integrity() bool }
	var remote interface{ Network() bool }
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, errInterrupted), errors.As(err, &broken), errors.As(err, &remote), exitCode(err) == 4:
		return t, err
	case errors.As(err, &invalid):
		t.Reason = invalid[0].Path + ": " + invalid[0].Message
	default:
		t.Reason = firstLine(err.Error())
	}
	t.Verdict = bisect.Unresolved
	return t, nil
}

// make bakes inputs on the bench, with the secrets that the host has now.
func (h *hunt) make(ctx context.Context, in input.Inputs) (g artifact.Generation, err error) {
	o := imageOptions{from: h.o.from}
	ready, err := h.bench.lay(ctx, h.app, in, &o)
	if err != nil {
		return g, err
	}
	if g, _, err = h.bench.bake(ctx, ready, o); err != nil {
		return g, err
	}
	volume := filepath.Join(h.bench.out, h.o.host, secretsName)
	if err := os.Link(filepath.Join(h.app.out, h.o.host, secretsName), volume); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
		return g, err
	}
	return g, nil
}

// failedClaims are those of a report that did not hold, as layer: claim.
func failedClaims(r verify.Report) (all []string) {
	for _, result := range r.Results {
		if !result.OK {
			all = append(all, result.Layer+": "+result.Claim)
		}
	}
	return all
}

// keepAnswer puts what was found beside the bad generation's report.
func (h *hunt) keepAnswer(ctx context.Context, v bisectView) error {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	lock, err := artifact.Lock(ctx, h.app.out, h.o.host)
	if err != nil { // it is printed all the same
		h.app.say("%v", err)
		return nil
	}
	return errors.Join(h.bad.WriteReport(bisectReport, append(content, '\n')), lock.Close())
}

// printBisect shows an answer, or what a dry run knows.
func (a *app) printBisect(v bisectView) error {
	if a.json {
		return a.printJSON(v)
	}
	lines := []string{fmt.Sprintf("%s: %s failed in %s", v.Host, strings.Join(v.Claims, "; "), v.Bad)}
	changes, word := v.Cause, "because of"
	switch {
	case v.Why != "":
		return a.printLines(append(lines, "    "+v.Why))
	case v.Trials == nil && v.Cause == nil:
		changes, word = v.Changes, "one of"
	}
	for i, c := range changes {
		if i > 0 {
			word = map[string]string{"because of": "together with", "together with": "together with"}[word]
		}
		lines = append(lines, fmt.Sprintf("    %-13s %s", word, c))
	}
	if v.Guess > 0 {
		lines = append(lines, fmt.Sprintf("    about %d boots to find out", v.Guess))
	}
	return a.printLines(lines)
}
