package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/layers"
)

const head = "layer: x\nsummary: s\nthreat: none\n"

// folder makes the file system of one layer x: layer.yaml, then pairs of a path
// below files/ and its content.
func folder(yaml string, files ...string) fstest.MapFS {
	fsys := fstest.MapFS{"x/layer.yaml": {Data: []byte(yaml)}}
	for i := 0; i < len(files); i += 2 {
		fsys["x/files/"+files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return fsys
}

func open(yaml string, files ...string) (*Layer, error) {
	return Shelf{Builtin: fstest.MapFS{}, User: folder(yaml, files...), UserOrigin: "layers"}.Open("x")
}

func mustOpen(t *testing.T, yaml string, files ...string) *Layer {
	t.Helper()
	l, err := open(yaml, files...)
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	return l
}

// refused wants a diag.List with a problem at file:line:col, written so, that
// says the words.
func refused(t *testing.T, err error, at, words string) {
	t.Helper()
	var list diag.List
	if !errors.As(err, &list) {
		t.Errorf("%v, want a problem at %s: %s", err, at, words)
		return
	}
	for _, p := range list {
		if p.Pos.String() == at && strings.Contains(p.Message+"\n"+p.Hint, words) {
			return
		}
	}
	t.Errorf("no problem at %s: %s\n%v", at, words, err)
}

func TestLoad(t *testing.T) {
	l := mustOpen(t, `layer: x
summary: Sum.
threat: Thr.
refs: [man(1), "a: b"]
requires: [base]
after: [ssh, ufw]
params:
  port: {type: port, default: 80, help: The port.}
  must: {type: user, help: The user.}
packages: [zsh, g++]
files:
  /etc/late: {mode: "0600", owner: "ops:ops", when: late}
  /usr/bin/boot: {mode: "0755", when: boot}
cloud-config: {timezone: Etc/UTC}
checks:
  inside:
    - {claim: c, run: r, is: "", falsify: f}
    - {claim: c, run: r, exit: 1, falsify: f}
  outside:
    - none: nothing to see
`, "etc/late", "a", "usr/bin/boot", "b", "etc/plain.tmpl", "{{.port}}")
	got := []any{l.Name, l.Summary, l.Threat, l.Refs, l.Requires, l.After, l.Packages, l.Builtin, l.Origin,
		l.Params[0].Name, l.Params[0].Required, l.Params[0].Documented(), l.Params[1].Required, l.Params[1].Documented()}
	want := []any{"x", "Sum.", "Thr.", []string{"man(1)", "a: b"}, []string{"base"}, []string{"ssh", "ufw"}, []string{"zsh", "g++"}, false, "layers/x",
		"port", false, "80", true, ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var files []string
	for _, f := range l.files {
		files = append(files, fmt.Sprintf("%s %04o %s %s %t", f.path, f.mode, f.owner, f.when, f.expand))
	}
	if diff := cmp.Diff([]string{"/etc/late 0600 ops:ops late false", "/etc/plain 0644 root:root early true",
		"/usr/bin/boot 0755 root:root boot false"}, files); diff != "" {
		t.Error(diff)
	}
}

// Every refusal of the loader, with its place.
func TestLoadRefuses(t *testing.T) {
	for _, test := range []struct{ yaml, at, words string }{
		{"[layer]", "1:1", "want a map"},
		{head + "sumary: s\n", "4:1", `did you mean "summary"?`},
		{"summary: s\nlayer: x\nthreat: none\n", "2:1", "must come before summary"},
		{head + "checks: {}\nparams: {}\n", "5:1", "must come before checks"},
		{"layer: x\nthreat: none\n", "1:1", `"summary" is missing`},
		{"layer: x\nsummary: s\n", "1:1", `"threat" is missing`},
		{"summary: s\nthreat: none\n", "1:1", `"layer" is missing`},
		{"layer: y\nsummary: s\nthreat: none\n", "1:8", `differs from the folder's, "x"`},
		{"layer: x\nsummary: 5\nthreat: none\n", "2:10", "want one line of text"},
		{"layer: x\nsummary: \"a\\nb\"\nthreat: none\n", "2:10", "want one line of printable text"},
		{"layer: x\nsummary: s\nthreat: \"\\e[2J\"\n", "3:9", "want one line of printable text"},
		{"layer: x\nreplaces: y\nsummary: s\nthreat: none\n", "2:11", "want the layer's own name"},
		{head + "refs: man(1)\n", "4:7", "want a list"},
		{head + "requires: [A]\n", "4:12", `"A" is not allowed`},
		{head + "after: [5]\n", "4:9", `"5" is not allowed`},
		{head + "packages: [\"a b\"]\n", "4:12", `"a b" is not allowed`},
		{head + "packages: [\"-y\"]\n", "4:12", `"-y" is not allowed`},
		{head + "packages: [\"jq|\"]\n", "4:12", `"jq|" is not allowed`},
		{head + "params: [a]\n", "4:9", "want a map of parameters"},
		{head + "params: {A: {type: int, help: h}}\n", "4:10", "is no name for a parameter"},
		{head + "params: {host: {type: int, help: h}}\n", "4:10", "is no name for a parameter"},
		{head + "params: {a-b: {type: int, help: h}}\n", "4:10", "is no name for a parameter"},
		{head + "params: {a: 5}\n", "4:13", "want a map"},
		{head + "params: {a: {help: h}}\n", "4:13", `"type" is missing`},
		{head + "params: {a: {type: prot, help: h}}\n", "4:20", `did you mean "port"?`},
		{head + "params: {a: {type: int}}\n", "4:13", `"help" is missing`},
		{head + "params: {a: {type: int, help: h, minimum: 5}}\n", "4:34", `unknown key "minimum"`},
		{head + "params: {a: {type: int, min: low, help: h}}\n", "4:30", "want a whole number"},
		{head + "params: {a: {type: secret, default: db, help: h}}\n", "4:37", "no default fits all"},
		{head + "params: {a: {type: enum, help: h}}\n", "4:13", "an enum needs"},
		{head + "params: {a: {type: int, of: [b], help: h}}\n", "4:13", "an enum needs"},
		{head + "params: {a: {type: enum, of: [\"b c\"], help: h}}\n", "4:31", "is not a plain word"},
		{head + "params: {a: {type: enum, of: [b], default: c, help: h}}\n", "4:44", "want one of b"},
		{head + "params: {a: {type: int, max: 3, default: 4, help: h}}\n", "4:42", "at most 3"},
		{head + "cloud-config: [a]\n", "4:15", "want cloud-init's own keys"},
		{head + "cloud-config: {write_files: []}\n", "4:29", "folder files/"},
		{head + "cloud-config: {packages: [a]}\n", "4:26", "layer's key packages"},
		{head + "cloud-config: {merge_how: []}\n", "4:27", "bake merges by itself"},
		{head + "files: [/etc/a]\n", "4:8", "want a map of guest paths"},
		{head + "files: {/etc/b: {}}\n", "4:9", `did you mean "/etc/a"?`},
		{head + "files: {/etc/a: {mod: \"0600\"}}\n", "4:18", `did you mean "mode"?`},
		{head + "files: {/etc/a: {owner: ops}}\n", "4:25", "want user:group"},
		{head + "files: {/etc/a: {owner: \"a b:c\", when: late}}\n", "4:25", "want user:group"},
		{head + "files: {/etc/a: {owner: \"ops:ops\"}}\n", "4:17", "add `when: late`"},
		{head + "files: {/etc/a: {owner: \"ops:ops\", when: boot}}\n", "4:17", "add `when: late`"},
		{head + "files: {/etc/a: {owner: \"root:ops\"}}\n", "4:17", "add `when: late`"},
		{head + "files: {/etc/a: {when: soon}}\n", "4:24", "want boot, early or late"},
		{head + "checks: [a]\n", "4:9", "want a map"},
		{head + "checks: {inner: []}\n", "4:10", `unknown key "inner"`},
		{head + "checks: {parallel: 1}\n", "4:20", "want true or false"},
		{head + "checks: {inside: [{claim: c, run: r, is: a, falsify: f, sealed: 1}]}\n", "4:65", "want true or false"},
		{head + "checks: {inside: {}}\n", "4:18", "want a list of checks"},
		{head + "checks: {inside: []}\n", "4:18", ""},
		{head + "checks: {inside: [{run: r, is: a, falsify: f}]}\n", "4:19", `"claim" is missing`},
		{head + "checks: {inside: [{claim: c, is: a, falsify: f}]}\n", "4:19", `"run" is missing`},
		{head + "checks: {inside: [{claim: c, run: r, is: a}]}\n", "4:19", "a check that cannot fail proves nothing"},
		{head + "checks: {inside: [{claim: c, run: r, is: a, falsify: \"\"}]}\n", "4:54", "want text"},
		{head + "checks: {inside: [{claim: c, run: r, falsify: f}]}\n", "4:19", "want exactly one of is, has, lacks, exit, there is none of them"},
		{head + "checks: {inside: [{claim: c, run: r, is: a, has: b, falsify: f}]}\n", "4:19", "there is is and has"},
		{head + "checks: {inside: [{claim: c, run: r, equals: a, falsify: f}]}\n", "4:38", `unknown key "equals"`},
		{head + "checks: {outside: [{claim: c, falsify: f}]}\n", "4:20", "want exactly one of tcp, ssh, none"},
		{head + "checks: {outside: [{claim: c, falsify: f, tcp: {open: [1]}, none: n}]}\n", "4:20", "there is tcp and none"},
		{head + "checks: {outside: [{claim: c, tcp: {open: [1]}}]}\n", "4:20", "a check that cannot fail proves nothing"},
		{head + "checks: {outside: [{tcp: {open: [1]}, falsify: f}]}\n", "4:20", `"claim" is missing`},
	} {
		_, err := open(test.yaml, "etc/a", "content")
		refused(t, err, "layers/x/layer.yaml:"+test.at, test.words)
	}
}

func TestModes(t *testing.T) {
	for mode, good := range map[string]bool{
		`"0600"`: true, `"0755"`: true, `"0640"`: true, `"0000"`: true,
		"600": false, `"600"`: false, `"00600"`: false, `"0666"`: false, `"0602"`: false, `"4755"`: false, `"2755"`: false, `"1755"`: false,
		`"0888"`: false, `"u=rw"`: false, `"+600"`: false, `"0x1f"`: false, `""`: false, "[]": false,
	} {
		l, err := open(head+"files: {/etc/a: {mode: "+mode+"}}\n", "etc/a", "")
		switch {
		case !good:
			refused(t, err, "layers/x/layer.yaml:4:24", "want four octal digits in quotes")
		case err != nil || fmt.Sprintf(`"%04o"`, l.files[0].mode) != mode:
			t.Errorf("%s: %v, %v", mode, l, err)
		}
	}
}

// The tree files/ holds plain files with plain names.
func TestTreeRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		make func(dir string) error
		at   string
	}{
		"link to a file":      {func(dir string) error { return os.Symlink("/etc/passwd", dir+"/files/etc/a") }, "layers/x/files/etc/a"},
		"link to a directory": {func(dir string) error { return os.Symlink("/etc", dir+"/files/etc/a") }, "layers/x/files/etc/a"},
		"dangling link":       {func(dir string) error { return os.Symlink("nowhere", dir+"/files/etc/a") }, "layers/x/files/etc/a"},
		"files/ is a link": {func(dir string) error {
			return errors.Join(os.RemoveAll(dir+"/files"), os.Symlink("/etc", dir+"/files"))
		}, "layers/x/files"},
		"blank in a name":       {func(dir string) error { return os.WriteFile(dir+"/files/etc/a b", nil, 0o600) }, "layers/x/files/etc/a b"},
		"command in a name":     {func(dir string) error { return os.WriteFile(dir+"/files/etc/$(id)", nil, 0o600) }, "layers/x/files/etc/$(id)"},
		"newline in a name":     {func(dir string) error { return os.WriteFile(dir+"/files/etc/a\nb", nil, 0o600) }, "layers/x/files/etc/a\ufffdb"},
		"placeholder in a name": {func(dir string) error { return os.WriteFile(dir+"/files/etc/((x))", nil, 0o600) }, "layers/x/files/etc/((x))"},
	} {
		user := t.TempDir()
		dir := filepath.Join(user, "x")
		if err := errors.Join(os.MkdirAll(dir+"/files/etc", 0o755), os.WriteFile(dir+"/layer.yaml", []byte(head), 0o600), test.make(dir)); err != nil {
			t.Fatal(err)
		}
		_, err := Shelf{Builtin: fstest.MapFS{}, User: os.DirFS(user), UserOrigin: "layers"}.Open("x")
		if err == nil {
			t.Errorf("%s: it loads", name)
			continue
		}
		refused(t, err, test.at, "")
	}
}

func TestShelf(t *testing.T) {
	replacing := "layer: x\nreplaces: x\nsummary: s\nthreat: none\n"
	other := "layer: x\nsummary: other\nthreat: none\n"
	for name, test := range map[string]struct {
		builtin, user fs.FS
		at, words     string // of the refusal
		wantBuiltin   bool
	}{
		"built in only":                   {builtin: folder(head), wantBuiltin: true},
		"an empty user folder":            {builtin: folder(head), user: fstest.MapFS{}, wantBuiltin: true},
		"the user's only":                 {builtin: fstest.MapFS{}, user: folder(head)},
		"replaced":                        {builtin: folder(head), user: folder(replacing)},
		"an exact copy":                   {builtin: folder(head, "a", "b"), user: folder(head, "a", "b"), wantBuiltin: true},
		"both, unsaid":                    {folder(head), folder(other), "mine/x/layer.yaml:1:8", "replaces: x", false},
		"a copy with another file":        {folder(head, "a", "b"), folder(head, "a", "c"), "mine/x/layer.yaml:1:8", "replaces: x", false},
		"a copy with one more file":       {folder(head), folder(head, "a", "c"), "mine/x/layer.yaml:1:8", "replaces: x", false},
		"replaces nothing":                {fstest.MapFS{}, folder(replacing), "mine/x/layer.yaml:2:11", "no built-in layer", false},
		"a broken one hides no built-in":  {folder(head), folder("layer: x\n"), "mine/x/layer.yaml:1:1", "missing", false},
		"broken YAML":                     {folder(head), folder("layer: x: y\n"), "mine/x/layer.yaml:1:1", "not valid YAML", false},
		"replaces another than its name":  {folder(head), folder("layer: x\nreplaces: y\nsummary: s\nthreat: none\n"), "mine/x/layer.yaml:2:11", "own name", false},
		"a broken built-in is said to be": {folder("layer: y\nsummary: s\nthreat: none\n"), nil, "builtin/x/layer.yaml:1:8", "differs", false},
	} {
		l, err := Shelf{Builtin: test.builtin, User: test.user, UserOrigin: "mine", ShowBuiltin: "builtin"}.Open("x")
		switch {
		case test.at != "":
			refused(t, err, test.at, test.words)
		case err != nil || l.Builtin != test.wantBuiltin:
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	shelf := Shelf{Builtin: fstest.MapFS{"b/layer.yaml": {}, "a/layer.yaml": {}, "no/README": {}}, User: fstest.MapFS{"c/layer.yaml": {}, "b/layer.yaml": {}}}
	if diff := cmp.Diff([]string{"a", "b", "c"}, shelf.Names()); diff != "" {
		t.Error(diff)
	}
	for _, name := range []string{"", "z", "../x", "x/y", "X", ".", "x\n", "-x"} {
		if _, err := shelf.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v, want %v", name, err, fs.ErrNotExist)
		}
	}
}

// TestLoadedOnce: a layer of the program is loaded once, and rendering it for one host
// leaves nothing of that in it; one of a directory is read again.
func TestLoadedOnce(t *testing.T) {
	shelf := Shelf{Builtin: layers.FS, ShowBuiltin: "layers"}
	for _, name := range shelf.Names() {
		first, err := shelf.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := shelf.Open(name)
		if err != nil || again != first {
			t.Errorf("%s is loaded twice, %v", name, err)
		}
		fresh, err := read(layers.FS, name, "layers", true)
		if err != nil {
			t.Fatal(err)
		}
		facts := Facts{Host: "zap", AdminName: "ops", AdminKeys: []string{"ssh-ed25519 AAAA ops"}}
		if _, err := first.Render(nil, "", facts); err != nil {
			continue // it wants parameters
		}
		facts.Host, facts.AdminName = "zip", "root2"
		one, err := first.Render(nil, "", facts)
		other, failed := fresh.Render(nil, "", facts)
		if err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		was, _ := one.Digest()
		if is, err := other.Digest(); err != nil || is != was {
			t.Errorf("%s: for the second host %s, by itself %s, %v", name, was, is, err)
		}
	}
	dir := fstest.MapFS{"a/layer.yaml": {Data: []byte("layer: a\nsummary: One.\nthreat: none\n")}}
	one, err := Shelf{Builtin: dir}.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	dir["a/layer.yaml"].Data = []byte("layer: a\nsummary: Two.\nthreat: none\n")
	if two, err := (Shelf{Builtin: dir}).Open("a"); err != nil || one.Summary != "One." || two.Summary != "Two." {
		t.Errorf("%v, %v, %v", one, two, err)
	}
}

// TestDigestOfChanged: a tree that is another has another digest, whatever was emitted.
func TestDigestOfChanged(t *testing.T) {
	l, err := Shelf{Builtin: layers.FS, ShowBuiltin: "layers"}.Open("sysctl")
	if err != nil {
		t.Fatal(err)
	}
	r, err := l.Render(nil, "", Facts{Host: "zap"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	r.CloudConfig = (&doc.Node{Kind: doc.Map}).Set("other", doc.Text("x"))
	if second, err := r.Digest(); err != nil || second == first {
		t.Errorf("%s, %v", second, err)
	}
}
