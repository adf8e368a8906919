package openclaw

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// Update asks the registry for the newest OpenClaw and the newest Node that it runs on,
// and returns them with the lock that Read accepts, for LockName.
func (d Depot) Update(ctx context.Context) (p Pair, lock []byte, err error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return Pair{}, nil, err
	}
	scratch, err := os.MkdirTemp(d.Dir, ".new-*")
	if err != nil {
		return Pair{}, nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if d.Stage != nil {
		d.Stage("asking for the newest OpenClaw and Node")
	}
	raw, err := d.ask(ctx, scratch, "latest")
	if err != nil {
		return Pair{}, nil, err
	}
	var l locked
	if err := json.Unmarshal(raw, &l); err != nil {
		return Pair{}, nil, &IntegrityError{fmt.Sprintf("the registry's answer: %v", err)}
	}
	engines := l.Packages["node_modules/openclaw"].Engines["node"]
	if fits(l.Packages["node_modules/"+nodePackage["amd64"]].Version, engines) != nil {
		if raw, err = d.ask(ctx, scratch, engines); err != nil {
			return Pair{}, nil, err
		}
	}
	if lock, err = plain(raw); err != nil {
		return Pair{}, nil, err
	}
	p, err = Read("the registry's answer", lock)
	return p, lock, err
}

// ask returns npm's lock of the newest OpenClaw and the newest Node in a range.
func (d Depot) ask(ctx context.Context, scratch, node string) ([]byte, error) {
	manifest, err := json.Marshal(map[string]any{"name": "bake-openclaw", "version": "1.0.0", "private": true,
		"dependencies":         map[string]string{"openclaw": "latest"},
		"optionalDependencies": map[string]string{nodePackage["amd64"]: node, nodePackage["arm64"]: node}})
	if err != nil {
		return nil, err
	}
	lock := filepath.Join(scratch, "package-lock.json")
	if err := os.RemoveAll(lock); err != nil { // npm would keep to it
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(scratch, "package.json"), manifest, 0o600); err != nil {
		return nil, err
	}
	// --force: one of the two Nodes is for another processor than this machine's.
	if _, err := d.npm(ctx, scratch, "install", "--package-lock-only", "--force"); err != nil {
		return nil, err
	}
	return os.ReadFile(lock)
}

// plain takes out of a lock what is no business of an installation: where the registry
// was, and who wants money. The versions stand where "latest" stood.
func plain(lock []byte) ([]byte, error) {
	tree, packages, err := without(lock, "resolved", "funding")
	if err != nil {
		return nil, err
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
	err = encoder.Encode(tree)
	return out.Bytes(), err
}
