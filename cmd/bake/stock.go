package main

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/artifact"
	"bake/internal/base"
	"bake/internal/origin"
)

// stockedView is what --json shows of a base image that is kept here.
type stockedView struct {
	SHA256      string    `json:"sha256"`
	Size        int64     `json:"size"` // bytes
	Added       time.Time `json:"added"`
	References  []string  `json:"references"`  // that bake.lock pins to it
	Generations []string  `json:"generations"` // whose disks stand on it, as host/generation
	Paths       []string  `json:"paths"`
	Damaged     bool      `json:"damaged,omitempty"` // found by --verify
}

func viewStock(all []base.Stocked) []stockedView {
	views := []stockedView{}
	for _, s := range all {
		view := stockedView{s.SHA256, s.Size, s.Added, []string{}, append([]string{}, s.Users...), s.Paths, s.Damaged}
		for _, pinned := range s.Pins {
			view.References = append(view.References, shortReference(pinned))
		}
		views = append(views, view)
	}
	return views
}

// shortReference is a pinned reference as a list shows it: the digest of a link
// is beside it already, and amd64 is what most have.
func shortReference(pinned origin.Target) string {
	name := pinned.Reference
	if link, _, ok := strings.Cut(name, "#"); ok {
		name = link
	}
	if pinned.Arch != "amd64" {
		name += " " + pinned.Arch
	}
	return name
}

// generations returns which disks stand on what, as host/generation, by the
// digest of the image. A generation that cannot be read is an error: something
// may stand on the image it does not tell of.
func (a *app) generations() (map[string][]string, error) {
	standing := map[string][]string{}
	hosts, err := os.ReadDir(a.out)
	if errors.Is(err, fs.ErrNotExist) {
		return standing, nil
	}
	if err != nil {
		return nil, err
	}
	for _, h := range hosts {
		if strings.HasPrefix(h.Name(), ".") || !h.IsDir() {
			continue
		}
		generations, err := os.ReadDir(filepath.Join(a.out, h.Name()))
		if err != nil {
			return nil, err
		}
		for _, entry := range generations {
			if !isGeneration(entry.Name()) {
				continue
			}
			g, err := artifact.Open(a.out, h.Name(), entry.Name())
			if err != nil {
				return nil, err
			}
			sum := g.Manifest.Base.SHA256
			standing[sum] = append(standing[sum], h.Name()+"/"+entry.Name())
		}
	}
	return standing, nil
}

// isGeneration tells a generation's name from a seed and whatever else lies
// beside it.
func isGeneration(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == len(artifact.ID())
}

// prune removes what nothing here uses, and says what that was.
func (a *app) prune(ctx context.Context, dry bool) error {
	removed, err := a.depot().Prune(ctx, a.generations, dry)
	if err == nil && !dry {
		err = a.forget(removed)
	}
	if err != nil {
		return err
	}
	var paths []string
	freed := int64(0)
	for _, s := range removed {
		paths = append(paths, s.Paths...)
		freed += s.Size * int64(len(s.Paths))
	}
	word := map[bool]string{true: "would remove", false: "removed"}[dry]
	a.say("%s %d images, %s", word, len(removed), amount(freed))
	packages, freed, err := a.prunePayloads(ctx, dry)
	if err != nil {
		return err
	}
	if len(packages) > 0 {
		a.say("%s %d package files and payloads, %s", word, len(packages), amount(freed))
	}
	if a.json {
		return a.printJSON(viewStock(removed))
	}
	return a.printLines(paths)
}
