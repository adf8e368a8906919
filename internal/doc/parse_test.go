package doc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"bake/internal/diag"
)

// refused wants a list of problems whose first is at the position and says the
// words.
func refused(t *testing.T, input string, err error, line, col int, words string) {
	t.Helper()
	var list diag.List
	if !errors.As(err, &list) || len(list) == 0 {
		t.Errorf("%.60q: %v, want a diag.List", input, err)
		return
	}
	if p := list[0]; p.Pos != (diag.Position{File: "f.yaml", Line: line, Col: col}) || !strings.Contains(p.Message, words) {
		t.Errorf("%.60q: %s: %s\nwant f.yaml:%d:%d: ...%s...", input, p.Pos, p.Message, line, col, words)
	}
}

// Each refusal of the package comment, with its place.
func TestParseRefuses(t *testing.T) {
	deep := strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1)
	for _, test := range []struct {
		input     string
		line, col int
		words     string
	}{
		{"a: 1\nb: 2\na: 3\n", 3, 1, `duplicate key "a", first on line 1`},
		{"m: {x: 1, x: 2}", 1, 11, `duplicate key "x", first on line 1`},
		{"\"a\": 1\na: 2", 2, 1, `duplicate key "a"`},
		{"1: x", 1, 1, "a key must be text, this is a whole number"},
		{"a:\n  true: x", 2, 3, "a key must be text, this is true or false"},
		{"1.5: x", 1, 1, "a key must be text"},
		{"null: x", 1, 1, "a key must be text, this is nothing"},
		{"a: {~: x}", 1, 5, "a key must be text, this is nothing"},
		{"a: {? : x}", 1, 7, "a key must be text, this is nothing"},
		{"? [a]\n: x", 1, 3, "a key must be text, this is a list"},
		{"{a: b}: x", 1, 1, "a key must be text, this is a map"},
		{"yes: x", 1, 1, "true or false by YAML 1.1"},
		{"a: 1\n---\nb: 2\n", 2, 1, "a second document"},
		{"a: 1\n---\n", 2, 1, "a second document"},
		{"", 1, 1, "empty"},
		{" \n\t\n", 1, 1, "empty"},
		{"# only\n# comments\n", 1, 1, "only comments"},
		{"a: &x 1", 1, 4, "anchors (&) and aliases (*)"},
		{"a: &x 1\nb: *x", 1, 4, "anchors (&) and aliases (*)"},
		{"&x a: 1", 1, 1, "anchors (&) and aliases (*)"},
		{"a: [1, &x {b: c}]", 1, 8, "anchors (&) and aliases (*)"},
		{"<<: {a: b}", 1, 1, "merge keys (<<)"},
		{"a:\n  <<: [{a: b}]", 2, 3, "merge keys (<<)"},
		{"a: !!str 1", 1, 4, "the tag !!str"},
		{"a: !x 1", 1, 4, "the tag !x"},
		{"a: !<tag:yaml.org,2002:str> 1", 1, 4, "the tag"},
		{"a: !!python/object/apply:os.system [id]", 1, 4, "the tag !!python/object/apply:os.system"},
		{"a: ! 12", 1, 4, "the tag !"},
		{"ä: [ö, ! {b: c}]", 1, 8, "the tag !"},
		{"a: !!binary aGk=", 1, 4, "the tag !!binary"},
		{"!!str a: 1", 1, 1, "the tag !!str"},
		{"\ufeffa: 1", 1, 1, "byte order mark"},
		{"a: x\nb: \"é\xff\"", 2, 6, "byte 0xff is not UTF-8"},
		{"a: \xed\xa0\x80", 1, 4, "byte 0xed is not UTF-8"}, // a surrogate
		{"a: x\x00", 1, 5, "control character U+0000"},
		{"# é\x1b[2K", 1, 4, "control character U+001B"},
		{"a: \x7f", 1, 4, "control character U+007F"},
		{"a: b\u0085c: d", 1, 5, "control character U+0085"},
		{"# a\u2028b: c", 1, 4, "control character U+2028"},
		{"# a\u2029b: c", 1, 4, "control character U+2029"},
		{"# a\rruncmd: [id]\n", 1, 4, "control character U+000D"},
		{"a: b\r", 1, 5, "control character U+000D"},
		{strings.Repeat("#", maxBytes) + "\n", 1, 1, "at most 1048576 are read"},
		{deep, 1, maxDepth + 2, ""},
		{"a: [1", 1, 1, "not valid YAML"},
		{"a: 'x", 1, 1, "not valid YAML"},
		{"a: b: c", 1, 1, "not valid YAML"},
		{"a:\n\tb: 1", 2, 2, "not valid YAML"},
		{"a: *nowhere", 1, 1, "not valid YAML"},
		{"a: @x", 1, 1, "not valid YAML"},
	} {
		if test.input == deep { // the list in the list in ... 64 lists
			test.col, test.words = maxDepth+2, "nested deeper than 64 levels"
			test.input = "[" + deep + "]"
		}
		_, err := Parse("f.yaml", []byte(test.input))
		refused(t, test.input, err, test.line, test.col, test.words)
	}
}

// The limits themselves are still good.
func TestParseLimits(t *testing.T) {
	for _, input := range []string{
		strings.Repeat("[", maxDepth) + "x" + strings.Repeat("]", maxDepth),
		"a: x " + strings.Repeat("#", maxBytes-5),
		"a: b\r\nc: |\r\n  d\r\n",
		"%YAML 1.1\n---\na: b\n...\n",
	} {
		if _, err := Parse("f.yaml", []byte(input)); err != nil {
			t.Errorf("%.40q: %v", input, err)
		}
	}
}

// traps are plain scalars which PyYAML, or it and YAML 1.2, take for something
// else than the text they are.
var traps = map[string]string{
	"yes": "true or false", "Yes": "true or false", "NO": "true or false", "on": "true or false",
	"Off": "true or false", "True": "true or false", "FALSE": "true or false",
	"0644": "different numbers", "0o644": "different numbers", "08": "different numbers", "+1": "different numbers",
	"0x1F": "different numbers", "0b101": "different numbers", "1_000": "different numbers", "1_0.5": "different numbers",
	"1e3": "different numbers", "1.5e+3": "different numbers", "1.": "different numbers", ".5": "different numbers",
	".inf": "different numbers", "-.INF": "different numbers", ".nan": "different numbers",
	"1234567890123456789": "different numbers",
	"22:22":               "base 60", "-1:30": "base 60", "190:20:30": "base 60", "190:20:30.15": "base 60",
	"52:54:00:12:34:56": "base 60",
	"2026-11-22":        "a date", "2026-1-2 10:00:00": "a date", "2026-11-22T10:00:00Z": "a date",
	"=": "a meaning of its own", "<<": "a meaning of its own", "Null": "a meaning of its own", "NULL": "a meaning of its own",
}

func TestTraps(t *testing.T) {
	for text, words := range traps {
		for _, form := range []string{"a: %s", "a: [x, %s]", "%s"} {
			input := fmt.Sprintf(form, text)
			col := strings.Index(input, text) + 1
			_, err := Parse("f.yaml", []byte(input))
			refused(t, input, err, 1, col, words)
		}
		for _, form := range []string{`a: "%s"`, "a: '%s'", "a: |-\n  %s\n", "a: >-\n  %s\n"} {
			n, err := Parse("f.yaml", fmt.Appendf(nil, form, text))
			if err != nil || !n.Get("a").Equal(Text(text)) {
				t.Errorf("%s quoted: %v, %v", text, n, err)
			}
		}
		if n, err := Parse("f.yaml", fmt.Appendf(nil, "%q: x", text)); err != nil || n.Get(text) == nil {
			t.Errorf("%s as a quoted key: %v, %v", text, n, err)
		}
	}
}

func TestScalars(t *testing.T) {
	for text, want := range map[string]Node{
		"true": {Kind: Bool, Text: "true"}, "false": {Kind: Bool, Text: "false"},
		"null": {Kind: Null}, "~": {Kind: Null}, "": {Kind: Null},
		"0": {Kind: Int, Text: "0"}, "-7": {Kind: Int, Text: "-7"}, "123456789012345678": {Kind: Int, Text: "123456789012345678"},
		"1.5": {Kind: Float, Text: "1.5"}, "-0.25": {Kind: Float, Text: "-0.25"},
		"x": {Kind: String, Text: "x"}, `"1"`: {Kind: String, Text: "1"}, "''": {Kind: String},
		"y": {Kind: String, Text: "y"}, "1.2.3": {Kind: String, Text: "1.2.3"}, "3GiB": {Kind: String, Text: "3GiB"},
		"192.0.2.1/24": {Kind: String, Text: "192.0.2.1/24"}, "52:54:00:ab:cd:ef": {Kind: String, Text: "52:54:00:ab:cd:ef"},
		"2001:db8::1": {Kind: String, Text: "2001:db8::1"}, "a!": {Kind: String, Text: "a!"}, `"!"`: {Kind: String, Text: "!"},
		"[]": {Kind: List}, "{}": {Kind: Map},
	} {
		n, err := Parse("f.yaml", []byte("a: "+text))
		if err != nil || !n.Get("a").Equal(&want) {
			t.Errorf("%s: %+v, %v, want %+v", text, n, err, want)
		}
	}
}

// Every node knows its place, counted in characters.
func TestPositions(t *testing.T) {
	n, err := Parse("f.yaml", []byte("# ä\nö: {é: [ü, b]}\nm:\n  - k: v\n    l: |\n      x\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]struct {
		n         *Node
		line, col int
	}{
		"document":   {n, 2, 1},
		"key":        {n.Pairs[0].Key, 2, 1},
		"flow map":   {n.Get("ö"), 2, 4},
		"inner key":  {n.Get("ö").Pairs[0].Key, 2, 5},
		"item":       {n.Get("ö").Get("é").Items[1], 2, 12},
		"block list": {n.Get("m"), 4, 3},
		"block map":  {n.Get("m").Items[0], 4, 5},
		"literal":    {n.Get("m").Items[0].Get("l"), 5, 8},
	} {
		if want := (diag.Position{File: "f.yaml", Line: at.line, Col: at.col}); at.n.Pos != want {
			t.Errorf("%s: %s, want %s", name, at.n.Pos, want)
		}
	}
}

// All problems of a file come in one list.
func TestManyProblems(t *testing.T) {
	_, err := Parse("f.yaml", []byte("a: yes\nb: &x 0644\nc: !!int 1\na: 22:22\n---\nz: 1\n"))
	var list diag.List
	if !errors.As(err, &list) || len(list) != 5 {
		t.Errorf("%v, want 5 problems", err)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"good.yaml":   func(path string) error { return os.WriteFile(path, []byte("a: b\n"), 0o600) },
		"link.yaml":   func(path string) error { return os.Symlink("good.yaml", path) },
		"loop.yaml":   func(path string) error { return os.Symlink("loop.yaml", path) },
		"folder.yaml": func(path string) error { return os.Mkdir(path, 0o700) },
		"fifo.yaml":   func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"large.yaml":  func(path string) error { return os.WriteFile(path, make1MiB(), 0o600) },
	} {
		if err := make(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, words := range map[string]string{
		"good.yaml": "", "link.yaml": "symbolic link", "loop.yaml": "symbolic link",
		"folder.yaml": "not a regular file", "fifo.yaml": "not a regular file", "large.yaml": "at most 1048576 are read",
	} {
		n, err := Read(os.DirFS(dir), name, "hosts/"+name)
		var list diag.List
		switch {
		case words == "":
			if err != nil || n.Get("a").Text != "b" || n.Pos.File != "hosts/"+name {
				t.Errorf("%s: %v, %v", name, n, err)
			}
		case !errors.As(err, &list) || !strings.Contains(err.Error(), words) || list[0].Pos != (diag.Position{File: "hosts/" + name}):
			t.Errorf("%s: %v, want %s", name, err, words)
		}
	}
	if _, err := Read(os.DirFS(dir), "absent.yaml", "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want %v", err, fs.ErrNotExist)
	}
	if n, err := Read(fstest.MapFS{"f": {Data: []byte("a: b")}}, "f", "f"); err != nil || n.Get("a") == nil {
		t.Errorf("a file system without links: %v, %v", n, err)
	}
}

func make1MiB() []byte { return []byte("a: b " + strings.Repeat("#", maxBytes)) }

func FuzzParse(f *testing.F) {
	for text := range traps {
		f.Add([]byte("a: " + text))
	}
	for _, input := range []string{"null: 1", "a: ! 12", "? [a]\n: {b: c}", "a: |+\n\n x\n\n", "a: >\n  b\n\n  c", "{a: [b, {c: d}]}",
		"a: &x [*x]", "a:\r\n- b\r\n", "%YAML 1.2\n---\na", "\"\\u0000\\e\\N\\L\": '\\'", "#", "---", "- - - x", "? a"} {
		f.Add([]byte(input))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse("f.yaml", data)
		var list diag.List
		if err != nil {
			if !errors.As(err, &list) || list[0].Pos.Line < 1 || list[0].Pos.Col < 1 {
				t.Fatalf("%#v is no list of problems with a place", err)
			}
			return
		}
		out, err := Emit(n)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := Parse("f.yaml", out)
		if err != nil || !back.Equal(n) {
			t.Fatalf("%q is read otherwise: %v", out, err)
		}
	})
}

// TestForeignBomb: what aliases multiply to in a foreign document is bounded; a document
// that is as large without them is not.
func TestForeignBomb(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 5 {
		bomb += fmt.Sprintf("a%[2]d: &a%[2]d [*a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d, *a%[1]d]\n", i, i+1)
	}
	merge := "m0: &m0 {x: 1}\n"
	for i := range 7 {
		merge += fmt.Sprintf("m%[2]d: &m%[2]d {<<: [*m%[1]d, *m%[1]d, *m%[1]d, *m%[1]d, *m%[1]d, *m%[1]d]}\n", i, i+1)
	}
	for name, text := range map[string]string{"lists": bomb, "merge keys": merge, "itself": "a: &a [*a, *a]\n"} {
		_, _, err := Foreign("f", []byte(text))
		var list diag.List
		switch {
		case !errors.As(err, &list):
			t.Errorf("%s: %v", name, err)
		case name == "itself": // the depth ends it
		case len(list) != 1 || !strings.Contains(list[0].Message, "aliases multiply to more than"):
			t.Errorf("%s: %d problems, first %s", name, len(list), list[0].Message)
		}
	}
	large := "a: [" + strings.Repeat("x,", 2*maxAlias) + "x]\nb: &b [x, y]\nc: *b\n"
	if n, _, err := Foreign("f", []byte(large)); err != nil || len(n.Get("c").Items) != 2 {
		t.Error(err)
	}
}
