package cloudinit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bake/internal/doc"
	"bake/internal/email"
	"bake/internal/lazy"
	"bake/internal/pyyaml"
)

// valueError is a ValueError of Python: cloud-init from 23.1 on notes a part
// lost to one in its cloud-config.txt.
type valueError struct{ message string }

func (e valueError) Error() string { return e.message }

// A rule is one merger with its settings, which may be any value.
type rule struct {
	name     string
	settings *doc.Node
}

// defaultRules are those of a part that names none: "dict(replace)+list()+str()".
var defaultRules = []rule{{"dict", doc.Words("replace")}, {"list", doc.Words()}, {"str", doc.Words()}}

// extractRules takes the merge type out of a part, and adds that of the header.
func extractRules(config *doc.Node, header string) (rest *doc.Node, rules []rule, err error) {
	raw, rest := pop(config, "merge_how")
	if raw == nil || raw.Kind == doc.Null {
		raw, rest = pop(rest, "merge_type")
	}
	if raw != nil && raw.Kind != doc.Null {
		if rules, err = listedRules(raw); err != nil {
			return rest, nil, err
		}
	}
	more, err := stringRules(header)
	if err != nil {
		return rest, nil, err
	}
	rules = append(rules, more...)
	if len(rules) == 0 {
		return rest, defaultRules, nil
	}
	for i, r := range rules {
		rules[i].name = strings.TrimPrefix(r.name, "m_")
		if n := rules[i].name; n != "dict" && n != "list" && n != "str" {
			return rest, nil, fmt.Errorf("there is no merge type %q: there are dict, list and str", start(r.name))
		}
		if _, err := r.set(""); err != nil {
			return rest, nil, err
		}
	}
	return rest, rules, nil
}

// pop takes a key out of a copy of a map.
func pop(config *doc.Node, key string) (value, rest *doc.Node) {
	rest = copyNode(config)
	rest.Pairs = slices.DeleteFunc(rest.Pairs, func(p doc.Pair) bool {
		found := p.Key.Kind == doc.String && p.Key.Text == key
		if found {
			value = p.Value
		}
		return found
	})
	return value, rest
}

// copyNode copies a node so that its items and pairs can be changed.
func copyNode(n *doc.Node) *doc.Node {
	c := *n
	c.Items, c.Pairs = slices.Clone(n.Items), slices.Clone(n.Pairs)
	return &c
}

// ruleForm is one merger in a string. Python's $ allows a line feed behind.
var ruleForm = lazy.Regexp(`^([a-zA-Z_][A-Za-z0-9_]*)\((.*?)\)\n?$`)

// stringRules reads "list(append)+dict(no_replace,recurse_list)".
func stringRules(text string) ([]rule, error) {
	var rules []rule
	for name := range strings.SplitSeq(text, "+") {
		name = strings.ReplaceAll(email.Strip(strings.ToLower(name)), "-", "_")
		if name == "" {
			continue
		}
		form := ruleForm.FindStringSubmatch(name)
		if form == nil {
			return nil, valueError{fmt.Sprintf("the merge type %q is not of the form name(settings)", start(name))}
		}
		settings := doc.Words()
		for word := range strings.SplitSeq(form[2], ",") {
			if word = email.Strip(word); word != "" {
				settings.Items = append(settings.Items, doc.Text(word))
			}
		}
		rules = append(rules, rule{form[1], settings})
	}
	return rules, nil
}

// listedRules reads the merge type that stands in a document: text, or a list
// of maps or lists.
func listedRules(raw *doc.Node) ([]rule, error) {
	items := raw.Items
	switch raw.Kind {
	case doc.String:
		return stringRules(raw.Text)
	case doc.List, pyyaml.Set:
	case doc.Map: // Python takes the keys
		for _, pair := range raw.Pairs {
			items = append(items, pair.Key)
		}
	default:
		return nil, fmt.Errorf("the merge type is %s, want text or a list", raw.Kind)
	}
	var rules []rule
	for _, item := range items {
		r, err := listedRule(item)
		if err != nil {
			return nil, err
		}
		if r.name != "" {
			rules = append(rules, r)
		}
	}
	return rules, nil
}

func listedRule(item *doc.Node) (rule, error) {
	switch item.Kind {
	case doc.Map:
		name, settings := item.Get("name"), item.Get("settings")
		if name == nil || settings == nil {
			return rule{}, fmt.Errorf("a merge type in a list needs both name and settings")
		}
		if name.Kind != doc.String {
			return rule{}, fmt.Errorf("the name of a merge type is %s", name.Kind)
		}
		return rule{email.Strip(strings.ReplaceAll(name.Text, "-", "_")), settings}, nil
	case doc.List:
		if len(item.Items) == 0 {
			return rule{}, fmt.Errorf("a merge type is an empty list")
		}
		name := item.Items[0]
		if !truth(name) {
			return rule{}, nil
		}
		if name.Kind != doc.String { // looked up like any other, and not found
			name = doc.Text(string(name.Kind))
		}
		return rule{name.Text, &doc.Node{Kind: doc.List, Items: item.Items[1:]}}, nil
	case pyyaml.Bytes: // Python takes the first byte for the name, which is a number
		if item.Text == "" {
			return rule{}, fmt.Errorf("a merge type is no bytes")
		}
		if item.Text[0] == 0 {
			return rule{}, nil
		}
		return rule{string(doc.Int), doc.Words()}, nil
	case doc.String: // Python takes the first character for the name
		runes := []rune(item.Text)
		if len(runes) == 0 {
			return rule{}, fmt.Errorf("a merge type is empty text")
		}
		return rule{string(runes[:1]), doc.Text(string(runes[1:]))}, nil
	}
	return rule{}, fmt.Errorf("a merge type is %s, want a map with name and settings", item.Kind)
}

// set reports whether a setting is made: in a text, anywhere.
func (r rule) set(words ...string) (bool, error) {
	for _, word := range words {
		found := false
		switch r.settings.Kind {
		case doc.String:
			found = strings.Contains(r.settings.Text, word)
		case doc.List, pyyaml.Set:
			found = slices.ContainsFunc(r.settings.Items, func(n *doc.Node) bool { return n.Kind == doc.String && n.Text == word })
		case doc.Map:
			found = r.settings.Get(word) != nil
		default:
			return false, fmt.Errorf("the settings of %s() are %s, want a list", r.name, r.settings.Kind)
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}

func (r rule) is(words ...string) bool { ok, _ := r.set(words...); return ok }

// first is the first of the methods that is set.
func (r rule) first(otherwise string, methods ...string) string {
	for _, m := range methods {
		if r.is(m) {
			return m
		}
	}
	return otherwise
}

// merger merges with the first of its rules that knows the value.
type merger []rule

var ruleKinds = map[string]doc.Kind{"dict": doc.Map, "list": doc.List, "str": doc.String}

// merge merges with into value. A value that no rule knows stays.
func (m merger) merge(value, with *doc.Node) (*doc.Node, error) {
	for _, r := range m {
		if ruleKinds[r.name] != value.Kind {
			continue
		}
		switch value.Kind {
		case doc.Map:
			return m.mergeMap(r, value, with)
		case doc.List:
			return m.mergeList(r, value, with)
		default:
			return mergeText(r, value, with)
		}
	}
	return value, nil
}

// deeper merges what is within, where the settings ask for it.
func (m merger) deeper(r rule, old, with *doc.Node, maps bool) (*doc.Node, bool, error) {
	recurse := with.Kind == doc.List && r.is("recurse_array", "recurse_list") ||
		with.Kind == doc.String && r.is("recurse_str") || with.Kind == doc.Map && maps
	if !recurse {
		return nil, false, nil
	}
	merged, err := m.merge(old, with)
	return merged, true, err
}

func (m merger) mergeMap(r rule, value, with *doc.Node) (*doc.Node, error) {
	if with.Kind != doc.Map {
		return value, nil
	}
	merged := copyNode(value)
	replace := r.first("no_replace", "replace", "no_replace") == "replace"
	places := placesOf(merged)
	for _, pair := range with.Pairs {
		id := pyyaml.Identity(pair.Key)
		at, is := places[id]
		switch {
		case !is:
			places[id] = len(merged.Pairs)
			merged.Pairs = append(merged.Pairs, pair)
		case pair.Value.Kind == doc.Null && r.is("allow_delete"):
			merged.Pairs = slices.Delete(merged.Pairs, at, at+1)
			places = placesOf(merged)
		case replace:
			merged.Pairs[at].Value = pair.Value
		default:
			deeper, ok, err := m.deeper(r, merged.Pairs[at].Value, pair.Value, true)
			if err != nil {
				return nil, err
			}
			if ok {
				merged.Pairs[at].Value = deeper
			}
		}
	}
	return merged, nil
}

// placesOf is where the keys of a map are: a map may have very many.
func placesOf(n *doc.Node) map[string]int {
	places := make(map[string]int, len(n.Pairs))
	for i, pair := range n.Pairs {
		places[pyyaml.Identity(pair.Key)] = i
	}
	return places
}

func (m merger) mergeList(r rule, value, with *doc.Node) (*doc.Node, error) {
	method := r.first("replace", "append", "prepend", "replace", "no_replace")
	if method == "replace" && with.Kind != doc.List {
		return with, nil
	}
	items, err := elements(with)
	if err != nil {
		return nil, err
	}
	merged := copyNode(value)
	switch method {
	case "append":
		merged.Items = append(merged.Items, items...)
		return merged, nil
	case "prepend":
		merged.Items = slices.Concat(items, value.Items)
		return merged, nil
	}
	for i := range min(len(merged.Items), len(items)) {
		item := items[i]
		if with.Kind == doc.Map { // Python takes the number for a key
			id := pyyaml.Identity(&doc.Node{Kind: doc.Int, Text: strconv.Itoa(i)})
			at := slices.IndexFunc(with.Pairs, func(p doc.Pair) bool { return pyyaml.Identity(p.Key) == id })
			if at < 0 {
				return nil, fmt.Errorf("a list is merged with a map")
			}
			item = with.Pairs[at].Value
		}
		if method == "no_replace" {
			continue
		}
		deeper, ok, err := m.deeper(r, merged.Items[i], item, r.is("recurse_dict"))
		if err != nil {
			return nil, err
		}
		if ok {
			item = deeper
		}
		merged.Items[i] = item
	}
	return merged, nil
}

// elements is what Python sees when it goes through a value: the characters of
// a text, the keys of a map.
func elements(n *doc.Node) ([]*doc.Node, error) {
	switch n.Kind {
	case doc.List:
		return n.Items, nil
	case doc.Map:
		var keys []*doc.Node
		for _, pair := range n.Pairs {
			keys = append(keys, pair.Key)
		}
		return keys, nil
	case doc.String:
		var characters []*doc.Node
		for _, r := range n.Text {
			character := *n
			character.Text = string(r)
			characters = append(characters, &character)
		}
		return characters, nil
	}
	return nil, fmt.Errorf("a list is merged with %s", n.Kind)
}

func mergeText(r rule, value, with *doc.Node) (*doc.Node, error) {
	if !r.is("append") {
		return with, nil
	}
	if with.Kind != doc.String {
		return nil, fmt.Errorf("%s is appended to text", with.Kind)
	}
	merged := copyNode(value)
	merged.Text += with.Text
	return merged, nil
}
