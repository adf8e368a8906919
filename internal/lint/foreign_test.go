package lint

import (
	"testing"

	"bake/internal/diag"
	"bake/internal/doc"
)

// What is lost is an error with its place, and the rules see what is left.
func TestForeign(t *testing.T) {
	lost := diag.List{{Pos: diag.Position{File: "x", Line: 3, Col: 1}, Message: "the part is lost"}}
	config, err := doc.Parse("x", []byte("runcmdd: [a]\n"))
	if err != nil {
		t.Fatal(err)
	}
	found := Foreign(lost, config)
	rules := map[string]int{}
	for _, f := range found {
		rules[f.Rule]++
	}
	if rules["part-lost"] != 1 || rules["key-unknown"] != 1 || !Stops(found) {
		t.Errorf("%v", rules)
	}
	if found := Foreign(nil, nil); len(found) > 0 {
		t.Errorf("of nothing: %v", found)
	}
}

// What is in parts is found, at its own line, and what is whole is not.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		kind, text, rule string
		line             int
	}{
		{"text/x-shellscript", "#!/bin/sh\nset -e\nif [[ -f /etc/x ]]; then\n  echo y\nfi\n", "cmd-bashism", 13},
		{"text/x-shellscript", "#!/bin/bash\nif [[ -f /etc/x ]]; then\n  echo y\nfi\n", "", 0},
		{"text/x-shellscript", "#!/bin/sh\nif [ -f /etc/x ]; then\n  echo y\n", "cmd-syntax", 12},
		{"text/x-shellscript", "#!/usr/bin/env python3\nprint([[1]])\n", "", 0},
		{"text/x-shellscript", "echo hello\n", "script-shebang", 11},
		{"text/cloud-boothook", "#!/bin/sh\nrm -rf /\n", "cmd-destroys", 12},
		{"text/cloud-boothook", "#!/bin/sh\necho hello\n", "", 0},
		{"text/cloud-config", "## template: jinja\n#cloud-config\nhostname: \"{{ v1.local_hostname }}\"\n", "jinja-not-rendered", 11},
		{"text/jinja2", "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n", "", 0},
		{"text/jinja2", "## template: jinja\n#cloud-config\n{% if v1.region %}\nhostname: a\n", "jinja-syntax", 13},
		{"text/plain", "nothing of this is read [[ ]]\n", "", 0},
	} {
		found := Foreign(nil, nil, Part{Name: "a", Type: c.kind, Text: c.text, Pos: diag.Position{File: "x", Line: 11, Col: 1}})
		switch {
		case c.rule == "" && len(found) > 0:
			t.Errorf("%s %q:\n%s", c.kind, c.text, show(found))
		case c.rule != "" && (len(found) != 1 || found[0].Rule != c.rule || found[0].Problem.Pos.Line != c.line):
			t.Errorf("%s %q: want %s on line %d:\n%s", c.kind, c.text, c.rule, c.line, show(found))
		}
	}
}

// A script that comes beside a configuration is looked at with what that brings.
func TestPartsTogether(t *testing.T) {
	config, err := doc.Parse("x", []byte("packages: [docker.io]\n"))
	if err != nil {
		t.Fatal(err)
	}
	script := Part{Name: "a", Type: "text/x-shellscript", Text: "#!/bin/sh\nsystemctl enable --now gatewayd\n", Pos: diag.Position{File: "x", Line: 1, Col: 1}}
	for _, c := range []struct {
		config *doc.Node
		part   Part
		want   int
	}{{config, script, 1}, {nil, script, 1}, {config, Part{}, 0}} {
		if found := Foreign(nil, c.config, c.part); len(found) != c.want {
			t.Errorf("want %d:\n%s", c.want, show(found))
		}
	}
}
