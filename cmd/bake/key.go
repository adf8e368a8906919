package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bake/internal/artifact"
	"bake/internal/provenance"
)

const (
	keyVariable = "BAKE_KEY" // path of the private key
	keyName     = "signing.key"
	ringName    = "keys" // directory beside hosts/ with the public keys that count
)

// keyPath is where this user's private key is, "" when there is no place for one.
func (a *app) keyPath() string {
	if path := cmp.Or(a.key, a.Getenv(keyVariable)); path != "" {
		return path
	}
	return a.userDir("XDG_DATA_HOME", ".local/share", "bake", keyName)
}

// readKey returns this user's key, nil when there is none.
func (a *app) readKey() (*provenance.Key, error) {
	path := a.keyPath()
	if path == "" || a.isTrial {
		return nil, nil
	}
	key, err := provenance.ReadKey(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && !a.mayEnter(path) {
		return nil, nil
	}
	return &key, err
}

// mayEnter says whether a file's directory can be looked into: what is behind a closed
// one is not this user's.
func (a *app) mayEnter(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// ownKey returns this user's key and makes one on first use. It is nil, and that is
// said, where there is no place for one.
func (a *app) ownKey() (*provenance.Key, error) {
	if a.isTrial {
		return nil, nil
	}
	key, err := a.readKey()
	if key != nil || err != nil {
		return key, err
	}
	path := a.keyPath()
	if path == "" {
		a.say("nothing is signed: there is no place for a key: set HOME, or %s", keyVariable)
		return nil, nil
	}
	made, isNew, err := provenance.CreateKey(path)
	if errors.Is(err, fs.ErrPermission) {
		a.say("nothing is signed: %v", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if isNew {
		a.say("made a key to sign generations with, %s: %s (bake key --help)", made.Public, path)
	}
	return &made, nil
}

// ring returns the keys whose signatures count, and where they are listed: those in
// keys/ or, if there are none, the own one. An empty ring means that nothing is checked.
func (a *app) ring() (ring provenance.Ring, place string, err error) {
	if a.isTrial {
		return nil, "", nil
	}
	place = filepath.Join(a.config, ringName)
	ring, err = provenance.ReadRing(place)
	if err != nil || len(ring) > 0 {
		return ring, place, err
	}
	key, err := a.readKey()
	if key == nil || err != nil {
		return nil, "", err
	}
	return provenance.Ring{key.Public}, a.keyPath(), nil
}

// vouched says why a generation is not signed by anybody whose signature counts, as
// it is: manifest and digests of files, whatever the files are.
func (a *app) vouched(g artifact.Generation) (by provenance.Public, err error) {
	ring, place, err := a.ring()
	if err != nil || len(ring) == 0 {
		return by, err
	}
	_, by, err = checkGeneration(ring, g)
	return by, a.refuse(g, place, err)
}

// proven says why nobody whose signature counts has signed that a generation's claims
// held.
func (a *app) proven(g artifact.Generation) error {
	ring, place, err := a.ring()
	if err != nil || len(ring) == 0 {
		return err
	}
	if _, _, err = checkVerdict(ring, g); err == nil {
		return nil
	}
	return fmt.Errorf("generation %s of host %s is refused as current: %w (trusted are the keys of %s; bake verify --host %s --boot tries them)",
		g.Manifest.Generation, g.Manifest.Host, err, place, g.Manifest.Host)
}

// refuse adds to an error of trust what there is to do.
func (a *app) refuse(g artifact.Generation, place string, err error) error {
	var refused *provenance.UntrustedError
	if !errors.As(err, &refused) {
		return err
	}
	host := g.Manifest.Host
	return fmt.Errorf("generation %s of host %s is refused: %w (trusted are the keys of %s; bake image --host %s makes and signs it anew)",
		g.Manifest.Generation, host, err, place, host)
}

// trustworthy verifies every byte of a generation and who vouches for it.
func (a *app) trustworthy(ctx context.Context, g artifact.Generation) error {
	if _, err := a.vouched(g); err != nil {
		return err
	}
	return g.Verify(ctx)
}
