package inspect

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// A Module is an npm package that a machine has besides.
type Module struct {
	Name, Version string
	SHA512        string // of its file, in hex; "" where nobody says it
}

// SBOM returns the installed packages, and modules after them, as CycloneDX 1.6 JSON. The
// same findings give the same bytes: it has no serial number and no date.
func (f Findings) SBOM(modules ...Module) ([]byte, error) {
	bom := cdx.NewBOM()
	system := cdx.Component{
		BOMRef: "image", Type: cdx.ComponentTypeOS, Name: orWord(f.Distribution, "unknown"),
		Version: orWord(f.Release, f.Codename), Description: f.PrettyName,
	}
	bom.Metadata = &cdx.Metadata{
		Component: &system,
		Tools:     &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "bake"}}},
	}
	components := []cdx.Component{}
	seen := map[string]bool{}
	for _, p := range f.Packages {
		url := f.packageURL(p)
		if seen[url] { // a reference must be unique
			continue
		}
		seen[url] = true
		components = append(components, cdx.Component{
			BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version, PackageURL: url,
		})
	}
	for _, m := range modules {
		url := m.packageURL()
		if seen[url] {
			continue
		}
		seen[url] = true
		c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.Name, Version: m.Version, PackageURL: url}
		if m.SHA512 != "" {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA512, Value: m.SHA512}}
		}
		components = append(components, c)
	}
	bom.Components = &components
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("writing the SBOM: %w", err)
	}
	return out.Bytes(), nil
}

// packageURL follows the deb type of the purl specification; its qualifiers are
// sorted by name.
func (f Findings) packageURL(p Package) string {
	out := "pkg:deb/" + escape(strings.ToLower(orWord(f.Distribution, "debian"))) + "/" +
		escape(strings.ToLower(p.Name)) + "@" + escape(p.Version)
	separator := "?"
	for _, q := range [][2]string{{"arch", p.Architecture}, {"distro", f.distro()}} {
		if q[1] != "" {
			out += separator + q[0] + "=" + escape(q[1])
			separator = "&"
		}
	}
	return out
}

// packageURL follows the npm type: a scope is a namespace of its own.
func (m Module) packageURL() string {
	var parts []string
	for part := range strings.SplitSeq(m.Name, "/") {
		parts = append(parts, escape(part))
	}
	return "pkg:npm/" + strings.Join(parts, "/") + "@" + escape(m.Version)
}

func (f Findings) distro() string {
	if release := orWord(f.Release, f.Codename); f.Distribution != "" && release != "" {
		return f.Distribution + "-" + release
	}
	return ""
}

// escape encodes as purl wants it: all but letters, digits and ".-_~:".
func escape(s string) string {
	return strings.NewReplacer("+", "%20", "%3A", ":").Replace(url.QueryEscape(s))
}
