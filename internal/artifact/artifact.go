// Package artifact keeps generations on disk.
//
// A generation is everything that one machine needs, made from one set of
// inputs: disk, seed, libvirt XML, manifest. It is a directory that is written
// once, under a name derived from its inputs, and never changed afterwards but
// for the reports that verification adds:
//
//	<root>/<host>/.lock                  held while anybody writes here
//	<root>/<host>/.draft-XXXX/           a generation in the making
//	<root>/<host>/<generation>/          manifest.json and the files it names, and perhaps
//	                                     provenance.intoto.jsonl, who vouches for these
//	<root>/<host>/latest -> <generation>    baked last
//	<root>/<host>/current -> <generation>   passed verification last
//	<root>/<host>/known_hosts            and what else Keep keeps beside them
//
// A host's directory may hold more, such as secrets.iso, which is of no generation.
// Nothing here touches it.
//
// It promises:
//   - A name that is not a draft's is a complete generation, always: a draft is
//     written and synced in a directory of its own and gets its name by one
//     rename; latest and current are replaced by one rename. A run killed at any
//     point (a test kills one at every step) leaves the old state or the new
//     one, and a draft which the next run removes.
//   - The same inputs give the same generation: one that is there and whole is
//     kept, one that is there and damaged is exchanged in one step.
//   - Directories are 0700 and files 0600, whatever the umask: the seed holds
//     secrets, and the disk is the machine.
//   - The bytes of manifest.json depend on nothing but the manifest: keys
//     sorted, no clock, no path, a newline at the end.
//
// It removes what Prune is told does not have to stay, never what a link beside the
// generations points to: latest, current, or one of somebody's own.
//
// It refuses names with a slash or a leading dot, drafts with anything but
// regular files in them, and generations with a file too few, too many or
// changed. Files named report.* and provenance.intoto.jsonl are the exception: they
// say something about the generation and are not part of it.
//
// [Seen] remembers which files were hashed in which state, for who verifies every night;
// after a week it forgets.
//
// What it does not promise: Verify alone finds damage and carelessness, not somebody
// who may write here and rewrites file and manifest together. Against that a [Notary]
// signs what Commit makes; what signatures look like and whose count is not known here.
//
// # Decisions
//
// 2026-11: the name of a generation is a digest of its inputs, not a counter or
// a time: baking twice gives one generation, and two machines agree on the name.
// Would change if inputs could not be listed before the disk is made.
//
// 2026-11: a generation that is there and whole is kept even if the draft has
// other bytes (a newer qemu-img, say): current may point to it, and what was
// verified must not change under its name.
//
// 2026-11: a damaged generation is replaced, not reported: the right content is
// in hand, and nobody has a use for the wrong one. If its manifest was another,
// current is removed with it, as what passed verification is gone.
//
// 2026-11: a generation that is there and whole, but for which nobody vouches who
// counts, is not signed as it is: it could be anybody's. If the draft has the very same
// bytes it gets the draft's signature, else the draft takes its place.
//
// 2026-11: the payload is a link to the file in the cache, not a reference out of
// the generation: a generation is whole without the cache, and the file system
// counts who still needs it. It costs a copy where out/ is on another file system.
//
// 2026-11: what is pruned is decided by what was proven and in which order it was
// committed, not by its age: a clock that jumps must not cost a generation. The
// order is the time of manifest.json, which nothing changes afterwards; where a
// clock went backwards it is wrong, and latest and current stay all the same. A
// directory that bears a generation's name and cannot be read is told of and left:
// somebody may want to see why.
//
// 2026-11: flock(2) on a file that stays, not a lock file that is removed: the
// kernel releases it when its holder is killed. Does not exclude a second
// machine on a network file system without locks.
package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	manifestName = "manifest.json"
	lockName     = ".lock"
	draftPrefix  = ".draft-"
	linkPrefix   = ".link-"
	reportPrefix = "report."
	sealName     = "provenance.intoto.jsonl"

	latest  = "latest"
	current = "current"
)

// step is called before each change that a crash could separate from the next.
// Tests replace it to be that crash.
var step = func(string) {}

// An IntegrityError says that a file of a generation is not what was baked.
// Want and Got are SHA-256 digests, or words such as "absent".
type IntegrityError struct {
	File      string // its path
	Want, Got string
}

func (e *IntegrityError) Error() string {
	return fmt.Sprintf("%s is damaged: it should be %s and is %s: bake image makes it anew",
		e.File, e.Want, e.Got)
}

// Integrity marks the error as a failure of trust, not of the world.
func (e *IntegrityError) Integrity() bool { return true }

// vetName refuses whatever is not one visible path element.
func vetName(what, name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is no name of a %s", name, what)
	}
	return nil
}

func vetGeneration(name string) error {
	if name == latest || name == current {
		return fmt.Errorf("%q is no name of a generation: it is the name of a link", name)
	}
	return vetName("generation", name)
}

// makeHostDir makes root/host and returns it.
func makeHostDir(root, host string) (string, error) {
	if err := vetName("host", host); err != nil {
		return "", err
	}
	dir := filepath.Join(root, host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o700)
}

// pointLink makes dir/name a link to target in one step.
func pointLink(dir, name, target string) error {
	temporary := filepath.Join(dir, linkPrefix+name)
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	step("link " + name)
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return err
	}
	step("sync " + name)
	return syncPath(dir)
}

// syncPath flushes a file or a directory to the disk.
func syncPath(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Sync()
}
