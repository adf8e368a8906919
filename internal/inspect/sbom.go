package inspect

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// SBOM returns the installed packages as CycloneDX 1.6 JSON. The same findings
// give the same bytes: it has no serial number and no date.
func (f Findings) SBOM() ([]byte, error) {
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
