package main

import (
	"io"
	"regexp"
	"strings"
	"testing"
)

// TestHelpBehindWords: who asks for help behind a word of a command gets the command's.
func TestHelpBehindWords(t *testing.T) {
	for line, want := range map[string]string{
		"backup install --help": "bake backup - ", "backup --help install": "bake backup - ", "nightly install -h": "bake nightly - ",
		"attest verify --help": "bake attest - ", "export kubevirt --out x --help": "bake export - ", "pull debian:13 --help": "bake pull - ",
	} {
		var stdout, stderr strings.Builder
		e := envTo(&stderr, func(string) string { return "" })
		e.Stdout = &stdout
		if code := run(t.Context(), e, append([]string{"bake"}, strings.Fields(line)...)); code != 0 || !strings.Contains(stdout.String(), "   "+want) {
			t.Errorf("bake %s: exit %d, %s%.80s", line, code, stderr.String(), stdout.String())
		}
	}
}

// TestOneDefault: the help of no option names two defaults.
func TestOneDefault(t *testing.T) {
	twice := regexp.MustCompile(`(?m)^.*\(default: .*\(default: .*$`)
	for _, command := range newCLI(&app{env: envTo(io.Discard, func(string) string { return "" }), ui: &ui{}}).Commands {
		var out strings.Builder
		if code := run(t.Context(), envTo(&out, func(string) string { return "" }), []string{"bake", command.Name, "--help"}); code != 0 {
			t.Errorf("bake %s --help: exit %d", command.Name, code)
		}
		for _, line := range twice.FindAllString(out.String(), -1) {
			t.Errorf("bake %s: %s", command.Name, line)
		}
	}
}
