package origin

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"bake/internal/diag"
	"bake/internal/lazy"
)

// A distro is how one distribution publishes its images.
type distro struct {
	name      string
	upstream  string // what a mirror is set for: ubuntu has two flavours on one server
	base      string
	releases  []release // oldest first
	sums      string    // name of the list
	algorithm string    // of the list
	signed    bool      // the list has a signature beside it

	serial     lazy.Regexp
	serialForm string
	example    string // of a serial

	dir  func(codename, serial string) string        // below the base, with / at both ends
	file func(version, arch, serial string) string   // the image in that directory
	note func(version, arch string) (pattern string) // names in the list that state the serial; may be nil
}

type release struct{ version, codename string }

var (
	ubuntuReleases = []release{{"22.04", "jammy"}, {"24.04", "noble"}, {"26.04", "resolute"}}
	debianReleases = []release{{"12", "bookworm"}, {"13", "trixie"}}

	distros = []*distro{
		ubuntu("ubuntu", "", "server"),
		ubuntu("ubuntu-minimal", "/minimal", "minimal"),
		{
			name: "debian", upstream: "debian", base: "https://cloud.debian.org", releases: debianReleases,
			sums: "SHA512SUMS", algorithm: "sha512",
			serial: lazy.Regexp(`^(\d{8})-\d{1,8}$`), serialForm: "a day and a number", example: "20260101-1234",
			dir: func(codename, serial string) string {
				if serial == "" {
					serial = "latest"
				}
				return "/images/cloud/" + codename + "/" + serial + "/"
			},
			file: func(version, arch, serial string) string {
				if serial != "" { // only in dated directories
					serial = "-" + serial
				}
				return "debian-" + version + "-genericcloud-" + arch + serial + ".qcow2"
			},
		},
	}
)

func ubuntu(name, root, flavour string) *distro {
	stem := func(version, arch string) string {
		return fmt.Sprintf("ubuntu-%s-%s-cloudimg-%s", version, flavour, arch)
	}
	return &distro{
		name: name, upstream: "ubuntu", base: "https://cloud-images.ubuntu.com", releases: ubuntuReleases,
		sums: "SHA256SUMS", algorithm: "sha256", signed: true,
		serial: lazy.Regexp(`^(\d{8})(\.\d{1,3})?$`), serialForm: "a day, for a second build of the day with .1", example: "20260722",
		dir: func(codename, serial string) string {
			if serial != "" {
				serial = "-" + serial
			}
			return root + "/releases/" + codename + "/release" + serial + "/"
		},
		file: func(version, arch, _ string) string { return stem(version, arch) + ".img" },
		note: func(version, arch string) string {
			return `^` + regexp.QuoteMeta(stem(version, arch)) +
				`\.(?:daily|release)\.\d{8}(?:\.\d{1,3})?\.(\d{8}(?:\.\d{1,3})?)\.image_changelog\.json$`
		},
	}
}

func findDistro(name string) *distro {
	for _, d := range distros {
		if d.name == name {
			return d
		}
	}
	return nil
}

func distroNames() []string {
	var names []string
	for _, d := range distros {
		names = append(names, d.name)
	}
	return names
}

// known lists the releases for people.
func (d *distro) known() string {
	var all []string
	for _, r := range d.releases {
		all = append(all, r.version+" ("+r.codename+")")
	}
	return strings.Join(all, ", ")
}

// words lists every spelling of a release.
func (d *distro) words() []string {
	var all []string
	for _, r := range d.releases {
		all = append(all, r.version, r.codename)
	}
	return all
}

func (d *distro) isSerial(text string) bool {
	match := d.serial.FindStringSubmatch(text)
	return match != nil && isDay(match[1])
}

// stated returns the serial that the names in a list agree on, "" when they say
// nothing or contradict each other.
func (d *distro) stated(names map[string]string, version, arch string) string {
	if d.note == nil {
		return ""
	}
	pattern, serial := regexp.MustCompile(d.note(version, arch)), ""
	for name := range names {
		match := pattern.FindStringSubmatch(name)
		switch {
		case match == nil:
		case !d.isSerial(match[1]), serial != "" && serial != match[1]:
			return ""
		default:
			serial = match[1]
		}
	}
	return serial
}

// others returns the release that a list is of, when it is of another one than
// version: the names of both distributions begin with name and version.
func (d *distro) others(names map[string]string, version string) string {
	other := ""
	for name := range names {
		word, rest, _ := strings.Cut(name, "-")
		if v, _, ok := strings.Cut(rest, "-"); ok && word == d.upstream {
			if v == version {
				return ""
			}
			if other == "" || v < other { // the same answer every time
				other = v
			}
		}
	}
	return other
}

// at returns the URL under which the distribution is to be found, without a
// slash at the end. A mirror that is not acceptable is a diag.List.
func (d *distro) at(mirrors map[string]string) (string, error) {
	text := mirrors[d.upstream]
	if text == "" {
		return d.base, nil
	}
	refuse := func(message, hint string) (string, error) {
		return "", diag.List{{Pos: diag.Position{File: "mirror of " + d.upstream}, Message: message, Hint: hint}}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return refuse("this is not the URL of a mirror", "write it as "+d.base)
	case u.User != nil:
		return refuse("the URL has credentials in it, which would end up in bake.lock", "leave user and password out")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return refuse("the URL has a ? or # in it", "write it as "+d.base)
	case u.Scheme == "http" && !d.signed && !isLoopback(u):
		return refuse(fmt.Sprintf("%s does not sign its lists, so plain http is no trust at all", d.upstream), "write https://")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// isLoopback reports whether a URL stays on this machine.
func isLoopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
