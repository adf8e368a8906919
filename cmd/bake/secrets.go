package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/artifact"
	"bake/internal/diag"
	"bake/internal/secret"
	"bake/internal/seed"
)

// secretsName is the volume of secrets in a host's directory.
const secretsName = "secrets.iso"

// resolve finds the secrets of hosts of which something is about to be written,
// before anything is.
func (a *app) resolve(ctx context.Context, all []ready) error {
	var problems diag.List
	for i, h := range all {
		finder := secret.Finder{Dir: filepath.Dir(h.File), Getenv: a.Getenv, Tools: a.Tools}
		values, err := finder.Resolve(ctx, h.Secrets)
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
		case err != nil:
			return err
		}
		all[i].secrets = values
	}
	return problems.Err()
}

// writeSecrets brings a host's volume of secrets in line with its host file and
// returns its path, "" when there are none.
func (a *app) writeSecrets(path string, h ready) (string, error) {
	if err := seed.WriteSecrets(path, h.secrets); err != nil || len(h.secrets) == 0 {
		return "", err
	}
	return path, nil
}

// besideSeed is where the secrets of a seed are that was given a path of its own:
// others may lie there.
func besideSeed(path string) string {
	for _, ending := range []string{".iso", ".img"} {
		path = strings.TrimSuffix(path, ending)
	}
	return filepath.Clean(path) + "." + secretsName
}

// volumeOf returns the volume of secrets that a generation needs, "" for none.
func (a *app) volumeOf(g artifact.Generation) (string, error) {
	names, host := g.Manifest.Secrets, g.Manifest.Host
	if len(names) == 0 {
		return "", nil
	}
	path := filepath.Join(a.out, host, secretsName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s is gone, with the secrets of host %s (%s): run bake image --host %s again (%w)",
			path, host, strings.Join(names, ", "), host, fs.ErrNotExist)
	case err == nil && !info.Mode().IsRegular():
		err = lackError{fmt.Errorf("%s is not a regular file", path)}
	}
	return path, err
}

// printProduct prints where a product is and, for programs, the secrets beside
// it.
func (a *app) printProduct(host, path, secrets string) error {
	if secrets == "" {
		return a.printPath(host, path)
	}
	a.say("%s: secrets in %s", host, secrets)
	if a.json {
		a.wrote = true
		return a.printJSON(map[string]string{"host": host, "path": path, "secrets": secrets})
	}
	return a.printPath(host, path)
}

// printPath prints where a product is.
func (a *app) printPath(name, path string) error {
	a.wrote = true
	if a.json {
		return a.printJSON(map[string]string{"host": name, "path": path})
	}
	_, err := fmt.Fprintln(a.Stdout, path)
	return err
}
