// Package lint finds in a machine's words what cloud-init's schema cannot see:
// a firewall that shuts its owner out, a sudo rule that is a root shell, a unit
// that systemd will not load.
//
// It works on one merged cloud-config: a host's, whose every node knows the
// layer or host file it comes from, or a foreign file's. From it a picture of the
// machine is made (its files, users, packages, commands, units), and every
// rule looks at that picture. A rule has a name, says what is wrong, why, and
// what to do; Rules lists them.
//
// An error is what does not work or opens the machine; a warning is what may
// be meant. It promises that a finding points at the line that is to be
// changed, in the layer or host file, inside the text of a file too, and that
// bake's own layers have none. It starts no other program and reads no file; the
// judges that do are in Judge.
//
// What a program decides by running is not decided here: a name that this
// package does not know is no error unless it is nearly one it knows.
//
// # Decisions
//
// 2026-11: rules are Go functions over a picture and not a language of their own.
// Most faults are between two places (a file's owner and the users, a port and
// the firewall), for which every rule language would have to grow into one.
//
// 2026-11: shell is parsed by mvdan.cc/sh (Daniel Martí, BSD, some 600 KiB in
// bake): one broken quote drops the whole of runcmd, and grep cannot see it.
//
// 2026-11: lists of known words (systemd's directives, kernel settings, time
// zones) are taken from the programs of Debian 12 and 13 and embedded, because
// the machine that lints has others or none.
package lint

import (
	"cmp"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
)

// Severity says whether a finding stops a build.
type Severity string

// The severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// A Rule is one thing that can be wrong, with all that is said about it.
type Rule struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"` // of most of its findings; a doubtful one is a warning
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Fix      string   `json:"fix"`
	Source   string   `json:"source"` // where that is written
}

// A Finding is a rule that is broken somewhere.
type Finding struct {
	Rule     string
	Severity Severity
	Problem  diag.Problem
	Allowed  string // why the host file allows it, "" where it does not
}

// Host checks a whole host and its merged cloud-config, for a release.
func Host(h *host.Host, config *doc.Node, r Release) []Finding {
	w := newWorld(config, h)
	w.check()
	w.checkRelease(r)
	allowed := map[string]string{}
	for _, a := range h.Allow {
		allowed[a.Rule] = a.Reason
	}
	found := w.sorted()
	used := map[string]bool{}
	for i := range found {
		found[i].Allowed = allowed[found[i].Rule]
		used[found[i].Rule] = true
	}
	if r.Schema.Empty() {
		used["schema"], used["schema-deprecated"] = true, true // for all that is known
	}
	if r.HasPackage == nil {
		used["package-unavailable"] = true
	}
	return append(found, unused(h, used)...)
}

// unused finds what a host file allows for nothing.
func unused(h *host.Host, used map[string]bool) []Finding {
	w := &world{}
	for _, a := range h.Allow {
		at := spot{node: a.Key, path: "allow." + a.Rule}
		switch {
		case ruleByID(a.Rule) == nil:
			w.hint(diag.DidYouMean(a.Rule, ruleIDs())).report("allow-unknown", at, "there is no rule %q", a.Rule)
		case !used[a.Rule]:
			w.report("allow-unused", at, "nothing breaks the rule %s", a.Rule)
		}
	}
	return w.sorted()
}

// sorted returns what was found, by place, and once.
func (w *world) sorted() []Finding {
	slices.SortStableFunc(w.found, func(a, b Finding) int {
		p, q := a.Problem.Pos, b.Problem.Pos
		return cmp.Or(strings.Compare(p.File, q.File), p.Line-q.Line, p.Col-q.Col, strings.Compare(a.Rule, b.Rule))
	})
	type key struct {
		rule, path, message string
		pos                 diag.Position
	}
	seen := map[key]bool{}
	return slices.DeleteFunc(w.found, func(f Finding) bool {
		p := f.Problem
		k := key{f.Rule, p.Path, p.Message, p.Pos}
		again := seen[k]
		seen[k] = true
		return again
	})
}

// Stops reports whether one of the findings is an error that nobody allows.
func Stops(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Severity == Error && f.Allowed == "" })
}

// Rules returns every rule, by name.
func Rules() []Rule { return slices.Clone(table()) }

func ruleByID(id string) *Rule {
	all := table()
	if i, ok := slices.BinarySearchFunc(all, id, func(r Rule, id string) int { return strings.Compare(r.ID, id) }); ok {
		return &all[i]
	}
	return nil
}

func ruleIDs() []string {
	var ids []string
	for _, r := range table() {
		ids = append(ids, r.ID)
	}
	return ids
}
