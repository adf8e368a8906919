package pyyaml

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bake/internal/doc"
	"bake/internal/oracle"
)

// canonical writes a value as canonical.py of internal/oracle does.
func canonical(n *doc.Node) string {
	all := func(nodes []*doc.Node) []string {
		var texts []string
		for _, node := range nodes {
			texts = append(texts, canonical(node))
		}
		return texts
	}
	switch n.Kind {
	case doc.Null:
		return "n"
	case doc.Bool:
		return map[string]string{"true": "b1", "false": "b0"}[n.Text]
	case doc.Int:
		return "i" + n.Text
	case doc.Float:
		f := floatOf(n.Text)
		if math.IsNaN(f) {
			return "fnan"
		}
		return fmt.Sprintf("f%016x", math.Float64bits(f))
	case doc.String:
		return "s" + hex.EncodeToString([]byte(n.Text))
	case Bytes:
		return "y" + hex.EncodeToString([]byte(n.Text))
	case Date:
		return "d" + n.Text
	case doc.List:
		return "[" + strings.Join(all(n.Items), ",") + "]"
	case Set:
		texts := all(n.Items)
		slices.Sort(texts)
		return "(" + strings.Join(texts, ",") + ")"
	}
	var texts []string
	for _, pair := range n.Pairs {
		texts = append(texts, canonical(pair.Key)+"="+canonical(pair.Value))
	}
	slices.Sort(texts)
	return "{" + strings.Join(texts, ",") + "}"
}

func floatOf(text string) float64 {
	switch text {
	case ".nan":
		return math.NaN()
	case ".inf":
		return math.Inf(1)
	case "-.inf":
		return math.Inf(-1)
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return f
}

func ours(text string) string {
	value, err := Load(text, Source{}, Options{})
	var failed *Error
	switch {
	case errors.As(err, &failed) && failed.Uncertain:
		return "uncertain"
	case errors.As(err, &failed) && failed.Uncaught:
		return "crash"
	case err != nil:
		return "error"
	case value == nil:
		return "none"
	}
	return canonical(value)
}

// pieces are what the documents of the test are made of.
var pieces = []string{
	"a: 1\n", "b: [x, 'y', \"z\"]\n", "c: {d: e, f: [g, {h: i}]}\n", "- j\n- k: l\n  m: n\n", "runcmd:\n- [ls, -l]\n- echo hi\n",
	"write_files:\n  - path: /a\n    content: |\n      x\n       y\n\n    permissions: '0644'\n", "o: >-\n  folded\n  text\n\n  more\n",
	"&x y", "*x", "<<: *x\n", "base: &x {p: q}\n", "? r\n: s\n", "? [t]\n", "!!set {u, v}\n", "!!int '5'", "!!binary aGk=", "! 12", "!foo bar",
	"!!omap [a: 1]", "!!bool x", "!!float 1", "!!timestamp x", "!!null x", "!!str 5", "!!map [a]", "!<tag:yaml.org,2002:int> 3",
	"0644", "0o644", "22:22", "1e3", "1.5e+3", "0x1F", "0b11", "1_000", "-0", "+12", ".5", "1.", ".inf", "-.INF", ".nan", "190:20:30.15", "08", "0b_", "0_",
	"yes", "No", "on", "OFF", "true", "y", "n", "~", "null", "Null", "=", "<<", "2026-11-22", "2026-11-22 10:20:30.5 +2", "2026-11-22t1:20:30Z", "2026-13-01", "2026-1-1",
	"52:54:00:12:34:56", "---\n", "...\n", "%YAML 1.1\n", "%TAG ! tag:x,1:\n", "# c\n", " #c", "\t", "\n", "\n\n", "  ", "    ", ": ", ":", "- ", "-", "? ", ", ", "[", "]", "{", "}",
	"'", "\"", "\\n", "\\x41", "\\ud800", "\\U0001F600", "\\U00110000", "\\\n", "|\n", ">+2\n", "|-\n", "#", "%", "@", "`", "&", "*", "!", "é", "\u2028", "\u0085", "\ufeff", "\x07", "\r\n", "\r", "😀",
	"x", "key: value\n", "  nested: true\n", "long text with spaces", "'it''s'", "\"a\\tb\"", "a:b", "http://x/y#z", "a #b", "a#b",
	"ssh_pwauth: false\n", "users:\n  - default\n  - name: ops\n    sudo: ALL=(ALL) NOPASSWD:ALL\n", "mounts:\n - [a, b, c, d, \"0\", 0]\n", "10: a\n", "1.0: b\n", "true: c\n", "1: d\n", "'1': e\n",
}

// document makes a text of pieces, lines of them indented, and now and then
// spoils it.
func document(random *rand.Rand) string {
	var text strings.Builder
	for range 1 + random.IntN(8) {
		piece := pieces[random.IntN(len(pieces))]
		if random.IntN(3) == 0 {
			piece = "k" + strconv.Itoa(random.IntN(4)) + ": " + piece + "\n"
		}
		if random.IntN(5) == 0 {
			indent := strings.Repeat(" ", random.IntN(5))
			piece = indent + strings.ReplaceAll(piece, "\n", "\n"+indent)
		}
		text.WriteString(piece)
	}
	result := []byte(text.String())
	for range random.IntN(3) * random.IntN(2) {
		if len(result) == 0 {
			break
		}
		at := random.IntN(len(result))
		switch random.IntN(3) {
		case 0:
			result = slices.Delete(result, at, at+1)
		case 1:
			result = slices.Insert(result, at, []byte(pieces[random.IntN(len(pieces))])...)
		case 2:
			result[at] = byte(random.IntN(128))
		}
	}
	return string(result)
}

// What this package and PyYAML make of the same texts is the same.
func TestLikePyYAML(t *testing.T) {
	oracle.Demand(t, "yaml", "python3-yaml")
	ask := oracle.Start(t)
	count := 4000
	if n, err := strconv.Atoi(os.Getenv("BAKE_DIFFERENTIAL")); err == nil {
		count = n
	}
	const seed = 1
	random := rand.New(rand.NewPCG(seed, 0))
	said := map[string]int{}
	for i := range count {
		text := document(random)
		want, got := ask(text), ours(text)
		if got == "uncertain" || want == "recursion" {
			said["uncertain"]++
			continue
		}
		switch want {
		case "error", "crash", "none":
			said[want]++
		default:
			said["value"]++
		}
		if got != want {
			t.Errorf("document %d of seed %d: %q\n got %s\nwant %s", i, seed, text, got, want)
		}
	}
	t.Logf("seed %d: %d documents, %v", seed, count, said)
	if said["value"] < count/20 || said["error"] < count/20 || said["uncertain"] > count/20 {
		t.Error("the documents are too much alike")
	}
}
