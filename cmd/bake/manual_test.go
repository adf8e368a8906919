package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"gopkg.in/yaml.v3"

	"bake/internal/backup"
	"bake/internal/notify"
	"bake/internal/tool"
	"bake/layers"
)

// fence is a fenced block of the manual. What is claimed of it depends on the word
// after the backticks; docs/README.md tells readers.
type fence struct {
	page string // README.md or a file in docs
	line int
	kind string // sh, yaml, console, text, json, tmpl
	path string // of the file that it shows, "" for none
	text string
}

func (f fence) String() string { return fmt.Sprintf("%s:%d: %s", f.page, f.line, f.kind) }

// pages returns README.md and docs, by their path from the root of the clone.
func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no manual: %v", err)
	}
	names := []string{"README.md"}
	for _, path := range found {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

func readPage(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fences returns the blocks of a page, fenced or indented.
func fences(page, text string) (found []fence, problems []string) {
	var open *fence
	number, isProse, isFenced := 0, false, false
	end := func() {
		if open != nil {
			found, open = append(found, *open), nil
		}
	}
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		info, isMark := strings.CutPrefix(line, "```")
		inner, isIndented := strings.CutPrefix(line, "    ")
		switch {
		case isMark && isFenced:
			end()
			isFenced = false
		case isFenced:
			open.text += line + "\n"
		case isMark:
			end()
			kind, path, _ := strings.Cut(info, " ")
			open, isFenced = &fence{page: page, line: number, kind: kind, path: path}, true
		case isIndented && (open != nil || !isProse):
			if open == nil {
				open = &fence{page: page, line: number}
			}
			open.text += inner + "\n"
		case line != "":
			end()
		}
		isProse = line != ""
	}
	if isFenced {
		problems = append(problems, fmt.Sprintf("%s: is not closed", open))
	}
	end()
	return found, problems
}

// guess is the kind of a block that does not say it.
func guess(text string) string {
	var keys map[string]any
	first, _, _ := strings.Cut(text, " ")
	switch {
	case first == "bake" || first == "make" || slices.Contains(programs, first):
		return "sh"
	case first == "$":
		return "transcript"
	case yaml.Unmarshal([]byte(text), &keys) == nil && len(keys) > 0:
		return "yaml"
	}
	return "text"
}

// TestManual holds every block of the manual to what its kind says.
func TestManual(t *testing.T) {
	sayings := newSayings(t)
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			all, problems := fences(page, readPage(t, page))
			for _, problem := range problems {
				t.Error(problem)
			}
			dir := t.TempDir()
			for _, f := range all {
				if err := f.check(dir, sayings); err != nil {
					t.Errorf("%s: %v", f, err)
				}
			}
		})
	}
}

// check says what is wrong with a block. dir is the page's own directory: files that
// the page shows are written there, and its commands run there.
func (f fence) check(dir string, sayings sayings) error {
	if f.path != "" {
		path := filepath.Join(dir, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.text), 0o600); err != nil {
			return err
		}
	}
	if f.kind == "" {
		f.kind = guess(f.text)
	}
	switch f.kind {
	case "sh":
		return checkShell(f.text)
	case "yaml":
		return f.checkYAML(dir)
	case "console":
		return checkConsole(dir, f.text)
	case "transcript":
		commands, said := "", ""
		for line := range strings.Lines(f.text) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				commands += command
			} else {
				said += line
			}
		}
		return errors.Join(checkShell(commands), sayings.check(said))
	case "text":
		return sayings.check(f.text)
	case "json":
		if !json.Valid([]byte(f.text)) {
			return fmt.Errorf("this is no JSON")
		}
		return nil
	case "tmpl":
		if f.path == "" {
			return fmt.Errorf("a template belongs to a layer: say its path")
		}
		return nil
	}
	return fmt.Errorf("the kind %q is none of sh, yaml, console, transcript, text, json, tmpl", f.kind)
}

// checkYAML loads a block by the code that reads such a file: a layer, nightly.yaml,
// backup.yaml, a host file, or keys of a host file, which are completed.
func (f fence) checkYAML(dir string) error {
	var keys map[string]any
	if err := yaml.Unmarshal([]byte(f.text), &keys); err != nil {
		return f.checkLines(dir, err)
	}
	switch {
	case strings.HasPrefix(f.path, "hosts/"):
		return nil // for the commands that the page shows, which may refuse it
	case keys["layer"] != nil:
		if f.path == "" {
			return fmt.Errorf("say the path of the layer's file")
		}
		said, code := bakeIn(dir, "layers", fmt.Sprint(keys["layer"]))
		return isAccepted(said, code)
	case keys["default"] != nil || keys["hosts"] != nil:
		config, err := os.MkdirTemp(dir, "backup-")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(config, backup.FileName), []byte(f.text), 0o600); err != nil {
			return err
		}
		_, err = backup.Read(config)
		return err
	case keys["notify"] != nil || keys["deploy"] != nil || keys["keep"] != nil:
		nightly, err := os.MkdirTemp(dir, "nightly-")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(nightly, notify.FileName), []byte(f.text), 0o600); err != nil {
			return err
		}
		_, err = notify.Read(nightly)
		return err
	}
	return loads(dir, f.text, keys)
}

// checkLines tries every line of a block by itself, of one that shows the forms of
// one key.
func (f fence) checkLines(dir string, whole error) error {
	for line := range strings.Lines(f.text) {
		var keys map[string]any
		if err := yaml.Unmarshal([]byte(line), &keys); err != nil || len(keys) != 1 {
			return whole
		}
		if err := loads(dir, line, keys); err != nil {
			return err
		}
	}
	return nil
}

// rest is what makes a host file of some of its keys.
var rest = [][2]string{
	{"host", "host: manual\n"},
	{"base", "base: debian:13\n"},
	{"admin", "admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@desk]}\n"},
	{"layers", "layers: [ssh, ufw]\n"},
}

// loads has bake explain a host file, or one completed to be one.
func loads(dir, text string, keys map[string]any) error {
	for _, line := range rest {
		if keys[line[0]] == nil {
			text += line[1]
		}
	}
	var named struct{ Host string }
	if err := yaml.Unmarshal([]byte(text), &named); err != nil {
		return err
	}
	config, err := os.MkdirTemp(dir, "host-")
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(config, "layers"), os.DirFS(filepath.Join(dir, "layers"))); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.MkdirAll(filepath.Join(config, "hosts"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "hosts", named.Host+".yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	said, code := bakeIn(config, "explain", "--host", named.Host)
	return isAccepted(said, code)
}

func isAccepted(said string, code int) error {
	if code != 0 {
		return fmt.Errorf("bake refuses it:\n%s", said)
	}
	return nil
}

// bakeIn runs bake with a directory for its config and artifacts, and returns all it
// said, in the order in which it said it.
func bakeIn(dir string, args ...string) (said string, code int) {
	var both bytes.Buffer
	env := func(key string) string {
		if key == "PATH" || key == "LANG" {
			return os.Getenv(key)
		}
		return ""
	}
	e := envTo(&both, env)
	args = append([]string{"bake", "--config", dir, "--out", filepath.Join(dir, "out")}, args...)
	code = run(context.Background(), e, args)
	return strings.ReplaceAll(both.String(), dir+"/", ""), code
}

func envTo(to io.Writer, getenv func(string) string) env {
	return env{Stdin: strings.NewReader(""), Stdout: to, Stderr: to, Getenv: getenv, Layers: layers.FS, Tools: tool.Box{Getenv: getenv}}
}

// checkConsole runs every command after a $ and compares what it prints with the
// lines below; "..." stands for lines that are left out.
func checkConsole(dir, text string) error {
	var command string
	var want []string
	try := func() error {
		if command == "" {
			return nil
		}
		words, err := shellWords(command)
		if err != nil || words[0] != "bake" {
			return fmt.Errorf("%q: only bake is run", command)
		}
		said, _ := bakeIn(dir, words[1:]...)
		got := strings.Split(strings.TrimRight(said, "\n"), "\n")
		if !shows(want, got) {
			return fmt.Errorf("%s prints\n%s", command, strings.Join(got, "\n"))
		}
		return nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "$ "); ok {
			if err := try(); err != nil {
				return err
			}
			command, want = rest, nil
			continue
		}
		want = append(want, line)
	}
	return try()
}

// shows reports whether want is got with runs of lines replaced by "...".
func shows(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "..." {
		for skip := range len(got) + 1 {
			if shows(want[1:], got[skip:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && strings.TrimRight(got[0], " ") == want[0] && shows(want[1:], got[1:])
}

// programs that the manual calls besides bake and make.
var programs = []string{"apt-get", "bash", "cat", "cd", "chmod", "chown", "cosign", "cp", "curl", "dpkg", "export", "find", "fish", "git", "go", "journalctl", "man", "mkdir", "mv", "nmap",
	"openclaw", "openssl", "python3", "read", "restic", "rpm", "scp", "sha256sum", "source", "ssh", "ssh-keygen", "sudo", "systemctl", "systemd-analyze", "tar", "usermod", "virsh", "zsh"}

// checkShell holds command lines to the commands, options and targets that there are.
func checkShell(text string) error {
	text = heredoc.ReplaceAllString(strings.ReplaceAll(text, "\\\n", " "), "\n")
	for line := range strings.Lines(text) {
		for _, part := range simple.Split(comment.ReplaceAllString(line, ""), -1) {
			words, err := shellWords(part)
			if err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
			for len(words) > 0 && (words[0] == "sudo" || assignment.MatchString(words[0])) {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			switch {
			case words[0] == "bake":
				err = checkCommand(words)
			case words[0] == "make":
				err = checkTargets(words[1:])
			case !slices.Contains(programs, words[0]):
				err = fmt.Errorf("the manual calls no %s", words[0])
			}
			if err != nil {
				return fmt.Errorf("%q: %w", strings.TrimSpace(line), err)
			}
		}
	}
	return nil
}

var (
	comment    = regexp.MustCompile(`(^|\s+)#.*`)
	simple     = regexp.MustCompile(`\|\||&&|[|;]`)
	assignment = regexp.MustCompile(`^[A-Z_]+=`)
	heredoc    = regexp.MustCompile(`(?s) << ?'END'\n.*?\nEND\n`)
	target     = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)
)

// shellWords splits at blanks, minding quotes.
func shellWords(text string) (words []string, err error) {
	var word strings.Builder
	quote, open := rune(0), false
	for _, r := range strings.TrimSpace(text) {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote, open = r, true
		case quote == 0 && (r == ' ' || r == '\t'):
			if open || word.Len() > 0 {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		case quote == 0 && (r == '>' || r == '<'):
			return words, nil // a redirection ends what is checked
		default:
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is open")
	}
	if open || word.Len() > 0 {
		words = append(words, word.String())
	}
	return words, nil
}

// checkCommand parses a command line of bake as bake does and runs nothing.
func checkCommand(words []string) error {
	a := &app{env: envTo(io.Discard, func(string) string { return "" }), ui: &ui{quiet: true}}
	args, err := reorder(a, words)
	if err != nil {
		return err
	}
	root := newCLI(a)
	for _, command := range root.Commands {
		command.Action = func(c *cli.Context) error {
			if c.Args().Present() && c.Command.ArgsUsage == "" {
				return fmt.Errorf("bake %s takes no arguments", c.Command.Name)
			}
			return nil
		}
	}
	return root.Run(args)
}

func checkTargets(names []string) error {
	text, err := os.ReadFile("../../Makefile")
	if err != nil {
		return err
	}
	var known []string
	for _, m := range target.FindAllStringSubmatch(string(text), -1) {
		known = append(known, m[1])
	}
	for _, name := range names {
		if !slices.Contains(known, name) && !assignment.MatchString(name) {
			return fmt.Errorf("the Makefile has no target %s", name)
		}
	}
	return nil
}

// TestTopics holds the examples in the texts of bake help to the same.
func TestTopics(t *testing.T) {
	for _, about := range topics {
		text := topic(about.name)
		if text == "" {
			t.Errorf("bake help %s says nothing", about.name)
		}
		examples, _, _ := strings.Cut(text, "\nThe keys:\n")
		if about.name == "exit-status" {
			examples = ""
		}
		for _, example := range indented(examples) {
			var keys map[string]any
			var err error
			switch {
			case yaml.Unmarshal([]byte(example), &keys) == nil && len(keys) > 0:
				err = loads(t.TempDir(), example, keys)
			case strings.HasPrefix(example, "bake "):
				err = checkShell(example)
			case !strings.HasPrefix(example, "layers/") && !strings.Contains(example, "   "): // a table
				err = fmt.Errorf("what is this?")
			}
			if err != nil {
				t.Errorf("bake help %s: %v\n%s", about.name, err, example)
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 101 && !strings.Contains(line, "ssh-ed25519") {
				t.Errorf("bake help %s: a line of %d characters: %s", about.name, len(line), line)
			}
		}
	}
}

// indented returns the blocks of a text that begin with four blanks, without these.
func indented(text string) (blocks []string) {
	block := ""
	for line := range strings.Lines(text + "\n") {
		if rest, ok := strings.CutPrefix(line, "    "); ok {
			block += rest
			continue
		}
		if block != "" {
			blocks = append(blocks, block)
		}
		block = ""
	}
	return blocks
}

// TestManualCanFail shows each check of the manual a block that is wrong.
func TestManualCanFail(t *testing.T) {
	sayings := newSayings(t)
	for _, f := range []fence{
		{kind: "", text: "the oven is cold today, come back tomorrow\n"},
		{kind: "", text: "bake imag --host zap\n"},
		{kind: "mermaid", text: "words\n"},
		{kind: "sh", text: "bake imag --host zap\n"},
		{kind: "sh", text: "bake image --hots zap\n"},
		{kind: "sh", text: "bake verify --deadline soon\n"},
		{kind: "sh", text: "bake version now\n"},
		{kind: "sh", text: "cd x && make bread\n"},
		{kind: "sh", text: "frobnicate\n"},
		{kind: "yaml", text: "host: zap\nbase: debian:13\nmachine: {memroy: 2GiB}\n"},
		{kind: "yaml", text: "machine: {memory: 2}\n"},
		{kind: "yaml", text: "base: debian:13\nbase: debian:thirteen\n"},
		{kind: "yaml", text: "keep: none\n"},
		{kind: "yaml", text: "default: {repository: nowhere}\n"},
		{kind: "yaml", path: "layers/x/layer.yaml", text: "layer: x\nsummary: A layer.\n"},
		{kind: "console", text: "$ bake layers ufw\nlayer      wfu\n"},
		{kind: "console", text: "$ ls\n"},
		{kind: "text", text: "bake: the oven is cold today, come back tomorrow\n"},
		{kind: "json", text: "{\n"},
		{kind: "transcript", text: "$ bake imag\n"},
		{kind: "transcript", text: "$ bake image --host zap\nthe oven is cold today, come back tomorrow\n"},
		{kind: "tmpl", text: "{{.x}}\n"},
	} {
		if f.check(t.TempDir(), sayings) == nil {
			t.Errorf("%s passes: %s", f.kind, f.text)
		}
	}
	if _, problems := fences("x", "```sh\nopen\n"); len(problems) == 0 {
		t.Error("nothing is wrong with a block that does not end")
	}
	if found, _ := fences("x", "words\n\n    one\n\n    two\nwords\n    three\n"); len(found) != 1 || found[0].text != "one\ntwo\n" {
		t.Errorf("indented blocks: %v", found)
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)

// TestLinks follows every link of the manual to a file of the clone, and asks that
// the table of contents leads to every page.
func TestLinks(t *testing.T) {
	contents := readPage(t, "docs/README.md")
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(readPage(t, page), -1) {
			if m[1] == "" || strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join("../..", filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		if name, ok := strings.CutPrefix(page, "docs/"); ok && name != "README.md" && !strings.Contains(contents, "]("+name+")") {
			t.Errorf("docs/README.md does not lead to %s", page)
		}
	}
}

// TestTroubleshooting demands more of the messages that people look for: that one
// saying of the code has much of the words.
func TestTroubleshooting(t *testing.T) {
	sayings := newSayings(t)
	all, _ := fences("docs/troubleshooting.md", readPage(t, "docs/troubleshooting.md"))
	if len(all) < 20 {
		t.Errorf("only %d messages are explained", len(all))
	}
	for _, f := range all {
		for line := range strings.Lines(f.text) {
			if best := sayings.closest(strings.TrimSpace(line)); best < 0.5 {
				t.Errorf("docs/troubleshooting.md:%d: only %.0f %% of %q are words of the code", f.line, 100*best, strings.TrimSpace(line))
			}
		}
	}
	if best := sayings.closest("the oven is cold today, come back when it has warmed up"); best >= 0.5 {
		t.Error("words of nobody pass")
	}
}
