package input

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/origin"
)

// A Change is one thing in which the inputs of two generations differ, and which can be
// taken over by itself.
type Change struct {
	Name string `json:"name"` // what: "base", "package ufw", "layer my-layer", "host layers.ufw.logging"
	Was  string `json:"was,omitempty"`
	Is   string `json:"is,omitempty"`
}

// String is the change in a line.
func (c Change) String() string {
	return fmt.Sprintf("%s: %s -> %s", c.Name, cmp.Or(c.Was, "absent"), cmp.Or(c.Is, "absent"))
}

const (
	baseChange    = "base"
	diskChange    = "disk"
	packagePrefix = "package "
	layerPrefix   = "layer "
	filePrefix    = "file "
	hostPrefix    = "host "
)

// Changes are what other differs in, in the order of what a machine is made of: image,
// packages, layers, host file. The error is that of a host file that cannot be read.
func (in Inputs) Changes(other Inputs) ([]Change, error) {
	var all []Change
	add := func(name, was, is string) {
		if was != is {
			all = append(all, Change{name, was, is})
		}
	}
	if in.Base != other.Base {
		all = append(all, Change{baseChange, in.baseName(), other.baseName()})
	}
	add(diskChange, in.Disk, other.Disk)
	was, is := debs(in.Debs), debs(other.Debs)
	for _, name := range union(was, is) {
		if was[name] != is[name] {
			all = append(all, Change{packagePrefix + name, was[name].Version, is[name].Version})
		}
	}
	mine, theirs := in.units(), other.units()
	for _, name := range union(mine, theirs) {
		add(name, mine[name], theirs[name])
	}
	a, err := in.hostFile()
	if err != nil {
		return nil, err
	}
	b, err := other.hostFile()
	if err != nil {
		return nil, err
	}
	leaves, others := flatten(a), flatten(b)
	for _, key := range unionOf(leaves.order, others.order) {
		add(hostPrefix+key, leaves.shown(key), others.shown(key))
	}
	if !slices.Equal(common(leaves.layers, others.layers), common(others.layers, leaves.layers)) {
		add(hostPrefix+orderKey, strings.Join(leaves.layers, " "), strings.Join(others.layers, " "))
	}
	return all, nil
}

// baseName names an image for people.
func (in Inputs) baseName() string {
	b := in.Base
	return cmp.Or(b.Serial, b.Reference) + " (sha256 " + b.SHA256[:min(12, len(b.SHA256))] + "...)"
}

func debs(list []origin.Deb) map[string]origin.Deb {
	all := map[string]origin.Deb{}
	for _, d := range list {
		all[d.Name] = d
	}
	return all
}

// units are the files but for the host file, a layer's together: name and what they say.
func (in Inputs) units() map[string]string {
	all := map[string]string{}
	for _, path := range slices.Sorted(maps.Keys(in.Files)) {
		if name := unitOf(path); name != "" {
			all[name] += fmt.Sprintf("%s %x\n", path, in.Files[path])
		}
	}
	for name, text := range all {
		all[name] = digest(text)
	}
	return all
}

func unitOf(path string) string {
	first, rest, _ := strings.Cut(path, "/")
	switch first {
	case "hosts":
		if !strings.HasPrefix(rest, "_") {
			return ""
		}
	case "layers":
		layer, _, _ := strings.Cut(rest, "/")
		return layerPrefix + layer
	}
	return filePrefix + path
}

func (in Inputs) hostFile() (*doc.Node, error) {
	name := "hosts/" + in.Host + ".yaml"
	return doc.Parse(name, in.Files[name])
}

// Mix is what in was, with some of the changes to other, by their names.
func (in Inputs) Mix(other Inputs, names []string) (Inputs, error) {
	out := in
	out.Files = maps.Clone(in.Files)
	mixed := debs(in.Debs)
	take := map[string]bool{}
	for _, name := range names {
		take[name] = true
		switch {
		case name == baseChange:
			out.Base, out.Image = other.Base, other.Image
		case name == diskChange:
			out.Disk = other.Disk
		case strings.HasPrefix(name, packagePrefix):
			key := strings.TrimPrefix(name, packagePrefix)
			delete(mixed, key)
			if d, ok := debs(other.Debs)[key]; ok {
				mixed[key] = d
			}
		}
	}
	out.Debs = nil
	for _, name := range slices.Sorted(maps.Keys(mixed)) {
		out.Debs = append(out.Debs, mixed[name])
	}
	for _, files := range []map[string]Text{in.Files, other.Files} {
		for path := range files {
			if unit := unitOf(path); unit == "" || !take[unit] {
				continue
			}
			delete(out.Files, path)
			if content, ok := other.Files[path]; ok {
				out.Files[path] = content
			}
		}
	}
	a, err := in.hostFile()
	if err != nil {
		return out, err
	}
	b, err := other.hostFile()
	if err != nil {
		return out, err
	}
	text, err := doc.Emit(mix(flatten(a), flatten(b), take))
	name := "hosts/" + in.Host + ".yaml"
	if a.Equal(b) {
		text = bytes.Clone(in.Files[name])
	}
	out.Files[name] = text
	return out, err
}

func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func unionOf(a, b []string) []string {
	all := slices.Clone(a)
	for _, key := range b {
		if !slices.Contains(all, key) {
			all = append(all, key)
		}
	}
	return all
}

// common are those of a that b has, too, in a's order.
func common(a, b []string) []string {
	var both []string
	for _, name := range a {
		if slices.Contains(b, name) {
			both = append(both, name)
		}
	}
	return both
}
