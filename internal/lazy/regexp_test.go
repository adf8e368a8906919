package lazy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestRegexps holds the whole tree against what this package is for: every expression
// compiles, for one that is wrong would only show in the run that uses it, and none is
// compiled, nor a template read, before main begins.
func TestRegexps(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		found, faults := look(file)
		seen += found
		for _, fault := range faults {
			t.Errorf("%s: %s", path, fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 150 {
		t.Errorf("only %d expressions were seen", seen)
	}
}

func TestLook(t *testing.T) {
	for source, want := range map[string]string{
		"var x = lazy.Regexp(`(`)":                                         "missing closing )",
		"var x = lazy.Regexp(`[` + `a`)":                                   "missing closing ]",
		"var x = []s{{lazy.Regexp(`*`)}}":                                  "missing argument to repetition operator",
		"func f() { lazy.Regexp(`(`).MatchString(``) }":                    "missing closing )",
		"var x = regexp.MustCompile(`a`)":                                  "x calls regexp.MustCompile at every start",
		"var (\n\ty = []*T{{regexp.MustCompile(`a`)}}\n)":                  "y calls regexp.MustCompile at every start",
		"var z = template.Must(template.New(``).Parse(``))":                "z calls template.Must at every start",
		"var x = lazy.Regexp(`a` + `b`)":                                   "",
		"var x = lazy.Regexp(`a` + b)":                                     "",
		"func f() { regexp.MustCompile(`a`) }":                             "",
		"var f = func() *regexp.Regexp { return regexp.MustCompile(`a`) }": "",
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\n"+source, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		_, faults := look(file)
		if got := strings.Join(faults, "\n"); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
}

// look counts the expressions of a file and says what is wrong with it.
func look(file *ast.File) (seen int, faults []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || name(call) != "lazy.Regexp" {
			return true
		}
		text, ok := constant(call.Args[0])
		if !ok { // put together from names: the test of who uses it reaches it
			return true
		}
		seen++
		if _, err := regexp.Compile(text); err != nil {
			faults = append(faults, err.Error())
		}
		return true
	})
	for _, declaration := range file.Decls {
		if d, ok := declaration.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, spec := range d.Specs {
				faults = append(faults, early(spec.(*ast.ValueSpec))...)
			}
		}
	}
	return seen, faults
}

// early says what a variable of a package does at the start that can wait.
func early(v *ast.ValueSpec) (faults []string) {
	ast.Inspect(v, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.CallExpr:
			if slow := []string{"regexp.MustCompile", "template.Must"}; slices.Contains(slow, name(n)) {
				faults = append(faults, fmt.Sprintf("%s calls %s at every start", v.Names[0], name(n)))
			}
		}
		return true
	})
	return faults
}

// name is what a call calls, as package.name.
func name(call *ast.CallExpr) string {
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok {
		if p, ok := selector.X.(*ast.Ident); ok {
			return p.Name + "." + selector.Sel.Name
		}
	}
	return ""
}

// constant is the text of literals, or of a sum of them.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		x, okX := constant(e.X)
		y, okY := constant(e.Y)
		return x + y, okX && okY
	}
	return "", false
}

// TestCompiled: the same one each time, and a panic for what is no expression.
func TestCompiled(t *testing.T) {
	const x = Regexp(`^a(b*)$`)
	if first := x.Compiled(); first != x.Compiled() || x.FindStringSubmatch("abb")[1] != "bb" || x.MatchString("ba") {
		t.Error("not the expression that was written")
	}
	defer func() {
		if recover() == nil {
			t.Error("it did not panic")
		}
	}()
	Regexp(`(`).MatchString("")
}
