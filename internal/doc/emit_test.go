package doc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// nasty are strings which some reader of YAML takes for something else, or
// cannot take at all unless they are escaped.
func nasty() []string {
	texts := []string{
		"", " ", "a", "-", "- a", "? a", ": ", "a: b", "a #b", "#", "{", "}", "[", "]", "{{.x}}", "((x))", "$((x))", "&a", "*a", "!a", "|", ">", "%", "@", "`id`", "$(id)",
		"'", `"`, `\`, `\n`, "---", "...", "--- a", "\n", "\n\n", "a\n", "a\n\n", "\na\n", " a\n", "a \n", "a\nb", "a\nb\n", "a\n\nb\n",
		"a\n---\nb\n", "a\n...\n", "a\n# b\n", "a\n\tb\n", "\ta", "a\r\nb\r\n", "\r", "a\rb\n", "\x00", "\x1b[31m", "\a\b\f\v", "\x7f", "\u0080", "\u0085", "\u00a0", "\u2028", "\u2029",
		"\u202eabc", "\ufeff", "a\ufeffb\n", "\ufffd", "\ufffe", "\uffff", "\ue000", "\U0001f600", "\U0010ffff", "e\u0301", "ä\nö\n",
		"null", "~", "true", "y", "n", "key: |\n  x\n", strings.Repeat("x", 5000), strings.Repeat("word ", 500), strings.Repeat("a b\n", 300), "END\nEND_\n",
	}
	for text := range traps {
		texts = append(texts, text, text+"\n")
	}
	return texts
}

// tree holds a text in every place that a text can have.
func tree(key, text string) *Node {
	return (&Node{Kind: Map}).
		Set("value", Text(text)).
		Set("list", Words(text, "between", text)).
		Set("map", (&Node{Kind: Map}).Set(key, (&Node{Kind: List, Items: []*Node{(&Node{Kind: Map}).Set(key, Text(text)), Words(text)}}))).
		Set("last", Text(text))
}

func TestEmitRoundTrip(t *testing.T) {
	for _, text := range nasty() {
		n := tree(text, text)
		out, err := Emit(n)
		if err != nil {
			t.Errorf("%.40q: %v", text, err)
			continue
		}
		back, err := Parse("f.yaml", out)
		if err != nil || !back.Equal(n) {
			t.Errorf("%.40q is read back otherwise from %q: %v", text, out, err)
		}
		if again, err := Emit(back); err != nil || !bytes.Equal(again, out) {
			t.Errorf("%.40q: other bytes the second time: %v", text, err)
		}
	}
}

// The exact look: what an auditor reads, and what golden files depend on.
func TestEmitLook(t *testing.T) {
	n := (&Node{Kind: Map}).
		Set("plain", Text("text")).
		Set("on", Text("yes")).
		Set("null", Text("null")).
		Set("a key", Text("a \"quoted\" \\ text")).
		Set("script", Text("#!/bin/sh\nset -eu\n")).
		Set("tab", Text("a\tb\n")).
		Set("trailing", Text("a \n")).
		Set("number", &Node{Kind: Int, Text: "42"}).
		Set("yes", &Node{Kind: Bool, Text: "true"}).
		Set("nothing", &Node{Kind: Null}).
		Set("half", &Node{Kind: Float, Text: "0.5"}).
		Set("list", &Node{Kind: List, Items: []*Node{Words("a"), {Kind: List}, {Kind: Map}}})
	out, err := Emit(n)
	if err != nil {
		t.Fatal(err)
	}
	want := `plain: "text"
"on": "yes"
"null": "null"
"a key": "a \"quoted\" \\ text"
script: |
  #!/bin/sh
  set -eu
tab: "a\tb\n"
trailing: "a \n"
number: 42
"yes": true
nothing: null
half: 0.5
list:
  - - "a"
  - []
  - {}
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
}

// A tree that YAML cannot carry is an error, not a different document.
func TestEmitRefuses(t *testing.T) {
	deep := Text("x")
	for range maxDepth + 1 {
		deep = &Node{Kind: List, Items: []*Node{deep}}
	}
	for name, n := range map[string]*Node{
		"not UTF-8":        Text("a\xff"),
		"key not UTF-8":    (&Node{Kind: Map}).Set("a\xff", Text("x")),
		"octal number":     {Kind: Int, Text: "0644"},
		"no number":        {Kind: Int, Text: "x"},
		"other boolean":    {Kind: Bool, Text: "yes"},
		"exponent":         {Kind: Float, Text: "1e3"},
		"null with a text": {Kind: Null, Text: "x"},
		"too deep":         deep,
		"too long":         Text(strings.Repeat("x", maxBytes)),
		"twice one key":    {Kind: Map, Pairs: []Pair{{Text("a"), Text("b")}, {Text("a"), Text("c")}}},
	} {
		if out, err := Emit(n); err == nil || out != nil {
			t.Errorf("%s: %.60q, %v, want an error", name, out, err)
		}
	}
}

func FuzzEmit(f *testing.F) {
	for _, text := range nasty() {
		f.Add(text, text)
	}
	f.Add("key", "\xff")
	f.Fuzz(func(t *testing.T, key, text string) {
		n := tree(key, text)
		out, err := Emit(n)
		if err != nil {
			if utf8.ValidString(key) && utf8.ValidString(text) && len(key+text) < maxBytes/100 {
				t.Fatalf("%q, %q: %v", key, text, err)
			}
			return
		}
		back, err := Parse("f.yaml", out)
		if err != nil || !back.Equal(n) {
			t.Fatalf("%q, %q are read back otherwise from %q: %v", key, text, out, err)
		}
	})
}

// python runs a program with PyYAML, cloud-init's reader of YAML. Without it
// the test is skipped, but not where CI=true.
func python(t *testing.T, program string, input []byte) []byte {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", "import yaml").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("python3-yaml is missing: %v: %s", err, out)
		}
		t.Skipf("python3-yaml is missing: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", program)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	return out
}

// value is what a reader should make of a tree, in the types of encoding/json.
func value(n *Node) any {
	switch n.Kind {
	case Map:
		m := map[string]any{}
		for _, pair := range n.Pairs {
			m[pair.Key.Text] = value(pair.Value)
		}
		return m
	case List:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, value(item))
		}
		return list
	case Bool:
		return n.Text == "true"
	case Int, Float:
		return json.Number(n.Text)
	case Null:
		return nil
	}
	return n.Text
}

const load = `import sys, json, yaml
print(json.dumps([yaml.safe_load(d) for d in json.load(sys.stdin)]))`

// pyYAML reads documents as PyYAML does.
func pyYAML(t *testing.T, documents []string) []any {
	t.Helper()
	input, err := json.Marshal(documents)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(python(t, load, input)))
	decoder.UseNumber()
	var read []any
	if err := decoder.Decode(&read); err != nil || len(read) != len(documents) {
		t.Fatalf("%d documents of %d: %v", len(read), len(documents), err)
	}
	return read
}

// PyYAML understands what was emitted as it was meant.
func TestJudgePyYAML(t *testing.T) {
	var trees []*Node
	for i, text := range nasty() {
		trees = append(trees, tree(fmt.Sprintf("%d %s", i, text), text).
			Set("numbers", &Node{Kind: List, Items: []*Node{{Kind: Int, Text: "-7"}, {Kind: Float, Text: "0.5"}, {Kind: Bool, Text: "true"}, {Kind: Null}}}))
		trees = append(trees, tree(text, text))
	}
	var documents []string
	for _, n := range trees {
		out, err := Emit(n)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, string(out))
	}
	for i, read := range pyYAML(t, documents) {
		if diff := cmp.Diff(value(trees[i]), read); diff != "" {
			t.Errorf("%q:\n%s", documents[i], diff)
		}
	}
}

// What Parse accepts PyYAML reads alike; what it refuses as a trap PyYAML does
// take for something else than text or cannot read, or YAML 1.2 does.
func TestJudgeAgreesOnScalars(t *testing.T) {
	var documents []string
	var want []any
	for _, text := range []string{"true", "null", "~", "0", "-7", "1.5", "x", "y", "1.2.3", "3GiB", "192.0.2.1/24", "52:54:00:ab:cd:ef",
		"2001:db8::1", "a!", "'22:22'", `"yes"`, "'0644'", "10m", "1h", "08a", "-", "1-2", "a=b", "=a", "<<a", "0.10", "-0"} {
		n, err := Parse("f.yaml", []byte("a: "+text))
		if err != nil {
			if text != "-" {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		documents = append(documents, "a: "+text)
		want = append(want, value(n))
	}
	number := func(n json.Number) float64 { f, _ := n.Float64(); return f }
	if diff := cmp.Diff(want, pyYAML(t, documents), cmp.Transformer("number", number)); diff != "" {
		t.Error(diff)
	}
	documents = nil
	for text := range traps {
		if !regexp.MustCompile(`^(?:=|<<|2026.*|-?\.(?i:inf|nan))$`).MatchString(text) { // no JSON for these
			documents = append(documents, "a: "+text)
		}
	}
	same := map[string]bool{"0o644": true, "08": true, "1e3": true} // numbers in YAML 1.2 only
	for i, read := range pyYAML(t, documents) {
		text := strings.TrimPrefix(documents[i], "a: ")
		if got, isText := read.(map[string]any)["a"].(string); isText != same[text] {
			t.Errorf("%s is needlessly refused, PyYAML reads %q", text, got)
		}
	}
}
