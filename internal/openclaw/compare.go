package openclaw

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// list is what npm writes as one word when it is only one.
type list []string

// UnmarshalJSON reads either form.
func (l *list) UnmarshalJSON(data []byte) error {
	var word string
	if json.Unmarshal(data, &word) == nil {
		*l = list{word}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

// allows says whether a word is on the list, as npm takes it: an empty list has all,
// and !WORD all others.
func (l list) allows(word string) bool {
	if slices.Contains(l, "!"+word) {
		return false
	}
	return len(l) == 0 || slices.Contains(l, word) || slices.Contains(l, "any") ||
		!slices.ContainsFunc(l, func(w string) bool { return !strings.HasPrefix(w, "!") })
}

// fits says whether a package is for Linux with glibc on an architecture.
func (e entry) fits(arch string) bool {
	return e.OS.allows("linux") && e.CPU.allows(npmArch[arch]) && e.Libc.allows("glibc")
}

// anyNode takes out of a lock which Node each package wants: npm would compare it with
// the one that it runs on itself.
func anyNode(lock []byte) ([]byte, error) {
	tree, _, err := without(lock, "engines")
	if err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// without reads a lock and takes fields out of each of its packages, which it returns as
// well: they are part of the tree.
func without(lock []byte, fields ...string) (tree, packages map[string]any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(lock))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, nil, err
	}
	packages, _ = tree["packages"].(map[string]any)
	for _, one := range packages {
		if one, ok := one.(map[string]any); ok {
			for _, field := range fields {
				delete(one, field)
			}
		}
	}
	return tree, packages, nil
}

// compare demands that npm has installed what the lock has for an architecture, and
// removes what it has for others.
func (d Depot) compare(ctx context.Context, scratch, tree string, p Pair, arch string) error {
	for _, path := range slices.Sorted(maps.Keys(p.packages)) {
		e := p.packages[path]
		_, err := os.Stat(filepath.Join(tree, path, "package.json"))
		there, named := err == nil, len(e.OS)+len(e.CPU)+len(e.Libc) > 0
		switch {
		case path == "":
		case !e.fits(arch):
			if err := os.RemoveAll(filepath.Join(tree, path)); err != nil {
				return err
			}
		case !there && (named || !e.Optional): // others may belong to one for another platform
			return d.absent(ctx, scratch, path, e)
		}
	}
	return nil
}

// absent says why npm has left a package out: of an optional one it does not say so.
func (d Depot) absent(ctx context.Context, scratch, path string, e entry) error {
	const modules = "node_modules/"
	name := cmp.Or(e.Name, path[strings.LastIndex(path, modules)+len(modules):]) + "@" + e.Version
	if _, err := d.npm(ctx, scratch, "cache", "add", name); err != nil {
		return err
	}
	out, err := d.npm(ctx, scratch, "view", name, "dist.integrity")
	if err != nil {
		return err
	}
	if has := strings.TrimSpace(string(out)); has != e.Integrity {
		return &IntegrityError{fmt.Sprintf("%s has the integrity %q at the registry, and %s in the lock", name, has, e.Integrity)}
	}
	return fmt.Errorf("npm has left out %s: npm 9 does not install for an architecture that is not its own", name)
}
