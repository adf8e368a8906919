package openclaw

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Module is an npm package of a tree.
type Module struct {
	Name, Version string
	Integrity     string // "sha512-" and base64; "" for one that is inside of another's file
}

// Modules are the packages that a tree of the pair has, Node's among them, by name and
// version, each once.
func (p Pair) Modules(t Tree, arch string) []Module {
	const modules = "node_modules/"
	var all []Module
	for path, e := range p.packages {
		if path == "" || !e.fits(arch) {
			continue
		}
		name := cmp.Or(e.Name, path[strings.LastIndex(path, modules)+len(modules):])
		_, err := os.Stat(filepath.Join(t.Dir, path, "package.json"))
		if err == nil || name == nodePackage[arch] { // of which the tree has the program alone
			all = append(all, Module{name, e.Version, e.Integrity})
		}
	}
	slices.SortFunc(all, func(a, b Module) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version), strings.Compare(b.Integrity, a.Integrity))
	})
	return slices.CompactFunc(all, func(a, b Module) bool { return a.Name == b.Name && a.Version == b.Version })
}
