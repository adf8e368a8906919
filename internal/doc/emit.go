package doc

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"bake/internal/lazy"
)

// A SizeError says that a document would be larger than any that is read.
type SizeError struct{ Bytes int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("the document has %d bytes, at most %d are read", e.Bytes, maxBytes)
}

// Emit writes a tree as block-style YAML that every reader understands alike.
// An error means that the tree holds something YAML cannot carry, such as
// bytes that are not UTF-8, or is a *SizeError; nothing is written then.
func Emit(n *Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(toYAML(n)); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("writing YAML: %w", err)
	}
	if out.Len() > maxBytes {
		return nil, &SizeError{out.Len()}
	}
	back, err := Parse("the document just written", out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("reading back what was written: %w", err)
	}
	if !n.Equal(back) {
		return nil, fmt.Errorf("writing YAML: the document would be read differently from what was meant")
	}
	return out.Bytes(), nil
}

// plainKey is a key that needs no quotes in any YAML version.
var plainKey = lazy.Regexp(`^[A-Za-z][A-Za-z0-9_.-]*$`)

func toYAML(n *Node) *yaml.Node {
	switch n.Kind {
	case Map:
		y := &yaml.Node{Kind: yaml.MappingNode}
		if len(n.Pairs) == 0 {
			y.Style = yaml.FlowStyle
		}
		for _, pair := range n.Pairs {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: pair.Key.Text}
			if !plainKey.MatchString(pair.Key.Text) || bool11.MatchString(pair.Key.Text) || pair.Key.Text == "null" {
				key.Style = yaml.DoubleQuotedStyle
			}
			y.Content = append(y.Content, key, toYAML(pair.Value))
		}
		return y
	case List:
		y := &yaml.Node{Kind: yaml.SequenceNode}
		if len(n.Items) == 0 {
			y.Style = yaml.FlowStyle
		}
		for _, item := range n.Items {
			y.Content = append(y.Content, toYAML(item))
		}
		return y
	case String:
		y := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: n.Text, Style: yaml.DoubleQuotedStyle}
		if literal(n.Text) {
			y.Style = yaml.LiteralStyle
		}
		return y
	case Null:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}
	}
	tag := map[Kind]string{Bool: "!!bool", Int: "!!int", Float: "!!float"}[n.Kind]
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: n.Text}
}

// literal reports whether text can stand as a literal block without anything
// that a reader cannot see or that readers treat differently: it has several
// lines, no leading blank, no trailing blanks, one newline at its end.
func literal(text string) bool {
	body, ok := strings.CutSuffix(text, "\n")
	if !ok || body == "" || strings.HasSuffix(body, "\n") || strings.HasPrefix(body, " ") || strings.HasPrefix(body, "\n") {
		return false
	}
	for line := range strings.SplitSeq(body, "\n") {
		if line != strings.TrimRight(line, " ") {
			return false
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				return false
			}
		}
	}
	return true
}
