//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// motto has a claim about a file that the layer brings.
const motto = `layer: motto
summary: A word for whoever logs in.
threat: none
checks:
  inside:
    - claim: The motto is a good one.
      run: cat /etc/motto
      is: good
      falsify: echo bad > /etc/motto
`

// TestFullBisect has two real generations, of which the second differs in memory
// and in a word that its claim does not bear, finds the word by real boots, and then
// makes the first again.
func TestFullBisect(t *testing.T) {
	l := newLab(t, "debian-13")
	host := `host: zap
base: ` + l.base + `
machine: {vcpus: 1, memory: 1GiB, disk: 4GiB}
admin: {name: ops, keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo ops@example]}
layers: [motto, ssh]
`
	bake := func(code int, word string) string {
		t.Helper()
		l.write(t, "layers/motto/files/etc/motto", word+"\n")
		got, out := l.bake(t, "image", "--host", "zap", "--boot", "--deadline", "25m")
		if got != code {
			t.Fatalf("%s: exit status %d, want %d\n%s", word, got, code, out)
		}
		return filepath.Base(strings.TrimSpace(out))
	}
	l.write(t, "hosts/zap.yaml", host)
	l.write(t, "layers/motto/layer.yaml", motto)
	good := bake(0, "good")
	l.write(t, "hosts/zap.yaml", strings.Replace(host, "memory: 1GiB", "memory: 1280MiB", 1))
	bad := bake(7, "bad")
	code, out := l.bake(t, "bisect", "--host", "zap", "--json", "--deadline", "25m")
	var v bisectView
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 {
		t.Fatalf("exit status %d, %v\n%s", code, err, out)
	}
	t.Log("\n" + out)
	if v.Good != good || v.Bad != bad || len(v.Changes) != 2 || len(v.Cause) != 1 || v.Cause[0].Name != "layer motto" || len(v.Trials) == 0 {
		t.Errorf("%+v", v)
	}
	if target, err := os.Readlink(filepath.Join(l.out, "zap/current")); err != nil || target != good {
		t.Errorf("current is %s, %v", target, err)
	}
	for _, args := range [][]string{{"attest", "verify", "--host", "zap"}, {"rebuild", "--host", "zap"}, {"rebuild", "--host", "zap", "--generation", bad}} {
		if code, out := l.bake(t, args...); code != 0 {
			t.Errorf("%q: exit status %d\n%s", args, code, out)
		}
	}
}
