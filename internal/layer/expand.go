package layer

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// Facts are what a layer may know of the host it is part of.
type Facts struct {
	Host      string
	AdminName string
	AdminKeys []string
	Secrets   []string // their names
	State     []string // what outlives the root disk, each as StateDir.String has it
	Logins    []string // accounts of layers that log in by keys of their own
}

// placeholder matches ((name)); a $ before it makes it shell arithmetic.
var placeholder = lazy.Regexp(`(\$?)\(\(\s*([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\s*\)\)`)

// inert matches the places where free text is a value to every program that
// reads it, never a command or a sudoers rule; checkArgv adds what depends on
// its neighbours.
var inert = lazy.Regexp(`^cloud-config\.(?:(?:bootcmd|runcmd)\[\d+\]\[[1-9]\d*\]|users\[\d+\]\.(?:ssh_authorized_keys(?:\[\d+\])?|gecos))$`)

// scope holds the bound parameters of one layer.
type scope struct {
	values   map[string]value
	names    []string
	problems *diag.List
	leaked   bool // a template printed free text, see unprintable
}

func newScope(facts Facts, problems *diag.List) *scope {
	s := &scope{values: map[string]value{}, problems: problems}
	s.put("host.name", value{kind: doc.String, safe: true, text: []string{facts.Host}})
	s.put("host.secrets", value{kind: doc.String, list: true, safe: true, text: facts.Secrets})
	s.put("host.state", value{kind: doc.String, list: true, safe: true, text: facts.State})
	s.put("host.logins", value{kind: doc.String, list: true, safe: true, text: facts.Logins})
	s.put("admin.name", value{kind: doc.String, safe: true, text: []string{facts.AdminName}})
	s.put("admin.keys", value{kind: doc.String, list: true, text: facts.AdminKeys})
	return s
}

// credstore is where the guest keeps secrets, a file each.
const credstore = "/etc/credstore"

// secret turns the name of a secret into its path in the guest. No name stays
// none.
func (s *scope) secret(v value, n *doc.Node, path string) (value, bool) {
	name, known := v.text[0], s.values["host.secrets"].text
	switch {
	case name == "":
		return v, true
	case !slices.Contains(known, name):
		hint := diag.DidYouMean(name, known)
		if hint == "" {
			hint = "add it to the host file: secrets: {NAME: {file: PATH}}"
		}
		s.problems.Add(misplaced(n, path, hint, "the host has no secret of this name"))
		return v, false
	}
	v.text = []string{credstore + "/" + name}
	return v, true
}

func (s *scope) put(name string, v value) {
	s.values[name] = v
	s.names = append(s.names, name)
}

// expand returns a copy of the tree with every placeholder replaced.
func (s *scope) expand(n *doc.Node, path string) *doc.Node {
	out := *n
	switch n.Kind {
	case doc.Map:
		out.Pairs = nil
		for _, pair := range n.Pairs {
			if strings.Contains(pair.Key.Text, "((") && placeholder.MatchString(pair.Key.Text) {
				s.problems.Add(pair.Key.Problem(path, "", "a parameter cannot be a key"))
			}
			out.Pairs = append(out.Pairs, doc.Pair{Key: pair.Key, Value: s.expand(pair.Value, doc.Join(path, pair.Key.Text))})
		}
	case doc.List:
		out.Items = nil
		for i, item := range n.Items {
			expanded := s.expand(item, fmt.Sprintf("%s[%d]", path, i))
			if expanded.Kind == doc.List && item.Kind == doc.String {
				out.Items = append(out.Items, expanded.Items...) // ((list)) in a list
				continue
			}
			out.Items = append(out.Items, expanded)
		}
		s.checkArgv(n, path)
	case doc.String:
		if strings.Contains(n.Text, "((") { // else it has no placeholder
			return s.scalar(n, path)
		}
	}
	return &out
}

func (s *scope) scalar(n *doc.Node, path string) *doc.Node {
	if m := placeholder.FindStringSubmatch(n.Text); m != nil && m[0] == n.Text && m[1] == "" {
		v, ok := s.lookup(n, path, m[2])
		if !ok {
			return n
		}
		if !v.safe && !inert.MatchString(path) {
			s.problems.Add(n.Problem(path, "free text may be an argument in a list under bootcmd or runcmd, a key or a gecos",
				"the parameter %q is free text, which could mean something here", m[2]))
		}
		return v.node(n)
	}
	out := *n
	out.Text = s.words(n, path)
	return &out
}

// words replaces the placeholders inside a text. Free text is refused here:
// what the words around it mean, to a shell or to sshd, is not known.
func (s *scope) words(n *doc.Node, path string) string {
	return placeholder.ReplaceAllStringFunc(n.Text, func(found string) string {
		m := placeholder.FindStringSubmatch(found)
		if m[1] == "$" {
			return found
		}
		v, ok := s.lookup(n, path, m[2])
		if ok && !v.safe {
			s.problems.Add(n.Problem(path, "pass it whole, as an argument of a list, or quote it in a template",
				"the parameter %q is free text and cannot stand inside a longer text", m[2]))
		}
		return strings.Join(v.text, " ")
	})
}

// checkArgv refuses free text which a program would take for more than a value:
// as the script of an argument list such as [sh, -c, ((text))], or as an option
// because it begins with "-".
func (s *scope) checkArgv(n *doc.Node, path string) {
	script, ended := false, false
	for _, item := range n.Items {
		name, free := s.free(item.Text)
		switch option := strings.HasPrefix(item.Text, "-"); {
		case free != nil && script:
			s.problems.Add(item.Problem(path, "pass it as a further argument and use \"$1\"",
				"the parameter %q is free text and cannot be a script", name))
		case free != nil && !ended && slices.ContainsFunc(free, func(text string) bool { return strings.HasPrefix(text, "-") }):
			s.problems.Add(item.Problem(path, "put -- before it, if the program knows that",
				"the parameter %q begins with - and would be read as an option", name))
		case item.Text == "--":
			ended = true
		case option:
			script = script || !strings.HasPrefix(item.Text, "--") && strings.Contains(item.Text, "c")
		default:
			script = false
		}
	}
}

// free returns the name and the texts of the first free text that a scalar of
// a layer refers to.
func (s *scope) free(text string) (string, []string) {
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		if v, ok := s.values[m[2]]; ok && !v.safe {
			return m[2], v.text
		}
	}
	return "", nil
}

func (s *scope) lookup(n *doc.Node, path, name string) (value, bool) {
	v, ok := s.values[name]
	if !ok {
		s.problems.Add(n.Problem(path, diag.DidYouMean(name, s.names), "unknown parameter %q", name))
	}
	return v, ok
}

// node returns the value as a node that stands where at stands.
func (v value) node(at *doc.Node) *doc.Node {
	one := func(text string) *doc.Node {
		out := *at
		out.Kind, out.Text = v.kind, text
		return &out
	}
	if !v.list {
		return one(v.text[0])
	}
	out := *at
	out.Kind, out.Text = doc.List, ""
	for _, text := range v.text {
		out.Items = append(out.Items, one(text))
	}
	return &out
}
