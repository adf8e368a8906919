package inspect

import (
	"fmt"
	"slices"
	"strings"
)

// A Source is an enabled apt source: a line of a .list file or a stanza of a
// .sources file, in the same words.
type Source struct {
	File          string   `json:"file"`
	Types         []string `json:"types"` // deb, deb-src
	URIs          []string `json:"uris"`
	Suites        []string `json:"suites"`
	Components    []string `json:"components"`
	Architectures []string `json:"architectures"` // none: the machine's own
	SignedBy      []string `json:"signed_by"`     // paths and fingerprints, or one armored key; none: trusted.gpg.d
	Trusted       bool     `json:"trusted"`       // signatures are not checked
}

// A Keyring is a file that apt takes keys from, or can be told to.
type Keyring struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // of its bytes, in hexadecimal
}

// sourceLines parses the one-line format of sources.list(5). What apt could not
// read either comes back as a note.
func sourceLines(file, text string) (sources []Source, notes []string) {
	number := 0
	for text := range strings.Lines(text) {
		number++
		text, _, _ = strings.Cut(text, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(text, "\t", " ")), " ")
		if kind == "" {
			continue
		}
		s := Source{File: file, Types: []string{kind}, Architectures: []string{}, SignedBy: []string{}}
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			options, after, _ := strings.Cut(rest[1:], "]")
			s.options(options)
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) < 2 || kind != "deb" && kind != "deb-src" {
			notes = append(notes, fmt.Sprintf("%s: line %d is no apt source", file, number))
			continue
		}
		s.URIs, s.Suites, s.Components = fields[:1], fields[1:2], fields[2:]
		sources = append(sources, s)
	}
	return sources, notes
}

func (s *Source) options(text string) {
	for _, option := range strings.Fields(text) {
		name, value, _ := strings.Cut(option, "=")
		switch strings.ToLower(name) {
		case "arch":
			s.Architectures = strings.Split(value, ",")
		case "signed-by":
			s.SignedBy = strings.Split(value, ",")
		case "trusted":
			s.Trusted = yes(value)
		}
	}
}

// sourceStanzas parses the deb822 format of sources.list(5).
func sourceStanzas(file, text string) (sources []Source, notes []string) {
	number := 0
	stanzas(text, func(fields map[string]string) {
		number++
		if value := fields["enabled"]; value != "" && !yes(value) {
			return
		}
		s := Source{
			File: file, Types: strings.Fields(fields["types"]), URIs: strings.Fields(fields["uris"]),
			Suites: strings.Fields(fields["suites"]), Components: strings.Fields(fields["components"]),
			Architectures: strings.Fields(fields["architectures"]), Trusted: yes(fields["trusted"]),
		}
		s.SignedBy = signedBy(fields["signed-by"])
		if len(s.Types) == 0 || len(s.URIs) == 0 || len(s.Suites) == 0 {
			notes = append(notes, fmt.Sprintf("%s: stanza %d is no apt source", file, number))
			return
		}
		sources = append(sources, s)
	})
	return sources, notes
}

// signedBy tells an armored key, in which a line with a dot is an empty one,
// from a list of paths or fingerprints.
func signedBy(value string) []string {
	if !strings.Contains(value, "-----BEGIN PGP") {
		return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\n' })
	}
	lines := strings.Split(strings.TrimSpace(value), "\n")
	for i, text := range lines {
		if lines[i] = strings.TrimSpace(text); lines[i] == "." {
			lines[i] = ""
		}
	}
	return []string{strings.Join(lines, "\n")}
}

// yes is what apt takes for true.
func yes(value string) bool {
	return slices.Contains([]string{"yes", "true", "with", "on", "enable", "1"}, strings.ToLower(value))
}

// aptReads tells whether apt reads a file of sources.list.d or trusted.gpg.d:
// it ignores names with other characters, and other endings.
func aptReads(name string, endings ...string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	for _, r := range name {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune("_-.:", r) {
			return false
		}
	}
	return slices.ContainsFunc(endings, func(ending string) bool { return strings.HasSuffix(name, ending) })
}
