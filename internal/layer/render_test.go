package layer

import (
	"errors"
	"io/fs"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bake/internal/claim"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/layers"
)

func TestTemplate(t *testing.T) {
	for in, want := range map[string]string{
		"{{.port}} {{.flag}} {{.wait}} {{.user}}":                  "22 true 600 agent",
		"{{range .ports}}{{.}},{{end}}":                            "22,80,",
		"{{if .flag}}a{{else}}b{{end}}{{if gt .port 21}}c{{end}}":  "ac",
		"{{join .ports \", \"}}|{{join .keys \",\"}}":              "22, 80|",
		"{{.host.name}} {{.admin.name}}":                           "zap ops",
		"{{shell .free}} {{shell .user}} {{shell .port}}":          `'hunter2 $(id)' 'agent' '22'`,
		"{{range .admin.keys}}{{shell .}}\n{{end}}":                "'" + goodKey + "'\n'" + goodKey + "2'\n",
		"{{printf \"%s\" (shell .free)}}":                          `'hunter2 $(id)'`,
		"((port)) $((port))":                                       "((port)) $((port))",
		"{{if .free}}set{{end}} {{if .keys}}keys{{else}}no{{end}}": "set no",
	} {
		got, err := rendered(t, "", "{}", "etc/a.tmpl", in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		want := File{Path: "/etc/a", Mode: 0o644, Owner: "root:root", When: Early, Content: []byte(want), Origin: "layers/x/files/etc/a.tmpl", Source: []byte(in)}
		if diff := cmp.Diff([]File{want}, got.Files); diff != "" {
			t.Errorf("%s:\n%s", in, diff)
		}
	}
	plain := "{{.port}} ((port)) \x00\xff"
	if got, err := rendered(t, "", "{}", "etc/a", plain); err != nil || string(got.Files[0].Content) != plain {
		t.Errorf("a file without .tmpl is copied: %v, %v", got, err)
	}
}

// There is no way to get free text out but through a quoting function, and the
// error does not show it either.
func TestTemplateRefuses(t *testing.T) {
	for in, want := range map[string]struct{ at, words string }{
		"ä\nö {{.free}}":             {":2:5", "quoting function"},
		"{{.free}}":                  {":1:3", "quoting function"},
		"{{with .free}}{{.}}{{end}}": {":1:17", "quoting function"},
		"{{$x := .free}}{{$x}}":      {":1:18", "quoting function"},
		"{{define \"t\"}}{{.}}{{end}}{{template \"t\" .free}}": {":1:17", "quoting function"},
		"{{range .admin.keys}}{{.}}{{end}}":                    {":1:24", "quoting function"},
		"{{index .admin.keys 0}}":                              {":1:3", "quoting function"},
		"{{or .free \"\"}}":                                    {":1:3", "quoting function"},
		"{{printf \"%s\" .free}}":                              {"", "quoting function"},
		"{{printf \"%v %q %x\" .free .free .free}}":            {"", "quoting function"},
		"{{print .free}}":                                      {"", "quoting function"},
		"{{println .free}}":                                    {"", "quoting function"},
		"{{html .free}}":                                       {"", "quoting function"},
		"{{js .free}}":                                         {"", "quoting function"},
		"{{urlquery .free}}":                                   {"", "quoting function"},
		"{{len (print .free)}}":                                {"", "quoting function"},
		"{{.}}":                                                {"", "quoting function"},
		"{{.admin}}":                                           {"", "quoting function"},
		"{{.admin.keys}}":                                      {"", "quoting function"},
		"{{shell .admin}}":                                     {"", "quoting function"},
		"{{call .free}}":                                       {":1:3", "wrong number of args"},
		"{{call .free nil}}":                                   {":1:3", ""},
		"{{call .free .port}}":                                 {":1:3", ""},
		"{{slice .free 0 1}}":                                  {":1:3", ""},
		"{{len .free}}":                                        {":1:3", ""},
		"{{eq .free \"x\"}}":                                   {":1:3", ""},
		"{{range .free}}{{.}}{{end}}":                          {":1:9", ""},
		"{{.free.x}}":                                          {":1:8", ""},
		"{{shell .admin.keys}}":                                {":1:3", "cannot be quoted as one"},
		"{{join .admin.keys \",\"}}":                           {":1:3", "cannot be joined"},
		"{{.prot}}":                                            {":1:3", "prot"},
		"{{.host.nmae}}":                                       {":1:8", "nmae"},
		"x\n{{if}}":                                            {":2:1", "missing value for if"},
		"{{quote .user}}":                                      {":1:1", `function "quote" not defined`},
		"{{.user":                                              {":1:1", "unclosed action"},
		"{{template \"/etc/passwd\"}}":                         {":1:12", "not defined"},
	} {
		got, err := rendered(t, "", "{}", "etc/a.tmpl", in)
		var list diag.List
		if !errors.As(err, &list) {
			t.Errorf("%s: %q, %v, want an error", in, got.Files, err)
			continue
		}
		if !strings.Contains(err.Error(), want.words) || list[0].Pos.String() != "layers/x/files/etc/a.tmpl"+want.at {
			t.Errorf("%s: %v\nwant it at %s: %s", in, err, want.at, want.words)
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the text is in the error: %v", in, err)
		}
	}
}

// A real shell reads back what {{shell}} wrote.
func TestShellQuoting(t *testing.T) {
	l := mustOpen(t, head+params, "etc/a.tmpl", "printf '%s' {{shell .free}}")
	for _, value := range hostile {
		got, err := l.Render((&doc.Node{Kind: doc.Map}).Set("free", doc.Text(value)), "p", facts)
		if (err == nil) != oneLine(value) {
			t.Errorf("%q: %v", value, err)
		}
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", string(got.Files[0].Content)).CombinedOutput()
		if err != nil || string(out) != value {
			t.Errorf("%q became %q: %v", value, out, err)
		}
	}
}

// unquoted reads a word as sh does, if it is made of single quotes and \' only.
func unquoted(word string) (string, bool) {
	var out strings.Builder
	for word != "" {
		if rest, ok := strings.CutPrefix(word, `\'`); ok {
			out.WriteByte('\'')
			word = rest
			continue
		}
		inside, rest, closed := strings.Cut(strings.TrimPrefix(word, "'"), "'")
		if word[0] != '\'' || !closed {
			return "", false
		}
		out.WriteString(inside)
		word = rest
	}
	return out.String(), true
}

func FuzzShell(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quoted, err := quote(unprintable(func(pass) string { return text }), shellWord)
		if back, ok := unquoted(quoted); err != nil || !ok || back != text || quoted == "" {
			t.Fatalf("%q became %s: %v", text, quoted, err)
		}
	})
}

func TestChecks(t *testing.T) {
	got, err := rendered(t, `checks:
  inside:
    - {claim: Port ((port))., run: "echo ((port))", is: ((port)), falsify: f ((user))}
    - {claim: c, run: r, has: a, falsify: f}
    - {claim: c, run: r, lacks: "", falsify: f}
    - {claim: c, run: r, exit: 2, falsify: f}
  outside:
    - {claim: c, tcp: {open: ((ports)), closed: [1]}, falsify: f}
    - {claim: c, ssh: {user: ((admin.name)), with: key, want: refused}, falsify: f}
    - none: Nothing.
`, "{port: 2222}")
	if err != nil {
		t.Fatal(err)
	}
	text := func(s string) *string { return &s }
	two := 2
	want := []claim.Check{
		{Layer: "x", Claim: "Port 2222.", Inside: &claim.Inside{Run: "echo 2222", Is: text("2222")}, Falsify: "f agent"},
		{Layer: "x", Claim: "c", Inside: &claim.Inside{Run: "r", Has: text("a")}, Falsify: "f"},
		{Layer: "x", Claim: "c", Inside: &claim.Inside{Run: "r", Lacks: text("")}, Falsify: "f"},
		{Layer: "x", Claim: "c", Inside: &claim.Inside{Run: "r", Exit: &two}, Falsify: "f"},
		{Layer: "x", Claim: "c", Outside: &claim.Outside{TCP: &claim.Ports{Open: []int{22, 80}, Closed: []int{1}}}, Falsify: "f"},
		{Layer: "x", Claim: "c", Outside: &claim.Outside{SSH: &claim.Login{User: "ops", With: "key", Want: "refused"}}, Falsify: "f"},
		{Layer: "x", Outside: &claim.Outside{None: "Nothing."}},
	}
	if diff := cmp.Diff(want, got.Checks); diff != "" {
		t.Error(diff)
	}
}

func TestChecksRefuse(t *testing.T) {
	for check, words := range map[string]string{
		"inside: [{claim: c, run: r, exit: 256, falsify: f}]":                               "want an exit status from 0 to 255",
		"inside: [{claim: c, run: r, exit: -1, falsify: f}]":                                "want an exit status from 0 to 255",
		"inside: [{claim: c, run: r, exit: ((user)), falsify: f}]":                          "want an exit status from 0 to 255",
		"inside: [{claim: c, run: r, is: [a], falsify: f}]":                                 "want text",
		"inside: [{claim: c, run: r, has: null, falsify: f}]":                               "want text",
		"inside: [{claim: c, run: ((free)), is: a, falsify: f}]":                            "is free text",
		"inside: [{claim: c, run: echo ((free)), is: a, falsify: f}]":                       "is free text",
		"inside: [{claim: c, run: r, is: a, falsify: f ((free))}]":                          "is free text",
		"inside: [{claim: c ((prot)), run: r, is: a, falsify: f}]":                          `unknown parameter "prot"`,
		"inside: [{claim: c, run: r, is: a, falsify: ((ports))}]":                           "want text",
		"inside: [{claim: ((ports)), run: r, is: a, falsify: f}]":                           "want text",
		"inside: [{claim: c, run: ((ports)), is: a, falsify: f}]":                           "want text",
		"outside: [{none: \"\"}]":                                                           "say why nothing can be seen",
		"outside: [{claim: c, tcp: {}, falsify: f}]":                                        "no port is named",
		"outside: [{claim: c, tcp: {open: ((keys))}, falsify: f}]":                          "no port is named",
		"outside: [{claim: c, tcp: {opened: [1]}, falsify: f}]":                             `unknown key "opened"`,
		"outside: [{claim: c, tcp: {open: [0]}, falsify: f}]":                               "from 1 to 65535",
		"outside: [{claim: c, tcp: [1], falsify: f}]":                                       "want a map",
		"outside: [{claim: c, ssh: {user: a, with: key}, falsify: f}]":                      `"want" is missing`,
		"outside: [{claim: c, ssh: {user: a, with: hope, want: refused}, falsify: f}]":      "want key, password, none",
		"outside: [{claim: c, ssh: {user: a b, with: key, want: refused}, falsify: f}]":     "is not a user name",
		"outside: [{claim: c, ssh: {user: -oX, with: key, want: refused}, falsify: f}]":     "is not a user name",
		"outside: [{claim: c, ssh: {user: a, with: key, want: refused, x: 1}, falsify: f}]": `unknown key "x"`,
	} {
		got, err := rendered(t, "checks: {"+check+"}\n", "{}")
		var list diag.List
		if !errors.As(err, &list) || !strings.Contains(err.Error(), words) || list[0].Pos.Line != 18 {
			t.Errorf("%s: %+v, %v, want %s on line 18", check, got.Checks, err, words)
		}
	}
}

func TestDigest(t *testing.T) {
	digest := func(origin, body, given string, files ...string) string {
		shelf := Shelf{Builtin: fstest.MapFS{}, User: folder(head+params+body, files...), UserOrigin: origin}
		l, err := shelf.Open("x")
		if err != nil {
			t.Fatal(err)
		}
		r, err := l.Render(parse(t, "p: "+given).Get("p"), "p", facts)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := r.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	body := "cloud-config: {k: ((port))}\n"
	same := digest("layers", body, "{}", "a", "b")
	if digest("/elsewhere", body, "{}", "a", "b") != same || digest("layers", body, "{port: 22}", "a", "b") != same {
		t.Error("the digest depends on more than the words")
	}
	for name, other := range map[string]string{
		"parameter": digest("layers", body, "{port: 23}", "a", "b"),
		"content":   digest("layers", body, "{}", "a", "c"),
		"path":      digest("layers", body, "{}", "c", "b"),
		"mode":      digest("layers", "files: {/a: {mode: \"0600\"}}\n"+body, "{}", "a", "b"),
		"packages":  digest("layers", "packages: [jq]\n"+body, "{}", "a", "b"),
		"checks":    digest("layers", body+"checks: {outside: [{none: n}]}\n", "{}", "a", "b"),
		"config":    digest("layers", "", "{}", "a", "b"),
	} {
		if other == same {
			t.Errorf("another %s has the same digest", name)
		}
	}
	if _, err := (Rendered{CloudConfig: doc.Text("\xff")}).Digest(); err == nil {
		t.Error("what YAML cannot carry has a digest")
	}
}

// The built-in layers keep to what is asked of everybody's: one screen, a
// falsify for every claim, and defaults that work.
func TestBuiltin(t *testing.T) {
	shelf := Shelf{Builtin: layers.FS, ShowBuiltin: "layers"}
	if len(shelf.Names()) == 0 {
		t.Fatal("there are no built-in layers")
	}
	for _, name := range shelf.Names() {
		text, err := fs.ReadFile(layers.FS, name+"/layer.yaml")
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) > 60 {
			t.Errorf("%s: %d lines, at most 60", name, len(lines))
		}
		for i, line := range lines {
			if n := len([]rune(line)); n > 100 {
				t.Errorf("%s:%d: %d columns, at most 100", name, i+1, n)
			}
		}
		l, err := shelf.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		given := &doc.Node{Kind: doc.Map}
		for _, p := range l.Params {
			if p.Required {
				given.Set(p.Name, example(t, p))
			}
		}
		r, err := l.Render(given, name, facts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, c := range r.Checks {
			if c.Falsify == "" && (c.Outside == nil || c.Outside.None == "") {
				t.Errorf("%s: %q has no falsify", name, c.Claim)
			}
		}
	}
}

// example is a value for a required parameter.
func example(t *testing.T, p Param) *doc.Node {
	t.Helper()
	text := map[string]string{"bool": "true", "int": "5", "port": "8080", "ports": "[8080]", "user": "agent", "name": "name", "path": "/srv/x",
		"duration": "10m", "size": "1GiB", "ssh_keys": "[]", "cidr": "192.0.2.0/24",
		"word": "UTC", "words": "[a]", "users": "[ops]", "user_keys": "[]",
		"names": "[name]", "paths": "[/srv/x]", "cidrs": "[192.0.2.1]", "string": "text", "image": "sha256:" + hex64, "secret": "api-key"}[p.Type]
	if p.Type == "enum" {
		text = p.Of[0]
	}
	return parse(t, "v: "+text).Get("v")
}
