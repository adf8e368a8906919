package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// TestPatterns compiles every pattern of the package, for one that is wrong would only
// show in the run that uses it.
func TestPatterns(t *testing.T) {
	files, err := parser.ParseDir(token.NewFileSet(), ".", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	ast.Inspect(files["lint"], func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if name, ok := call.Fun.(*ast.Ident); !ok || name.Name != "pattern" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok { // put together from words: a rule's own test reaches it
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err == nil {
			_, err = regexp.Compile(text)
		}
		if err != nil {
			t.Error(err)
		}
		seen++
		return true
	})
	if seen < 50 {
		t.Errorf("only %d patterns were seen", seen)
	}
}
