package main

// What is signed of a generation, and how that is read again.

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"bake/internal/artifact"
	"bake/internal/inspect"
	"bake/internal/layer"
	"bake/internal/openclaw"
	"bake/internal/origin"
	"bake/internal/provenance"
	"bake/internal/verify"
)

const (
	sbomName      = "sbom.json"
	sbomType      = "application/vnd.cyclonedx+json"
	verdictReport = "report.intoto.jsonl"

	// Names, not addresses: nobody is asked what they mean, docs/provenance.md says it.
	buildName   = "urn:bake:generation:1"
	builderName = "urn:bake:key:"
)

// notary signs what one recipe has made.
type notary struct {
	*app
	key    *provenance.Key
	recipe recipe
}

// Sign implements artifact.Notary.
func (n notary) Sign(m artifact.Manifest, manifest string) ([]byte, error) {
	if n.key == nil {
		return nil, nil
	}
	statement, err := provenance.Of(n.recipe.build(m, n.key.Public), subjects(m, manifest)...)
	if err != nil {
		return nil, err
	}
	return n.key.Sign(statement)
}

// Check implements artifact.Notary.
func (n notary) Check(g artifact.Generation) error {
	_, err := n.vouched(g)
	return err
}

func sha256Of(sum string) map[string]string { return map[string]string{"sha256": sum} }

// subjects are the files of a generation, its manifest among them.
func subjects(m artifact.Manifest, manifest string) []provenance.Descriptor {
	all := []provenance.Descriptor{{Name: "manifest.json", Digest: sha256Of(manifest)}}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		all = append(all, provenance.Descriptor{Name: name, Digest: sha256Of(m.Files[name].SHA256)})
	}
	return all
}

// build says how a generation was made.
func (r recipe) build(m artifact.Manifest, by provenance.Public) *provenance.Build {
	var b provenance.Build
	b.Definition.Type = buildName
	b.Definition.External = map[string]any{"host": m.Host, "disk": strings.TrimSpace(r.disk.String())}
	layers := []map[string]string{}
	for _, l := range m.Layers {
		layers = append(layers, map[string]string{"name": l.Name, "sha256": l.SHA256})
	}
	b.Definition.Internal = map[string]any{"layers": layers}
	b.Definition.Dependencies = r.materials(m)
	b.Run.Builder.ID = builderName + by.ID
	b.Run.Builder.Version = map[string]string{"bake": strings.TrimPrefix(m.Tool, "bake ")}
	b.Run.Metadata = map[string]string{"invocationId": m.Generation}
	if sbom, ok := m.Files[sbomName]; ok {
		b.Run.Byproducts = []provenance.Descriptor{{Name: sbomName, Digest: sha256Of(sbom.SHA256), MediaType: sbomType}}
	}
	return &b
}

// materials are what went in from elsewhere: the base image, packages, trees.
func (r recipe) materials(m artifact.Manifest) []provenance.Descriptor {
	image := provenance.Descriptor{Name: m.Base.Reference, URI: m.Base.URL, Digest: sha256Of(m.Base.SHA256), Annotations: map[string]string{}}
	if m.Base.Serial != "" {
		image.Annotations["serial"] = m.Base.Serial
	}
	if m.Base.Signer != "" {
		image.Annotations["signer"] = m.Base.Signer
	}
	all := []provenance.Descriptor{image}
	if r.load == nil {
		return all
	}
	for _, d := range r.load.debs {
		all = append(all, provenance.Descriptor{Name: d.Name, URI: debURL(m.Base, d), Digest: sha256Of(d.SHA256)})
	}
	for _, t := range r.load.trees {
		all = append(all, provenance.Descriptor{Name: t.Path, Digest: sha256Of(t.Digest)})
	}
	return all
}

// debURL is a package's purl.
func debURL(base artifact.Base, d origin.Deb) string {
	distribution := "debian"
	if strings.HasPrefix(base.Reference, "ubuntu") {
		distribution = "ubuntu"
	}
	return "pkg:deb/" + distribution + "/" + d.Name + "@" + strings.ReplaceAll(url.PathEscape(d.Version), "+", "%2B") + "?arch=" + d.Arch
}

// checkGeneration says whether somebody in the ring has signed that a generation is
// what its manifest says.
func checkGeneration(ring provenance.Ring, g artifact.Generation) (provenance.Statement, provenance.Public, error) {
	content, manifest, err := g.Provenance()
	if err != nil {
		return provenance.Statement{}, provenance.Public{}, err
	}
	if content == nil {
		return provenance.Statement{}, provenance.Public{}, &provenance.UntrustedError{Reason: "it is not signed"}
	}
	return checkSigned(ring, content, g.Manifest, manifest)
}

// checkSigned says whether somebody in the ring has signed a manifest of that digest, and
// its files.
func checkSigned(ring provenance.Ring, content []byte, m artifact.Manifest, manifest string) (provenance.Statement, provenance.Public, error) {
	statement, by, err := ring.Open(content)
	if err == nil {
		err = statement.Read(&provenance.Build{})
	}
	if err == nil && !slices.EqualFunc(statement.Subject, subjects(m, manifest), sameSubject) {
		err = &provenance.UntrustedError{Reason: fmt.Sprintf("what %s has signed is another manifest, or other files", by)}
	}
	return statement, by, err
}

func sameSubject(a, b provenance.Descriptor) bool {
	return a.Name == b.Name && maps.Equal(a.Digest, b.Digest)
}

// signVerdict puts a signed word about what a boot came to beside its report.
func (a *app) signVerdict(g artifact.Generation, report verify.Report) error {
	key, err := a.readKey()
	if key == nil || err != nil {
		return err
	}
	_, manifest, err := g.Provenance()
	if err != nil {
		return err
	}
	v := provenance.Verdict{Result: "PASSED", Configuration: []provenance.Descriptor{{Name: "claims.json", Digest: sha256Of(g.Manifest.Files["claims.json"].SHA256)}},
		Passed: []string{}, Failed: []string{}}
	if report.Err() != nil {
		v.Result = "FAILED"
	}
	for _, r := range report.Results {
		if name := r.Layer + ": " + r.Claim; r.OK {
			v.Passed = append(v.Passed, name)
		} else {
			v.Failed = append(v.Failed, name)
		}
	}
	statement, err := provenance.Of(&v, provenance.Descriptor{Name: "manifest.json", Digest: sha256Of(manifest)})
	if err != nil {
		return err
	}
	line, err := key.Sign(statement)
	if err != nil {
		return err
	}
	return g.WriteReport(verdictReport, line)
}

// checkVerdict says whether somebody in the ring has signed that a generation's claims
// held.
func checkVerdict(ring provenance.Ring, g artifact.Generation) (v provenance.Verdict, by provenance.Public, err error) {
	_, manifest, err := g.Provenance()
	if err != nil {
		return v, by, err
	}
	content, err := g.ReadReport(verdictReport)
	if err != nil {
		return v, by, &provenance.UntrustedError{Reason: "there is no signed word that its claims held"}
	}
	return judgeVerdict(ring, content, manifest)
}

// judgeVerdict says whether somebody in the ring has signed that the claims held of a
// generation whose manifest has that digest.
func judgeVerdict(ring provenance.Ring, content []byte, manifest string) (v provenance.Verdict, by provenance.Public, err error) {
	statement, by, err := ring.Open(content)
	if err == nil {
		err = statement.Read(&v)
	}
	switch {
	case err != nil:
		return v, by, err
	case statement.SHA256("manifest.json") != manifest:
		return v, by, &provenance.UntrustedError{Reason: fmt.Sprintf("that its claims held %s has signed of another generation", by)}
	case v.Result != "PASSED":
		return v, by, &provenance.UntrustedError{Reason: fmt.Sprintf("%s has signed that its claims did not hold", by)}
	}
	return v, by, nil
}

// writeSBOM lists what the machine will have: the packages of the base image and of
// the payload. An image that cannot be looked into, as one may be that somebody has
// built, has no list.
func (a *app) writeSBOM(ctx context.Context, draft *artifact.Draft, r recipe) error {
	findings, err := inspect.Look(ctx, r.blob.Path)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		a.say("%s: there is no list of its packages: %v", r.host.Name, err)
		return nil
	}
	if r.load != nil {
		findings.Packages = withDebs(findings.Packages, r.load.debs)
	}
	modules, err := a.npmModules(r)
	if err != nil {
		return err
	}
	content, err := findings.SBOM(modules...)
	if err != nil {
		return err
	}
	return os.WriteFile(draft.Path(sbomName), content, 0o600)
}

// npmModules are the npm packages on a payload.
func (a *app) npmModules(r recipe) (all []inspect.Module, err error) {
	if r.load == nil {
		return nil, nil
	}
	for _, t := range r.load.trees {
		if t.Path != layer.OpenClaw {
			continue
		}
		pair, err := openclaw.Of(a.config)
		if err != nil {
			return nil, err
		}
		for _, m := range pair.Modules(openclaw.Tree{Dir: t.Dir}, r.host.Ref.Arch) {
			sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Integrity, "sha512-"))
			if err != nil {
				return nil, fmt.Errorf("the integrity of %s in the lock: %w", m.Name, err)
			}
			all = append(all, inspect.Module{Name: m.Name, Version: m.Version, SHA512: hex.EncodeToString(sum)})
		}
	}
	return all, nil
}

// withDebs are the packages of an image after those of the payload were installed.
func withDebs(packages []inspect.Package, debs []origin.Deb) []inspect.Package {
	all := slices.Clone(packages)
	for _, d := range debs {
		is := inspect.Package{Name: d.Name, Version: d.Version, Architecture: d.Arch}
		at := slices.IndexFunc(all, func(p inspect.Package) bool {
			return p.Name == d.Name && (p.Architecture == d.Arch || p.Architecture == "all" || d.Arch == "all")
		})
		if at >= 0 {
			all[at] = is
		} else {
			all = append(all, is)
		}
	}
	slices.SortStableFunc(all, func(a, b inspect.Package) int { return strings.Compare(a.Name, b.Name) })
	return all
}
