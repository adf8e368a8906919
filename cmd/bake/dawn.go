package main

// What a night does when a host has been worked on, and when all have.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/origin"
)

// pruneHost removes the generations of a host that need not stay.
func (n *night) pruneHost(ctx context.Context, name string) (names []string, err error) {
	rule := artifact.Rule{Keep: n.o.keep, Proven: wasProven, Dry: true}
	again := filepath.Join(n.out, rebuildDir, name) // of a bake rebuild that was killed
	_, isLeft := os.Lstat(again)
	gone, err := artifact.Prune(ctx, n.out, name, rule)
	for _, path := range gone.Damaged {
		n.say("%s: %s is no generation that can be read: it stays until you remove it", name, path)
	}
	if err != nil || len(gone.Generations)+gone.Drafts == 0 && isLeft != nil {
		return nil, err // without a lock, which would be written
	}
	lock, err := artifact.Lock(ctx, n.out, name)
	if err != nil {
		return nil, lackError{err}
	}
	defer lock.Close()
	if isLeft == nil {
		if err := errors.Join(os.RemoveAll(again), removeEmpty(filepath.Dir(again))); err != nil {
			return nil, err
		}
	}
	rule.Dry = false
	gone, err = artifact.Prune(ctx, n.out, name, rule)
	for _, g := range gone.Generations {
		names = append(names, g.Manifest.Generation)
	}
	return names, err
}

// adopt writes into bake.lock what the proven hosts are on, as far as no other host
// of tonight goes by it.
func (n *night) adopt(ctx context.Context, proven []string) ([]string, error) {
	images, sets := map[string]bool{}, map[string]bool{} // whether all are proven
	for name, s := range n.hosts {
		h, err := s.read()
		if err != nil {
			continue // it goes by nothing
		}
		for key, all := range map[string]map[string]bool{h.Ref.String() + " " + h.Ref.Arch: images, s.set: sets} {
			was, seen := all[key]
			all[key] = slices.Contains(proven, name) && (was || !seen)
		}
	}
	from, err := origin.ReadLock(filepath.Join(n.candidates, "bake.lock"))
	if err != nil {
		return nil, err
	}
	isImage := func(t origin.Target) bool { return images[t.Reference+" "+t.Arch] }
	isSet := func(s origin.Set) bool {
		return sets[fmt.Sprint(s.Reference, " ", s.Image, " ", s.Arch, " ", s.Packages)]
	}
	moved, err := n.real.depot().Adopt(ctx, from, n.began, isImage, isSet)
	for _, line := range moved {
		n.say("bake.lock: %s", line)
	}
	return moved, err
}

// tidy removes the base images and payloads that nobody needs any more. That another
// bake uses them is no failure: there is a next night.
func (n *night) tidy(ctx context.Context) error {
	if err := n.release(); err != nil {
		return err
	}
	depot := n.real.depot()
	depot.Others = n.otherLocks()
	gone, err := depot.Prune(ctx, n.generations, false)
	var busy *base.DirError
	if err == nil {
		err = n.forget(gone)
	}
	if err == nil {
		_, _, err = n.prunePayloads(ctx, false, depot.Others...)
	}
	if errors.As(err, &busy) {
		n.say("%v", err)
		return nil
	}
	return err
}

// abandoned is how long a configuration is without a night before its pins do not
// keep anything any more.
const abandoned = 60 * 24 * time.Hour

// otherLocks are the pins of all nights of this user: other configurations may use the
// same cache.
func (n *night) otherLocks() []string {
	dir, _ := filepath.Split(filepath.Dir(n.candidates))
	var files []string
	if entries, err := os.ReadDir(dir); err == nil {
		for _, entry := range entries {
			file := filepath.Join(dir, entry.Name(), filepath.Base(n.candidates), "bake.lock")
			if info, err := os.Stat(file); err == nil && time.Since(info.ModTime()) < abandoned {
				files = append(files, file)
			}
		}
	}
	return files
}

// isProven says whether a generation passed verification when it was last tried, as
// somebody whose signature counts has signed.
func (a *app) isProven(g artifact.Generation) bool { return wasProven(g) && a.proven(g) == nil }

// wasProven says whether its report says so, whoever wrote that: for what is kept.
func wasProven(g artifact.Generation) bool {
	report, err := readReport(g)
	return err == nil && report.Err() == nil
}
