package secret

import (
	"cmp"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// A Ref says where a secret is. Exactly one of File, Env, Age and Command is
// set.
type Ref struct {
	Name     string
	File     string
	Env      string
	Age      string
	Identity string // of Age, "" for the usual place
	Command  []string

	path         string    // where it stands in the host file, such as secrets.db
	at, identity *doc.Node // the values, for problems
}

const (
	formsHint = "say where it is: {file: PATH}, {env: VARIABLE}, {age: PATH} or {command: [PROGRAM, ARGUMENT]}"
	nameHint  = "a-z, 0-9, . - and _, starting with a letter, at most 63"
)

var (
	nameForm     = lazy.Regexp(`^[a-z][a-z0-9_.-]{0,62}$`)
	variableForm = lazy.Regexp(`^[A-Za-z_][A-Za-z0-9_]*$`)
	kinds        = []string{"file", "env", "age", "command"}
)

// Read reads a host file's map of secrets, nil for none, in the order of the
// names. Nothing is looked for yet. A name with a problem is among the references,
// as others may refer to it. No problem shows a line of the map: there may be a
// secret on it.
func Read(n *doc.Node, path string, problems *diag.List) []Ref {
	if n == nil {
		return nil
	}
	var found diag.List
	var refs []Ref
	if n.Kind != doc.Map {
		found.Add(n.Problem(path, "write secrets: {NAME: {file: PATH}}", "this is %s, want a map from names to where the secrets are", n.Kind))
	}
	for _, pair := range n.Pairs {
		at := doc.Join(path, pair.Key.Text)
		if !nameForm.MatchString(pair.Key.Text) {
			found.Add(pair.Key.Problem(at, nameHint, "%q is no name for a secret", pair.Key.Text))
			hideBelow(pair.Value, at, &found)
			continue
		}
		refs = append(refs, read(pair, at, &found))
	}
	for i := range found {
		found[i].Secret = true
	}
	problems.Add(found...)
	slices.SortFunc(refs, func(a, b Ref) int { return strings.Compare(a.Name, b.Name) })
	return refs
}

// Names returns the names of secrets.
func Names(refs []Ref) []string {
	var names []string
	for _, ref := range refs {
		names = append(names, ref.Name)
	}
	return names
}

// hideBelow finds a literal even where there is another problem, so that its
// line is hidden.
func hideBelow(n *doc.Node, path string, found *diag.List) {
	if n.Kind != doc.Map && n.Kind != doc.Null {
		found.Add(n.Problem(path, formsHint, "a secret is never written here"))
	}
}

func read(pair doc.Pair, path string, found *diag.List) Ref {
	n, before, ref := pair.Value, len(*found), Ref{Name: pair.Key.Text, path: path}
	switch n.Kind {
	case doc.Map:
	case doc.Null:
		found.Add(n.Problem(path, formsHint, "nothing says where this secret is"))
		return ref
	default:
		hideBelow(n, path, found)
		return ref
	}
	get := n.Fields(path, found, append(kinds[:len(kinds):len(kinds)], "identity")...)
	var given []string
	for _, kind := range kinds {
		if ref.at = cmp.Or(get(kind), ref.at); get(kind) != nil {
			given = append(given, kind)
		}
	}
	switch {
	case len(given) == 1:
	case len(given) == 0 && len(*found) > before: // a word that is misspelt
		return ref
	default:
		has := "none of them"
		if len(given) > 1 {
			has = strings.Join(given, " and ")
		}
		found.Add(n.Problem(path, formsHint, "want exactly one of %s, there is %s", strings.Join(kinds, ", "), has))
		return ref
	}
	if ref.identity = get("identity"); ref.identity != nil && given[0] != "age" {
		found.Add(ref.identity.Problem(path+".identity", "", "an identity goes with age, not with %s", given[0]))
	}
	ref.File, ref.Age = line(get("file"), path+".file", found), line(get("age"), path+".age", found)
	ref.Identity, ref.Env = line(ref.identity, path+".identity", found), line(get("env"), path+".env", found)
	if ref.Env != "" && !variableForm.MatchString(ref.Env) {
		found.Add(ref.at.Problem(path+".env", "write the name alone: {env: REGISTRY_TOKEN}", "this is no name of a variable"))
	}
	if at := get("command"); at != nil {
		ref.Command = arguments(at, path+".command", found)
	}
	ref.path = doc.Join(path, given[0])
	return ref
}

// line reads an optional line of text. What it is instead is not quoted.
func line(n *doc.Node, path string, found *diag.List) string {
	switch {
	case n == nil:
		return ""
	case n.Kind != doc.String || n.Text == "":
		found.Add(n.Problem(path, "", "this is %s, want text", n.Kind))
	case strings.ContainsFunc(n.Text, func(c rune) bool { return c < ' ' }):
		found.Add(n.Problem(path, "", "the text has control characters"))
	default:
		return n.Text
	}
	return ""
}

func arguments(n *doc.Node, path string, found *diag.List) []string {
	if n.Kind != doc.List || len(n.Items) == 0 {
		found.Add(n.Problem(path, "there is no shell: write {command: [pass, show, zap/db]}",
			"this is %s, want a list: a program and its arguments", n.Kind))
		return nil
	}
	var words []string
	for _, item := range n.Items {
		switch {
		case item.Kind != doc.String:
			found.Add(item.Problem(path, "write it in quotes", "this is %s, want text", item.Kind))
		case strings.Contains(item.Text, "\x00"):
			found.Add(item.Problem(path, "", "no argument can hold a NUL"))
		default:
			words = append(words, item.Text)
		}
	}
	if n.Items[0].Kind == doc.String && n.Items[0].Text == "" {
		found.Add(n.Items[0].Problem(path, "", "the program has no name"))
	}
	return words
}
