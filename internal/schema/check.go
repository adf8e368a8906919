package schema

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/pyyaml"
)

type checker struct {
	schema *Schema
	depth  int
}

// check validates a value. What stands beside a $ref counts, unlike the standard
// of draft 4 has it: cloud-init's validator sees it.
func (c *checker) check(n node, v *doc.Node, path string) (found []Finding) {
	if ref := text(n, "$ref"); ref != "" {
		if c.depth++; c.depth > 100 {
			return nil
		}
		defer func() { c.depth-- }()
		found = c.check(c.schema.definition(ref), v, path)
	}
	add := func(at *doc.Node, path, format string, args ...any) {
		found = append(found, Finding{Problem: at.Problem(path, "", format, args...)})
	}
	if types := typesOf(n); len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return isType(v, t) }) {
		add(v, path, "this is %s, want %s", v.Kind, typeWords(types))
	}
	c.scalar(n, v, path, add)
	switch v.Kind {
	case doc.List:
		found = append(found, c.list(n, v, path, add)...)
	case doc.Map:
		found = append(found, c.object(n, v, path, add)...)
	}
	if all, ok := get[[]node](n, "allOf"); ok {
		for _, each := range all {
			if c.concerns(each, v) {
				found = append(found, c.check(each, v, path)...)
			}
		}
	}
	if any, ok := get[[]node](n, "oneOf"); ok {
		found = append(found, c.oneOf(any, v, path, true)...)
	}
	if any, ok := get[[]node](n, "anyOf"); ok {
		found = append(found, c.oneOf(any, v, path, false)...)
	}
	if deprecated, _ := get[bool](n, "deprecated"); deprecated {
		found = append(found, deprecation(n, v, path, "deprecated"))
	}
	if changed, _ := get[bool](n, "changed"); changed {
		found = append(found, deprecation(n, v, path, "changed"))
	}
	return found
}

// concerns tells whether a definition of one module's keys says anything about
// the document: most do not, and need not be decoded any further.
func (c *checker) concerns(n node, v *doc.Node) bool {
	if ref := text(n, "$ref"); ref != "" {
		n = c.schema.definition(ref)
	}
	if v.Kind != doc.Map {
		return true
	}
	for keyword := range n {
		switch keyword {
		case "type", "properties", "description", "title":
		default:
			return true
		}
	}
	properties, _ := get[map[string]json.RawMessage](n, "properties")
	return slices.ContainsFunc(v.Pairs, func(p doc.Pair) bool { _, ok := properties[p.Key.Text]; return ok })
}

func deprecation(n node, v *doc.Node, path, kind string) Finding {
	message := kind
	if version := text(n, kind+"_version"); version != "" {
		message += " since cloud-init " + version
	}
	p := v.Problem(path, strings.ReplaceAll(strings.ReplaceAll(text(n, kind+"_description"), "**", ""), "``", ""), "%s", message)
	return Finding{Problem: p, Deprecated: true}
}

func typesOf(n node) []string {
	if one := text(n, "type"); one != "" {
		return []string{one}
	}
	many, _ := get[[]string](n, "type")
	return many
}

func isType(v *doc.Node, name string) bool {
	switch name {
	case "object":
		return v.Kind == doc.Map
	case "array":
		return v.Kind == doc.List
	case "string":
		return v.Kind == doc.String || v.Kind == pyyaml.Bytes
	case "boolean":
		return v.Kind == doc.Bool
	case "null":
		return v.Kind == doc.Null
	case "integer":
		return v.Kind == doc.Int
	case "number":
		return v.Kind == doc.Int || v.Kind == doc.Float
	}
	return true
}

var words = map[string]doc.Kind{"object": doc.Map, "array": doc.List, "string": doc.String, "boolean": doc.Bool,
	"null": doc.Null, "integer": doc.Int, "number": "a number"}

func typeWords(types []string) string {
	var all []string
	for _, t := range types {
		all = append(all, string(words[t]))
	}
	return strings.Join(all, " or ")
}

type adder func(at *doc.Node, path, format string, args ...any)

// scalar checks what is said of single values.
func (c *checker) scalar(n node, v *doc.Node, path string, add adder) {
	if allowed, ok := get[[]any](n, "enum"); ok {
		var texts []string
		found := false
		for _, value := range allowed {
			texts = append(texts, fmt.Sprint(value))
			found = found || same(v, value)
		}
		if !found {
			add(v, path, "%s is not allowed, want %s", describe(v), strings.Join(texts, ", "))
		}
	}
	if v.Kind == doc.String {
		if form := text(n, "pattern"); form != "" {
			if re, err := regexp.Compile(form); err == nil && !re.MatchString(v.Text) {
				add(v, path, "%s is not of the form %s", describe(v), form)
			}
		}
		length := len([]rune(v.Text))
		if most, ok := get[int](n, "maxLength"); ok && length > most {
			add(v, path, "this has %d characters, at most %d are allowed", length, most)
		}
		if least, ok := get[int](n, "minLength"); ok && length < least {
			add(v, path, "this has %d characters, at least %d are wanted", length, least)
		}
	}
	if v.Kind == doc.Int || v.Kind == doc.Float {
		value, err := strconv.ParseFloat(strings.Replace(v.Text, ".inf", "inf", 1), 64)
		if least, ok := get[float64](n, "minimum"); ok && err == nil && value < least {
			add(v, path, "%s is too little, the least is %v", v.Text, least)
		}
		if most, ok := get[float64](n, "maximum"); ok && err == nil && value > most {
			add(v, path, "%s is too much, the most is %v", v.Text, most)
		}
	}
}

func describe(v *doc.Node) string {
	if v.Kind == doc.String {
		return strconv.Quote(v.Text)
	}
	if v.Scalar() && v.Text != "" {
		return v.Text
	}
	return string(v.Kind)
}

// same compares a value with one of JSON, as Python does: true is 1.
func same(v *doc.Node, value any) bool {
	switch want := value.(type) {
	case nil:
		return v.Kind == doc.Null
	case string:
		return v.Kind == doc.String && v.Text == want
	case bool:
		return v.Kind == doc.Bool && v.Text == strconv.FormatBool(want)
	case float64:
		got, err := strconv.ParseFloat(v.Text, 64)
		return (v.Kind == doc.Int || v.Kind == doc.Float) && err == nil && got == want
	}
	return false
}

func (c *checker) list(n node, v *doc.Node, path string, add adder) (found []Finding) {
	at := func(i int) string { return fmt.Sprintf("%s[%d]", path, i) }
	if each, ok := get[node](n, "items"); ok {
		for i, item := range v.Items {
			found = append(found, c.check(each, item, at(i))...)
		}
	} else if some, ok := get[[]node](n, "items"); ok {
		for i := range min(len(some), len(v.Items)) {
			found = append(found, c.check(some[i], v.Items[i], at(i))...)
		}
		c.more(n, v, len(some), &found, at, add)
	}
	if least, ok := get[int](n, "minItems"); ok && len(v.Items) < least {
		add(v, path, "this list has %d entries, at least %d are wanted", len(v.Items), least)
	}
	if most, ok := get[int](n, "maxItems"); ok && len(v.Items) > most {
		add(v, path, "this list has %d entries, at most %d are allowed", len(v.Items), most)
	}
	if unique, _ := get[bool](n, "uniqueItems"); unique {
		for i, item := range v.Items {
			if slices.ContainsFunc(v.Items[:i], item.Equal) {
				add(item, at(i), "this stands in the list already")
			}
		}
	}
	return found
}

// more checks the items behind those that have a schema each.
func (c *checker) more(n node, v *doc.Node, from int, found *[]Finding, at func(int) string, add adder) {
	for i := from; i < len(v.Items); i++ {
		if allowed, ok := get[bool](n, "additionalItems"); ok && !allowed {
			add(v.Items[i], at(i), "the list has no place for more than %d entries", from)
		} else if each, ok := get[node](n, "additionalItems"); ok {
			*found = append(*found, c.check(each, v.Items[i], at(i))...)
		}
	}
}

func (c *checker) object(n node, v *doc.Node, path string, add adder) (found []Finding) {
	properties, _ := get[map[string]json.RawMessage](n, "properties")
	patterns, _ := get[map[string]node](n, "patternProperties")
	for _, pair := range v.Pairs {
		key, at := pair.Key.Text, doc.Join(path, pair.Key.Text)
		raw, known := properties[key]
		if known {
			var each node
			json.Unmarshal(raw, &each)
			found = append(found, keyed(pair, c.check(each, pair.Value, at))...)
		}
		for form, each := range patterns {
			if re, err := regexp.Compile(form); err == nil && re.MatchString(key) {
				known = true
				found = append(found, keyed(pair, c.check(each, pair.Value, at))...)
			}
		}
		if known {
			continue
		}
		if allowed, ok := get[bool](n, "additionalProperties"); ok && !allowed {
			p := pair.Key.Problem(at, diag.DidYouMean(key, keys(properties)), "unknown key %q", key)
			found = append(found, Finding{Problem: p})
		} else if each, ok := get[node](n, "additionalProperties"); ok {
			found = append(found, c.check(each, pair.Value, at)...)
		}
	}
	required, _ := get[[]string](n, "required")
	for _, key := range required {
		if v.Get(key) == nil {
			add(v, path, "the key %q is missing", key)
		}
	}
	if least, ok := get[int](n, "minProperties"); ok && len(v.Pairs) < least {
		add(v, path, "this map has %d keys, at least %d are wanted", len(v.Pairs), least)
	}
	return found
}

// keyed lets what is deprecated point at the key.
func keyed(pair doc.Pair, found []Finding) []Finding {
	for i, f := range found {
		if f.Deprecated && f.Pos == pair.Value.Pos && f.Pos.File == pair.Key.Pos.File && !strings.HasPrefix(f.Message, "changed") {
			found[i].Problem = pair.Key.Problem(f.Path, f.Hint, "%s", f.Message)
		}
	}
	return found
}

func keys(properties map[string]json.RawMessage) []string {
	var names []string
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// oneOf wants one of some schemas to hold, and if exactly, no other. What is
// wrong with the one that comes nearest stands for all.
func (c *checker) oneOf(schemas []node, v *doc.Node, path string, exactly bool) []Finding {
	var nearest []Finding
	best := -1
	for i, n := range schemas {
		found := c.check(n, v, path)
		if valid(found) {
			if exactly && slices.ContainsFunc(schemas[i+1:], func(n node) bool { return valid(c.check(n, v, path)) }) {
				return []Finding{{Problem: v.Problem(path, "", "this has two of the forms of which one is wanted")}}
			}
			return found
		}
		if near := c.near(n, v, found); near > best {
			best, nearest = near, found
		}
	}
	if best > 0 {
		return slices.DeleteFunc(nearest, func(f Finding) bool { return f.Deprecated })
	}
	var types []string // of all forms, once
	for _, n := range schemas {
		for _, t := range c.types(n) {
			if !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	if len(types) == 0 {
		return nearest
	}
	return []Finding{{Problem: v.Problem(path, "", "this is %s, want %s", v.Kind, typeWords(types))}}
}

func valid(found []Finding) bool {
	return !slices.ContainsFunc(found, func(f Finding) bool { return !f.Deprecated })
}

// types are those that a schema allows, wherever it says so.
func (c *checker) types(n node) []string {
	if ref := text(n, "$ref"); ref != "" {
		n = c.schema.definition(ref)
	}
	types := typesOf(n)
	if types != nil {
		return types
	}
	if n["properties"] != nil {
		return []string{"object"}
	}
	allowed, _ := get[[]any](n, "enum")
	for _, value := range allowed {
		switch value.(type) {
		case string:
			types = append(types, "string")
		case bool:
			types = append(types, "boolean")
		case float64:
			types = append(types, "number")
		}
	}
	return types
}

// near says how near a value comes to a schema that it violates: 0 for the
// wrong type, more the fewer findings there are and the deeper they lie, most
// for the kind of thing that the value says it is.
func (c *checker) near(n node, v *doc.Node, found []Finding) int {
	types := c.types(n)
	if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return isType(v, t) }) {
		return 0
	}
	near := 1000 - min(999, len(found))
	if kind := v.Get("type"); kind != nil && kind.Text != "" && strings.HasSuffix(text(n, "$ref"), "anyOf_type_"+kind.Text) {
		near += 10000
	}
	for _, f := range found {
		if f.Pos == v.Pos {
			near -= 10
		}
	}
	return max(1, near)
}
