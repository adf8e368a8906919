package doc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"bake/internal/diag"
)

const (
	maxBytes = 1 << 20 // a host file or layer is a page; anything near this is a mistake or an attack
	maxDepth = 64
	maxAlias = 100000 // values that aliases may multiply to, in a foreign document
)

// Read parses a file of a file system. The name is what messages call it. A
// missing file is fs.ErrNotExist; a symbolic link, a device or a directory is
// a problem, because what it points at can change between check and use.
func Read(fsys fs.FS, path, name string) (*Node, error) {
	info, err := fs.Lstat(fsys, path)
	if err != nil {
		return nil, called(name, err)
	}
	whole := diag.Position{File: name}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, diag.List{{Pos: whole, Message: "this is a symbolic link",
			Hint: "put the file itself here"}}
	case !info.Mode().IsRegular():
		return nil, diag.List{{Pos: whole, Message: "this is not a regular file"}}
	case info.Size() > maxBytes:
		return nil, diag.List{{Pos: whole, Message: fmt.Sprintf("the file has %d bytes, at most %d are read",
			info.Size(), maxBytes)}}
	}
	data, err := fs.ReadFile(fsys, path)
	if err != nil {
		return nil, called(name, err)
	}
	return Parse(name, data)
}

// called makes an error of a file system speak of the file by the name that
// the user knows.
func called(name string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return &fs.PathError{Op: at.Op, Path: name, Err: at.Err}
	}
	return err
}

// Parse reads one document. The error is a diag.List with every problem found.
func Parse(name string, data []byte) (*Node, error) {
	p := parser{name: name, lines: strings.Split(string(data), "\n")}
	if !p.checkBytes(data) {
		return nil, p.problems.Err()
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		p.syntax(err)
		return nil, p.problems.Err()
	}
	root := p.node(document.Content[0], "", 0)
	var second yaml.Node
	if err := decoder.Decode(&second); err == nil {
		at := p.at(second.Line, second.Column, 1)
		at.Message, at.Hint = "a second document starts here", "one file holds one document; remove the ---"
		p.problems.Add(at)
	} else if err.Error() != "EOF" {
		p.syntax(err)
	}
	if len(p.problems) > 0 {
		return nil, p.problems.Err()
	}
	return root, nil
}

type parser struct {
	name     string
	lines    []string
	problems diag.List
	foreign  *[]Oddity // what is odd and not refused; nil where it is
	aliases  int       // that are being followed, one within the other
	copies   int       // values that stand there because of an alias
	runes    []rune    // the characters of line number
	number   int
}

// bang reports whether a node is written with a tag. The library drops the
// bare one, which makes 12 text to PyYAML; a scalar cannot begin with it.
func (p *parser) bang(y *yaml.Node) bool {
	first := y.Kind == yaml.MappingNode && len(y.Content) > 0 && y.Content[0].Line == y.Line && y.Content[0].Column == y.Column
	if first || y.Line < 1 || y.Line > len(p.lines) { // a block map starts with its first key, and the tag is the key's
		return false
	}
	if p.number != y.Line { // nodes come in the order of the file
		p.number, p.runes = y.Line, []rune(p.lines[y.Line-1])
	}
	return y.Column >= 1 && y.Column <= len(p.runes) && p.runes[y.Column-1] == '!'
}

func (p *parser) at(line, col, width int) diag.Problem {
	problem := diag.Problem{Pos: diag.Position{File: p.name, Line: line, Col: col}, Width: width}
	if line > 0 && line <= len(p.lines) {
		problem.Source = p.lines[line-1]
	}
	return problem
}

func (p *parser) checkBytes(data []byte) bool {
	fail := func(offset int, message, hint string) bool {
		line := 1 + bytes.Count(data[:offset], []byte("\n"))
		start := bytes.LastIndexByte(data[:offset], '\n') + 1
		problem := p.at(line, 1+utf8.RuneCount(data[start:offset]), 1)
		problem.Message, problem.Hint = message, hint
		p.problems.Add(problem)
		return false
	}
	switch {
	case len(data) > maxBytes:
		return fail(0, fmt.Sprintf("the file has %d bytes, at most %d are read", len(data), maxBytes), "")
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		return fail(0, "the file starts with a byte order mark", "save it as UTF-8 without BOM")
	case len(bytes.TrimSpace(data)) == 0:
		return fail(0, "the file is empty", "")
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return fail(i, fmt.Sprintf("byte 0x%02x is not UTF-8", data[i]), "save the file as UTF-8")
		}
		lone := r == '\r' && !bytes.HasPrefix(data[i:], []byte("\r\n"))
		if lone || r < 0x20 && r != '\n' && r != '\t' && r != '\r' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return fail(i, fmt.Sprintf("control character U+%04X", r), `write it as an escape in double quotes, or remove it`)
		}
		i += size
	}
	return true
}

func (p *parser) node(y *yaml.Node, path string, depth int) *Node {
	n := &Node{Pos: diag.Position{File: p.name, Line: y.Line, Col: y.Column}, lines: p.lines}
	problem := func(hint, format string, args ...any) {
		p.problems.Add(n.Problem(path, hint, format, args...))
	}
	switch {
	case depth > maxDepth:
		problem("", "nested deeper than %d levels", maxDepth)
		return n
	case p.foreign != nil:
		return p.tolerant(y, path, depth)
	case y.Kind == yaml.AliasNode || y.Anchor != "":
		n.Kind = Null
		problem("write the value out where it is used", "anchors (&) and aliases (*) are not accepted")
		return n
	case y.Style&yaml.TaggedStyle != 0:
		n.Kind, n.Text = Null, y.Tag
		problem("leave the tag away; quote the value if it is text", "the tag %s is not accepted", y.Tag)
		return n
	case p.bang(y):
		n.Kind, n.Text = Null, "!"
		problem("leave the tag away; quote the value if it is text", "the tag ! is not accepted")
		return n
	}
	switch y.Kind {
	case yaml.SequenceNode:
		n.Kind = List
		for i, item := range y.Content {
			n.Items = append(n.Items, p.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
	case yaml.MappingNode:
		n.Kind = Map
		p.pairs(n, y, path, depth)
	default:
		n.Kind, n.Text = kindOf(y), y.Value
		if n.Kind == Null {
			n.Text = ""
		}
		if y.Style == 0 {
			if means := ambiguity(y); means != "" {
				problem(fmt.Sprintf("write %q in quotes if text is meant", y.Value), "%s %s", y.Value, means)
			}
		}
	}
	return n
}

func (p *parser) pairs(n *Node, y *yaml.Node, path string, depth int) {
	seen := map[string]int{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		name := y.Content[i].Value
		before := len(p.problems)
		key := p.node(y.Content[i], path, depth+1)
		at := Join(path, name)
		switch {
		case y.Content[i].Tag == "!!merge":
			p.problems = append(p.problems[:before], key.Problem(path, "write the keys out", "merge keys (<<) are not accepted"))
			continue
		case key.Kind != String && key.Kind != Null || key.Kind == Null && len(p.problems) == before:
			p.problems.Add(key.Problem(path, "put the key in quotes", "a key must be text, this is %s", key.Kind))
			continue
		case key.Kind == Null: // reported by node
			continue
		}
		if line, twice := seen[name]; twice {
			p.problems.Add(key.Problem(at, "remove one of the two", "duplicate key %q, first on line %d", name, line))
			continue
		}
		seen[name] = key.Pos.Line
		n.Pairs = append(n.Pairs, Pair{Key: key, Value: p.node(y.Content[i+1], at, depth+1)})
	}
}

func kindOf(y *yaml.Node) Kind {
	switch y.Tag {
	case "!!bool":
		return Bool
	case "!!int":
		return Int
	case "!!float":
		return Float
	case "!!null":
		return Null
	}
	return String
}
