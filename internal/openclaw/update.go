package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
)

// LockName is the file beside bake.lock that has the pair instead of the built-in one.
const LockName = "openclaw-lock.json"

// Of returns the pair of a configuration directory: its own, or the built-in one.
func Of(config string) (Pair, error) {
	path := filepath.Join(config, LockName)
	lock, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Builtin()
	}
	if err != nil {
		return Pair{}, err
	}
	return Read(path, lock)
}

// Update asks the registry for the newest OpenClaw and the newest Node and returns them
// with the lock that Read accepts, for LockName. A Node that this OpenClaw refuses is an
// error with Integrity: they are not a pair.
func (d Depot) Update(ctx context.Context) (p Pair, lock []byte, err error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return Pair{}, nil, err
	}
	scratch, err := os.MkdirTemp(d.Dir, ".new-*")
	if err != nil {
		return Pair{}, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	manifest, err := json.Marshal(map[string]any{"name": "bake-openclaw", "version": "1.0.0", "private": true,
		"dependencies":         map[string]string{"openclaw": "latest"},
		"optionalDependencies": map[string]string{nodePackage["amd64"]: "latest", nodePackage["arm64"]: "latest"}})
	if err != nil {
		return Pair{}, nil, err
	}
	if err := os.WriteFile(filepath.Join(scratch, "package.json"), manifest, 0o600); err != nil {
		return Pair{}, nil, err
	}
	if d.Stage != nil {
		d.Stage("asking for the newest OpenClaw and Node")
	}
	// --force: one of the two Nodes is for another processor than this machine's.
	if _, err := d.npm(ctx, scratch, "install", "--package-lock-only", "--force"); err != nil {
		return Pair{}, nil, err
	}
	raw, err := os.ReadFile(filepath.Join(scratch, "package-lock.json"))
	if err != nil {
		return Pair{}, nil, err
	}
	if lock, err = plain(raw); err != nil {
		return Pair{}, nil, err
	}
	p, err = Read("the registry's answer", lock)
	return p, lock, err
}

// plain takes out of a lock what is no business of an installation: where the registry
// was, and who wants money. The versions stand where "latest" stood.
func plain(lock []byte) ([]byte, error) {
	var tree map[string]any
	decoder := json.NewDecoder(bytes.NewReader(lock))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, err
	}
	packages, _ := tree["packages"].(map[string]any)
	for _, entry := range packages {
		if fields, ok := entry.(map[string]any); ok {
			delete(fields, "resolved")
			delete(fields, "funding")
		}
	}
	if root, ok := packages[""].(map[string]any); ok {
		for _, kind := range []string{"dependencies", "optionalDependencies"} {
			wanted, _ := root[kind].(map[string]any)
			for name := range wanted {
				if found, ok := packages["node_modules/"+name].(map[string]any); ok {
					wanted[name] = found["version"]
				}
			}
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(tree)
	return out.Bytes(), err
}
