package lint

import (
	"testing"

	"bake/internal/diag"
	"bake/internal/doc"
)

// What is lost is an error with its place, and the rules see what is left.
func TestForeign(t *testing.T) {
	lost := diag.List{{Pos: diag.Position{File: "x", Line: 3, Col: 1}, Message: "the part is lost"}}
	config, err := doc.Parse("x", []byte("runcmdd: [a]\n"))
	if err != nil {
		t.Fatal(err)
	}
	found := Foreign(lost, config)
	rules := map[string]int{}
	for _, f := range found {
		rules[f.Rule]++
	}
	if rules["part-lost"] != 1 || rules["key-unknown"] != 1 || !Stops(found) {
		t.Errorf("%v", rules)
	}
	if found := Foreign(nil, nil); len(found) > 0 {
		t.Errorf("of nothing: %v", found)
	}
}
