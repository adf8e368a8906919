package cloudinit

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
	"bake/internal/pyyaml"
)

// applyPatch applies a JSON patch (RFC 6902) as Python's jsonpatch does. The
// configuration itself stays as it is.
func applyPatch(config *doc.Node, text string, pos diag.Position) (*doc.Node, error) {
	patch, err := parseJSON(text, pos)
	if err != nil {
		return nil, err
	}
	if patch.Kind != doc.List && len(patch.Pairs) > 0 || patch.Scalar() && (patch.Kind != doc.String || patch.Text != "") {
		return nil, errors.New("a JSON patch is a list of operations")
	}
	var operations []operation
	for _, item := range patch.Items {
		o, err := readOperation(item)
		if err != nil {
			return nil, err
		}
		operations = append(operations, o)
	}
	patched := deepCopy(config, map[*doc.Node]*doc.Node{})
	for _, o := range operations {
		if patched, err = o.apply(patched); err != nil {
			return nil, err
		}
	}
	return patched, nil
}

// deepCopy copies a tree; what is one value in two places stays one.
func deepCopy(n *doc.Node, done map[*doc.Node]*doc.Node) *doc.Node {
	if c := done[n]; c != nil {
		return c
	}
	c := copyNode(n)
	done[n] = c
	for i := range c.Items {
		c.Items[i] = deepCopy(c.Items[i], done)
	}
	for i := range c.Pairs {
		c.Pairs[i].Value = deepCopy(c.Pairs[i].Value, done)
	}
	return c
}

type operation struct {
	op    string
	path  []string
	node  *doc.Node
	value *doc.Node
}

func readOperation(n *doc.Node) (operation, error) {
	op := n.Get("op")
	if n.Kind != doc.Map || op == nil || op.Kind != doc.String {
		return operation{}, errors.New("an operation of a JSON patch is a map with op and path")
	}
	if !slices.Contains([]string{"add", "remove", "replace", "move", "copy", "test"}, op.Text) {
		return operation{}, fmt.Errorf("there is no operation %q of a JSON patch", start(op.Text))
	}
	path, err := pointer(n.Get("path"))
	return operation{op.Text, path, n, n.Get("value")}, err
}

var badEscape = lazy.Regexp(`~[^01]|~\n?$`)

// pointer reads a JSON pointer.
func pointer(n *doc.Node) ([]string, error) {
	if n == nil || n.Kind != doc.String {
		return nil, errors.New("a place of a JSON patch is missing, or is no text")
	}
	if badEscape.MatchString(n.Text) || n.Text != "" && n.Text[0] != '/' {
		return nil, fmt.Errorf("%q is no place of a JSON patch", start(n.Text))
	}
	parts := strings.Split(n.Text, "/")[1:]
	for i, part := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
	}
	return parts, nil
}

// A step is a part of a pointer as the value takes it: a key, or an index,
// which is -1 for the end of a list.
type step struct {
	key   string
	index int
}

var (
	errNowhere = errors.New("a place of a JSON patch is not there")
	pythonInt  = lazy.Regexp(`^\s*[0-9]+(?:_[0-9]+)*\s*$`)
	indexForm  = lazy.Regexp(`^(?:0|[1-9][0-9]*\n?$)`)
)

func stepInto(n *doc.Node, part string) (step, error) {
	switch {
	case n.Kind == doc.Map:
		return step{key: part}, nil
	case n.Kind != doc.List && n.Kind != doc.String:
		return step{}, errNowhere
	case part == "-":
		return step{index: -1}, nil
	case !indexForm.MatchString(part):
		return step{}, fmt.Errorf("%q is no number of a list's entry", start(part))
	case !pythonInt.MatchString(part):
		return step{}, valueError{fmt.Sprintf("%q is no number of a list's entry", start(part))}
	}
	index, err := strconv.Atoi(strings.ReplaceAll(strings.TrimSpace(part), "_", ""))
	if err != nil {
		return step{}, errNowhere
	}
	return step{index: index}, nil
}

func (s step) of(n *doc.Node) (*doc.Node, error) {
	switch n.Kind {
	case doc.Map:
		for _, pair := range n.Pairs {
			if pair.Key.Kind == doc.String && pair.Key.Text == s.key {
				return pair.Value, nil
			}
		}
	case doc.List:
		if s.index >= 0 && s.index < len(n.Items) {
			return n.Items[s.index], nil
		}
	case doc.String:
		if characters, _ := elements(n); s.index >= 0 && s.index < len(characters) {
			return characters[s.index], nil
		}
	}
	return nil, errNowhere
}

// last follows a pointer up to its last step.
func last(root *doc.Node, path []string) (*doc.Node, step, error) {
	n := root
	for i, part := range path {
		s, err := stepInto(n, part)
		if err != nil || i == len(path)-1 {
			return n, s, err
		}
		if n, err = s.of(n); err != nil {
			return nil, step{}, err
		}
	}
	return nil, step{}, errNowhere // the root, of which there is no last step
}

func (o operation) apply(root *doc.Node) (*doc.Node, error) {
	switch o.op {
	case "add", "replace", "test":
		if o.value == nil {
			return nil, fmt.Errorf("the operation %s of a JSON patch needs a value", o.op)
		}
	}
	switch o.op {
	case "add":
		return add(root, o.path, o.value)
	case "remove":
		return remove(root, o.path)
	case "replace":
		return replace(root, o.path, o.value)
	case "test":
		return root, o.test(root)
	}
	from, err := pointer(o.node.Get("from"))
	if err != nil {
		return nil, err
	}
	n, s, err := last(root, from)
	if err != nil {
		return nil, err
	}
	value, err := s.of(n)
	if err != nil {
		return nil, err
	}
	if o.op == "copy" {
		return add(root, o.path, deepCopy(value, map[*doc.Node]*doc.Node{}))
	}
	if slices.Equal(from, o.path) {
		return root, nil
	}
	if n.Kind == doc.Map && len(from) <= len(o.path) && slices.Equal(from, o.path[:len(from)]) {
		return nil, errors.New("a JSON patch moves a value into itself")
	}
	if root, err = remove(root, from); err != nil {
		return nil, err
	}
	return add(root, o.path, value)
}

func add(root *doc.Node, path []string, value *doc.Node) (*doc.Node, error) {
	if len(path) == 0 {
		if root.Kind != doc.Map {
			return nil, errNowhere
		}
		return value, nil
	}
	n, s, err := last(root, path)
	if err != nil {
		return nil, err
	}
	switch {
	case n.Kind == doc.Map:
		setKey(n, s.key, value)
	case n.Kind == doc.List && s.index < 0:
		n.Items = append(n.Items, value)
	case n.Kind == doc.List && s.index <= len(n.Items):
		n.Items = slices.Insert(n.Items, s.index, value)
	default:
		return nil, errNowhere
	}
	return root, nil
}

func remove(root *doc.Node, path []string) (*doc.Node, error) {
	n, s, err := last(root, path)
	if err != nil {
		return nil, err
	}
	if _, err := s.of(n); err != nil || n.Kind == doc.String {
		return nil, errNowhere
	}
	if n.Kind == doc.Map {
		n.Pairs = slices.DeleteFunc(n.Pairs, func(p doc.Pair) bool { return p.Key.Kind == doc.String && p.Key.Text == s.key })
	} else {
		n.Items = slices.Delete(n.Items, s.index, s.index+1)
	}
	return root, nil
}

func replace(root *doc.Node, path []string, value *doc.Node) (*doc.Node, error) {
	if len(path) == 0 {
		return value, nil
	}
	n, s, err := last(root, path)
	if err != nil {
		return nil, err
	}
	if _, err := s.of(n); err != nil || n.Kind == doc.String {
		return nil, errNowhere
	}
	if n.Kind == doc.Map {
		setKey(n, s.key, value)
	} else {
		n.Items[s.index] = value
	}
	return root, nil
}

func (o operation) test(root *doc.Node) error {
	value := root
	if len(o.path) > 0 {
		n, s, err := last(root, o.path)
		if err != nil {
			return err
		}
		if value, err = s.of(n); err != nil {
			return err
		}
	}
	if !equal(value, o.value) {
		return errors.New("a test of a JSON patch fails")
	}
	return nil
}

// equal is Python's ==.
func equal(a, b *doc.Node) bool {
	if a.Scalar() || b.Scalar() {
		return a.Text != ".nan" && pyyaml.Identity(a) == pyyaml.Identity(b)
	}
	if a.Kind != b.Kind || len(a.Pairs) != len(b.Pairs) {
		return false
	}
	places := placesOf(b)
	for _, pair := range a.Pairs {
		at, is := places[pyyaml.Identity(pair.Key)]
		if !is || !equal(pair.Value, b.Pairs[at].Value) {
			return false
		}
	}
	return slices.EqualFunc(a.Items, b.Items, equal)
}

// setKey sets a key that is text: another of the same characters may be a number.
func setKey(n *doc.Node, key string, value *doc.Node) {
	for i, pair := range n.Pairs {
		if pair.Key.Kind == doc.String && pair.Key.Text == key {
			n.Pairs[i].Value = value
			return
		}
	}
	n.Pairs = append(n.Pairs, doc.Pair{Key: doc.Text(key), Value: value})
}
