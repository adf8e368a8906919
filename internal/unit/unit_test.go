package unit

import (
	"strings"
	"testing"
)

func TestService(t *testing.T) {
	j := Job{Argv: []string{`/o p$t/bake`, "--config", `/a "b"\c%h$HOME`, "nightly"}, Dir: "/a %h", Writes: []string{"/a %h", `/b "c"`},
		Env: []string{"HOME=/x y"}, EnvFile: "/etc/bake/n%i", User: "ops", Groups: []string{"kvm"}, OnFailure: "tell@%n.service", At: "03:00"}
	text, err := j.Service()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`ExecStart="/o p$t/bake" "--config" "/a \"b\"\\c%%h$$HOME" "nightly"`, // of the program's name no variable counts
		"WorkingDirectory=/a %%h", `ReadWritePaths="-/a %%h"`, `ReadWritePaths="-/b \"c\""`, `Environment="HOME=/x y"`,
		"EnvironmentFile=-/etc/bake/n%%i", "User=ops", "SupplementaryGroups=kvm", "OnFailure=tell@%%n.service", "NoNewPrivileges=yes", "ProtectSystem=strict",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("there is no line %q in\n%s", line, text)
		}
	}
	const confine = "\nSystemCallFilter=@chown sched_setaffinity setpriority prlimit64 setrlimit seccomp\n" // QEMU, itself
	if !strings.Contains(text, confine) {
		t.Errorf("QEMU has no sandbox of its own in\n%s", text)
	}
	j.IsUser = true
	text, err = j.Service()
	if err != nil || !strings.Contains(text, confine) {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, word := range []string{"User=", "SupplementaryGroups=", "ProtectSystem=", "ReadWritePaths=", "network-online"} {
		if strings.Contains(text, word) {
			t.Errorf("a unit of a user's own has %s", word)
		}
	}
	timer, err := j.Timer()
	if err != nil || !strings.Contains(timer, "\nOnCalendar=03:00\n") || !strings.Contains(timer, "\nPersistent=true\n") {
		t.Errorf("%v\n%s", err, timer)
	}
}

// No text begins a line of its own.
func TestRefuses(t *testing.T) {
	const evil = "x\nExecStartPre=/bin/sh"
	for name, j := range map[string]Job{
		"argv": {Argv: []string{"/bake", evil}}, "dir": {Dir: evil}, "writes": {Writes: []string{evil}}, "env": {Env: []string{evil}},
		"file": {EnvFile: evil}, "user": {User: evil}, "groups": {Groups: []string{evil}}, "failure": {OnFailure: evil}, "at": {At: "03:00\r"},
	} {
		if _, err := j.Service(); err == nil || !strings.Contains(err.Error(), "a unit cannot have") {
			t.Errorf("%s: error %v", name, err)
		}
		if _, err := j.Timer(); err == nil {
			t.Errorf("%s: a timer", name)
		}
	}
}
