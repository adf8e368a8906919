//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/verify"
)

// vain has a claim that holds on every machine, and one whose falsify fails
// before it breaks anything.
const vain = `layer: vain
summary: Checks that look like checks.
threat: none
checks:
  inside:
    - claim: Something is so.
      run: "true"
      exit: 0
      falsify: touch /run/x
    - claim: Something else is so.
      run: test ! -e /run/x
      exit: 0
      falsify: cp /nonexistent /run/x
`

// TestE2EFalsify falsifies every claim of zap in one boot, with the layer vain
// among them: its checks are named, all others are seen to fail.
func TestE2EFalsify(t *testing.T) {
	l := newLab(t, "debian-13")
	zap, err := os.ReadFile(filepath.Join(l.config, "hosts/zap.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "hosts/zap.yaml", string(zap)+"  - vain\n")
	l.write(t, "layers/vain/layer.yaml", vain)
	if code, _ := l.bake(t, "image", "--host", "zap", "--base", l.base); code != 0 {
		t.Fatalf("bake image: exit %d", code)
	}
	code, text := l.bake(t, "verify", "--host", "zap", "--boot", "--falsify", "--json")
	var report verify.Report
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatal(err)
	}
	if code != 7 || report.Failed != 2 {
		t.Errorf("verify: exit %d, %d claims failed; want exit 7 for two", code, report.Failed)
	}
	seen := map[string]int{}
	for _, result := range report.Results {
		t.Logf("%s: %s: %v, %s (%v s)", result.Layer, result.Claim, result.OK, result.After, result.Seconds)
		switch {
		case !result.OK:
			t.Errorf("%s: %s: does not hold: %s", result.Layer, result.Claim, result.Got)
		case result.Where == "console":
		case result.Falsified == nil:
			t.Errorf("%s: %s: was not falsified", result.Layer, result.Claim)
		case *result.Falsified == (result.Layer == "vain"):
			t.Errorf("%s: %s: falsified is %v: %s", result.Layer, result.Claim, *result.Falsified, result.After)
		}
		seen[result.Layer]++
	}
	for _, layer := range []string{"boot", "ssh", "ufw", "sysctl", "vain"} {
		if seen[layer] == 0 {
			t.Errorf("no claim of %s was tried", layer)
		}
	}
	if got := find(t, report, "vain", "Something is").After; got != "this check cannot fail: it still held after touch /run/x" {
		t.Errorf("a check that cannot fail: %q", got)
	}
	if got := find(t, report, "vain", "Something else").After; !strings.HasPrefix(got, "its falsify failed: ") {
		t.Errorf("a falsify that fails: %q", got)
	}
	if _, err := os.Lstat(filepath.Join(l.out, "zap", "current")); err == nil {
		t.Error("a generation with a check that cannot fail was promoted to current")
	}
}
