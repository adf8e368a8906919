// Package oracle asks Python, for the tests that hold what is written anew here against
// the program that it has to agree with: PyYAML, cloud-init. Only tests import it.
package oracle

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const python = "/usr/bin/python3" // the one that the packages of Debian are for

// Start runs testdata/oracle.py of the package that is tested, with modules of its own
// in front of the machine's. The function returned sends it a text, as its length in
// bytes on a line and the bytes, and returns the line that it answers. A program that
// ends before the test does is a failure.
func Start(t testing.TB, modules ...string) func(text string) string {
	t.Helper()
	ours, err := filepath.Abs("../oracle")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/oracle.py")
	cmd.Env = append(os.Environ(), "PYTHONPATH="+strings.Join(append(modules, ours), ":"), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	in, errIn := cmd.StdinPipe()
	out, errOut := cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	answers := bufio.NewReader(out)
	return func(text string) string {
		t.Helper()
		fmt.Fprintf(in, "%d\n", len(text))
		io.WriteString(in, text)
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatalf("the oracle has died of %q: %v", text, err)
		}
		return strings.TrimSuffix(answer, "\n")
	}
}

// Demand skips a test on a machine where Python lacks a module, of a package of Debian's;
// with CI=true it fails.
func Demand(t testing.TB, module, from string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import "+module).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: %v: %s", from, err, out)
		}
		t.Skipf("%s is missing: %v", from, err)
	}
}

// CloudInit is where the modules of the cloud-init of a Debian release are, as PYTHONPATH
// has it. A test is skipped where they have not been fetched; with CI=true they are.
func CloudInit(t testing.TB, release string) string {
	t.Helper()
	script, err := filepath.Abs("../../testdata/lab/cloud-init-modules")
	if err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	if ready, _ := filepath.Glob(filepath.Join(cache, "bake/lab/cloud-init-"+release+"-*")); len(ready) == 0 && os.Getenv("CI") != "true" {
		t.Skip("testdata/lab/cloud-init-modules --fetch has not been run")
	}
	path, err := exec.CommandContext(t.Context(), script, release).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(path))
}
