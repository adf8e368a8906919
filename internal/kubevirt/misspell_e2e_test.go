//go:build e2e

package kubevirt

import (
	"testing"

	"gopkg.in/yaml.v3"
)

// A wrong document has one field whose name has a letter too many.
type wrong struct {
	field    string
	document []byte
}

// free are fields with keys of one's own.
var free = map[string]bool{"labels": true, "annotations": true, "data": true, "binaryData": true, "requests": true, "limits": true, "matchLabels": true}

// misspelt returns the document once for each field that it has, misspelt.
func misspelt(t *testing.T, document []byte) (all []wrong) {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(n *yaml.Node, path string)
	walk = func(n *yaml.Node, path string) {
		if n.Kind != yaml.MappingNode {
			for _, item := range n.Content {
				walk(item, path)
			}
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			name := key.Value
			at := path + "." + name
			if at != ".kind" && at != ".apiVersion" && at != ".metadata" { // by which it is known what it is
				key.Value = name + "x"
				text, err := yaml.Marshal(&root)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, wrong{at, text})
				key.Value = name
			}
			if !free[name] {
				walk(n.Content[i+1], at)
			}
		}
	}
	walk(&root, "")
	return all
}

// shorten leaves out what a Secret or a ConfigMap holds.
func shorten(t *testing.T, document []byte) []byte {
	t.Helper()
	var o object
	if err := yaml.Unmarshal(document, &o); err != nil {
		t.Fatal(err)
	}
	for _, m := range []map[string]string{o.Data, o.BinaryData} {
		for key := range m {
			m[key] = "eA=="
		}
	}
	text, err := yaml.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
