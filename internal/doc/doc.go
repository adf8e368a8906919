// Package doc reads strict YAML documents and writes unmistakable ones.
//
// bake's own files and the cloud-config in them are read by two YAML versions:
// by us (1.2) and, after the merge, by cloud-init (PyYAML, 1.1). This package
// is the one place that knows YAML. It accepts only documents that mean the
// same in both and writes only documents that nobody can misread; everything
// else in bake works on the Node tree.
//
// Parse promises that every node knows its file, line and column, and refuses,
// with a Problem each:
//
//   - duplicate keys, keys that are not text, a second document, an empty one;
//   - anchors, aliases, merge keys and explicit tags, the bare ! too: a reader
//     must see the value where it is used;
//   - plain scalars which YAML 1.1 and 1.2 read differently: yes, on, 0644,
//     0o644, 22:22, 1e3, 2026-11-22, an all-decimal MAC address;
//   - a byte order mark, bytes that are not UTF-8, control characters, a lone
//     carriage return among them, because YAML breaks the line there and most
//     editors do not;
//   - documents over 1 MiB or nested deeper than 64 levels.
//
// Emit writes every string in double quotes or, when it has several lines and
// nothing invisible, as a literal block. It reads its own output back and
// fails rather than write a document that does not equal its input.
//
// # Decisions
//
// 2026-11: gopkg.in/yaml.v3 for scanning and escaping, behind this package
// alone, because it is archived upstream: changing to its successor
// go.yaml.in/yaml is one import line here and in none other.
//
// 2026-11: refuse differing scalars instead of picking a version. The author
// means one of the two and only the author knows which; quoting says it.
package doc

import (
	"fmt"

	"bake/internal/diag"
)

// Kind is what a node is. The values are the words used in messages.
type Kind string

// The kinds of a node.
const (
	Null   Kind = "nothing"
	Bool   Kind = "true or false"
	Int    Kind = "a whole number"
	Float  Kind = "a decimal number"
	String Kind = "text"
	List   Kind = "a list"
	Map    Kind = "a map"
)

// A Node is one value of a document. Scalars have Text, lists Items, maps
// Pairs in the order of the file. Nodes built in code instead of parsed have a
// zero Pos.
type Node struct {
	Kind  Kind
	Pos   diag.Position
	Text  string // a scalar's text: "42", "true", or the string itself
	Items []*Node
	Pairs []Pair
	lines []string // the whole file, for snippets
}

// Pair is a key and its value. Key is a String node, so that it has a place.
type Pair struct {
	Key   *Node
	Value *Node
}

// Text returns a string node that stands in no file.
func Text(text string) *Node { return &Node{Kind: String, Text: text} }

// Words returns a list of string nodes that stand in no file.
func Words(words ...string) *Node {
	list := &Node{Kind: List}
	for _, word := range words {
		list.Items = append(list.Items, Text(word))
	}
	return list
}

// Get returns the value of a key, or nil when the node is not a map or has no
// such key.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, pair := range n.Pairs {
		if pair.Key.Text == key {
			return pair.Value
		}
	}
	return nil
}

// Set appends a key, or replaces the value of one that exists, and returns n.
func (n *Node) Set(key string, value *Node) *Node {
	for i, pair := range n.Pairs {
		if pair.Key.Text == key {
			n.Pairs[i].Value = value
			return n
		}
	}
	n.Pairs = append(n.Pairs, Pair{Key: Text(key), Value: value})
	return n
}

// Scalar reports whether the node is neither a list nor a map.
func (n *Node) Scalar() bool { return n.Kind != List && n.Kind != Map }

// Equal reports whether two nodes have the same kinds, texts and order,
// wherever they stand.
func (n *Node) Equal(other *Node) bool {
	if n.Kind != other.Kind || n.Text != other.Text ||
		len(n.Items) != len(other.Items) || len(n.Pairs) != len(other.Pairs) {
		return false
	}
	for i := range n.Items {
		if !n.Items[i].Equal(other.Items[i]) {
			return false
		}
	}
	for i := range n.Pairs {
		if n.Pairs[i].Key.Text != other.Pairs[i].Key.Text || !n.Pairs[i].Value.Equal(other.Pairs[i].Value) {
			return false
		}
	}
	return true
}

// Problem makes a problem that points at the node. Path is where the node is
// in the document; hint may be empty.
func (n *Node) Problem(path, hint, format string, args ...any) diag.Problem {
	p := diag.Problem{
		Pos: n.Pos, Path: path, Hint: hint, Width: 1,
		Message: fmt.Sprintf(format, args...),
	}
	if n.Pos.Line > 0 && n.Pos.Line <= len(n.lines) {
		p.Source = n.lines[n.Pos.Line-1]
	}
	if n.Scalar() {
		p.Width = max(1, len([]rune(n.Text)))
	}
	return p
}

// Fields reads a map that may have only the known keys. It adds a problem for
// a node that is no map and for each unknown key, and returns a function that
// gives the value of a key, nil when it is absent.
func (n *Node) Fields(path string, problems *diag.List, known ...string) func(key string) *Node {
	if n.Kind != Map {
		problems.Add(n.Problem(path, "", "this is %s, want a map", n.Kind))
		return func(string) *Node { return nil }
	}
	allowed := make(map[string]bool, len(known))
	for _, key := range known {
		allowed[key] = true
	}
	for _, pair := range n.Pairs {
		if !allowed[pair.Key.Text] {
			problems.Add(pair.Key.Problem(Join(path, pair.Key.Text),
				diag.DidYouMean(pair.Key.Text, known), "unknown key %q", pair.Key.Text))
		}
	}
	return n.Get
}

// Join appends a key to a dotted path.
func Join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// At returns a node that stands somewhere: for readers of other kinds of
// files. The lines are those of the whole file, for snippets.
func At(kind Kind, text string, pos diag.Position, lines []string) *Node {
	return &Node{Kind: kind, Text: text, Pos: pos, lines: lines}
}
