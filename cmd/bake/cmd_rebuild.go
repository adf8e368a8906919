package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"bake/internal/artifact"
)

func rebuildCommand(a *app) *cli.Command {
	return &cli.Command{
		Name:  "rebuild",
		Usage: "make a generation again from what it was made from, and compare every byte",
		Description: `A generation has in it what it was made from: host file and layers as they were, the
digests of base image and packages. This makes it once more, beside the others, holds
all files against the manifest's digests, and removes it again. If an input is gone
(an image that its publisher no longer has, another bake), it says which: exit
status 4. Bytes that differ are exit status 5.`,
		Flags: append(hostFlags(), append(baseFlags(),
			&cli.StringFlag{Name: "generation", Value: "current", Usage: "current, latest or a generation's name"})...),
		Action: func(c *cli.Context) error {
			names, err := a.hosts(c)
			if err == nil {
				err = noArguments(c)
			}
			if err != nil {
				return err
			}
			from, err := readBaseFlags(c)
			if err != nil {
				return err
			}
			var failed error
			for _, name := range names {
				failed = errors.Join(failed, runRebuild(c.Context, a, name, c.String("generation"), from))
			}
			return failed
		},
	}
}

// rebuildView is what --json shows.
type rebuildView struct {
	Host       string            `json:"host"`
	Generation string            `json:"generation"`
	Identical  bool              `json:"identical"`
	Files      map[string]string `json:"files"` // SHA-256 by name, as they were made now
	Differ     []string          `json:"differ,omitempty"`
}

func runRebuild(ctx context.Context, a *app, name, which string, from fetchOptions) error {
	g, err := artifact.Open(a.out, name, which)
	if err != nil {
		return err
	}
	again, err := a.rebuild(ctx, g, from)
	a.stage("")
	if err != nil {
		return fmt.Errorf("generation %s of host %s: %w", g.Manifest.Generation, name, err)
	}
	view := rebuildView{Host: name, Generation: g.Manifest.Generation, Files: map[string]string{}}
	for _, file := range slices.Sorted(maps.Keys(g.Manifest.Files)) {
		view.Files[file] = again.Files[file].SHA256
		if again.Files[file] != g.Manifest.Files[file] {
			view.Differ = append(view.Differ, file)
		}
	}
	view.Identical = len(view.Differ) == 0 && len(again.Files) == len(g.Manifest.Files)
	if a.json {
		err = a.printJSON(view)
	} else if view.Identical {
		err = a.printLines([]string{fmt.Sprintf("%s: generation %s, %d files: identical when made again", name, view.Generation, len(view.Files))})
	}
	if err == nil && !view.Identical {
		err = &artifact.IntegrityError{File: filepath.Join(g.Dir, view.Differ[0]), Want: g.Manifest.Files[view.Differ[0]].SHA256,
			Got: view.Files[view.Differ[0]] + " when it is made again from the same, by the programs that are here now"}
	}
	return err
}

// rebuild makes a generation again, beside the others, and returns the manifest.
func (a *app) rebuild(ctx context.Context, g artifact.Generation, from fetchOptions) (m artifact.Manifest, err error) {
	name := g.Manifest.Host
	lock, err := artifact.Lock(ctx, a.out, name)
	if err != nil {
		return m, lackError{err}
	}
	defer lock.Close()
	in, err := a.readInputs(ctx, g)
	if err != nil {
		return m, err
	}
	dir := filepath.Join(a.out, rebuildDir, name)
	if err := os.RemoveAll(dir); err != nil { // of a run that was killed
		return m, err
	}
	b, err := a.openBench(dir, g.Manifest.Tool)
	defer func() { err = errors.Join(err, os.RemoveAll(dir), removeEmpty(filepath.Dir(dir))) }()
	if err != nil {
		return m, err
	}
	o := imageOptions{from: from}
	h, err := b.lay(ctx, a, in, &o)
	if err != nil {
		return m, err
	}
	again, _, err := b.bake(ctx, h, o)
	switch {
	case err != nil:
		return m, err
	case again.Manifest.Generation != g.Manifest.Generation:
		return m, strayed(g.Manifest, again.Manifest)
	}
	return again.Manifest, nil
}
