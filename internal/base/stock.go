package base

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

	"bake/internal/image"
	"bake/internal/origin"
)

// A Stocked is a base image that is kept here: in the cache, beside the disks,
// or both.
type Stocked struct {
	SHA256  string
	Size    int64           // of one copy, in bytes
	Added   time.Time       // of the oldest copy, UTC, in whole seconds
	Pins    []origin.Target // of bake.lock, in its order
	Users   []string        // that stand on it, as the caller calls them
	Paths   []string        // of the copies
	Damaged bool            // found by Verify

	stores []image.Store // of Paths, one each
}

// stores are the places that may have base images.
func (d Depot) stores() []image.Store {
	all := []image.Store{{Dir: d.Copies, Tools: d.Tools}}
	if d.Cache != "" {
		all = append(all, image.Store{Dir: d.Cache, Tools: d.Tools})
	}
	return all
}

// Stock lists the images that are kept, by digest, without reading them. Users
// returns who stands on what, names by SHA-256; its error is returned as it is.
func (d Depot) Stock(users func() (map[string][]string, error)) ([]Stocked, error) {
	return d.stock(d.stores(), users)
}

func (d Depot) stock(stores []image.Store, users func() (map[string][]string, error)) ([]Stocked, error) {
	byDigest := map[string]*Stocked{}
	for _, store := range stores {
		blobs, err := store.List()
		if err != nil {
			return nil, err
		}
		for _, blob := range blobs {
			s := byDigest[blob.SHA256]
			if s == nil {
				s = &Stocked{SHA256: blob.SHA256, Size: blob.Size}
				byDigest[blob.SHA256] = s
			}
			if info, err := os.Lstat(blob.Path); err == nil && (s.Added.IsZero() || info.ModTime().Before(s.Added)) {
				s.Added = info.ModTime().UTC().Truncate(time.Second)
			}
			s.Paths, s.stores = append(s.Paths, blob.Path), append(s.stores, store)
		}
	}
	if err := d.addPins(byDigest); err != nil {
		return nil, err
	}
	names, err := users()
	if err != nil {
		return nil, err
	}
	all := []Stocked{}
	for _, s := range byDigest {
		s.Users = names[s.SHA256]
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Stocked) int { return strings.Compare(a.SHA256, b.SHA256) })
	return all, nil
}

// addPins notes what bake.lock pins, and others like it.
func (d Depot) addPins(byDigest map[string]*Stocked) error {
	stores := d.stores()
	c := cache{stores[len(stores)-1]}
	for _, file := range append([]string{d.lockFile()}, d.Others...) {
		lock, err := origin.ReadLock(file)
		if err != nil {
			return err
		}
		for _, pinned := range lock.Pins() {
			if s := byDigest[c.sum(pinned)]; s != nil && !slices.Contains(s.Pins, pinned) {
				s.Pins = append(s.Pins, pinned)
			}
		}
	}
	return nil
}

// Verify hashes every copy of an image again, whatever is remembered of them,
// and notes whether one is damaged. The error has all reasons; when ctx has ended
// it has that alone, and says nothing about the image.
func (d Depot) Verify(ctx context.Context, s *Stocked) error {
	var damaged error
	for i, store := range s.stores {
		d.stage("verifying %s", s.Paths[i])
		err := store.Verify(ctx, s.SHA256)
		if ctx.Err() != nil {
			return err
		}
		s.Damaged = s.Damaged || err != nil
		damaged = errors.Join(damaged, err)
	}
	return damaged
}

// Prune removes the images which neither bake.lock pins nor anybody stands on,
// and what runs that were killed have left, and returns those images; dry, it
// removes nothing. The cache is shared: what another configuration has pinned is
// fetched again when that needs it. Users is Stock's, and is called when nobody
// else can begin to use an image any more. While another run uses any the
// error is a *DirError, and no image is removed.
func (d Depot) Prune(ctx context.Context, users func() (map[string][]string, error), dry bool) ([]Stocked, error) {
	if d.Cache != "" {
		if err := ownDir(d.Cache); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	var held []image.Store
	for _, store := range d.stores() {
		hold, err := holdDir(ctx, store.Dir, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // and if it is there in a moment, somebody uses it
		case errors.Is(err, unix.EWOULDBLOCK):
			return nil, &DirError{fmt.Errorf("another bake uses the images in %s: prune when it is done", store.Dir)}
		case err != nil:
			return nil, err
		}
		defer hold.Close()
		held = append(held, store)
		if !dry {
			sweep(store.Dir)
		}
	}
	all, err := d.stock(held, users)
	if err != nil {
		return nil, err
	}
	unused := slices.DeleteFunc(all, func(s Stocked) bool { return len(s.Pins)+len(s.Users) > 0 })
	if dry {
		return unused, nil
	}
	for _, s := range unused {
		if err := s.remove(ctx); err != nil {
			return nil, err
		}
	}
	return unused, nil
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
func (s Stocked) remove(ctx context.Context) error {
	for _, store := range s.stores {
		if err := store.Remove(ctx, s.SHA256); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(store.Dir, s.SHA256+".json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
