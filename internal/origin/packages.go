package origin

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Set is what a list of packages means on a base image: the packages that are to be
// installed, at exact versions.
type Set struct {
	Reference string   `json:"reference"` // of the image, or file: and its name
	Arch      string   `json:"arch"`      // of the machine, as dpkg calls it
	Base      string   `json:"base"`      // SHA-256 of the image
	Want      []string `json:"want"`      // the names that were asked for, sorted
	Debs      []Deb    `json:"debs"`      // sorted by name; none if the image has them all
}

// A Deb is one package file.
type Deb struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Arch    string `json:"arch"` // of the package: the machine's, or "all"
	SHA256  string `json:"sha256"`
	Size    int64  `json:"size"` // bytes
}

// Size returns the bytes of all packages.
func (s Set) Size() (n int64) {
	for _, d := range s.Debs {
		n += d.Size
	}
	return n
}

func (s Set) key() string { return s.Reference + " " + s.Arch + " " + strings.Join(s.Want, " ") }

// What dpkg allows in names and versions.
var (
	packageName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*[a-z0-9+.]$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9.+:~-]+$`)
	architecture   = regexp.MustCompile(`^[a-z0-9]+$`)
)

// IsPackage reports whether dpkg allows a package's name. A dash at the end would be
// an order to apt to remove it.
func IsPackage(name string) bool { return packageName.MatchString(name) }

// Sound says what is wrong with a package.
func (d Deb) Sound() error {
	switch {
	case !IsPackage(d.Name):
		return fmt.Errorf("the package %s has a name that dpkg does not allow", quote(d.Name))
	case !packageVersion.MatchString(d.Version):
		return fmt.Errorf("the version %s of %s is none", quote(d.Version), d.Name)
	case !architecture.MatchString(d.Arch):
		return fmt.Errorf("the architecture %s of %s is none", quote(d.Arch), d.Name)
	case !isDigest("sha256", d.SHA256):
		return fmt.Errorf("the digest %s of %s is no sha256", quote(d.SHA256), d.Name)
	case d.Size <= 0:
		return fmt.Errorf("the size %d of %s is none", d.Size, d.Name)
	}
	return nil
}

func (s Set) sound() error {
	switch {
	case s.Reference == "" || !architecture.MatchString(s.Arch) || len(s.Want) == 0:
		return errors.New("the packages are of no image, for no machine, or none")
	case !isDigest("sha256", s.Base):
		return fmt.Errorf("the digest %s of the base is no sha256", quote(s.Base))
	case !slices.IsSorted(s.Want):
		return errors.New("the names that were asked for are not sorted")
	}
	for _, name := range s.Want {
		if !IsPackage(name) {
			return fmt.Errorf("%s is no package's name", quote(name))
		}
	}
	for _, d := range s.Debs {
		if err := d.Sound(); err != nil {
			return err
		}
	}
	return nil
}

// Packages returns what a list of names, sorted, means on an image.
func (l Lock) Packages(reference, arch string, want []string) (Set, bool) {
	key := Set{Reference: reference, Arch: arch, Want: want}.key()
	at := slices.IndexFunc(l.sets, func(s Set) bool { return s.key() == key })
	if at < 0 {
		return Set{}, false
	}
	return l.sets[at], true
}

// SetPackages says from now on what a list of names means on an image.
func (l *Lock) SetPackages(s Set) error {
	if err := s.sound(); err != nil {
		return fmt.Errorf("pinning packages for %s: %w", s.Reference, err)
	}
	l.add(s)
	return nil
}

// add leaves copies of the lock as they are.
func (l *Lock) add(s Set) {
	l.sets = slices.DeleteFunc(slices.Clone(l.sets), func(old Set) bool { return old.key() == s.key() })
	l.sets = append(l.sets, s)
	slices.SortFunc(l.sets, func(a, b Set) int { return strings.Compare(a.key(), b.key()) })
}

// packageChanges describes what Changes does, for packages:
//
//	debian:13 amd64: fail2ban 1.1.0-8 -> 1.1.0-9
func (l Lock) packageChanges(before Lock) []string {
	var lines []string
	for _, s := range l.sets {
		old, found := before.Packages(s.Reference, s.Arch, s.Want)
		prefix := s.Reference + " " + s.Arch + ": "
		if !found {
			lines = append(lines, fmt.Sprintf("%snew, %d packages for %s", prefix, len(s.Debs), strings.Join(s.Want, " ")))
			continue
		}
		was := map[string]string{}
		for _, d := range old.Debs {
			was[d.Name] = d.Version
		}
		for _, d := range s.Debs {
			if version, had := was[d.Name]; !had {
				lines = append(lines, prefix+d.Name+" "+d.Version+", new")
			} else if version != d.Version {
				lines = append(lines, prefix+d.Name+" "+version+" -> "+d.Version)
			}
			delete(was, d.Name)
		}
		for _, d := range old.Debs {
			if _, gone := was[d.Name]; gone {
				lines = append(lines, prefix+d.Name+" "+d.Version+", no longer needed")
			}
		}
	}
	return lines
}
