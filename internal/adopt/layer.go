package adopt

import (
	"fmt"
	"strings"

	"bake/internal/cloudinit"
	"bake/internal/doc"
)

// layer is one in the making.
type layer struct {
	name     string
	part     cloudinit.Part
	packages *doc.Node
	special  *doc.Node // the key files
	config   *doc.Node
	tree     []File
	has      map[string]bool // guest paths
}

func newLayer(name string, part cloudinit.Part) *layer {
	return &layer{name: name, part: part, packages: &doc.Node{Kind: doc.List}, special: &doc.Node{Kind: doc.Map},
		config: &doc.Node{Kind: doc.Map}, has: map[string]bool{}}
}

// file puts a file into the layer's tree. Mode, owner and when may be empty.
func (l *layer) file(target, mode, owner, when string, content []byte) {
	l.has[target] = true
	l.tree = append(l.tree, File{"layers/" + l.name + "/files" + target, 0o644, content})
	special := &doc.Node{Kind: doc.Map}
	for _, pair := range [][3]string{{"mode", mode, "0644"}, {"owner", owner, "root:root"}, {"when", when, "early"}} {
		if pair[1] != "" && pair[1] != pair[2] {
			special.Set(pair[0], doc.Text(pair[1]))
		}
	}
	if len(special.Pairs) > 0 {
		l.special.Set(target, special)
	}
}

// files are layer.yaml and the tree.
func (l *layer) files() ([]File, error) {
	words := (&doc.Node{Kind: doc.Map}).
		Set("layer", doc.Text(l.name)).
		Set("summary", doc.Text(fmt.Sprintf("Imported from the part %s of foreign user-data.", printable(l.part.Name)))).
		Set("threat", doc.Text("none"))
	for _, key := range []struct {
		name string
		node *doc.Node
	}{{"packages", l.packages}, {"files", l.special}, {"cloud-config", l.config}} {
		if len(key.node.Items)+len(key.node.Pairs) > 0 {
			words.Set(key.name, key.node)
		}
	}
	text, err := doc.Emit(words)
	if err != nil {
		return nil, fmt.Errorf("writing the layer %s: %w", l.name, err)
	}
	return append([]File{{"layers/" + l.name + "/layer.yaml", 0o644, text}}, l.tree...), nil
}

// printable keeps letters, digits and the usual signs of a name.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f {
			return r
		}
		return '_'
	}, name)
}
