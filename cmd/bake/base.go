package main

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"bake/internal/host"
	"bake/internal/origin"
)

// How base images are come by: a reference, pinned by bake.lock or resolved by
// origin, fetched by download, judged by inspect, kept by an image.Store in the
// cache, copied into the store beside the generations.
//
// # Decisions
//
// 2026-11: a pin is written last, when the image is there, vetted and judged. So
// bake.lock never names an image that nobody has been able to use; and of runs
// that pin at once the first one counts, whatever the others were told.
//
// 2026-11: two stores. The overlay names its base relatively, so out/ needs its
// own; the cache is shared by all out/, may be removed, and is where nothing but
// what a digest vouches for gets in. Costs nothing where the file system has
// reflinks, the size of the image elsewhere. Would change with overlays on
// absolute paths.
//
// 2026-11: the cache is a directory of the user who runs bake and of nobody else,
// and no link: what is remembered of its images is as good as that. With sudo
// that means HOME of root. And the copy beside the generations is hashed and
// compared once more, whatever the cache remembers. Would change for a cache
// that several users share, which would have to be hashed at every use.
//
// 2026-11: --locked ends with 3 and not 5 where a pin is missing: bake.lock is an
// input like the host file, and nothing came that was not what it must be.
//
// 2026-11: locks are flock(2) on the directories themselves: no file that
// somebody commits by mistake, nothing to remove. Would change if a file system
// in use refused it.
//
// 2026-11: a local file is vetted but not judged. Whoever builds an image is
// ahead of what inspect reads (another file system, no GPT), and can ask it.
//
// 2026-11: raw is written beside qcow2, not instead: verify boots and the domain
// names disk.qcow2. Would change if both learned formats.

// publishers have the images of bake.lock, whatever mirror they came from: the
// file is committed, and a mirror is a matter of one network.
var publishers = map[string]string{"ubuntu": "https://cloud-images.ubuntu.com", "debian": "https://cloud.debian.org"}

// keyring is nil, so that origin's own keys count. Tests replace it to sign
// lists themselves; nothing a user can write does.
var keyring []byte

// baseOptions say how base images are come by.
type baseOptions struct {
	mirrors    map[string]string // of the command line
	locked     bool              // bake.lock must not change
	update     bool              // pins move to what is newest
	allowOlder bool
	transient  bool // nothing is pinned
}

// baseFlags are the options of every command that may fetch a base image.
func baseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "mirror", Usage: "fetch from a mirror: ubuntu=URL or debian=URL, repeatable"},
		&cli.BoolFlag{Name: "locked", Usage: "refuse to add or move a pin in bake.lock"},
		&cli.BoolFlag{Name: "allow-older", Usage: "accept an older list of images than one seen before"},
	}
}

func readBaseFlags(c *cli.Context) (baseOptions, error) {
	o := baseOptions{mirrors: map[string]string{}, locked: c.Bool("locked"), update: c.Bool("update"), allowOlder: c.Bool("allow-older")}
	for _, text := range c.StringSlice("mirror") {
		name, address, ok := strings.Cut(text, "=")
		if !ok {
			return o, usageError{fmt.Errorf("--mirror %q: want ubuntu=URL or debian=URL", text)}
		}
		if err := host.CheckMirror(name, address); err != nil {
			return o, usageError{fmt.Errorf("--mirror %s: %w", text, err)}
		}
		o.mirrors[name] = address
	}
	if o.locked && o.update {
		return o, usageError{errors.New("--locked and --update exclude each other")}
	}
	return o, nil
}

// mirrors are those of the host file, over them those of the environment, over
// them those of the command line.
func (a *app) mirrors(file map[string]string, o baseOptions) (map[string]string, error) {
	all := map[string]string{}
	maps.Copy(all, file)
	for _, name := range slices.Sorted(maps.Keys(publishers)) {
		variable := "BAKE_MIRROR_" + strings.ToUpper(name)
		text := a.Getenv(variable)
		if text == "" {
			continue
		}
		if err := host.CheckMirror(name, text); err != nil {
			return nil, usageError{fmt.Errorf("the environment's %s: %w", variable, err)}
		}
		all[name] = text
	}
	maps.Copy(all, o.mirrors)
	return all, nil
}

// publisher returns the distribution that a reference's mirror is set for.
func publisher(ref origin.Ref) string { return strings.TrimSuffix(ref.Distro, "-minimal") }

// moved returns a URL below another base, or as it is when it is not below the
// first.
func moved(address, from, to string) string {
	if rest, ok := strings.CutPrefix(address, strings.TrimRight(from, "/")+"/"); ok && from != "" && to != "" {
		return strings.TrimRight(to, "/") + "/" + rest
	}
	return address
}

// wanted is a base image that a command line asks for.
type wanted struct {
	ref     origin.Ref
	mirrors map[string]string // of the host file that names it
}

// wanted returns the references of a command line, or those of the hosts it
// names, or of all hosts. Local files are nobody's to fetch.
func (a *app) wanted(c *cli.Context) ([]wanted, error) {
	if c.Args().Present() {
		if c.IsSet("host") || c.Bool("all") {
			return nil, usageError{errors.New("name references or hosts, not both")}
		}
		var all []wanted
		for _, text := range c.Args().Slice() {
			ref, err := origin.Parse(text, c.String("arch"))
			if err != nil {
				return nil, err
			}
			if ref.Kind == origin.File {
				return nil, usageError{errors.New(text + " is a file already")}
			}
			all = append(all, wanted{ref, nil})
		}
		return all, nil
	}
	names := host.Names(a.config)
	if c.IsSet("host") || c.Bool("all") || len(names) == 0 {
		var err error
		if names, err = a.hosts(c); err != nil {
			return nil, err
		}
	}
	ready, err := a.prepare(names)
	if err != nil {
		return nil, err
	}
	var all []wanted
	for _, h := range ready {
		same := func(w wanted) bool { return w.ref == h.Ref && maps.Equal(w.mirrors, h.Mirrors) }
		if h.Ref.Kind != origin.File && !slices.ContainsFunc(all, same) {
			all = append(all, wanted{h.Ref, h.Mirrors})
		}
	}
	return all, nil
}

// stateDir is where bake remembers what nobody can tell it again: the newest
// signed lists it has seen.
func (a *app) stateDir() string {
	if dir := a.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "bake")
	}
	if home := a.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "bake")
	}
	return ""
}
