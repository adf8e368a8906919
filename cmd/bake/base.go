package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"bake/internal/base"
	"bake/internal/host"
	"bake/internal/origin"
)

// keyring is nil, so that origin's own keys count. Tests replace it to sign
// lists themselves; nothing a user can write does.
var keyring []byte

// depot is where this run gets base images from, and who is told of it.
func (a *app) depot() base.Depot {
	d := base.Depot{Copies: a.store().Dir, State: a.stateDir(), Config: a.lockDir(), Tools: a.Tools, Keyring: keyring, Shared: a.bases,
		Say:   func(text string) { a.say("%s", text) },
		Stage: func(text string) { a.stage("%s", text) },
		Progress: func(reference, address string) (func(done, total int64), func(received int64)) {
			m := &meter{ui: a.ui, label: reference, from: address, now: time.Now}
			return m.tell, m.end
		}}
	if dir := a.cacheDir(); dir != "" {
		d.Cache = filepath.Join(dir, "base")
	}
	return d
}

// lockDir is the directory that has bake.lock.
func (a *app) lockDir() string { return cmp.Or(a.pins, a.config) }

// obtain returns the base image of a reference, of which the host file that
// names it may have mirrors.
func (a *app) obtain(ctx context.Context, w wanted, o base.Options) (base.Image, error) {
	var err error
	if o.Mirrors, err = a.mirrors(w.mirrors, o.Mirrors); err != nil {
		return base.Image{}, err
	}
	return a.depot().Obtain(ctx, w.ref, o)
}

// baseFlags are the options of every command that may fetch a base image.
func baseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "mirror", Usage: "fetch from a mirror: ubuntu=URL or debian=URL, packages=URL for packages, repeatable"},
		&cli.BoolFlag{Name: "locked", Usage: "refuse to add or move a pin in bake.lock"},
		&cli.BoolFlag{Name: "allow-older", Usage: "accept an older list of images than one seen before, and older packages than those pinned"},
		&cli.BoolFlag{Name: "allow-expired", Usage: "accept lists of packages that are out of date, as those of a frozen mirror", EnvVars: []string{"BAKE_ALLOW_EXPIRED"}},
	}
}

// readBaseFlags returns what they say. The mirrors are those of the command line
// alone.
func readBaseFlags(c *cli.Context) (fetchOptions, error) {
	o := fetchOptions{expired: c.Bool("allow-expired"), Options: base.Options{
		Mirrors: map[string]string{}, Locked: c.Bool("locked"), Update: c.Bool("update"), AllowOlder: c.Bool("allow-older")}}
	for _, text := range c.StringSlice("mirror") {
		name, address, ok := strings.Cut(text, "=")
		if !ok {
			return o, usageError{fmt.Errorf("--mirror %q: want ubuntu=URL, debian=URL or packages=URL", text)}
		}
		if err := host.CheckMirror(name, address); err != nil {
			return o, usageError{fmt.Errorf("--mirror %s: %w", text, err)}
		}
		o.Mirrors[name] = address
	}
	if o.Locked && o.Update {
		return o, usageError{errors.New("--locked and --update exclude each other")}
	}
	return o, nil
}

// mirrors are those of the host file, over them those of the environment, over
// them those of the command line.
func (a *app) mirrors(file, flags map[string]string) (map[string]string, error) {
	all := map[string]string{}
	maps.Copy(all, file)
	for _, name := range []string{"debian", "packages", "ubuntu"} {
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
	maps.Copy(all, flags)
	return all, nil
}

// wanted is a base image that a command line asks for.
type wanted struct {
	ref     origin.Ref
	mirrors map[string]string // of the host file that names it
}

// wanted returns the references of a command line, or those of the hosts it
// names, or of all hosts, and these. Local files are nobody's to fetch.
func (a *app) wanted(c *cli.Context) ([]wanted, []ready, error) {
	if c.Args().Present() {
		if c.IsSet("host") || c.Bool("all") || c.IsSet("selector") {
			return nil, nil, usageError{errors.New("name references or hosts, not both")}
		}
		var all []wanted
		for _, text := range c.Args().Slice() {
			ref, err := origin.Parse(text, c.String("arch"))
			if err != nil {
				return nil, nil, err
			}
			if ref.Kind == origin.File {
				return nil, nil, usageError{errors.New(text + " names a local file: there is nothing to fetch")}
			}
			all = append(all, wanted{ref, nil})
		}
		return all, nil, nil
	}
	if c.IsSet("arch") {
		return nil, nil, usageError{errors.New("--arch goes with a reference: bake pull --arch arm64 debian:13")}
	}
	names := host.Names(a.config)
	if c.IsSet("host") || c.Bool("all") || c.IsSet("selector") || len(names) == 0 {
		var err error
		if names, err = a.hosts(c); err != nil {
			return nil, nil, err
		}
	}
	hosts, err := a.prepare(names)
	if err != nil {
		return nil, nil, err
	}
	var all []wanted
	for _, h := range hosts {
		same := func(w wanted) bool { return w.ref == h.Ref && maps.Equal(w.mirrors, h.Mirrors) }
		if h.Ref.Kind != origin.File && !slices.ContainsFunc(all, same) {
			all = append(all, wanted{h.Ref, h.Mirrors})
		}
	}
	return all, hosts, nil
}

// tell says which image it is and why it is believed.
func (a *app) tell(ref origin.Ref, found base.Image) {
	text := cmp.Or(found.Serial, found.Algorithm+" "+found.Digest[:12]+"...") + ", " + found.Trust
	if found.Signer != "" {
		text += ", by " + found.Signer
	}
	if found.Cached {
		text += ", from the cache"
	}
	a.say("%s: %s", ref, text)
}
