package report

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// packageView is a package of the machine.
type packageView struct {
	Name, Version string
	Brought       bool // it came with the generation
}

// mostPackages is what a page has room for. A machine has some hundred; an image that somebody
// else has made could have any number.
const mostPackages = 5000

// packagesOf are those that are installed, or where nobody has listed them, those that came with
// the generation; and how many these are.
func packagesOf(s Subject) (all []packageView, brought int) {
	mine := map[string]bool{}
	if s.Manifest.Payload != nil {
		for _, text := range s.Manifest.Payload.Packages {
			mine[text] = true
			name, version, _ := strings.Cut(text, " ")
			all = append(all, packageView{name, version, true})
		}
	}
	brought = len(all)
	var bom struct {
		Components []struct{ Name, Version, PURL string }
	}
	if json.Unmarshal(s.SBOM, &bom) == nil && len(bom.Components) > 0 {
		all = nil
		for _, c := range bom.Components[:min(len(bom.Components), mostPackages)] {
			all = append(all, packageView{c.Name, c.Version, mine[c.Name+" "+c.Version] || strings.HasPrefix(c.PURL, "pkg:npm/")})
		}
	}
	slices.SortStableFunc(all, func(a, b packageView) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	return all, brought
}
