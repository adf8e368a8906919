package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"bake/internal/doc"
)

// The layer of these tests has free text in the two places where it may be: as
// an argument of a command, and quoted in a template.
const mottoLayer = `layer: mine
summary: Say something.
threat: none
params:
  motto: {type: string, default: hello, help: What is said.}
cloud-config:
  bootcmd:
    - [printf, "%s", --, ((motto))]
`

const mottoScript = "#!/bin/sh\nprintf '%s' {{shell .motto}}\n"

// said is what became of a text.
type said struct {
	code     int
	stderr   string
	shape    string // keys, kinds and lengths of the user-data, without its texts
	argument string
	printed  string // by the script
}

// say puts a text through the command line, from a host file to a seed.
func say(t testing.TB, text string) said {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"hosts/zap.yaml": strings.Replace(hostFixture, "layers: [ssh, ufw, sysctl]",
			"layers: [mine: {motto: "+strconv.Quote(text)+"}]", 1),
		"layers/mine/layer.yaml":          mottoLayer,
		"layers/mine/files/opt/motd.tmpl": mottoScript,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := inProcess(t, false, "--config", dir, "--out", dir, "seed", "--host", "zap", "--format", "dir")
	result := said{code: o.code, stderr: o.stderr}
	if o.code != 0 {
		return result
	}
	data, err := os.ReadFile(filepath.Join(dir, "zap/seed/user-data"))
	if err != nil {
		t.Fatal(err)
	}
	root, err := doc.Parse("user-data", data)
	if err != nil {
		t.Fatalf("%q: %v\n%s", text, err, data)
	}
	result.shape = shape(root)
	bootcmd := root.Get("bootcmd").Items
	result.argument = bootcmd[len(bootcmd)-1].Items[3].Text
	script := ""
	for _, file := range root.Get("write_files").Items {
		if file.Get("path").Text == "/opt/motd" {
			script = file.Get("content").Text
		}
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir, cmd.Env = dir, []string{"PATH=/nonexistent"}
	printed, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", text, err, script)
	}
	result.printed = string(printed)
	return result
}

func shape(n *doc.Node) string {
	switch n.Kind {
	case doc.Map:
		text := "{"
		for _, pair := range n.Pairs {
			text += pair.Key.Text + ":" + shape(pair.Value) + ","
		}
		return text + "}"
	case doc.List:
		text := "["
		for _, item := range n.Items {
			text += shape(item) + ","
		}
		return text + "]"
	}
	return string(n.Kind)
}

func (s said) check(t *testing.T, text, want string) {
	t.Helper()
	switch {
	case s.code == 3 && strings.Contains(s.stderr, "layers[0].mine.motto: "):
	case s.code != 0:
		t.Errorf("%q: exit status %d\n%s", text, s.code, s.stderr)
	case s.shape != want:
		t.Errorf("%q changes the document to %s, want %s", text, s.shape, want)
	case s.argument != text:
		t.Errorf("%q arrives as the argument %q", text, s.argument)
	case s.printed != text:
		t.Errorf("%q is printed by the shell as %q", text, s.printed)
	}
}

var hostileTexts = []string{
	"hello", "", " ", " two  spaces ", "'", `"`, `\`, `\\'"`, "$(touch /tmp/x)", "`id`", "${PATH}", "$PATH", "$((1+1))", "((motto))",
	"((admin.name))", "(( nothing ))", "{{.motto}}", "{{shell .admin.name}}", "'; reboot; '", `"; reboot; "`, "a; b & c | d > e < f",
	"runcmd: [reboot]", "- reboot", "[a, b]", "{a: b}", "key: value", "# comment", "a # b", "#cloud-config", "---", "...", "&a", "*a",
	"!!python/object/apply:os.system [id]", "! x", "%YAML 1.1", "@x", "|", ">-", "? a", "<<", "=", "~", "null", "yes", "on", "true", "0640",
	"0x1f", "1e3", "22:22", "2026-11-22", ".inf", "-rf", "--", "-c", "END", "ü", "日本語", "🔥", "%s%n", "*", "~root", "!", "^", "\\n", "\\x41",
	strings.Repeat("'", 2000), strings.Repeat("x", 4096),
}

// refusedTexts are not one line of printable text.
var refusedTexts = []string{
	"a\nb", "a\nruncmd: [reboot]", "\n- reboot", "a\r", "\t", "\x00", "\x1b[2K", "\u2028", "\u202e", "\ufeff", "\x7f", "\u0085", "\u00a0",
	strings.Repeat("x", 4097),
}

// TestHostileText: a parameter's value never adds a key or a command.
func TestHostileText(t *testing.T) {
	want := say(t, "hello").shape
	for _, text := range hostileTexts {
		s := say(t, text)
		s.check(t, text, want)
		if s.code != 0 {
			t.Errorf("%q is refused:\n%s", text, s.stderr)
		}
	}
	for _, text := range refusedTexts {
		s := say(t, text)
		s.check(t, text, want)
		if s.code != 3 {
			t.Errorf("%q is accepted", text)
		}
	}
}

func FuzzHostileText(f *testing.F) {
	for _, text := range append(hostileTexts, refusedTexts...) {
		f.Add(text)
	}
	want := say(f, "hello").shape
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			t.Skip("a host file is UTF-8")
		}
		say(t, text).check(t, text, want)
	})
}

// TestHostileHost: the host file's own values reach libvirt's XML, shell
// commands in claims and file names; what does not fit their form is refused.
func TestHostileHost(t *testing.T) {
	texts := []string{"$(id)", "`id`", "a;b", "a b", "../x", "a/b", "-x", "a'b", `a"b`, "<a>", "a&b", "a\nb", "", "{{.}}", "((x))", "%s", "é"}
	for _, place := range []struct{ from, to string }{
		{"host: zap", "host: TEXT"}, {"name: ops", "name: TEXT"}, {"disk: 1GiB", "disk: TEXT"}, {"disk: 1GiB", "firmware: TEXT"},
		{"disk: 1GiB", "images: TEXT"}, {"layers:", "network: {mac: TEXT}\nlayers:"}, {"layers:", "network: {addresses: [TEXT]}\nlayers:"},
		{"layers:", "network: {nameservers: [TEXT]}\nlayers:"}, {"layers:", "network: {attach: {bridge: TEXT}}\nlayers:"},
		{"layers:", "network: {attach: {network: TEXT}}\nlayers:"}, {"[ssh,", "[TEXT,"}, {"ufw,", "ufw: {allow_tcp: [TEXT]},"},
		{"ufw,", "ufw: {logging: TEXT},"}, {"ufw,", "TEXT: {logging: low},"}, {"[ssh-", "[TEXT, ssh-"},
	} {
		for _, text := range texts {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "hosts"), 0o755); err != nil {
				t.Fatal(err)
			}
			content := strings.Replace(hostFixture, place.from, strings.Replace(place.to, "TEXT", strconv.Quote(text), 1), 1)
			if err := os.WriteFile(filepath.Join(dir, "hosts/zap.yaml"), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			o := inProcess(t, false, "--config", dir, "--out", filepath.Join(dir, "out"), "seed", "--host", "zap")
			if o.code != 3 || o.stdout != "" {
				t.Errorf("%s with %q: exit status %d\n%s", place.to, text, o.code, o.stderr)
			}
			if _, err := os.Lstat(filepath.Join(dir, "out")); err == nil {
				t.Errorf("%s with %q: something was written", place.to, text)
			}
		}
	}
}
