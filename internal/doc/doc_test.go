package doc

import (
	"testing"

	"bake/internal/diag"
)

func parse(t *testing.T, text string) *Node {
	t.Helper()
	n, err := Parse("f.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestGetSet(t *testing.T) {
	n := parse(t, "a: 1\nb: {c: x}\nd: [y]")
	if n.Get("b").Get("c").Text != "x" || n.Get("b").Get("z") != nil || n.Get("z").Get("c") != nil || n.Get("d").Get("y") != nil {
		t.Error("Get finds what is not there, or not what is")
	}
	n.Set("a", Text("new")).Set("e", Words("p", "q"))
	if !n.Equal(parse(t, "a: new\nb: {c: x}\nd: [y]\ne: [p, q]")) {
		t.Error("Set neither replaced in place nor appended")
	}
}

func TestEqual(t *testing.T) {
	base := "a: {b: [1, x], c: true}"
	for text, want := range map[string]bool{
		base:                                    true,
		"a:\n  b:\n    - 1\n    - x\n  c: true": true,
		"a: {b: [1, y], c: true}":               false,
		"a: {b: [1, x, x], c: true}":            false,
		"a: {b: [\"1\", x], c: true}":           false,
		"a: {c: true, b: [1, x]}":               false,
		"a: {b: [1, x], c: true, d: 1}":         false,
		"z: {b: [1, x], c: true}":               false,
		"a: {b: [1, x], c: false}":              false,
		"[a]":                                   false,
	} {
		if got := parse(t, base).Equal(parse(t, text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

func TestFields(t *testing.T) {
	var problems diag.List
	n := parse(t, "vcpus: 2\nmemroy: 3GiB\n")
	get := n.Fields("machine", &problems, "vcpus", "memory")
	if get("vcpus").Text != "2" || get("memory") != nil {
		t.Error("wrong values")
	}
	want := diag.Problem{Pos: diag.Position{File: "f.yaml", Line: 2, Col: 1}, Path: "machine.memroy", Message: `unknown key "memroy"`,
		Hint: `did you mean "memory"?`, Source: "memroy: 3GiB", Width: 6}
	if len(problems) != 1 || problems[0] != want {
		t.Errorf("%+v, want %+v", problems, want)
	}
	problems = nil
	get = parse(t, "[vcpus]").Fields("machine", &problems, "vcpus")
	if get("vcpus") != nil || len(problems) != 1 || problems[0].Message != "this is a list, want a map" {
		t.Errorf("a list: %+v", problems)
	}
}

func TestJoin(t *testing.T) {
	if Join("", "a") != "a" || Join("a", "b") != "a.b" {
		t.Error("wrong path")
	}
}
