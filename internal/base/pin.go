package base

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"bake/internal/diag"
	"bake/internal/origin"
)

// lockFile is bake.lock, beside hosts/.
func (d Depot) lockFile() string { return filepath.Join(d.Config, "bake.lock") }

// unpinned is what --locked says: the lock is an input like the host file, and
// it lacks something.
func (d Depot) unpinned(ref origin.Ref) error {
	return diag.List{{Pos: diag.Position{File: d.lockFile()},
		Message: fmt.Sprintf("%s for %s is not pinned, and --locked adds no pin", ref, ref.Arch),
		Hint:    fmt.Sprintf("run bake pull %s and commit bake.lock", ref)}}
}

// pin writes a target into bake.lock and returns what is pinned then, which is
// another one if a run was faster that had no order to move pins either.
func (d Depot) pin(ctx context.Context, ref origin.Ref, target origin.Target, o Options) (origin.Target, []string, error) {
	hold, err := holdDir(ctx, d.Config, unix.LOCK_EX)
	if err != nil {
		return origin.Target{}, nil, err
	}
	defer hold.Close()
	before, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return origin.Target{}, nil, err
	}
	if there, ok := before.Pin(ref); ok && !o.Update && there.Digest != target.Digest || ok && there == target {
		return there, nil, nil
	}
	if o.Locked {
		return target, nil, nil // the digest is pinned; what else is known of it is not written down
	}
	after := before
	if err := after.Set(target); err != nil {
		return origin.Target{}, nil, err
	}
	if err := after.Write(d.lockFile()); err != nil {
		return origin.Target{}, nil, err
	}
	return target, after.Changes(before), nil
}

// PinSet writes a set of packages into bake.lock and returns what is pinned then
// for its purpose, which is another one if a run was faster that had no order to
// move pins either, and what has changed.
func (d Depot) PinSet(ctx context.Context, set origin.Set, update bool) ([]origin.Deb, []string, error) {
	hold, err := holdDir(ctx, d.Config, unix.LOCK_EX)
	if err != nil {
		return nil, nil, err
	}
	defer hold.Close()
	before, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return nil, nil, err
	}
	if there, ok := before.Debs(set.Reference, set.Image, set.Arch, set.Packages); ok && (!update || slices.Equal(there, set.Debs)) {
		return there, nil, nil
	}
	after := before
	if err := after.SetDebs(set); err != nil {
		return nil, nil, err
	}
	if err := after.Write(d.lockFile()); err != nil {
		return nil, nil, err
	}
	return set.Debs, after.Changes(before), nil
}

// Adopt moves the pins in bake.lock to those of another lock for which image and set
// say yes, and returns what has changed. The other lock began as since; a pin that
// somebody else has moved since then stays where they moved it.
func (d Depot) Adopt(ctx context.Context, from, since origin.Lock, image func(origin.Target) bool, set func(origin.Set) bool) ([]string, error) {
	hold, err := holdDir(ctx, d.Config, unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	before, err := origin.ReadLock(d.lockFile())
	if err != nil {
		return nil, err
	}
	after := before
	for _, target := range from.Pins() {
		if image(target) && pinnedTo(before, target) == pinnedTo(since, target) {
			err = errors.Join(err, after.Set(target))
		}
	}
	for _, s := range from.Sets() {
		if set(s) && (s.IsFile() || pinnedTo(after, origin.Target{Reference: s.Reference, Arch: s.Arch}) == pinnedTo(from, origin.Target{Reference: s.Reference, Arch: s.Arch})) {
			err = errors.Join(err, after.SetDebs(s))
		}
	}
	changes := after.Changes(before)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	return changes, after.Write(d.lockFile())
}

// pinnedTo returns what a target's reference is pinned to, if it is.
func pinnedTo(lock origin.Lock, target origin.Target) origin.Target {
	for _, pinned := range lock.Pins() {
		if pinned.Reference == target.Reference && pinned.Arch == target.Arch {
			return pinned
		}
	}
	return origin.Target{}
}
