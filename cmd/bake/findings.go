package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"bake/internal/diag"
	"bake/internal/guest"
	"bake/internal/host"
	"bake/internal/lint"
	"bake/internal/seed"
)

// foundError says that lint has found errors; what they are is the product.
type foundError struct{ summary string }

func (e foundError) Error() string { return e.summary }

// lintHosts checks hosts, as many at once as there are processors. What comes of it is in
// their order, and of each no more is kept than that.
func (a *app) lintHosts(ctx context.Context, names []string, judges bool) ([]lint.Finding, error) {
	type result struct {
		found []lint.Finding
		from  string // what it was held against
		err   error
	}
	results := make([]result, len(names))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.NumCPU(), len(names)) {
		workers.Go(func() {
			for i := range next {
				r := &results[i]
				r.found, r.from, r.err = a.lintHost(ctx, names[i], judges)
			}
		})
	}
	for i := range names {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	var found []lint.Finding
	alike := map[string][]string{}
	for i, r := range results {
		if r.err != nil {
			return nil, r.err
		}
		found = append(found, r.found...)
		if r.from != "" {
			alike[r.from] = append(alike[r.from], names[i])
		}
	}
	const few = 5 // names that somebody still reads
	for _, from := range slices.Sorted(maps.Keys(alike)) {
		if hosts := alike[from]; len(hosts) <= few {
			a.say("%s: %s", strings.Join(hosts, ", "), from)
		} else {
			a.say("%d hosts, %s to %s: %s", len(hosts), hosts[0], hosts[len(hosts)-1], from)
		}
	}
	return found, ctx.Err()
}

// lintHost checks one host, and says what its words were held against. What is wrong with
// its files is a finding, too.
func (a *app) lintHost(ctx context.Context, name string, judges bool) (found []lint.Finding, from string, err error) {
	h, err := host.Load(a.config, name, a.shelf())
	if err == nil {
		var r lint.Release
		r, from = a.releaseOf(h)
		found, err = a.lintWords(h, r)
	}
	var list diag.List
	switch {
	case errors.As(err, &list):
		return lint.Invalid(list), from, nil
	case err != nil:
		return nil, from, err
	case judges:
		found = append(found, lint.JudgeHost(ctx, a.Tools, h)...)
	}
	return found, from, nil
}

// lintWords are those of a host's merged words.
func (a *app) lintWords(h *host.Host, r lint.Release) ([]lint.Finding, error) {
	program, err := guest.Program(h.Machine.Arch)
	if err != nil {
		return nil, lackError{err}
	}
	config, err := seed.Config(h, program)
	if err != nil {
		return nil, err
	}
	if !r.Schema.Empty() {
		if r.Network, err = seed.Network(h); err != nil {
			return nil, err
		}
	}
	return lint.Host(h, config, r), nil
}

// lintAll returns the errors of hosts from which something is to be made, and a
// function that says what else was found. Where the image is about to be read, its
// schema is held against the words later.
func (a *app) lintAll(all []ready, images bool) (warnings func(), err error) {
	var found []lint.Finding
	for _, h := range all {
		var r lint.Release
		if !images {
			r, _ = a.releaseOf(h.Host)
		}
		these, err := a.lintWords(h.Host, r)
		if err != nil {
			return nil, err
		}
		found = append(found, these...)
	}
	var errs diag.List
	found = lint.Once(found)
	for _, f := range found {
		if f.Severity == lint.Error && f.Allowed == "" {
			errs.Add(f.Problem)
		}
	}
	return func() {
		for _, f := range found {
			if f.Severity == lint.Warning && f.Allowed == "" {
				a.say("%s: warning: %s [%s]", f.Problem.Pos, f.Problem.Message, f.Rule)
			}
		}
	}, errs.Err()
}

// findingView is what --json shows.
type findingView struct {
	Rule     string        `json:"rule"`
	Severity lint.Severity `json:"severity"`
	File     string        `json:"file"`
	Line     int           `json:"line,omitempty"`
	Column   int           `json:"column,omitempty"`
	Path     string        `json:"path,omitempty"`
	Message  string        `json:"message"`
	Fix      string        `json:"fix,omitempty"`
	Allowed  string        `json:"allowed,omitempty"`
}

func (a *app) printFindings(found []lint.Finding, sarif bool) error {
	switch {
	case sarif:
		return a.printJSON(lint.SARIF(found, version()))
	case a.json:
		views := []findingView{}
		for _, f := range found {
			p := f.Problem
			views = append(views, findingView{f.Rule, f.Severity, p.Pos.File, p.Pos.Line, p.Pos.Col, p.Path, p.Message, p.Hint, f.Allowed})
		}
		return a.printJSON(views)
	}
	for _, f := range found {
		p := f.Problem
		if f.Allowed != "" {
			p.Warning, p.Hint, p.Source = true, "allowed: "+f.Allowed, ""
		}
		if _, err := fmt.Fprintln(a.Stdout, diag.List{p}.Error()); err != nil {
			return err
		}
	}
	return nil
}
