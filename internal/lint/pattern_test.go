package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// TestPatterns compiles every pattern of the package, for one that is wrong would only
// show in the run that uses it.
func TestPatterns(t *testing.T) {
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		seen += compileAll(t, file)
	}
	if seen < 50 {
		t.Errorf("only %d patterns were seen", seen)
	}
}

func compileAll(t *testing.T, file *ast.File) (seen int) {
	ast.Inspect(file, func(n ast.Node) bool {
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
	return seen
}
