package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bake/internal/diag"
	"bake/internal/origin"
)

// lockFile is bake.lock, beside hosts/.
func (a *app) lockFile() string { return filepath.Join(a.config, "bake.lock") }

// unpinned is what --locked says: the lock is an input like the host file, and
// it lacks something.
func (a *app) unpinned(ref origin.Ref) error {
	return diag.List{{Pos: diag.Position{File: a.lockFile()},
		Message: fmt.Sprintf("%s for %s is not pinned, and --locked adds no pin", ref, ref.Arch),
		Hint:    fmt.Sprintf("run bake pull %s and commit bake.lock", ref)}}
}

// pin writes a target into bake.lock and returns what is pinned then, which is
// another one if a run was faster that had no order to move pins either.
func (a *app) pin(ctx context.Context, ref origin.Ref, target origin.Target, o baseOptions) (origin.Target, []string, error) {
	hold, err := holdDir(ctx, a.config, unix.LOCK_EX)
	if err != nil {
		return origin.Target{}, nil, err
	}
	defer hold.Close()
	before, err := origin.ReadLock(a.lockFile())
	if err != nil {
		return origin.Target{}, nil, err
	}
	if there, ok := before.Pin(ref); ok && !o.update && there.Digest != target.Digest || ok && there == target {
		return there, nil, nil
	}
	if o.locked {
		return target, nil, nil // the digest is pinned; what else is known of it is not written down
	}
	after := before
	if err := after.Set(target); err != nil {
		return origin.Target{}, nil, err
	}
	if err := after.Write(a.lockFile()); err != nil {
		return origin.Target{}, nil, err
	}
	return target, after.Changes(before), nil
}

// tell says which image it is and why it is believed.
func (a *app) tell(ref origin.Ref, found base) {
	text := cmp.Or(found.Serial, found.Algorithm+" "+found.Digest[:12]+"...") + ", " + found.Trust
	if found.Signer != "" {
		text += ", by " + found.Signer
	}
	if found.cached {
		text += ", from the cache"
	}
	a.say("%s: %s", ref, text)
}

// printLines prints results for people, one a line.
func (a *app) printLines(lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.Stdout, diag.Printable(line)); err != nil {
			return err
		}
	}
	return nil
}
