package input

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"bake/internal/doc"
)

const (
	layersKey = "layers"
	orderKey  = "layers (their order)"
)

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256 " + hex.EncodeToString(sum[:6]) + "..."
}

// leaves are a host file taken apart: what stands at each path. Maps are gone into, and
// the list of layers as if it were a map of their parameters; other lists are one value.
type leaves struct {
	order  []string // paths, as people write them
	at     map[string]*doc.Node
	keys   map[string][]string // of the way there, one of which may have a dot in it
	layers []string            // in their order
}

// flatten takes a host file apart.
func flatten(n *doc.Node) leaves {
	l := leaves{at: map[string]*doc.Node{}, keys: map[string][]string{}}
	for _, pair := range n.Pairs {
		if pair.Key.Text == layersKey && pair.Value.Kind == doc.List {
			l.flattenLayers(pair.Value)
			continue
		}
		l.flatten([]string{pair.Key.Text}, pair.Value)
	}
	return l
}

func (l *leaves) put(n *doc.Node, keys ...string) {
	path := strings.Join(keys, ".")
	l.order = append(l.order, path)
	l.at[path], l.keys[path] = n, keys
}

func (l *leaves) flatten(keys []string, n *doc.Node) {
	if n.Kind != doc.Map || len(n.Pairs) == 0 {
		l.put(n, keys...)
		return
	}
	for _, pair := range n.Pairs {
		l.flatten(append(slices.Clone(keys), pair.Key.Text), pair.Value)
	}
}

// flattenLayers has for each layer a leaf that says that it is there, and one for each
// of its parameters.
func (l *leaves) flattenLayers(list *doc.Node) {
	for _, item := range list.Items {
		name, params := item.Text, []doc.Pair(nil)
		if item.Kind == doc.Map && len(item.Pairs) == 1 {
			name, params = item.Pairs[0].Key.Text, item.Pairs[0].Value.Pairs
		}
		l.layers = append(l.layers, name)
		l.put(doc.Text("there"), layersKey, name)
		for _, param := range params {
			l.put(param.Value, layersKey, name, param.Key.Text)
		}
	}
}

// shown is a leaf for people, "" when it is absent.
func (l leaves) shown(path string) string {
	n := l.at[path]
	if n == nil {
		return ""
	}
	if n.Scalar() {
		if len(n.Text) <= 60 && !strings.ContainsAny(n.Text, "\n") {
			return n.Text
		}
		return digest(n.Text)
	}
	text, err := doc.Emit(n)
	if line := strings.Join(strings.Fields(string(text)), " "); err == nil && len(line) <= 60 {
		return line
	}
	return digest(string(text))
}

// mix puts a host file together from two, with what the first has but for the changes
// that are taken.
func mix(a, b leaves, take map[string]bool) *doc.Node {
	value := func(path string) *doc.Node {
		if take[hostPrefix+path] {
			return b.at[path]
		}
		return a.at[path]
	}
	root := &doc.Node{Kind: doc.Map}
	for _, path := range unionOf(a.order, b.order) {
		if n := value(path); n != nil && !strings.HasPrefix(path, layersKey+".") {
			keys := a.keys[path]
			if keys == nil {
				keys = b.keys[path]
			}
			plant(root, keys, n)
		}
	}
	list := &doc.Node{Kind: doc.List}
	for _, name := range layerOrder(a, b, take[hostPrefix+orderKey]) {
		path := layersKey + "." + name
		if value(path) == nil {
			continue
		}
		params := &doc.Node{Kind: doc.Map}
		for _, key := range unionOf(a.order, b.order) {
			if param, ok := strings.CutPrefix(key, path+"."); ok && value(key) != nil {
				params.Set(param, value(key))
			}
		}
		item := doc.Text(name)
		if len(params.Pairs) > 0 {
			item = (&doc.Node{Kind: doc.Map}).Set(name, params)
		}
		list.Items = append(list.Items, item)
	}
	if len(list.Items) > 0 {
		root.Set(layersKey, list)
	}
	return root
}

// plant sets a value at a path, with the maps on the way.
func plant(root *doc.Node, path []string, n *doc.Node) {
	for _, key := range path[:len(path)-1] {
		next := root.Get(key)
		if next == nil || next.Kind != doc.Map { // where the other has no map, one of the two loses
			next = &doc.Node{Kind: doc.Map}
			root.Set(key, next)
		}
		root = next
	}
	if n.Kind == doc.Map { // an empty one, which must not become the other file's
		n = &doc.Node{Kind: doc.Map}
	}
	root.Set(path[len(path)-1], n)
}

// layerOrder is that of the layers of both: the first's, or the second's, with what
// only the other has behind what stands before it there.
func layerOrder(a, b leaves, second bool) []string {
	order, other := slices.Clone(a.layers), b.layers
	if second {
		order, other = slices.Clone(b.layers), a.layers
	}
	for i, name := range other {
		if slices.Contains(order, name) {
			continue
		}
		at := 0
		for j := i - 1; j >= 0 && at == 0; j-- {
			at = slices.Index(order, other[j]) + 1
		}
		order = slices.Insert(order, at, name)
	}
	return order
}
