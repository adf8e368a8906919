//go:build e2e

package report

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// axe is who judges whether everybody can read a page.
const axe = "axe-core@4.11.0"

// judge fetches axe-core from the registry that npm here is set to. No script of it runs but
// in the page.
func judge(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "install", "--prefix", dir, "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", axe)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm: %v\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// On no page, everything unfolded, does axe find an issue, be it a small one.
func TestE2EAxe(t *testing.T) {
	source := judge(t)
	b := openBrowser(t)
	index, err := Index(nights(24), linkless)
	if err != nil {
		t.Fatal(err)
	}
	look := func(t *testing.T) (serious []string, passed int) {
		t.Helper()
		var found struct {
			Issues []string
			Passed int
		}
		b.eval(t, source, nil)
		b.eval(t, `axe.run(document).then(r => ({passed: r.passes.length,
			issues: r.violations.map(v => v.impact + ' ' + v.id + ': ' + v.nodes.map(n => n.target + ' ' + n.any.map(a => a.message)).slice(0, 5).join(', '))}))`, &found)
		return found.Issues, found.Passed
	}
	for name, page := range map[string][]byte{"good": written(t, booted(t)), "bad": written(t, sample()), "empty": written(t, Subject{}), "hostile": written(t, hostile()), "index": index} {
		for scheme, width := range map[string]int{"light": 1280, "dark": 390} {
			b.scheme(t, scheme)
			b.size(t, width, 900, width < 500)
			b.show(t, page)
			b.eval(t, `document.querySelectorAll('details').forEach(e => e.open = true)`, nil)
			issues, passed := look(t)
			for _, issue := range issues {
				t.Errorf("%s, %s, %d pixels wide: %s", name, scheme, width, issue)
			}
			if passed < 10 {
				t.Errorf("%s: axe passed %d rules only: it has looked at nothing", name, passed)
			}
		}
	}
	b.eval(t, `document.querySelector('h1').style = '', document.body.insertAdjacentHTML('beforeend', '<img src="data:,"><p><font color="#ddd">pale</font></p>')`, nil)
	if issues, _ := look(t); len(issues) < 1 {
		t.Error("axe finds nothing wrong with a picture that has no words: it is no judge")
	}
}
