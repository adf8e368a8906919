package lint

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
	"bake/internal/schema"
)

// Release is what is known of the system that will run a machine. Its zero value
// knows nothing, and what it is needed for is not checked.
type Release struct {
	Schema    schema.Set // of its cloud-init
	CloudInit string     // which that is, for messages: "cloud-init 25.1.4"

	// HasPackage reports whether the image's archives have a package of that name; nil
	// where their lists have not been read.
	HasPackage func(name string) bool

	Network *doc.Node // the network-config that goes beside the words, or nil
}

// newest is what a file without an image is held against.
func newest() Release {
	return Release{Schema: schema.Newest(), CloudInit: "cloud-init " + schema.NewestVersion}
}

// checkRelease is what can only be said of one release.
func (w *world) checkRelease(r Release) {
	if !r.Schema.Empty() {
		w.schema(r, r.Schema.CloudConfig(w.config), Error)
		if r.Network != nil {
			w.networkSchema(r, r.Network)
		}
	}
	if r.HasPackage != nil && !w.hasSources() {
		w.checkArchive(r)
	}
}

// networkSchema checks network-config. Of version 2 it only warns: where netplan is,
// cloud-init asks netplan and not its schema, which is narrower.
func (w *world) networkSchema(r Release, root *doc.Node) {
	inner := root
	if wrapped := root.Get("network"); wrapped != nil {
		inner = wrapped
	}
	if c := inner.Get("config"); c != nil && c.Text == "disabled" {
		return
	}
	severity := Error
	if version := inner.Get("version"); version == nil || version.Text != "1" {
		severity = Warning
	}
	// netplan reads numbers as text, and cloud-init takes a loopback that its schema leaves out.
	w.schema(r, slices.DeleteFunc(r.Schema.Network(root), func(f schema.Finding) bool {
		return severity == Warning && (strings.HasPrefix(f.Problem.Message, "this is a whole number, want text") || f.Problem.Path != "" && slices.Contains(networkKinds, strings.TrimPrefix(f.Problem.Path, "network."))) || strings.HasPrefix(f.Problem.Message, `"loopback" is not allowed`)
	}), severity)
}

// schema adds what a rule has not said already, of each place once.
func (w *world) schema(r Release, found []schema.Finding, worst Severity) {
	type place struct{ pos, path string }
	said := map[place]bool{}
	for _, f := range found {
		p := f.Problem
		if said[place{p.Pos.String(), p.Path}] || w.said(f) || w.isOldKey(p) || netplanOnly.MatchString(p.Message) && strings.Contains(p.Path, "routes[") {
			continue
		}
		said[place{p.Pos.String(), p.Path}] = true
		id, severity := "schema", worst
		if f.Deprecated {
			id, severity = "schema-deprecated", Warning
		} else {
			if severity == Error && isWord(p) {
				severity = Warning
			}
			p.Message = fmt.Sprintf("%s (the schema of %s)", p.Message, r.CloudInit)
		}
		if p.Hint = strings.TrimSuffix(p.Hint, "."); p.Hint == "" {
			p.Hint = ruleByID(id).Fix
		}
		w.found = append(w.found, finding(id, severity, p))
	}
}

// said reports whether a rule has found fault with the value already, or with what is
// in it: rules know more than the schema.
func (w *world) said(f schema.Finding) bool {
	return slices.ContainsFunc(w.found, func(x Finding) bool {
		if x.Rule == "schema" || x.Severity != Error && !f.Deprecated {
			return false
		}
		p, q := x.Problem, f.Problem
		same := p.Pos == q.Pos && p.Pos.Line > 0
		inside := p.Pos.File == q.Pos.File && (p.Path == q.Path || strings.HasPrefix(p.Path, q.Path+".") || strings.HasPrefix(p.Path, q.Path+"[")) && q.Path != ""
		return same || inside
	})
}

// isWord reports a number or the like as a word of a command: cloud-init complains, and
// runs it.
func isWord(p diag.Problem) bool {
	return wordOfCommand.MatchString(p.Path) && strings.HasSuffix(p.Message, ", want text") && !strings.Contains(p.Message, "a list") && !strings.Contains(p.Message, "a map")
}

var wordOfCommand = lazy.Regexp(`^(?:runcmd|bootcmd)\[\d+\]\[\d+\]$`)

// netplanOnly is said of keys of a route that netplan has and cloud-init's schema not.
var netplanOnly = lazy.Regexp(`^unknown key "(?:on-link|scope|type|table|from|metric|mtu|congestion-window|advertised-receive-window|advmss)"`)

// isOldKey reports a key that older releases know and this schema does not.
func (w *world) isOldKey(p diag.Problem) bool {
	return strings.Contains(p.Message, "unknown key") && slices.Contains(topKeys, p.Path)
}

// checkArchive looks for packages that the image's archives do not have.
func (w *world) checkArchive(r Release) {
	known := func(name string) bool {
		name, _, _ = strings.Cut(strings.TrimRight(name, "+-"), "/")
		name, _, _ = strings.Cut(name, ":")
		return name == "" || strings.ContainsAny(name, "*^") || r.HasPackage(name)
	}
	for _, p := range w.packages {
		if p.at.node == nil || strings.HasSuffix(p.name, ".deb") || known(p.name) || known(strings.TrimSpace(p.name)) {
			continue
		}
		w.report("package-unavailable", p.at, "the archives of the base image have no package %q", p.name)
	}
	if w.host == nil {
		return
	}
	for _, l := range w.host.Layers {
		for _, names := range l.Packages {
			if !slices.ContainsFunc(strings.Split(names, "|"), known) {
				w.report("package-unavailable", w.hostKey("layers."+l.Name), "the layer needs the package %s, which the archives of the base image do not have", names)
			}
		}
	}
}
