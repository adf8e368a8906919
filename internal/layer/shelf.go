package layer

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"bake/internal/diag"
)

// A Shelf holds the layers that a host file can name: the built-in ones and,
// optionally, the user's own beside the host file.
type Shelf struct {
	Builtin     fs.FS  // folders of layers; never nil
	User        fs.FS  // the same, nil when the user has none
	UserOrigin  string // how messages call the user's folder, e.g. "layers"
	ShowBuiltin string // how messages call the built-in folder
}

// Names returns the names of all layers on the shelf, sorted.
func (s Shelf) Names() []string {
	var names []string
	for _, fsys := range []fs.FS{s.Builtin, s.User} {
		if fsys == nil {
			continue
		}
		found, err := fs.Glob(fsys, "*/layer.yaml")
		if err != nil {
			continue // the pattern is constant and well formed
		}
		for _, path := range found {
			names = append(names, path[:len(path)-len("/layer.yaml")])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Open loads a layer. A user's layer takes the place of a built-in one only
// when it says so with `replaces`; an exact copy of the built-in layer is no
// conflict. The error is a diag.List, or
// fs.ErrNotExist when no folder of that name is on the shelf.
func (s Shelf) Open(name string) (*Layer, error) {
	if !plain.MatchString(name) {
		return nil, fs.ErrNotExist
	}
	var user *Layer
	if s.User != nil {
		layer, err := load(s.User, name, s.UserOrigin, false)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		user = layer
	}
	_, err := fs.Stat(s.Builtin, name+"/layer.yaml")
	exists := err == nil
	switch {
	case user == nil:
		return load(s.Builtin, name, s.ShowBuiltin, true)
	case exists && user.node.Get("replaces") == nil && sameTree(s.User, s.Builtin, name):
		return load(s.Builtin, name, s.ShowBuiltin, true)
	case exists && user.node.Get("replaces") == nil:
		return nil, diag.List{user.node.Get("layer").Problem("layer",
			"give it another name, or add `replaces: "+name+"` if it is meant to take the built-in layer's place",
			"a built-in layer has the name %q too", name)}
	case !exists && user.node.Get("replaces") != nil:
		return nil, diag.List{user.node.Get("replaces").Problem("replaces", "remove the line",
			"there is no built-in layer %q to replace", name)}
	}
	return user, nil
}

// sameTree reports whether a folder has the same layer.yaml and files/ in two
// file systems.
func sameTree(a, b fs.FS, name string) bool {
	return maps.EqualFunc(contents(a, name), contents(b, name), bytes.Equal)
}

// contents reads what belongs to a layer; what cannot be read is left out,
// which makes the trees differ.
func contents(fsys fs.FS, name string) map[string][]byte {
	found := map[string][]byte{}
	for _, root := range []string{name + "/layer.yaml", name + "/files"} {
		_ = fs.WalkDir(fsys, root, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				if content, err := fs.ReadFile(fsys, path); err == nil {
					found[path] = content
				}
			}
			return nil
		})
	}
	return found
}
