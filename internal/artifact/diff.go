package artifact

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Differences says, one line each, what another generation was made from that this
// one was not:
//
//	base: 20261101 -> 20261127, sha256 ab12cd34ef56... -> 0123456789ab...
//	package ufw: 0.36.2-8 -> 0.36.2-9
//	layer ufw: changed
//
// None are left when the same was made from the same. What only follows from these,
// the seed's bytes or the instance id, is named when nothing else explains it.
func (m Manifest) Differences(other Manifest) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	was, is := m.Base, other.Base
	switch {
	case was.SHA256 != is.SHA256:
		add("base: %s -> %s, sha256 %s -> %s", cmp.Or(was.Serial, was.Reference), cmp.Or(is.Serial, is.Reference), short(was.SHA256), short(is.SHA256))
	case was.Reference != is.Reference || was.Serial != is.Serial:
		add("base: the same image, %s %s -> %s %s", was.Reference, cmp.Or(was.Serial, "-"), is.Reference, cmp.Or(is.Serial, "-"))
	}
	if was.Signer != is.Signer {
		add("base: signer %s -> %s", cmp.Or(was.Signer, "none"), cmp.Or(is.Signer, "none"))
	}
	lines = append(lines, moved("package", versions(m.Payload), versions(other.Payload))...)
	lines = append(lines, moved("tree", trees(m.Payload), trees(other.Payload))...)
	lines = append(lines, m.layerDifferences(other)...)
	lines = append(lines, moved("secret", set(m.Secrets), set(other.Secrets))...)
	if m.Tool != other.Tool {
		add("tool: %s -> %s", m.Tool, other.Tool)
	}
	explained := len(lines) > 0
	for _, name := range slices.Sorted(maps.Keys(union(m.Files, other.Files))) {
		switch a, b := m.Files[name], other.Files[name]; {
		case a == b:
		case a == File{}:
			add("%s: new", name)
		case b == File{}:
			add("%s: gone", name)
		case name == "domain.xml": // has the generation's own name in it
			if !explained {
				add("%s: another, if only by the generation's name", name)
			}
		case !explained:
			add("%s: another", name)
		}
	}
	return lines
}

func short(sum string) string { return sum[:min(len(sum), 12)] + "..." }

// layerDifferences says which layers differ, and that only their order does.
func (m Manifest) layerDifferences(other Manifest) []string {
	digests := func(m Manifest) (all map[string]string, order []string) {
		all = map[string]string{}
		for _, l := range m.Layers {
			all[l.Name] = l.SHA256
			order = append(order, l.Name)
		}
		return all, order
	}
	was, before := digests(m)
	is, after := digests(other)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(union(was, is))) {
		switch {
		case was[name] == "":
			lines = append(lines, "layer "+name+": new")
		case is[name] == "":
			lines = append(lines, "layer "+name+": gone")
		case was[name] != is[name]:
			lines = append(lines, "layer "+name+": changed")
		}
	}
	if lines == nil && !slices.Equal(before, after) {
		lines = append(lines, "layers: another order")
	}
	return lines
}

// versions are those of a payload's packages, by name.
func versions(p *Payload) map[string]string {
	all := map[string]string{}
	if p != nil {
		for _, text := range p.Packages {
			name, version, _ := strings.Cut(text, " ")
			all[name] = version
		}
	}
	return all
}

func trees(p *Payload) map[string]string {
	if p == nil {
		return nil
	}
	return set(p.Trees)
}

func set(names []string) map[string]string {
	all := map[string]string{}
	for _, name := range names {
		all[name] = "there"
	}
	return all
}

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return all
}

// moved says what has another value, is new or gone.
func moved(what string, was, is map[string]string) (lines []string) {
	for _, name := range slices.Sorted(maps.Keys(union(was, is))) {
		a, b := was[name], is[name]
		value := func(text string) string {
			if text == "there" {
				return ""
			}
			return ", " + text
		}
		switch {
		case a == "":
			lines = append(lines, fmt.Sprintf("%s %s: new%s", what, name, value(b)))
		case b == "":
			lines = append(lines, fmt.Sprintf("%s %s: gone%s", what, name, value(a)))
		case a != b:
			lines = append(lines, fmt.Sprintf("%s %s: %s -> %s", what, name, a, b))
		}
	}
	return lines
}
