package schema

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bake/internal/oracle"
	"bake/internal/pyyaml"
)

// lab finds the modules of cloud-init of a Debian release, and its schema.
func lab(t testing.TB, release string) (pythonPath string, cloudConfig []byte) {
	t.Helper()
	pythonPath = oracle.CloudInit(t, release)
	dir, _, _ := strings.Cut(pythonPath, ":")
	data, err := os.ReadFile(dir + "/cloudinit/config/schemas/schema-cloud-config-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	return pythonPath, data
}

// verdict is what testdata/oracle.py says of a document.
type verdict struct{ Errors, Deprecated []string }

func validator(t testing.TB, pythonPath string) func(text string) verdict {
	t.Helper()
	ask := oracle.Start(t, pythonPath)
	return func(text string) (v verdict) {
		t.Helper()
		if err := json.Unmarshal([]byte(ask(text)), &v); err != nil {
			t.Fatalf("what cloud-init says of %q: %v", text, err)
		}
		return v
	}
}

// generator makes documents of a schema, and spoils some of them.
type generator struct {
	*rand.Rand
	s       *Schema
	spoiled bool
}

func (g *generator) one(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g *generator) junk() string {
	g.spoiled = true
	return g.one("5", "text", "true", "[a]", "{a: b}", "null", "1.5", "[]", "{}", "''", "[5]", "0644", "[[a]]", "{name: 5}")
}

// value writes one that suits the schema, most of the time, in flow style.
func (g *generator) value(n node, depth int) string {
	if depth > 8 || g.IntN(60) == 0 {
		return g.junk()
	}
	if ref := text(n, "$ref"); ref != "" {
		return g.value(g.s.definition(ref), depth)
	}
	if one, ok := get[[]node](n, "oneOf"); ok && n["properties"] == nil {
		return g.value(one[g.IntN(len(one))], depth+1)
	}
	if one, ok := get[[]node](n, "anyOf"); ok && n["properties"] == nil {
		return g.value(one[g.IntN(len(one))], depth+1)
	}
	if enum, ok := get[[]any](n, "enum"); ok {
		data, _ := json.Marshal(enum[g.IntN(len(enum))])
		return string(data)
	}
	types := typesOf(n)
	if n["properties"] != nil || n["patternProperties"] != nil {
		types = []string{"object"}
	}
	if len(types) == 0 {
		return g.junk()
	}
	switch types[g.IntN(len(types))] {
	case "object":
		return g.object(n, depth)
	case "array":
		each, ok := get[node](n, "items")
		if !ok {
			return g.one("[a]", "[a, b]", "[[a, b]]")
		}
		var items []string
		for range 1 + g.IntN(2) {
			items = append(items, g.value(each, depth+1))
		}
		if g.IntN(20) == 0 {
			return "[]"
		}
		return "[" + strings.Join(items, ", ") + "]"
	case "boolean":
		return g.one("true", "false")
	case "integer":
		return g.one("1", "20", "0", "-5")
	case "number":
		return g.one("1", "1.5")
	case "null":
		return "null"
	}
	return g.one("text", "'a b'", "'0644'", "'22'", "/a/b", "ubuntu", "''", "'2026-11-28'")
}

func (g *generator) object(n node, depth int) string {
	properties, _ := get[map[string]node](n, "properties")
	required, _ := get[[]string](n, "required")
	var pairs []string
	names := make([]string, 0, len(properties))
	for name := range properties {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if slices.Contains(required, name) && g.IntN(20) > 0 || g.IntN(len(properties)+1) < 2 {
			pairs = append(pairs, strconv.Quote(name)+": "+g.value(properties[name], depth+1))
		}
	}
	patterns, _ := get[map[string]node](n, "patternProperties")
	for _, each := range patterns {
		pairs = append(pairs, g.one("name", "a-b", "x1")+": "+g.value(each, depth+1))
	}
	if g.IntN(30) == 0 {
		pairs = append(pairs, g.one("unknown", "name_", "x y")+": "+g.junk())
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

func (g *generator) document() string {
	names := make([]string, 0, len(g.s.defs))
	for name := range g.s.defs {
		if strings.HasPrefix(name, "cc_") || name == "base_config" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var text strings.Builder
	seen := map[string]bool{}
	for range 1 + g.IntN(3) {
		def := g.s.definition("#/$defs/" + names[g.IntN(len(names))])
		properties, _ := get[map[string]node](def, "properties")
		keys := make([]string, 0, len(properties))
		for key := range properties {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if (g.IntN(len(keys)) < 2) && !seen[key] {
				seen[key] = true
				fmt.Fprintf(&text, "%q: %s\n", key, g.value(properties[key], 0))
			}
		}
	}
	if g.IntN(20) == 0 {
		fmt.Fprintf(&text, "%s: %s\n", g.one("hostnam", "run_cmd", "x-bake"), g.junk())
	}
	if text.Len() == 0 {
		return "hostname: x\n"
	}
	return text.String()
}

// tops are the keys of the document that findings are about.
func tops(paths []string) []string {
	var all []string
	for _, path := range paths {
		top, _, _ := strings.Cut(path, ".")
		top, _, _ = strings.Cut(top, "[")
		if !slices.Contains(all, top) {
			all = append(all, top)
		}
	}
	slices.Sort(all)
	return all
}

// What is valid, and under which keys something is wrong or deprecated, is what
// cloud-init's own validator says.
func TestLikeCloudInit(t *testing.T) {
	count := 150
	if n, err := strconv.Atoi(os.Getenv("BAKE_DIFFERENTIAL")); err == nil {
		count = n
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			path, data := lab(t, release)
			data, err := Compact(data)
			if err != nil {
				t.Fatal(err)
			}
			s, err := Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			ask := validator(t, path)
			const seed = 1
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), s: s}
			said := map[string]int{}
			for i := range count {
				text := g.document()
				config, err := pyyaml.Load(text, pyyaml.Source{File: "x"}, pyyaml.Options{})
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				want := ask(text)
				var wrong, deprecated []string
				for _, f := range s.Check(config) {
					if f.Deprecated {
						deprecated = append(deprecated, f.Path)
					} else {
						wrong = append(wrong, f.Path)
					}
				}
				switch {
				case len(wrong) > 0:
					said["invalid"]++
				case len(deprecated) > 0:
					said["deprecated"]++
				default:
					said["valid"]++
				}
				if !slices.Equal(tops(wrong), tops(want.Errors)) {
					said["differences"]++
					t.Errorf("document %d: wrong is %q, want %q\n%s", i, wrong, want.Errors, text)
				} else if len(want.Errors) == 0 && !slices.Equal(tops(deprecated), tops(want.Deprecated)) {
					said["differences"]++
					t.Errorf("document %d: deprecated is %q, want %q\n%s", i, deprecated, want.Deprecated, text)
				}
			}
			t.Logf("seed %d: %d documents: %v", seed, count, said)
			if said["valid"] < count/20 || said["invalid"] < count/20 {
				t.Error("the documents are too much alike")
			}
		})
	}
}
