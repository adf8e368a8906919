package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAgain runs the part of both gateways' programs that starts them again, with
// systemd's commands in the place of which it says what it would do.
func TestAgain(t *testing.T) {
	const slow = "Agent database maintenance deferred: state lease heartbeat did not become ready (phase=startup)"
	for _, name := range []string{"openclaw", "openclaw-container"} {
		program, err := os.ReadFile("../../layers/" + name + "/files/usr/local/lib/bake/" + name + ".tmpl")
		if err != nil {
			t.Fatal(err)
		}
		_, body, ok := strings.Cut(string(program), "\nagain() {\n")
		body, _, end := strings.Cut(body, "\n}\n")
		if !ok || !end {
			t.Fatalf("%s has no function again", name)
		}
		for title, c := range map[string]struct {
			state, status, said string
			tries               int
			want                string
			then                string // state, after a while
		}{
			"too slow":                 {"failed", "78", slow, 0, "start --no-block " + name + ".service", ""},
			"too slow, the last time":  {"failed", "78", slow, 4, "start --no-block " + name + ".service", ""},
			"too slow too often":       {"failed", "78", slow, 5, "the machine is too slow for " + name + ".service: five more starts in this boot were in vain", ""},
			"a refused configuration":  {"failed", "78", `gateway: unknown key "prot"`, 0, "", ""},
			"another failure":          {"failed", "1", slow, 0, "", ""},
			"stopped meanwhile":        {"failed", "78", slow, 0, "", "inactive"},
			"systemd starts it itself": {"activating", "78", slow, 0, "", ""},
		} {
			t.Run(name+"/"+title, func(t *testing.T) {
				tries := filepath.Join(t.TempDir(), "tries")
				if err := os.WriteFile(tries, []byte(strings.Repeat("\n", c.tries)), 0o600); err != nil {
					t.Fatal(err)
				}
				mended := strings.Replace(body, "tries=/run/bake/"+name+".tries", "tries="+tries, 1)
				if mended == body {
					t.Fatal("the place where starts are counted is not the one that was expected")
				}
				script := `set -eu
sleep() { STATE=${THEN:-$STATE}; }
journalctl() { case $* in *INVOCATION_ID=id-of-it) echo "$SAID" ;; esac; }
systemctl() {
    case "$*" in
    "show -P ActiveState ` + name + `.service") echo "$STATE" ;;
    "show -P ExecMainStatus ` + name + `.service") echo "$STATUS" ;;
    "show -P InvocationID ` + name + `.service") echo id-of-it ;;
    *) echo "$*" ;;
    esac
}
again() {
` + mended + "\n}\nagain\n"
				cmd := exec.Command("/bin/sh", "-c", script)
				cmd.Env = []string{"PATH=/usr/bin:/bin", "STATE=" + c.state, "STATUS=" + c.status, "SAID=" + c.said, "THEN=" + c.then}
				out, err := cmd.CombinedOutput()
				if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
					t.Errorf("%q, %v; want %q", got, err, c.want)
				}
			})
		}
	}
}
