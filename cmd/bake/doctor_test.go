package main

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"bake/internal/tool"
	"bake/layers"
)

// TestDoctorKnows every program that the code runs through package tool, and every
// command that bakes, boots or deploys.
func TestDoctorKnows(t *testing.T) {
	empty := t.TempDir()
	var stdout bytes.Buffer
	getenv := func(key string) string {
		return map[string]string{"PATH": empty, "HOME": empty, "BAKE_ACCEL": "tcg"}[key]
	}
	e := env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &bytes.Buffer{}, Getenv: getenv, Layers: layers.FS, Tools: tool.Box{Getenv: getenv}}
	if code := run(t.Context(), e, []string{"bake", "doctor", "-c", "qemu:///system"}); code != 4 {
		t.Errorf("exit status %d of a machine without any program", code)
	}
	said := stdout.String()
	// What a command is for, or says by itself: systemd's, mail's and the judges of lint.
	optional := map[string]bool{"systemctl": true, "journalctl": true, "sendmail": true, "apt-cache": true, "apt-config": true}
	for program, where := range programsRun(t) {
		if !optional[program] && !strings.Contains(said, " "+program+" ") {
			t.Errorf("%s runs %s, of which bake doctor knows nothing", where, program)
		}
	}
	for _, command := range []string{"image", "verify", "nightly", "pull", "up", "deploy", "ssh", "bisect", "rebuild", "backup"} {
		if !strings.Contains(said, command) {
			t.Errorf("bake doctor says of %s that it needs nothing", command)
		}
	}
}

// programsRun are the names that stand in calls of tool's Find, Command and Run.
func programsRun(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, root := range []string{"../../cmd/bake", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				of, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || of.Sel.Name != "Find" && of.Sel.Name != "Command" && of.Sel.Name != "Run" {
					return true
				}
				holder, ok := of.X.(*ast.SelectorExpr)
				name, isName := of.X.(*ast.Ident)
				if !(ok && strings.EqualFold(holder.Sel.Name, "tools") || isName && strings.EqualFold(name.Name, "tools")) {
					return true
				}
				for _, arg := range call.Args[:min(2, len(call.Args))] {
					if literal, ok := arg.(*ast.BasicLit); ok && literal.Kind == token.STRING {
						program, _ := strconv.Unquote(literal.Value)
						found[program] = path
						break
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 5 {
		t.Fatalf("only %v were found", found)
	}
	return found
}
