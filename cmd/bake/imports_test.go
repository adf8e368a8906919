package main

import (
	"encoding/json"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport says which package may use which: the arrows of the design. Words
// (seed) and bytes (image) never meet but here in cmd/bake, and nobody imports
// the layers but cmd/bake, which hands them on as a file system.
var mayImport = map[string][]string{
	"internal/diag":       {},
	"internal/tool":       {},
	"internal/lazy":       {},
	"internal/oracle":     {}, // of tests alone
	"internal/libvirtlab": {}, // of tests alone
	"internal/doc":        {"internal/diag", "internal/lazy"},
	"internal/layer":      {"internal/claim", "internal/diag", "internal/doc", "internal/lazy"},
	"internal/host":       {"internal/attest", "internal/claim", "internal/diag", "internal/doc", "internal/label", "internal/layer", "internal/lazy", "internal/origin", "internal/secret"},
	"internal/label":      {"internal/lazy"},
	"internal/rollout":    {"internal/lazy"},
	"internal/roster":     {"internal/diag", "internal/doc", "internal/host", "internal/layer", "internal/lazy"},
	"internal/binascii":   {},
	"internal/email":      {"internal/binascii", "internal/lazy"},
	"internal/pyyaml":     {"internal/binascii", "internal/diag", "internal/doc", "internal/lazy"},
	"internal/adopt":      {"internal/cloudinit", "internal/diag", "internal/doc", "internal/lazy", "internal/pyyaml"},
	"internal/cloudinit":  {"internal/diag", "internal/doc", "internal/email", "internal/lazy", "internal/pyyaml"},
	"internal/seed":       {"internal/attest", "internal/claim", "internal/diag", "internal/doc", "internal/host", "internal/layer", "internal/lazy", "internal/secret"},
	"internal/lint":       {"internal/diag", "internal/doc", "internal/host", "internal/layer", "internal/lazy", "internal/schema", "internal/tool"},
	"internal/schema":     {"internal/diag", "internal/doc", "internal/pyyaml"},
	"internal/editor":     {"internal/host", "internal/layer", "internal/lazy"},
	"internal/secret":     {"internal/diag", "internal/doc", "internal/lazy", "internal/tool"},
	"internal/image":      {"internal/tool"},
	"internal/claim":      {},
	"internal/attest":     {"internal/claim", "internal/lazy"},
	"internal/guest":      {},
	"internal/exposure":   {},
	"cmd/bake-attest":     {"internal/attest"},
	"cmd/bake-dist":       {"internal/unit"},
	"cmd/bake-image":      {},
	"internal/origin":     {"internal/diag", "internal/lazy"},
	"internal/download":   {"internal/lazy"},
	"internal/inspect":    {"internal/image"},
	"internal/payload":    {"internal/inspect", "internal/lazy", "internal/origin", "internal/tool"},
	"internal/base":       {"internal/diag", "internal/download", "internal/image", "internal/inspect", "internal/origin", "internal/tool"},
	"internal/openclaw":   {"internal/lazy", "internal/tool"},
	"internal/domain":     {"internal/attest", "internal/host", "internal/lazy"},
	"internal/hypervisor": {"internal/domain", "internal/host", "internal/tool"},
	"internal/kube":       {},
	"internal/kubedeploy": {"internal/console", "internal/deploy", "internal/kube"},
	"internal/kubevirt":   {"internal/attest", "internal/diag", "internal/doc", "internal/domain", "internal/host", "internal/lazy"},
	"internal/deploy":     {"internal/console", "internal/domain", "internal/hypervisor", "internal/lazy", "internal/status"},
	"internal/archive":    {},
	"internal/artifact":   {},
	"internal/backup":     {"internal/archive", "internal/diag", "internal/doc", "internal/lazy", "internal/secret", "internal/tool"},
	"internal/provenance": {"internal/diag"},
	"internal/publish":    {"internal/download"},
	"internal/bisect":     {},
	"internal/input":      {"internal/artifact", "internal/doc", "internal/origin"},
	"internal/nightly":    {"internal/lazy"},
	"internal/cluster":    {"internal/lazy", "internal/nightly"},
	"internal/notify":     {"internal/diag", "internal/doc", "internal/lazy", "internal/nightly", "internal/secret", "internal/tool"},
	"internal/unit":       {},
	"internal/doctor":     {"internal/tool"},
	"internal/console":    {"internal/attest", "internal/lazy"},
	"internal/vm":         {"internal/console", "internal/lazy", "internal/tool"},
	"internal/status":     {"internal/console"},
	"internal/verify":     {"internal/attest", "internal/claim", "internal/console", "internal/exposure", "internal/lazy", "internal/tool", "internal/vm"},
	"internal/report":     {"internal/artifact", "internal/attest", "internal/claim", "internal/exposure", "internal/lazy", "internal/nightly", "internal/verify"},
	"layers":              {},
	"cmd/bake": {
		"internal/adopt",
		"internal/archive",
		"internal/artifact",
		"internal/attest",
		"internal/backup",
		"internal/base",
		"internal/bisect",
		"internal/cloudinit",
		"internal/cluster",
		"internal/console",
		"internal/deploy",
		"internal/diag",
		"internal/doctor",
		"internal/domain",
		"internal/editor",
		"internal/guest",
		"internal/host",
		"internal/hypervisor",
		"internal/image",
		"internal/input",
		"internal/inspect",
		"internal/kube",
		"internal/kubedeploy",
		"internal/kubevirt",
		"internal/label",
		"internal/layer",
		"internal/lazy",
		"internal/lint",
		"internal/nightly",
		"internal/notify",
		"internal/openclaw",
		"internal/origin",
		"internal/payload",
		"internal/provenance",
		"internal/publish",
		"internal/report",
		"internal/rollout",
		"internal/roster",
		"internal/schema",
		"internal/secret",
		"internal/seed",
		"internal/status",
		"internal/tool",
		"internal/unit",
		"internal/verify",
		"internal/vm",
		"layers",
	},
}

// goPackage is what go list says of one.
type goPackage struct {
	ImportPath string
	Dir        string
	Doc        string
	GoFiles    []string
	Imports    []string
}

const module = "bake/"

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Doc,GoFiles,Imports", "./...")
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); decoder.More(); {
		var p goPackage
		if err := decoder.Decode(&p); err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) > 0 { // not of tests alone
			all = append(all, p)
		}
	}
	return all
}

func TestImports(t *testing.T) {
	var all []string
	for _, p := range packages(t) {
		all = append(all, p.ImportPath)
		allowed, known := mayImport[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the table of who may import whom", p.ImportPath)
		}
		for _, path := range p.Imports {
			if ours, ok := strings.CutPrefix(path, module); ok && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which the table does not allow", p.ImportPath, ours)
			}
		}
		for _, ours := range allowed {
			if !slices.Contains(p.Imports, module+ours) {
				t.Errorf("%s does not import %s, which the table allows: who reads the table takes it for an arrow", p.ImportPath, ours)
			}
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
	for path := range mayImport {
		if !slices.Contains(all, path) {
			t.Errorf("%s is in the table of who may import whom, and not in the tree", path)
		}
	}
}

// Budgets: code above them is not wrong, but asks for a second look.
const (
	functionLines = 45 // of the longest but a tenth
	fileLines     = 400
	commandLines  = 120 // of a cmd_x.go
	exportedNames = 12  // of a package
	layerLines    = 60  // of a layer.yaml: more is refused
)

func TestBudgets(t *testing.T) {
	var functions []int
	for _, p := range packages(t) {
		exported := 0
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(string(source), "\n")
			if limit := map[bool]int{true: commandLines, false: fileLines}[strings.HasPrefix(name, "cmd_")]; lines > limit {
				t.Logf("%s/%s has %d lines, the budget is %d", p.ImportPath, name, lines, limit)
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, declaration := range file.Decls {
				exported += countExported(declaration)
				if function, ok := declaration.(*ast.FuncDecl); ok {
					functions = append(functions, 1+files.Position(function.End()).Line-files.Position(function.Pos()).Line)
				}
			}
		}
		if exported > exportedNames {
			t.Logf("%s exports %d names, the budget is %d", p.ImportPath, exported, exportedNames)
		}
	}
	slices.Sort(functions)
	longest := functions[len(functions)*9/10]
	t.Logf("nine of ten functions have at most %d lines", longest)
	if longest > functionLines {
		t.Logf("the budget is %d", functionLines)
	}
}

// countExported counts the exported names that a declaration gives to its
// package: methods belong to their types.
func countExported(declaration ast.Decl) int {
	count := 0
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.IsExported() {
			count++
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					count++
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() {
						count++
					}
				}
			}
		}
	}
	return count
}

// TestTree holds every file against the rules that are no matter of taste.
func TestTree(t *testing.T) {
	seen := 0
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin" || entry.Name() == "out"):
			return fs.SkipDir
		case entry.Name() != "layer.yaml" && filepath.Ext(path) != ".go":
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		seen++
		if entry.Name() == "layer.yaml" {
			if lines := strings.Count(string(content), "\n"); lines > layerLines {
				t.Errorf("%s has %d lines, at most %d are one screen", path, lines, layerLines)
			}
			return nil
		}
		formatted, err := format.Source(content)
		if err != nil {
			return err
		}
		if string(formatted) != string(content) {
			t.Errorf("%s is not as gofmt writes it", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < len(mayImport) {
		t.Errorf("only %d files were seen", seen)
	}
}
