package doc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"bake/internal/diag"
	"bake/internal/lazy"
)

// An Oddity is something in a foreign document that is legal, and not what its
// author thinks.
type Oddity struct {
	Kind    OddityKind
	Problem diag.Problem
}

// OddityKind tells oddities apart.
type OddityKind string

// The kinds of oddity.
const (
	Duplicate OddityKind = "duplicate" // a key twice in one map: the last one counts
	Ambiguous OddityKind = "ambiguous" // text that PyYAML reads as a number, a date or nothing
)

// Foreign reads a document that is not bake's own, as PyYAML does: aliases,
// merge keys and tags mean what they mean, the last of two equal keys counts,
// yes is true. What its author may not have meant comes as oddities. An empty
// document is a Null node. The error is a diag.List, of what PyYAML refuses too.
func Foreign(name string, data []byte) (*Node, []Oddity, error) {
	return foreign(name, data, strings.Split(string(data), "\n"))
}

// masked are the braces of an expression, which begin a map in YAML, and what stands
// for them while it is read: characters of the same number, so that places stay.
var (
	masked   = strings.NewReplacer("{{", "\ue000\ue000", "}}", "\ue001\ue001")
	unmasked = strings.NewReplacer("\ue000\ue000", "{{", "\ue001\ue001", "}}")
	// statement is what a template engine takes out.
	statement = lazy.Regexp(`(?s)\{%.*?%\}|\{#.*?#\}`)
)

// Template is Foreign for a document that a template engine reads first. What stands in
// statements is not there, and expressions stay as they are.
func Template(name string, data []byte) (*Node, []Oddity, error) {
	blank := func(text string) string {
		return strings.Map(func(r rune) rune {
			if r == '\n' {
				return r
			}
			return ' '
		}, text)
	}
	text := masked.Replace(statement.ReplaceAllStringFunc(string(data), blank))
	root, odd, err := foreign(name, []byte(text), strings.Split(string(data), "\n"))
	if root != nil {
		root.unmask(map[*Node]bool{})
	}
	return root, odd, err
}

func (n *Node) unmask(done map[*Node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	n.Text = unmasked.Replace(n.Text)
	for _, item := range n.Items {
		item.unmask(done)
	}
	for _, pair := range n.Pairs {
		pair.Key.unmask(done)
		pair.Value.unmask(done)
	}
}

func foreign(name string, data []byte, lines []string) (*Node, []Oddity, error) {
	var odd []Oddity
	p := parser{name: name, lines: lines, foreign: &odd}
	empty := &Node{Kind: Null, Pos: diag.Position{File: name, Line: 1, Col: 1}, lines: p.lines}
	if len(bytes.TrimSpace(data)) == 0 {
		return empty, nil, nil
	}
	if !p.checkBytes(data) {
		return nil, nil, p.problems.Err()
	}
	var document yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return empty, nil, nil
	case err != nil:
		p.syntax(err)
		return nil, nil, p.problems.Err()
	}
	root := p.node(document.Content[0], "", 0)
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		at := p.at(second.Line, second.Column, 1)
		at.Message, at.Hint = "a second document starts here, and PyYAML refuses both", "one file holds one document; remove the ---"
		p.problems.Add(at)
	}
	if len(p.problems) > 0 {
		return nil, odd, p.problems.Err()
	}
	return root, odd, nil
}

// tolerant is node for a foreign document.
func (p *parser) tolerant(y *yaml.Node, path string, depth int) *Node {
	n := &Node{Pos: diag.Position{File: p.name, Line: y.Line, Col: y.Column}, lines: p.lines}
	note := func(kind OddityKind, at *Node, hint, format string, args ...any) {
		*p.foreign = append(*p.foreign, Oddity{kind, at.Problem(path, hint, format, args...)})
	}
	if p.aliases > 0 {
		if p.copies++; p.copies == maxAlias+1 {
			p.problems.Add(n.Problem(path, "", "aliases multiply to more than %d values", maxAlias))
		}
		if p.copies > maxAlias {
			return n
		}
	}
	switch y.Kind {
	case yaml.AliasNode: // the depth ends an alias within itself
		p.aliases++
		target := p.node(y.Alias, path, depth+1)
		p.aliases--
		copied := *target
		copied.Pos = n.Pos
		return &copied
	case yaml.SequenceNode:
		n.Kind = List
		for i, item := range y.Content {
			n.Items = append(n.Items, p.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.MappingNode:
		n.Kind = Map
		var merged []*Node
		places := map[string]int{}
		for i := 0; i+1 < len(y.Content); i += 2 {
			key := p.node(y.Content[i], path, depth+1)
			value := p.node(y.Content[i+1], Join(path, key.Text), depth+1)
			if y.Content[i].Tag == "!!merge" {
				merged = append(merged, value)
				continue
			}
			key.Kind = String
			if at, twice := places[key.Text]; twice {
				note(Duplicate, key, "keep one of the two", "the key %q stands here twice: the last one counts, the others are dropped", key.Text)
				n.Pairs[at] = Pair{key, value}
				continue
			}
			places[key.Text] = len(n.Pairs)
			n.Pairs = append(n.Pairs, Pair{key, value})
		}
		for _, from := range merged {
			n.inherit(from, places)
		}
	default:
		n.Kind, n.Text = kindOf(y), y.Value
		switch {
		case y.Style&yaml.TaggedStyle != 0 || y.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		case bool11.MatchString(y.Value):
			n.Kind, n.Text = Bool, "false"
			if strings.Contains("yestrueon", strings.ToLower(y.Value)) {
				n.Text = "true"
			}
		case base60.MatchString(y.Value), time11.MatchString(y.Value), y.Value == "=":
			note(Ambiguous, n, "put it in quotes", "%s %s", y.Value, ambiguity(y))
			if base60.MatchString(y.Value) {
				n.Kind = Int
			}
		case int11.MatchString(y.Value):
			n.Kind = Int
			if len(y.Value) > 1 && y.Value[0] == '0' && strings.Trim(y.Value, "01234567_") == "" && !strings.HasSuffix(path, "permissions") { // of which lint says more
				octal, _ := strconv.ParseInt(strings.ReplaceAll(y.Value, "_", ""), 8, 64)
				note(Ambiguous, n, "put it in quotes, or leave the 0 away", "%s is read in octal, as %d", y.Value, octal)
			}
		case n.Kind == Int: // 0o600 is text to PyYAML
			n.Kind = String
		}
		if n.Kind == Null {
			n.Text = ""
		}
	}
	return n
}

// inherit takes over what a merge key refers to: maps, whose keys do not replace
// those that are there, whose places are known.
func (n *Node) inherit(from *Node, places map[string]int) {
	for _, item := range from.Items {
		n.inherit(item, places)
	}
	for _, pair := range from.Pairs {
		if _, ok := places[pair.Key.Text]; !ok {
			places[pair.Key.Text] = len(n.Pairs)
			n.Pairs = append(n.Pairs, pair)
		}
	}
}

// lineOf returns a line of a text, without splitting all of it: whoever asks for one asks
// for the next, too.
func lineOf(text string, line int) (string, bool) {
	for ; line > 0; line-- {
		end := strings.IndexByte(text, '\n')
		if end < 0 {
			return "", false
		}
		text = text[end+1:]
	}
	before, _, _ := strings.Cut(text, "\n")
	return before, true
}

// Block returns the lines of a text that is written as a block, as they stand in the file;
// nil for one that is not.
func (n *Node) Block() []string {
	if n.Pos.Line < 1 || n.Pos.Line > len(n.lines) {
		return nil
	}
	head := n.lines[n.Pos.Line-1]
	if n.Pos.Col > len(head) || head[n.Pos.Col-1] != '|' && head[n.Pos.Col-1] != '>' {
		return nil
	}
	depth := func(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
	var out []string
	for _, line := range n.lines[n.Pos.Line:] {
		if strings.TrimSpace(line) != "" && depth(line) <= depth(head) {
			break
		}
		out = append(out, line)
	}
	for len(out) > 0 && strings.TrimSpace(out[len(out)-1]) == "" {
		out = out[:len(out)-1]
	}
	return out
}

// After returns the line of the file that follows the one on which a text begins, and whether
// the text is written without quotes and not as a block.
func (n *Node) After() (line string, plain bool) {
	if n.Pos.Line < 1 || n.Pos.Line >= len(n.lines) {
		return "", false
	}
	head := []rune(n.lines[n.Pos.Line-1])
	if n.Pos.Col > len(head) || strings.ContainsRune(`"'|>`, head[n.Pos.Col-1]) {
		return "", false
	}
	return n.lines[n.Pos.Line], true
}

// Inside returns where a character of a text's line is in the file, line and
// column counted from 0, and the file's line. For a text that is not written
// line by line, it is where the text begins.
func (n *Node) Inside(line, col int) (diag.Position, string) {
	if text, ok := lineOf(n.Text, line); ok && text != "" {
		for _, skip := range []int{1, 0} { // after the | of a block, or on the line itself
			at := n.Pos.Line - 1 + skip + line
			if n.Pos.Line < 1 || at >= len(n.lines) {
				continue
			}
			if start := strings.Index(n.lines[at], text); start >= 0 && (skip == 1 || start+1 >= n.Pos.Col) {
				before := len([]rune(n.lines[at][:start]))
				return diag.Position{File: n.Pos.File, Line: at + 1, Col: before + 1 + col}, n.lines[at]
			}
		}
	}
	source := ""
	if n.Pos.Line > 0 && n.Pos.Line <= len(n.lines) {
		source = n.lines[n.Pos.Line-1]
	}
	return n.Pos, source
}
