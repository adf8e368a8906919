package doc

import "testing"

// A template is read as what is left of it, with its places and its expressions.
func TestTemplate(t *testing.T) {
	text := "hostname: {{ v1.name }}\n{% if a %}\npackages: [b]\n{% else %}\nother: '{{ x }}'\n{% endif %}\n{# no: yaml: [ #}\n"
	root, odd, err := Template("x", []byte(text))
	if err != nil || len(odd) > 0 {
		t.Fatal(odd, err)
	}
	if n := root.Get("hostname"); n == nil || n.Text != "{{ v1.name }}" || n.Pos.Line != 1 || n.Pos.Col != 11 {
		t.Errorf("%+v", n)
	}
	if n := root.Get("other"); n == nil || n.Text != "{{ x }}" || n.Problem("", "", "").Source != "other: '{{ x }}'" {
		t.Errorf("%+v", n)
	}
	if _, _, err := Template("x", []byte("a: {{ b }}: c: d\n")); err == nil {
		t.Error("two colons are no YAML, whatever is rendered")
	}
	if _, _, err := Foreign("x", []byte(text)); err == nil {
		t.Error("without its engine a template is no YAML")
	}
}

// Lines of a block, and what follows a plain text, stand as they are in the file.
func TestBlock(t *testing.T) {
	root, _, err := Foreign("x", []byte("a:\n  - >\n    one\n    two\n  - three\n   - four\nb: 'x'\nc: |\n  y\n"))
	if err != nil {
		t.Fatal(err)
	}
	items := root.Get("a").Items
	if lines := items[0].Block(); len(lines) != 2 || lines[1] != "    two" {
		t.Errorf("%q", lines)
	}
	if line, plain := items[1].After(); !plain || line != "   - four" {
		t.Errorf("%q %v", line, plain)
	}
	if lines := root.Get("b").Block(); lines != nil {
		t.Errorf("%q", lines)
	}
	if _, plain := root.Get("b").After(); plain {
		t.Error("a quoted text is plain")
	}
	if lines := root.Get("c").Block(); len(lines) != 1 {
		t.Errorf("%q", lines)
	}
}

// A number that only PyYAML reads in octal is odd; a plain one and a permission are not.
func TestOctal(t *testing.T) {
	for text, want := range map[string]int{"a: 0700": 1, "a: 700": 0, "a: '0700'": 0, "a: 0": 0, "a: [x, 010]": 1, "permissions: 0644": 0} {
		if _, odd, err := Foreign("x", []byte(text)); err != nil || len(odd) != want {
			t.Errorf("%s: %v %v", text, odd, err)
		}
	}
}
