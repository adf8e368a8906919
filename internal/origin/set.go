package origin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"bake/internal/lazy"
)

// A Deb is a package file, as it is pinned.
type Deb struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"` // that of the image, or all
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"` // bytes
}

// A Set pins the package files that an image needs to have some packages.
type Set struct {
	Reference string   `json:"reference"` // of the base image; for a local file file: and its name
	Image     string   `json:"image"`     // SHA-256 of the base image
	Arch      string   `json:"arch"`
	Packages  []string `json:"packages"` // asked for, sorted; a|b: the first that there is
	Debs      []Deb    `json:"debs"`     // by name
}

var (
	packageName    = lazy.Regexp(`^[a-z0-9][a-z0-9+.-]*$`)
	packageWanted  = lazy.Regexp(`^[a-z0-9][a-z0-9+.-]*(\|[a-z0-9][a-z0-9+.-]*)*$`)
	packageVersion = lazy.Regexp(`^[0-9][A-Za-z0-9.+~:-]*$`)
)

// sound says why an entry cannot be what was written.
func (s Set) sound() error {
	switch {
	case s.Reference == "" || strings.ContainsFunc(s.Reference, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("the reference %s will not do", quote(s.Reference))
	case !isDigest("sha256", s.Image):
		return fmt.Errorf("the image %s is no SHA-256", quote(s.Image))
	case !slices.Contains(architectures, s.Arch):
		return fmt.Errorf("the architecture %s is unknown", quote(s.Arch))
	case len(s.Packages) == 0 || !slices.IsSorted(s.Packages) || len(slices.Compact(slices.Clone(s.Packages))) != len(s.Packages):
		return fmt.Errorf("the packages of a set for %s are not sorted, once each", s.Reference)
	}
	for _, name := range s.Packages {
		if !packageWanted.MatchString(name) {
			return fmt.Errorf("%s is no name of a package", quote(name))
		}
	}
	for n, d := range s.Debs {
		switch {
		case !packageName.MatchString(d.Name):
			return fmt.Errorf("%s is no name of a package", quote(d.Name))
		case !packageVersion.MatchString(d.Version):
			return fmt.Errorf("the version %s of %s will not do", quote(d.Version), d.Name)
		case d.Arch != s.Arch && d.Arch != "all":
			return fmt.Errorf("the architecture %s of %s is not that of the set", quote(d.Arch), d.Name)
		case !isDigest("sha256", d.SHA256):
			return fmt.Errorf("the digest %s of %s is no SHA-256", quote(d.SHA256), d.Name)
		case d.Size <= 0:
			return fmt.Errorf("the size %d of %s will not do", d.Size, d.Name)
		case n > 0 && s.Debs[n-1].Name >= d.Name:
			return fmt.Errorf("the package %s is out of order or there a second time", d.Name)
		}
	}
	return nil
}

// same tells whether two sets are for the same purpose, and one takes the other's
// place. There may be many files of one name.
func (s Set) same(o Set) bool {
	return s.Reference == o.Reference && s.Arch == o.Arch && slices.Equal(s.Packages, o.Packages) && (s.Image == o.Image || !s.IsFile())
}

// IsFile says whether the base image is a local file, which is not pinned itself.
func (s Set) IsFile() bool { return strings.HasPrefix(s.Reference, "file:") }

func compareSets(a, b Set) int {
	return cmp.Or(strings.Compare(a.Reference, b.Reference), strings.Compare(a.Arch, b.Arch), slices.Compare(a.Packages, b.Packages), strings.Compare(a.Image, b.Image))
}

// Debs returns the files that an image needs for some packages, if that is
// pinned for this very image.
func (l Lock) Debs(reference, image, arch string, packages []string) ([]Deb, bool) {
	for _, s := range l.sets {
		if s.same(Set{Reference: reference, Image: image, Arch: arch, Packages: packages}) && s.Image == image {
			return s.Debs, true
		}
	}
	return nil, false
}

// Before returns the files that are pinned for the same purpose, be it for another build
// of the image: those that a set will take the place of.
func (l Lock) Before(set Set) []Deb {
	for _, s := range l.sets {
		if s.same(set) {
			return s.Debs
		}
	}
	return nil
}

// Kept returns the versions that sets for an image have, one of each package.
func (l Lock) Kept(reference, image, arch string) []Deb {
	found := map[string]Deb{}
	for _, s := range l.sets {
		if s.Reference == reference && s.Arch == arch && s.Image == image {
			for _, d := range s.Debs {
				if _, ok := found[d.Name]; !ok {
					found[d.Name] = d
				}
			}
		}
	}
	var all []Deb
	for _, d := range found {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b Deb) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Sets returns all sets, in the order of the file.
func (l Lock) Sets() []Set { return slices.Clone(l.sets) }

// Digests are the SHA-256 of all package files that are pinned.
func (l Lock) Digests() map[string]bool {
	all := map[string]bool{}
	for _, s := range l.sets {
		for _, d := range s.Debs {
			all[d.SHA256] = true
		}
	}
	return all
}

// SetDebs pins a set. Those for an image that the reference no longer means go.
func (l *Lock) SetDebs(set Set) error {
	if err := set.sound(); err != nil {
		return fmt.Errorf("pinning packages: %w", err)
	}
	var kept []Set
	for _, s := range l.sets {
		stale := s.Reference == set.Reference && s.Arch == set.Arch && s.Image != set.Image && !s.IsFile()
		if !s.same(set) && !stale {
			kept = append(kept, s)
		}
	}
	kept = append(kept, set)
	slices.SortFunc(kept, compareSets)
	l.sets = kept
	return nil
}

// setChanges describes what is pinned differently in the sets of l.
func (l Lock) setChanges(before Lock) []string {
	var lines []string
	for _, is := range l.sets {
		prefix := fmt.Sprintf("%s %s, %s: ", is.Reference, is.Arch, strings.Join(is.Packages, " "))
		at := slices.IndexFunc(before.sets, is.same)
		if at < 0 {
			lines = append(lines, prefix+fmt.Sprintf("new, %d packages", len(is.Debs)))
			continue
		}
		was := map[string]Deb{}
		for _, d := range before.sets[at].Debs {
			was[d.Name] = d
		}
		for _, d := range is.Debs {
			old, ok := was[d.Name]
			delete(was, d.Name)
			switch {
			case !ok:
				lines = append(lines, prefix+d.Name+" new, "+d.Version)
			case old.Version != d.Version:
				lines = append(lines, prefix+d.Name+" "+old.Version+" -> "+d.Version)
			case old != d:
				lines = append(lines, prefix+d.Name+" "+d.Version+", sha256 "+old.SHA256[:12]+"... -> "+d.SHA256[:12]+"...")
			}
		}
		for _, d := range before.sets[at].Debs {
			if _, left := was[d.Name]; left {
				lines = append(lines, prefix+d.Name+" no longer needed, was "+d.Version)
			}
		}
	}
	return lines
}
