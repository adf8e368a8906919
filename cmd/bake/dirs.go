package main

import "path/filepath"

// cacheDir is where bake remembers what it can find out again.
func (a *app) cacheDir() string { return a.userDir("XDG_CACHE_HOME", ".cache", "bake") }

// stateDir is where bake remembers what nobody can tell it again: the newest signed
// lists it has seen.
func (a *app) stateDir() string { return a.userDir("XDG_STATE_HOME", ".local/state", "bake") }

// userDir is a path below one of the user's directories: that which a variable names or,
// without it, the usual one in HOME. It is "" where there is neither; one that is not
// absolute is none.
func (a *app) userDir(variable, usual string, below ...string) string {
	dir := a.Getenv(variable)
	if !filepath.IsAbs(dir) {
		home := a.Getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, usual)
	}
	return filepath.Join(append([]string{dir}, below...)...)
}
