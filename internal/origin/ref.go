package origin

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"bake/internal/diag"
	"bake/internal/lazy"
)

// Kind says what a reference points to.
type Kind string

// The kinds of reference.
const (
	Release Kind = "release" // a distribution's image, by name
	Link    Kind = "link"    // a file on the web, by URL and digest
	File    Kind = "file"    // a file on this machine
)

// A Ref is a reference to a base image for one architecture. Comparable; two
// spellings of one image (ubuntu:noble, ubuntu:24.04) are equal.
type Ref struct {
	Kind Kind
	Arch string // amd64 or arm64

	// Of a Release. Serial is empty for the newest build.
	Distro, Version, Codename, Serial string

	// Of a Link. Algorithm is sha256 or sha512, Digest lower-case hex.
	URL, Algorithm, Digest string

	// Of a File, as written: relative to whatever the reference is written in.
	Path string
}

// String returns the reference in the one spelling that bake.lock uses; Parse
// reads it back.
func (r Ref) String() string {
	switch r.Kind {
	case Release:
		if r.Serial != "" {
			return r.Distro + ":" + r.Version + "@" + r.Serial
		}
		return r.Distro + ":" + r.Version
	case Link:
		return r.URL + "#" + r.Algorithm + "=" + r.Digest
	}
	return r.Path
}

var (
	architectures = []string{"amd64", "arm64"}
	hexLength     = map[string]int{"sha256": 64, "sha512": 128}

	// fileName is what a list may call a file and a URL may end in: no path, no
	// hidden file, nothing that a shell or a terminal takes for something else.
	fileName = lazy.Regexp(`^[A-Za-z0-9_][A-Za-z0-9._+~-]{0,254}$`)
)

// Parse reads a reference as written in a host file; the architecture is amd64
// or arm64.
//
// The error is a diag.List of one problem with Message and Hint. Its position
// is the reference itself, so that it can be printed as it is; who knows the
// line puts that in its place.
func Parse(text, arch string) (Ref, error) {
	ref, problem := parse(text)
	if problem == nil && !slices.Contains(architectures, arch) {
		problem = wrong(diag.DidYouMean(arch, architectures), "unknown architecture %q, want %s", arch, strings.Join(architectures, " or "))
	}
	if problem != nil {
		problem.Pos.File = text
		if text == "" {
			problem.Pos.File = "base"
		}
		return Ref{}, diag.List{*problem}
	}
	ref.Arch = arch
	return ref, nil
}

func wrong(hint, format string, args ...any) *diag.Problem {
	return &diag.Problem{Message: fmt.Sprintf(format, args...), Hint: hint}
}

func parse(text string) (Ref, *diag.Problem) {
	const example = "write ubuntu:24.04, debian:13, https://host/x.img#sha256=HEX or ./x.qcow2"
	switch {
	case text == "":
		return Ref{}, wrong(example, "the reference of a base image is empty")
	case strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }):
		return Ref{}, wrong(example, "a reference has no control characters")
	case strings.HasPrefix(text, "/"), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"):
		return Ref{Kind: File, Path: text}, nil
	case strings.Contains(text, "://"):
		return parseLink(text)
	}
	return parseRelease(text)
}

func parseRelease(text string) (Ref, *diag.Problem) {
	name, rest, hasRelease := strings.Cut(text, ":")
	d := findDistro(name)
	switch {
	case d == nil && !hasRelease:
		return Ref{}, unknownWord(text)
	case d == nil:
		return Ref{}, wrong(diag.DidYouMean(name, distroNames()), "unknown distribution %q, known are %s", name, strings.Join(distroNames(), ", "))
	case rest == "":
		return Ref{}, wrong(fmt.Sprintf("write %s:%s", d.name, d.releases[len(d.releases)-1].version),
			"which release of %s? known are %s", d.name, d.known())
	}
	word, serial, hasSerial := strings.Cut(rest, "@")
	ref := Ref{Kind: Release, Distro: d.name, Serial: serial}
	for _, r := range d.releases {
		if word == r.version || word == r.codename {
			ref.Version, ref.Codename = r.version, r.codename
		}
	}
	if ref.Version == "" {
		return Ref{}, wrong(diag.DidYouMean(word, d.words()), "unknown release %q of %s, known are %s", word, d.name, d.known())
	}
	if hasSerial && !d.isSerial(serial) {
		return Ref{}, wrong(fmt.Sprintf("write %s:%s@%s, or leave the @ out for the newest build", d.name, ref.Version, d.example),
			"%q is no serial of %s: that is %s", serial, d.name, d.serialForm)
	}
	return ref, nil
}

// unknownWord tells a file without ./ and a codename without its distribution
// from a mere typing error.
func unknownWord(text string) *diag.Problem {
	if ext := path.Ext(text); strings.Contains(text, "/") || slices.Contains([]string{".qcow2", ".img", ".raw"}, ext) {
		return wrong("did you mean \"./"+text+"\"?", "unknown reference %q: a local file begins with /, ./ or ../", text)
	}
	for _, d := range distros {
		for _, r := range d.releases {
			if text == r.codename || text == r.version {
				return wrong(fmt.Sprintf("did you mean %q?", d.name+":"+text), "the reference %q lacks the distribution", text)
			}
		}
	}
	return wrong(diag.DidYouMean(text, distroNames()), "unknown distribution %q, known are %s", text, strings.Join(distroNames(), ", "))
}

func parseLink(text string) (Ref, *diag.Problem) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Ref{}, wrong("write https://host/x.img#sha256=HEX", "the URL is not well formed")
	case u.Scheme != "https":
		return Ref{}, wrong("write https://, or download the file and name it as ./x.img", "a base image does not come over %q, only over https", u.Scheme)
	case u.User != nil:
		return Ref{}, wrong("leave user and password out", "the URL has credentials in it, which would end up in bake.lock")
	case u.Hostname() == "":
		return Ref{}, wrong("write https://host/x.img#sha256=HEX", "the URL has no host")
	case !fileName.MatchString(path.Base(u.Path)) || strings.HasSuffix(u.Path, "/"):
		return Ref{}, wrong("write the URL of the image file itself", "the URL does not end in the name of a file")
	}
	algorithm, digest, _ := strings.Cut(u.Fragment, "=")
	digest = strings.ToLower(digest)
	switch {
	case u.Fragment == "":
		return Ref{}, wrong("append #sha256=HEX from the publisher's list of checksums", "a link needs the digest of the file")
	case hexLength[algorithm] == 0:
		return Ref{}, wrong("append #sha256=HEX or #sha512=HEX", "unknown digest %q", u.Fragment)
	case !isDigest(algorithm, digest):
		return Ref{}, wrong("copy it from the publisher's list of checksums", "the %s of a file is %d hex digits, this is %q", algorithm, hexLength[algorithm], digest)
	}
	u.Fragment, u.RawFragment = "", ""
	return Ref{Kind: Link, URL: u.String(), Algorithm: algorithm, Digest: digest}, nil
}

// isDigest reports whether text is a digest in lower-case hex.
func isDigest(algorithm, text string) bool {
	return text != "" && len(text) == hexLength[algorithm] && strings.Trim(text, "0123456789abcdef") == ""
}

// isDay reports whether text is a day such as 20260722.
func isDay(text string) bool {
	_, err := time.Parse("20060102", text)
	return err == nil
}
