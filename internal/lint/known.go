package lint

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed words/systemd.txt
var systemdText string

//go:embed words/sysctl.txt
var sysctlText string

//go:embed words/zones.txt
var zonesText string

// sections reads lines of the form "name: word word".
func sections(text string) map[string][]string {
	out := map[string][]string{}
	for line := range strings.Lines(text) {
		if name, rest, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(name, "#") {
			out[name] = strings.Fields(rest)
		}
	}
	return out
}

var (
	// directives are those of each section of a unit.
	directives = sync.OnceValue(func() map[string][]string { return sections(systemdText) })
	// settings are the names of kernel settings, * for a network card.
	settings = sync.OnceValue(func() []string {
		var all []string
		for dir, names := range sections(sysctlText) {
			for _, name := range names {
				all = append(all, dir+"."+name)
			}
		}
		slices.Sort(all)
		return all
	})
	zones = sync.OnceValue(func() []string {
		var all []string
		for area, names := range sections(zonesText) {
			for _, name := range names {
				if area != "." {
					name = area + "/" + name
				}
				all = append(all, name)
			}
		}
		slices.Sort(all)
		return all
	})
)
