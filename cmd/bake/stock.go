package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/artifact"
	"bake/internal/image"
	"bake/internal/origin"
)

// stocked is a base image that is kept here: in the cache, beside the
// generations, or both.
type stocked struct {
	SHA256      string    `json:"sha256"`
	Size        int64     `json:"size"` // bytes
	Added       time.Time `json:"added"`
	References  []string  `json:"references"`  // that bake.lock pins to it
	Generations []string  `json:"generations"` // whose disks stand on it, as host/generation
	Paths       []string  `json:"paths"`
	Damaged     bool      `json:"damaged,omitempty"` // found by --verify

	serials map[string]string // by reference
	kept    []kept
}

// kept is one copy of an image.
type kept struct {
	store image.Store
	blob  image.Blob
}

// stores are the places that may have base images.
func (a *app) stores() []image.Store {
	all := []image.Store{a.store()}
	if dir := a.cacheDir(); dir != "" {
		all = append(all, image.Store{Dir: filepath.Join(dir, "base"), Tools: a.Tools})
	}
	return all
}

// stock lists the images in stores with everything that uses them, by digest.
func (a *app) stock(stores []image.Store) ([]stocked, error) {
	byDigest := map[string]*stocked{}
	for _, store := range stores {
		blobs, err := store.List()
		if err != nil {
			return nil, err
		}
		for _, blob := range blobs {
			s := byDigest[blob.SHA256]
			if s == nil {
				s = &stocked{SHA256: blob.SHA256, Size: blob.Size, References: []string{}, Generations: []string{}, serials: map[string]string{}}
				byDigest[blob.SHA256] = s
			}
			if info, err := os.Lstat(blob.Path); err == nil && (s.Added.IsZero() || info.ModTime().Before(s.Added)) {
				s.Added = info.ModTime().UTC().Truncate(time.Second)
			}
			s.Paths, s.kept = append(s.Paths, blob.Path), append(s.kept, kept{store, blob})
		}
	}
	if err := a.addPins(byDigest); err != nil {
		return nil, err
	}
	if err := a.addGenerations(byDigest); err != nil {
		return nil, err
	}
	all := []stocked{}
	for _, s := range byDigest {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b stocked) int { return strings.Compare(a.SHA256, b.SHA256) })
	return all, nil
}

// addPins notes what bake.lock pins.
func (a *app) addPins(byDigest map[string]*stocked) error {
	lock, err := origin.ReadLock(a.lockFile())
	if err != nil {
		return err
	}
	c := cache{a.stores()[len(a.stores())-1]}
	for _, pinned := range lock.Pins() {
		s := byDigest[c.sum(pinned)]
		if s == nil {
			continue
		}
		name := pinned.Reference
		if link, _, ok := strings.Cut(name, "#"); ok {
			name = link
		}
		if pinned.Arch != "amd64" {
			name += " " + pinned.Arch
		}
		s.References, s.serials[name] = append(s.References, name), pinned.Serial
	}
	return nil
}

// addGenerations notes which disks stand on what. A generation that cannot be
// read is an error: something may stand on the image it does not tell of.
func (a *app) addGenerations(byDigest map[string]*stocked) error {
	hosts, err := os.ReadDir(a.out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if strings.HasPrefix(h.Name(), ".") || !h.IsDir() {
			continue
		}
		generations, err := os.ReadDir(filepath.Join(a.out, h.Name()))
		if err != nil {
			return err
		}
		for _, entry := range generations {
			if strings.HasPrefix(entry.Name(), ".") || !entry.IsDir() {
				continue
			}
			g, err := artifact.Open(a.out, h.Name(), entry.Name())
			if err != nil {
				return err
			}
			if s := byDigest[g.Manifest.Base.SHA256]; s != nil {
				s.Generations = append(s.Generations, h.Name()+"/"+entry.Name())
			}
		}
	}
	return nil
}

// prune removes what nothing here uses. The cache is shared: what another
// configuration has pinned is fetched again when that needs it.
func (a *app) prune(ctx context.Context, dry bool) error {
	if dir := a.cacheDir(); dir != "" {
		if err := ownDir(filepath.Join(dir, "base")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	var held []image.Store
	for _, store := range a.stores() {
		hold, err := holdDir(ctx, store.Dir, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // and if it is there in a moment, somebody uses it
		case errors.Is(err, unix.EWOULDBLOCK):
			return lackError{fmt.Errorf("another bake uses the images in %s: prune when it is done", store.Dir)}
		case err != nil:
			return err
		}
		defer hold.Close()
		held = append(held, store)
		if !dry {
			sweep(store.Dir)
		}
	}
	all, err := a.stock(held)
	if err != nil {
		return err
	}
	removed, freed := []stocked{}, int64(0)
	for _, s := range all {
		if len(s.References)+len(s.Generations) > 0 {
			continue
		}
		removed = append(removed, s)
		freed += s.Size * int64(len(s.kept))
		if dry {
			continue
		}
		if err := s.remove(ctx); err != nil {
			return err
		}
	}
	a.say("%s %d images, %s", map[bool]string{true: "would remove", false: "removed"}[dry], len(removed), amount(freed))
	if a.json {
		return a.printJSON(removed)
	}
	var paths []string
	for _, s := range removed {
		paths = append(paths, s.Paths...)
	}
	return a.printLines(paths)
}

// sweep removes what runs that were killed have left in a cache, which is held
// alone: notes that were not finished, and downloads that were, but had not been
// forgotten. Parts of downloads stay, to be resumed.
func sweep(dir string) {
	for _, place := range []struct{ dir, prefix string }{{dir, notePrefix}, {filepath.Join(dir, downloadDir), "sha"}} {
		entries, err := os.ReadDir(place.dir)
		if err != nil {
			continue // nothing there
		}
		for _, entry := range entries {
			if name := entry.Name(); strings.HasPrefix(name, place.prefix) && filepath.Ext(name[1:]) == "" {
				_ = os.Remove(filepath.Join(place.dir, name)) // what cannot be removed is in nobody's way
			}
		}
	}
}

// remove removes all copies of an image, and what is known of them.
func (s stocked) remove(ctx context.Context) error {
	for _, k := range s.kept {
		if err := k.store.Remove(ctx, s.SHA256); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(k.store.Dir, s.SHA256+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
