package artifact

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Rule says which generations of a host stay beside those that a link in its
// directory points to, latest, current or one that somebody else has made: they always
// do.
type Rule struct {
	Keep   int                   // so many of those that are proven, the newest
	Proven func(Generation) bool // passed verification; nil: every one did
	Dry    bool                  // nothing is removed, only said
}

// Pruned is what a host no longer has, or with Rule.Dry would not have.
type Pruned struct {
	Generations []Generation // the oldest first
	Drafts      int          // of runs that died
	Damaged     []string     // directories that bear the name of a generation and are none: they stay
}

// Prune removes the generations that a rule does not keep, and the drafts of runs
// that died. A generation goes in one step, by losing its name; what is removed
// after that is a draft. Newer is what was committed later, as the time of its
// manifest has it. The caller holds the host's lock, but not for Rule.Dry.
func Prune(ctx context.Context, root, host string, rule Rule) (Pruned, error) {
	gone, err := prune(ctx, root, host, rule)
	if err != nil {
		return gone, fmt.Errorf("pruning host %s: %w", host, err)
	}
	return gone, nil
}

func prune(ctx context.Context, root, host string, rule Rule) (gone Pruned, err error) {
	if err := vetName("host", host); err != nil {
		return gone, err
	}
	dir := filepath.Join(root, host)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return gone, nil
	}
	if err != nil {
		return gone, err
	}
	var all []aged
	for _, entry := range entries {
		name := entry.Name()
		switch g, err := load(filepath.Join(dir, name)); {
		case strings.HasPrefix(name, draftPrefix) || strings.HasPrefix(name, linkPrefix):
			gone.Drafts++
		case !entry.IsDir() || vetGeneration(name) != nil:
		case err != nil && !isID(name): // a directory of the user's
		case err != nil:
			gone.Damaged = append(gone.Damaged, filepath.Join(dir, name))
		default:
			info, err := os.Lstat(g.Path(manifestName))
			if err != nil {
				return gone, err
			}
			all = append(all, aged{g, info.ModTime()})
		}
	}
	if gone.Generations, err = rule.surplus(dir, all); err != nil || rule.Dry {
		return gone, err
	}
	return gone, gone.remove(ctx, dir)
}

// isID says whether a name is one that ID could have made.
func isID(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 2*idSize
}

// aged is a generation and when it was committed. Nothing of it is in the
// manifest: the same inputs give the same bytes.
type aged struct {
	Generation
	committed time.Time
}

// surplus returns what a rule does not keep, the oldest first.
func (r Rule) surplus(dir string, all []aged) ([]Generation, error) {
	stays, err := linked(dir)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(x, y aged) int { return y.committed.Compare(x.committed) })
	var surplus []Generation
	kept := 0
	for _, g := range all {
		proven := r.Proven == nil || r.Proven(g.Generation)
		if proven && kept < r.Keep {
			kept++
		} else if !stays[filepath.Base(g.Dir)] {
			surplus = append(surplus, g.Generation)
		}
	}
	slices.Reverse(surplus)
	return surplus, nil
}

// linked returns what the links in a host's directory point to. One that is being made
// counts, too: it is about to be latest or current, unless its maker died.
func linked(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, entry := range entries {
		if entry.Type() != fs.ModeSymlink {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all[filepath.Base(target)] = true
	}
	return all, nil
}

// remove removes what it says, and all drafts.
func (p Pruned) remove(ctx context.Context, dir string) error {
	for _, g := range p.Generations {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		step("unname " + filepath.Base(g.Dir))
		if err := os.Rename(g.Dir, filepath.Join(dir, draftPrefix+"gone-"+filepath.Base(g.Dir))); err != nil {
			return err
		}
	}
	if len(p.Generations)+p.Drafts == 0 {
		return nil
	}
	step("sync host")
	if err := syncPath(dir); err != nil {
		return err
	}
	step("sweep")
	return sweep(dir)
}
