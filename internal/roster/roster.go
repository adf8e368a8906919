// Package roster makes host files of a list that somebody else keeps: CSV or JSON, one
// host after the other.
//
// CSV has a line of column names, then a line a host. JSON is a list of objects, or one
// object after the other. A column is a key of the host file:
//
//	host            the name; every host has one
//	machine.vcpus   a key in a map
//	groups[0]       the first entry of a list: layers, admin.keys, network.addresses too
//	labels.role     a label; what follows the first dot is its key, dots and all
//	allow.RULE      a reason
//
// An empty field, or null, is a key that the host has not.
//
// It promises:
//   - A value never becomes structure. Which keys there are is said by columns alone; a
//     value is a whole number, true or false where the key is one, and text elsewhere,
//     whatever is in it.
//   - Every value knows its place in the list, so that what is wrong with a host is
//     reported there.
//   - One host is held at a time.
//
// It refuses columns that no host file has, that name lists of maps or cloud-config, and
// lists or maps as values.
//
// # Decisions
//
// 2026-11: what many hosts share belongs into groups (a column groups[0]), and not into
// columns: a list says what differs.
package roster

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/lazy"
)

const (
	longest  = 64 << 10 // bytes of a value
	maxIndex = 63       // of a list
)

// An Entry is a host of a list.
type Entry struct {
	Name string // as the list has it, "" for none
	node *doc.Node
}

// Load resolves the host as host.Load does its file.
func (e Entry) Load(config string, shelf layer.Shelf) (*host.Host, error) {
	switch {
	case e.Name == "":
		return nil, diag.List{e.node.Problem("host", "give every host a name", "the key \"host\" is missing")}
	case !host.IsName(e.Name):
		return nil, diag.List{e.Problem("", "%q is no name for a host: want a-z, 0-9 and -, starting with a letter, at most 63", e.Name)}
	}
	return host.Resolve(config, e.Name, e.node, shelf)
}

// Text is the host's file.
func (e Entry) Text() ([]byte, error) { return doc.Emit(e.node) }

// Problem makes a problem that points at the name.
func (e Entry) Problem(hint, format string, args ...any) diag.Problem {
	return e.node.Get("host").Problem("host", hint, format, args...)
}

// Read calls do for each host of a list, which messages call by the name. The error is a
// diag.List of what is wrong with the list itself, that of do, or what reading said.
func Read(name string, from io.Reader, do func(Entry) error) error {
	return read(name, from, func(node *doc.Node) error {
		e := Entry{node: node}
		if at := node.Get("host"); at != nil {
			e.Name = at.Text
		}
		return do(e)
	})
}

func read(name string, from io.Reader, do func(node *doc.Node) error) error {
	in := bufio.NewReader(from)
	mark, _ := in.Peek(3) // a list may be shorter
	switch {
	case strings.HasPrefix(string(mark), "\xff\xfe"), strings.HasPrefix(string(mark), "\xfe\xff"):
		return problem(name, 1, 1, "", hintUTF8, "this is UTF-16")
	case string(mark) == "\ufeff": // which spreadsheets write
		_, _ = in.Discard(len(mark))
	}
	for {
		b, err := in.Peek(1)
		switch {
		case errors.Is(err, io.EOF):
			return diag.List{{Pos: diag.Position{File: name}, Message: "the list is empty"}}
		case err != nil:
			return err
		case b[0] == '{' || b[0] == '[':
			return readJSON(name, in, do)
		case !strings.ContainsRune(" \t\r\n", rune(b[0])):
			return readCSV(name, in, do)
		}
		_, _ = in.Discard(1) // blank lines count for no position: a list begins with what it is
	}
}

const (
	notUTF8  = "is not UTF-8"
	hintUTF8 = "save the list as UTF-8"
)

func problem(file string, line, col int, path, hint, format string, args ...any) diag.List {
	return diag.List{{Pos: diag.Position{File: file, Line: line, Col: col}, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint}}
}

func readCSV(name string, in io.Reader, do func(*doc.Node) error) error {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	syntax := func(err error) error {
		var parse *csv.ParseError
		if errors.As(err, &parse) {
			return problem(name, parse.Line, parse.Column, "", "", "%v", parse.Err)
		}
		return err
	}
	head, err := r.Read()
	if err != nil {
		return syntax(err)
	}
	var columns []column
	var problems diag.List
	for i, text := range slices.Clone(head) {
		line, col := r.FieldPos(i)
		c, why, hint := parseColumn(strings.TrimSpace(text))
		switch {
		case !utf8.ValidString(text):
			why, hint = "the name "+notUTF8, hintUTF8
		case why != "" && len(head) == 1 && strings.ContainsAny(text, ";\t"):
			hint = "between columns stand commas"
		}
		if why == "" && slices.ContainsFunc(columns, func(o column) bool { return o.text == c.text }) {
			why = "the column is there twice"
		}
		if why != "" {
			problems = append(problems, problem(name, line, col, c.text, hint, "%s", why)...)
		}
		columns = append(columns, c)
	}
	if len(problems) > 0 {
		return problems.Err()
	}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return syntax(err)
		}
		line, col := r.FieldPos(0)
		root := place(name, line, col)
		for i, text := range fields {
			if text == "" {
				continue
			}
			line, col := r.FieldPos(i)
			if err := columns[i].set(root, text, diag.Position{File: name, Line: line, Col: col}); err != nil {
				return err
			}
		}
		if err := do(root); err != nil {
			return err
		}
	}
}

func place(name string, line, col int) *doc.Node {
	return doc.At(doc.Map, "", diag.Position{File: name, Line: line, Col: col}, nil)
}

// counter knows on which line each byte is that was read, from a place on that moves.
type counter struct {
	from  io.Reader
	bytes int64
	lines []int64 // where lines begin
	first int     // number of the first of them

	cut []byte // of a character of which the rest has not come
	odd int64  // where the first byte is that is not UTF-8, 0 for none: a list begins with a bracket
}

// look finds what is not UTF-8, which the decoder would replace.
func (c *counter) look(b []byte) {
	at := c.bytes - int64(len(c.cut))
	b = append(c.cut, b...)
	for c.cut = nil; len(b) > 0 && c.odd == 0; {
		r, n := utf8.DecodeRune(b)
		switch {
		case r != utf8.RuneError || n > 1:
		case utf8.FullRune(b):
			c.odd = at
		default:
			c.cut = append(c.cut, b...)
			return
		}
		b, at = b[n:], at+int64(n)
	}
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.look(b[:n])
	for i, ch := range b[:n] {
		if ch == '\n' {
			c.lines = append(c.lines, c.bytes+int64(i)+1)
		}
	}
	c.bytes += int64(n)
	return n, err
}

func (c *counter) at(offset int64) (line, col int) {
	i, found := slices.BinarySearch(c.lines, offset)
	if !found {
		i--
	}
	i = max(i, 0)
	return c.first + i, max(int(offset-c.lines[i]), 0) + 1
}

// forget drops the lines before an offset.
func (c *counter) forget(offset int64) {
	i, found := slices.BinarySearch(c.lines, offset)
	if !found {
		i--
	}
	c.lines, c.first = append([]int64(nil), c.lines[i:]...), c.first+i
}

// reader reads one token after the other.
type reader struct {
	*json.Decoder
	count *counter
	name  string
}

func (r *reader) wrong(back int, path, hint, format string, args ...any) error {
	line, col := r.count.at(max(r.InputOffset()-int64(back), 0))
	return problem(r.name, line, col, path, hint, format, args...)
}

func (r *reader) next() (json.Token, error) {
	token, err := r.Token()
	if c := r.count; c.odd > 0 && (err != nil || c.odd < r.InputOffset()) {
		return nil, r.wrong(int(r.InputOffset()-c.odd), "", hintUTF8, "this %s", notUTF8)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, r.wrong(0, "", "", "this is no JSON: %v", err)
	}
	return token, err
}

func readJSON(name string, in io.Reader, do func(*doc.Node) error) error {
	c := &counter{from: in, lines: []int64{0}, first: 1}
	r := &reader{json.NewDecoder(c), c, name}
	r.UseNumber()
	isList := false
	for {
		token, err := r.next()
		if errors.Is(err, io.EOF) {
			if isList {
				return r.wrong(0, "", "", "the list does not end")
			}
			return nil
		}
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'):
			root, err := r.object()
			if err == nil {
				err = do(root)
			}
			if err != nil {
				return err
			}
			c.forget(r.InputOffset())
		case json.Delim('['):
			if isList {
				return r.wrong(1, "", "", "here is a list, want a host: {\"host\": \"zap\"}")
			}
			isList = true
		case json.Delim(']'):
			isList = false
		default:
			return r.wrong(1, "", "", "here is %v, want a host: {\"host\": \"zap\"}", token)
		}
	}
}

// object reads a host.
func (r *reader) object() (*doc.Node, error) {
	line, col := r.count.at(r.InputOffset() - 1)
	root := place(r.name, line, col)
	seen := map[string]bool{}
	for {
		token, err := r.next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = r.wrong(0, "", "", "the list ends in the midst of a host")
			}
			return nil, err
		}
		if token == json.Delim('}') {
			return root, nil
		}
		key, _ := token.(string)
		back := len(key) + 2
		c, why, hint := parseColumn(key)
		if why == "" && seen[key] {
			why = "the key is there twice"
		}
		if why != "" {
			return nil, r.wrong(back, key, hint, "%s", why)
		}
		seen[key] = true
		line, col := r.count.at(r.InputOffset() - int64(back))
		value, err := r.next()
		if err != nil {
			return nil, err
		}
		var text string
		switch v := value.(type) {
		case nil:
			continue
		case json.Delim:
			return nil, r.wrong(1, key, "write one key for each: machine.vcpus, groups[0]", "here is a list or a map, want a value")
		default:
			text = fmt.Sprint(v)
		}
		if text == "" {
			continue
		}
		if err := c.set(root, text, diag.Position{File: r.name, Line: line, Col: col}); err != nil {
			return nil, err
		}
	}
}

// column is a key of the host file, and what its values are.
type column struct {
	text  string
	path  []string
	index int // in a list, -1 for none
	form  string
}

var indexed = lazy.Regexp(`^(.+)\[([0-9]{1,3})\]$`)

// parseColumn reads a column's name; why says what is wrong with it.
func parseColumn(text string) (c column, why, hint string) {
	c = column{text: text, index: -1}
	key := text
	if m := indexed.FindStringSubmatch(text); m != nil {
		key = m[1]
		c.index, _ = strconv.Atoi(m[2]) // three digits
	}
	for _, free := range []string{"labels", "allow"} {
		if rest, ok := strings.CutPrefix(text, free+"."); ok && rest != "" {
			c.path, c.index, c.form = []string{free, rest}, -1, "text"
			return c, "", ""
		}
	}
	c.path = strings.Split(key, ".")
	var known []string
	for _, k := range host.Keys() {
		isList := strings.HasPrefix(k.Form, "list")
		if k.Form == "map" || k.Form == "list of maps" || k.Form == "list of pci or mdev" {
			continue
		}
		known = append(known, k.Path)
		if !matches(k.Path, c.path) {
			continue
		}
		c.form = k.Form
		switch {
		case isList && c.index < 0:
			return c, fmt.Sprintf("%s is a list", key), "name its entries, a column each: " + key + "[0]"
		case !isList && c.index >= 0:
			return c, fmt.Sprintf("%s is no list", key), "write " + key
		case c.index > maxIndex:
			return c, fmt.Sprintf("an entry has a number up to %d", maxIndex), ""
		}
		return c, "", ""
	}
	return c, fmt.Sprintf("%q is no key of a host file that a list can have", text), diag.DidYouMean(key, known)
}

// matches compares a column with a key, of which NAME is any word.
func matches(key string, path []string) bool {
	words := strings.Split(key, ".")
	return len(words) == len(path) && !slices.Contains(path, "") &&
		slices.EqualFunc(words, path, func(word, given string) bool { return word == given || word == "NAME" })
}

var wholeNumber = lazy.Regexp(`^(?:0|[1-9][0-9]{0,17})$`)

// set plants a value.
func (c column) set(root *doc.Node, text string, at diag.Position) error {
	if !utf8.ValidString(text) {
		return problem(at.File, at.Line, at.Col, c.text, hintUTF8, "the value %s", notUTF8)
	}
	if len(text) > longest {
		return problem(at.File, at.Line, at.Col, c.text, "", "the value has %d bytes, at most %d are read", len(text), longest)
	}
	kind := doc.String
	switch {
	case (c.form == "bool" || strings.HasSuffix(c.form, "true or false")) && (text == "true" || text == "false"):
		kind = doc.Bool
	case strings.HasPrefix(c.form, "int") && wholeNumber.MatchString(text):
		kind = doc.Int
	}
	value := doc.At(kind, text, at, nil)
	for i, key := range c.path {
		last := i == len(c.path)-1
		if last && c.index < 0 {
			root.Set(key, value)
			return nil
		}
		next := root.Get(key)
		if next == nil {
			next = doc.At(map[bool]doc.Kind{true: doc.List, false: doc.Map}[last], "", at, nil)
			root.Set(key, next)
		}
		root = next
	}
	if c.index != len(root.Items) {
		return problem(at.File, at.Line, at.Col, c.text, fmt.Sprintf("the next is number %d; columns stand in their order", len(root.Items)),
			"entry %d of a list that has %d", c.index, len(root.Items))
	}
	root.Items = append(root.Items, value)
	return nil
}
