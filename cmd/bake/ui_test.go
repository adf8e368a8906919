package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/urfave/cli/v2"

	"bake/internal/diag"
	"bake/layers"
)

// inProcess runs a command line without a process of its own.
func inProcess(t testing.TB, terminal bool, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	e := env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(string) string { return "" }, Layers: layers.FS, Terminal: terminal}
	code := run(context.Background(), e, append([]string{"bake"}, args...))
	return outcome{code, stdout.String(), stderr.String()}
}

// plain reports whether text has nothing in it that drives a terminal.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) })
}

const hostile = "\x1b[2K\x1b[1A\rbake: zap: verified\x07\x9b31m\u202e\u2028\x00"

func TestSayNeutralises(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		u := &ui{env: env{Stderr: &out, Terminal: terminal}}
		u.say("host %s", hostile)
		u.fail(errors.New(hostile))
		u.fail(errors.New("first\nsecond " + hostile))
		u.fail(diag.List{{Pos: diag.Position{File: hostile, Line: 1, Col: 1}, Path: hostile,
			Message: hostile, Hint: hostile, Source: hostile, Width: 99}})
		if !plain(out.String()) {
			t.Errorf("terminal %v: %q", terminal, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "bake: ") && !strings.HasPrefix(line, "  ") && !strings.Contains(line, ":1:1: error: ") {
				t.Errorf("terminal %v: a line without its prefix: %q", terminal, line)
			}
		}
	}
}

func TestStage(t *testing.T) {
	var out bytes.Buffer
	u := &ui{env: env{Stderr: &out}}
	u.stage("working")
	if out.Len() > 0 {
		t.Errorf("not a terminal, yet a stage is shown: %q", out.String())
	}
	u = &ui{env: env{Stderr: &out, Terminal: true}, quiet: true}
	u.stage("working")
	u.say("done")
	if out.Len() > 0 {
		t.Errorf("quiet, yet: %q", out.String())
	}
	u = &ui{env: env{Stderr: &out, Terminal: true}}
	u.stage("%s", strings.Repeat("ü", 500))
	u.say("done")
	const want = "\r\x1b[K" // the one sequence there is: back to the start, erase
	if got := out.String(); !strings.HasSuffix(got, want+"bake: done\n") || strings.Count(got, "\x1b") != 2 ||
		!plain(strings.ReplaceAll(got, want, "")) || strings.Count(got, "ü") != usual-1-len("bake: …")+2 {
		t.Errorf("%q", got)
	}
}

// TestNoANSI runs commands with words from a stranger where a user would have
// them, and looks at both outputs.
func TestNoANSI(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hosts/zap.yaml", strings.Replace(hostFixture, "layers:", `"\e[31m\u202ekey": 1`+"\nlayers:", 1))
	write("hosts/raw.yaml", "host: raw"+hostile)
	write("hosts/"+strings.ReplaceAll(hostile, "\x00", "")+".yaml", "host: x\n")
	write("hosts/good.yaml", strings.Replace(hostFixture, "host: zap", "host: good", 1)+
		"cloud-config: {final_message: \"\\e[31m \\u202e \\r\"}\n")
	write("layers/mine/layer.yaml", "layer: mine\nsummary: \"a\\e[31m\"\nthreat: none\n")
	write("console.log", "[    0.0] Kernel panic - not syncing: "+hostile+"\nbake: "+hostile+"\nbake: failed: "+hostile+"\n"+hostile+"\n")
	for _, args := range [][]string{
		{"status", "--host", "good", "--console", dir + "/console.log"}, {"status", "--host", "good", "--console", hostile},
		{"status", "--host", "good", "--console", dir + "/console.log", "--json"}, {"ssh", "--host", "good", "--address", hostile},
		{"status", "--host", "good", "--console", dir + "/hosts/raw.yaml", "--follow", "--deadline", "1ms"},
		{"seed", "--host", "zap"}, {"seed", "--host", "raw"}, {"seed", "--host", hostile}, {"seed"},
		{"seed", "--host", "good"}, {"explain", "--host", "good"}, {"explain", "--host", "good", "--json"},
		{hostile}, {"seed", "--" + hostile}, {"seed", hostile}, {"seed", "--host", "good", "--format", hostile},
		{"seed", "--host", "good", "--output", dir + "/" + hostile[:10] + "/x"},
		{"layers"}, {"layers", hostile}, {"layers", "mine"}, {"layers", "--json", "ssh"},
		{"image", "--host", "good", "--base", hostile}, {"init", hostile}, {"help", hostile},
		{"verify", "--host", "good", "--boot", "--generation", hostile}, {"version"}, {"--help"},
	} {
		args = append([]string{"--config", dir, "--out", filepath.Join(dir, "out")}, args...)
		if o := inProcess(t, false, args...); !plain(o.stdout) || !plain(o.stderr) {
			t.Errorf("%q:\n%q\n%q", args[4:], o.stdout, o.stderr)
		}
	}
}

func TestHelpEndsWithExitStatus(t *testing.T) {
	var commands [][]string
	for _, command := range newCLI(&app{ui: &ui{}}).Commands {
		commands = append(commands, []string{command.Name, "--help"}, []string{command.Name, "-h"}, []string{"help", command.Name})
	}
	for _, args := range append(commands, []string{"--help"}, []string{"help"}, nil) {
		o := inProcess(t, false, args...)
		if o.code != 0 || o.stderr != "" || !strings.HasSuffix(o.stdout, "\n\n"+exitStatus) {
			t.Errorf("bake %q: exit status %d, stderr %q, stdout %q", args, o.code, o.stderr, o.stdout)
		}
	}
}

// TestReorder holds the options against where the library wants them.
func TestReorder(t *testing.T) {
	tests := []struct{ line, want string }{
		{"seed --host zap --out x", "--out x seed --host zap"},
		{"seed -q --host=zap --json", "-q --json seed --host=zap"},
		{"init web --key k", "init --key k web"},
		{"layers ufw --json", "--json layers ufw"},
		{"--config d layers ufw", "--config d layers ufw"},
		{"layers -- --json", "layers -- --json"},
		{"seed -o - --host zap", "seed -o - --host zap"},
		{"seed --host --json", "seed --host --json"},
		{"--version", "version"},
		{"seed --version", "seed --version"},
		{"nonsense --bogus x", "nonsense --bogus x"},
		{"", ""},
	}
	for _, test := range tests {
		args := append([]string{"bake"}, strings.Fields(test.line)...)
		got, err := reorder(&app{}, args)
		if want := append([]string{"bake"}, strings.Fields(test.want)...); err != nil || strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q: %q, %v, want %q", test.line, got, err, want)
		}
	}
	if _, err := reorder(&app{}, []string{"bake", "seed", "--out"}); exitCode(err) != 2 {
		t.Errorf("an option without its value: %v", err)
	}
}

// TestCommandsCannotExit guards run's promise that it returns: the library
// calls os.Exit by itself unless it is told not to.
func TestCommandsCannotExit(t *testing.T) {
	root := newCLI(&app{ui: &ui{}})
	if root.ExitErrHandler == nil {
		t.Fatal("there is no ExitErrHandler")
	}
	root.ExitErrHandler(nil, cli.Exit("", 9)) // would end the test
}
