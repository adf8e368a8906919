package main

// What bake key does.

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bake/internal/lazy"
	"bake/internal/provenance"
)

var plainName = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

func isPlainName(name string) bool { return plainName.MatchString(name) }

// mustKey is the key where there has to be one.
func (a *app) mustKey() (provenance.Key, error) {
	path := a.keyPath()
	if path == "" {
		return provenance.Key{}, lackError{fmt.Errorf("there is no place for a key: set HOME, or %s", keyVariable)}
	}
	key, err := provenance.ReadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = lackError{fmt.Errorf("there is no key %s: bake key create makes one", path)}
	}
	return key, err
}

func (a *app) createKey(o keyOptions) error {
	path := a.keyPath()
	if path == "" {
		_, err := a.mustKey()
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return lackError{fmt.Errorf("%s is there already: bake key rotate takes a new one", path)}
	}
	if o.dryRun {
		a.say("would make %s", path)
		return nil
	}
	key, _, err := provenance.CreateKey(path)
	if err != nil {
		return err
	}
	a.say("made %s", path)
	return a.printLines([]string{key.Public.ID})
}

func (a *app) exportKey() error {
	key, err := a.mustKey()
	if err != nil {
		return err
	}
	text, err := key.Public.PEM()
	if err == nil {
		_, err = a.Stdout.Write(text)
	}
	return err
}

// keysView is what --json shows.
type keysView struct {
	Path    string       `json:"path,omitempty"` // of the own key
	Own     string       `json:"own,omitempty"`  // its id
	From    string       `json:"trusted_from,omitempty"`
	Trusted []trustedKey `json:"trusted"`
}

type trustedKey struct {
	Name string `json:"name,omitempty"`
	ID   string `json:"id"`
}

func (a *app) showKeys() error {
	key, err := a.readKey()
	if err != nil {
		return err
	}
	ring, from, err := a.ring()
	if err != nil {
		return err
	}
	view := keysView{From: from, Trusted: []trustedKey{}}
	if key != nil {
		view.Own, view.Path = key.Public.ID, a.keyPath()
	}
	for _, p := range ring {
		view.Trusted = append(view.Trusted, trustedKey{p.Name, p.ID})
	}
	if a.json {
		return a.printJSON(view)
	}
	lines := []string{"own      " + cmp.Or(view.Own, "none")}
	for _, t := range view.Trusted {
		lines = append(lines, "trusted  "+t.ID+"  "+cmp.Or(t.Name, "the own one"))
	}
	switch {
	case len(ring) == 0:
		a.say("nobody's signature is asked for: there is no key in %s", filepath.Join(a.config, ringName))
	case key != nil && !ring.Has(key.Public.ID):
		a.say("what is baked here is not trusted here: bake key trust adds the own key to %s", filepath.Join(a.config, ringName))
	}
	return a.printLines(lines)
}

func (a *app) trustKey(o keyOptions) error {
	var public provenance.Public
	if o.file != "" {
		var err error
		if public, err = provenance.ReadPublic(o.file); err != nil {
			return err
		}
	} else {
		key, err := a.mustKey()
		if err != nil {
			return err
		}
		public = key.Public
	}
	return a.addToRing(public, o)
}

// addToRing writes a public key into keys/, unless it is there.
func (a *app) addToRing(public provenance.Public, o keyOptions) error {
	dir := filepath.Join(a.config, ringName)
	ring, err := provenance.ReadRing(dir)
	if err != nil {
		return err
	}
	if ring.Has(public.ID) {
		a.say("%s is in %s already", public.ID, dir)
		return nil
	}
	path := filepath.Join(dir, cmp.Or(o.name, public.Name, public.FileName())+".pub")
	if _, err := os.Lstat(path); err == nil {
		return lackError{fmt.Errorf("%s is there, and another key: --name names a file for this one", path)}
	}
	if o.dryRun {
		a.say("would write %s", path)
		return nil
	}
	text, err := public.PEM()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	a.say("wrote %s: commit it", path)
	return nil
}

// rotateKey takes a new key. The ring has it before it signs anything, and keeps the
// old one, which has signed what is there.
func (a *app) rotateKey(o keyOptions) error {
	old, err := a.mustKey()
	if err != nil {
		return err
	}
	path := a.keyPath()
	if o.dryRun {
		a.say("would exchange %s, and add the new key to %s", path, filepath.Join(a.config, ringName))
		return nil
	}
	fresh, _, err := provenance.CreateKey(path + ".next") // or that of a run that died
	if err != nil {
		return err
	}
	if err := a.addToRing(old.Public, keyOptions{}); err != nil {
		return err
	}
	if err := a.addToRing(fresh.Public, o); err != nil {
		return err
	}
	if err := os.Rename(path+".next", path); err != nil {
		return err
	}
	a.say("%s signs from now on; when nothing is left that %s has signed, remove that key from %s", fresh.Public, old.Public, filepath.Join(a.config, ringName))
	return a.printLines([]string{fresh.Public.ID})
}
