package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"bake/internal/diag"
	"bake/internal/pyyaml"
)

// ours is a schema in the shape of cloud-init's, written for this test.
const ours = `{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "$defs": {
    "cc_door": {"type": "object", "properties": {
      "door": {"oneOf": [
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/lock"}},
        {"type": "boolean"}]},
      "knob": {"type": "boolean", "deprecated": true, "deprecated_version": "23.1", "deprecated_description": "Use **handle** instead."},
      "color": {"enum": ["red", "green"]},
      "size": {"type": "integer", "minimum": 1, "maximum": 3},
      "names": {"type": "array", "uniqueItems": true, "maxItems": 2, "items": {"type": ["string", "integer"]}},
      "pair": {"type": "array", "items": [{"type": "string"}], "additionalItems": false},
      "any": {"anyOf": [{"$ref": "#/$defs/anyOf_type_a"}, {"$ref": "#/$defs/anyOf_type_b"}]}
    }},
    "lock": {"type": "object", "required": ["bolt"], "additionalProperties": false, "minProperties": 1,
      "properties": {"bolt": {"type": "string", "minLength": 2, "maxLength": 4}, "key": {"type": "null"}},
      "patternProperties": {"^x-": {"type": "number"}}},
    "anyOf_type_a": {"type": "object", "properties": {"type": {"enum": ["a"]}, "x": {"type": "integer"}}},
    "anyOf_type_b": {"type": "object", "properties": {"type": {"enum": ["b"]}, "y": {"type": "integer"}}}
  },
  "allOf": [{"$ref": "#/$defs/cc_door"}],
  "properties": {"door": {}, "knob": {}, "color": {}, "size": {}, "names": {}, "pair": {}, "any": {}},
  "additionalProperties": false
}`

func TestCheck(t *testing.T) {
	s, err := Parse([]byte(ours))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		text string
		want []string
	}{
		{"door: open\nsize: 2\nnames: [a, 1]\npair: [x]\ncolor: red\n", nil},
		{"door: [{bolt: iron, x-1: 1.5, key: null}]\n", nil},
		{"any: {type: b, y: 1}\n", nil},
		{"door: 5\n", []string{"f:1:7: door: this is a whole number, want text or a list or true or false"}},
		{"door: Open\n", []string{`f:1:7: door: "Open" is not of the form ^[a-z]+$`}},
		{"door: []\n", []string{"f:1:7: door: this list has 0 entries, at least 1 are wanted"}},
		{"door:\n  - bolt: x\n  - bolts: iron\n", []string{"f:2:11: door[0].bolt: this has 1 characters, at least 2 are wanted", `f:3:5: door[1].bolts: unknown key "bolts"`, `f:3:5: door[1]: the key "bolt" is missing`}},
		{"door: [{bolt: golden, x-1: y}]\n", []string{"f:1:15: door[0].bolt: this has 6 characters, at most 4 are allowed", "f:1:28: door[0].x-1: this is text, want a number"}},
		{"colour: red\n", []string{`f:1:1: colour: unknown key "colour"`}},
		{"color: gren\n", []string{`f:1:8: color: "gren" is not allowed, want red, green`}},
		{"size: 0\nnames: [a, b, a]\n", []string{"f:1:7: size: 0 is too little, the least is 1", "f:2:8: names: this list has 3 entries, at most 2 are allowed", "f:2:15: names[2]: this stands in the list already"}},
		{"size: 9\n", []string{"f:1:7: size: 9 is too much, the most is 3"}},
		{"size: 1.5\n", []string{"f:1:7: size: this is a decimal number, want a whole number"}},
		{"names: [true]\n", []string{"f:1:9: names[0]: this is true or false, want text or a whole number"}},
		{"pair: [a, b]\n", []string{"f:1:11: pair[1]: the list has no place for more than 1 entries"}},
		{"knob: true\n", []string{"f:1:1: knob: deprecated since cloud-init 23.1"}},
		{"any: {type: b, y: no}\n", []string{"f:1:19: any.y: this is true or false, want a whole number"}},
	} {
		document, err := pyyaml.Load(test.text, pyyaml.Source{File: "f"}, pyyaml.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range s.Check(document) {
			got = append(got, fmt.Sprintf("%s: %s: %s", f.Pos, f.Path, f.Message))
			if f.Deprecated != strings.HasPrefix(f.Message, "deprecated") {
				t.Errorf("%q: deprecated is %t", test.text, f.Deprecated)
			}
		}
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%q:\n got %s\nwant %s", test.text, strings.Join(got, "\n     "), strings.Join(test.want, "\n     "))
		}
	}
}

func TestMalformedSchema(t *testing.T) {
	for _, text := range []string{"", "[]", `{"$defs": 5}`} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q is a schema", text)
		}
	}
	if _, err := ParseSet(map[string][]byte{"x.json": []byte("{}")}); err == nil {
		t.Error("a set without a schema of cloud-config")
	}
	s, err := Parse([]byte(`{"$defs": {"loop": {"$ref": "#/$defs/loop"}, "bad": 5}, "allOf": [{"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/bad"}, {"$ref": "elsewhere"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	document, _ := pyyaml.Load("a: 1\n", pyyaml.Source{}, pyyaml.Options{})
	if found := s.Check(document); len(found) > 0 {
		t.Error(found)
	}
}

func TestNetwork(t *testing.T) {
	set, err := ParseSet(map[string][]byte{"schema-cloud-config-v1.json": []byte(ours),
		"schema-network-config-v2.json": []byte(`{"$defs": {"network_config_version2": {"type": "object", "required": ["version"], "additionalProperties": false,
			"properties": {"version": {"enum": [2]}, "ethernets": {"type": "object"}}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"version: 2\nethernets: {}\n":              "",
		"network: {version: 2}\n":                  "",
		"version: 1\nconfig: []\n":                 "", // it has no schema of that
		"version: 3\n":                             "f:1:10: version: 3 is not allowed, want 1 or 2",
		"ethernets: {}\n":                          `f:1:1: : the key "version" is missing`,
		"network:\n  version: 2\n  ethernet: {}\n": `f:3:3: network.ethernet: unknown key "ethernet"`,
	} {
		found, err := set.NetworkConfig("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range found {
			got += fmt.Sprintf("%s: %s: %s", f.Pos, f.Path, f.Message)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Example of what a person sees: the place is the value's own.
func TestPosition(t *testing.T) {
	s, err := Parse([]byte(ours))
	if err != nil {
		t.Fatal(err)
	}
	document, err := pyyaml.Load("door:\n  - bolt: 5\n", pyyaml.Source{File: "user-data", Line: 10}, pyyaml.Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := s.Check(document)
	want := "user-data:11:11: error: door[0].bolt: this is a whole number, want text\n  11 |   - bolt: 5\n     |           ^"
	if len(found) != 1 || (diag.List{found[0].Problem}).Error() != want {
		t.Errorf("%v, want %s", found, want)
	}
}

// A schema says the same without its prose, and in less room.
func TestCompact(t *testing.T) {
	_, data := lab(t, "trixie")
	compact, err := Compact(data)
	if err != nil || len(compact) > len(data)*2/3 {
		t.Fatalf("%d of %d bytes, %v", len(compact), len(data), err)
	}
	if _, err := Compact([]byte("{")); err == nil {
		t.Error("half a schema is compacted")
	}
	// A property may have the name of a keyword.
	got, err := Compact([]byte(`{"title": "x", "properties": {"default": {"type": "null", "default": null}}}`))
	if want := `{"properties":{"default":{"type":"null"}}}`; string(got) != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// All of cloud-init's schema, read and held against a document as large as a
// host's.
func BenchmarkCheck(b *testing.B) {
	_, data := lab(b, "trixie")
	data, err := Compact(data)
	if err != nil {
		b.Fatal(err)
	}
	document, err := pyyaml.Load("users: [{name: a}, {name: b}]\nruncmd: [[ls], x]\nbootcmd: [x]\nwrite_files: [{path: /a, content: x}, {path: /b}]\n", pyyaml.Source{}, pyyaml.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		s.Check(document)
	}
}
