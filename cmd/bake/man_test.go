package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func testPages(t *testing.T) map[string]string {
	t.Helper()
	return manPages(newCLI(&app{env: envTo(io.Discard, func(string) string { return "" }), ui: &ui{}}))
}

// TestManPages has mandoc and groff read every page, neither of which may find
// anything odd.
func TestManPages(t *testing.T) {
	demand(t, "mandoc")
	demand(t, "man")
	for name, text := range testPages(t) {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range [][]string{{"mandoc", "-T", "lint", "-W", "warning", path}, {"man", "--warnings", "-l", path}} {
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=100", "MANPAGER=cat")
			var said bytes.Buffer
			cmd.Stderr = &said
			output, err := cmd.Output()
			if command[0] == "mandoc" {
				said.Write(output) // what it finds
			}
			if err != nil || said.Len() > 0 {
				t.Errorf("%v: %v\n%s", command, err, said.String())
			}
		}
	}
}

// TestManCanFail: what is no page is found out.
func TestManCanFail(t *testing.T) {
	demand(t, "mandoc")
	path := filepath.Join(t.TempDir(), "x.1")
	if err := os.WriteFile(path, []byte(".TH X 1\n.SH NAME\n.PP\n.PP\n.XX\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.Command("mandoc", "-T", "lint", "-W", "warning", path).Run() == nil {
		t.Error("mandoc finds nothing")
	}
}

// TestManIsWhole looks for each command, each option and each variable of the
// environment that the code asks for.
func TestManIsWhole(t *testing.T) {
	pages := testPages(t)
	root := newCLI(&app{env: envTo(io.Discard, func(string) string { return "" }), ui: &ui{}})
	for _, command := range root.VisibleCommands() {
		page := pages["bake-"+command.Name+".1"]
		if !strings.Contains(pages["bake.1"], escape("bake-"+command.Name+"(1)")) {
			t.Errorf("bake(1) does not name %s", command.Name)
		}
		for _, flag := range command.Flags {
			if !strings.Contains(page, escape("--"+flag.Names()[0])) {
				t.Errorf("bake-%s(1) does not have --%s", command.Name, flag.Names()[0])
			}
		}
	}
	asked := regexp.MustCompile(`(?:[gG]etenv|userDir)\("([A-Z_]+)"[,)]|EnvVars: +\[\]string\{"([A-Z_]+)"`)
	known := map[string]bool{"XDG_RUNTIME_DIR": true, "TERM": true, "PATH": true, "BAKE_DOWNLOAD": true}
	for _, root := range []string{"../../cmd/bake", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			if strings.Contains(string(source), "\t\"testing\"\n") { // of tests alone
				return err
			}
			for _, m := range asked.FindAllStringSubmatch(string(source), -1) {
				if name := m[1] + m[2]; !known[name] && !strings.Contains(pages["bake.1"], name) {
					t.Errorf("%s asks for %s, of which bake(1) says nothing", path, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoff keeps text from being markup.
func TestRoff(t *testing.T) {
	var r roff
	r.prose(".SH odd\n'quoted\n\n   a \\- b\n   .x\n\nend")
	want := "\\&.SH odd\n\\&'quoted\n.PP\n.EX\n   a \\e\\- b\n   .x\n.EE\n.PP\nend\n"
	if r.String() != want {
		t.Errorf("%q, want %q", r.String(), want)
	}
}
