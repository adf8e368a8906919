package inspect

import (
	"bytes"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func good() Findings {
	return Findings{
		Distribution: "ubuntu", Release: "24.04", Codename: "noble", PrettyName: "Ubuntu 24.04.3 LTS", Architecture: "amd64",
		Kernels: []string{"6.8.0-90-generic"}, CloudInit: CloudInit{Version: "26.1", Datasources: []string{"NoCloud", "None"}},
		Packages: []Package{{"libstdc++6", "1:14.2.0-4~x1+b2", "amd64"}, {"libstdc++6", "1:14.2.0-4~x1+b2", "amd64"}, {"ufw", "0.36.2-6", "all"}},
	}
}

func TestProblems(t *testing.T) {
	want := Requirement{"ubuntu", "noble", "amd64", []string{"ufw"}}
	tests := map[string]struct {
		change   func(*Findings, *Requirement)
		problems []string // a part of each
	}{
		"good":            {func(*Findings, *Requirement) {}, nil},
		"by number":       {func(_ *Findings, r *Requirement) { r.Release = "24.04" }, nil},
		"wants nothing":   {func(_ *Findings, r *Requirement) { *r = Requirement{} }, nil},
		"built-in list":   {func(f *Findings, _ *Requirement) { f.CloudInit.Datasources = nil }, nil},
		"other release":   {func(_ *Findings, r *Requirement) { r.Release = "22.04" }, []string{"is ubuntu 24.04, not ubuntu 22.04"}},
		"other system":    {func(f *Findings, _ *Requirement) { f.Distribution = "debian" }, []string{"is debian 24.04, not ubuntu noble"}},
		"unknown system":  {func(f *Findings, _ *Requirement) { f.Distribution, f.Release = "", "" }, []string{"is no known distribution noble"}},
		"architecture":    {func(f *Findings, _ *Requirement) { f.Architecture = "arm64" }, []string{"for arm64, not for amd64: take the image of the same release for amd64"}},
		"no architecture": {func(f *Findings, _ *Requirement) { f.Architecture = "" }, []string{"for an unknown architecture"}},
		"no kernel":       {func(f *Findings, _ *Requirement) { f.Kernels = nil }, []string{"no kernel"}},
		"no cloud-init":   {func(f *Findings, _ *Requirement) { f.CloudInit = CloudInit{} }, []string{"no cloud-init"}},
		"disabled":        {func(f *Findings, _ *Requirement) { f.CloudInit.Disabled = true }, []string{"cloud-init.disabled"}},
		"no NoCloud":      {func(f *Findings, _ *Requirement) { f.CloudInit.Datasources = []string{"Ec2", "None"} }, []string{"[Ec2, None]"}},
		"minimal":         {func(_ *Findings, r *Requirement) { r.Packages = []string{"sudo", "ufw", "nftables", "sudo"} }, []string{"does not have sudo, nftables and"}},
		"all at once": {func(f *Findings, _ *Requirement) { *f = Findings{} },
			[]string{"no known distribution", "unknown architecture", "no kernel", "no cloud-init", "does not have ufw"}},
	}
	for name, test := range tests {
		f, r := good(), want
		test.change(&f, &r)
		got := f.Problems(r)
		if len(got) != len(test.problems) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, part := range test.problems {
			if !strings.Contains(got[i], part) || !strings.Contains(got[i], ": ") {
				t.Errorf("%s: %q lacks %q or a hint", name, got[i], part)
			}
		}
	}
}

func TestSBOM(t *testing.T) {
	first, err := good().SBOM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := good().SBOM()
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("twice is not the same, %v", err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(first), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Error("it has a serial number or a date")
	}
	var urls []string
	for _, c := range *bom.Components {
		urls = append(urls, c.PackageURL)
	}
	want := []string{
		"pkg:deb/ubuntu/libstdc%2B%2B6@1:14.2.0-4~x1%2Bb2?arch=amd64&distro=ubuntu-24.04",
		"pkg:deb/ubuntu/ufw@0.36.2-6?arch=all&distro=ubuntu-24.04",
	}
	if strings.Join(urls, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(urls, "\n"))
	}
	// npm packages come after them, with the digest of their files.
	modules := []Module{{"openclaw", "2026.9.6", strings.Repeat("ab", 64)}, {"@scope/a+b", "1.0.0-rc.1+x", ""}, {"openclaw", "2026.9.6", ""}}
	with, err := good().SBOM(modules...)
	if err == nil {
		err = cdx.NewBOMDecoder(bytes.NewReader(with), cdx.BOMFileFormatJSON).Decode(&bom)
	}
	if err != nil || len(*bom.Components) != len(want)+2 {
		t.Fatalf("%v, %+v", err, bom.Components)
	}
	claw, scoped := (*bom.Components)[len(want)], (*bom.Components)[len(want)+1]
	if claw.PackageURL != "pkg:npm/openclaw@2026.9.6" || claw.Hashes == nil || (*claw.Hashes)[0] != (cdx.Hash{Algorithm: cdx.HashAlgoSHA512, Value: strings.Repeat("ab", 64)}) {
		t.Errorf("%+v", claw)
	}
	if scoped.PackageURL != "pkg:npm/%40scope/a%2Bb@1.0.0-rc.1%2Bx" || scoped.Name != "@scope/a+b" || scoped.Hashes != nil {
		t.Errorf("%+v", scoped)
	}
	if bom.Metadata.Component.Name != "ubuntu" || bom.Metadata.Component.Version != "24.04" || bom.SpecVersion != cdx.SpecVersion1_6 {
		t.Errorf("metadata %+v", bom.Metadata.Component)
	}
}
