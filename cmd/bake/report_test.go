package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bake/internal/artifact"
)

// A night leaves a page about all hosts that leads to the report of each, be it a red one, and
// the report has the night before it in its strip.
func TestNightLeavesPage(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	s.must(0, nil)
	pages, _ := filepath.Glob(filepath.Join(s.dir, "state/bake/nightly/*/index.html"))
	if len(pages) != 1 {
		t.Fatalf("pages: %v", pages)
	}
	links := func() (found []string) {
		page, err := os.ReadFile(pages[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`<a href="([^"#]+)">`).FindAllSubmatch(page, -1) {
			path := filepath.Join(filepath.Dir(pages[0]), string(m[1]))
			if _, err := os.Stat(path); err != nil {
				t.Errorf("a link leads nowhere: %v", err)
			}
			found = append(found, path)
		}
		return found
	}
	if all := links(); len(all) != 2 {
		t.Errorf("links: %v", all)
	}
	s.boot = judged(false)
	s.write(t, "hosts/zip.yaml", strings.Replace(hostFixture, "host: zap", "host: zip", 1)+"cloud-config: {locale: C.UTF-8}\n", 0o644)
	s.must(7, nil)
	latest, err := artifact.Open(filepath.Join(s.dir, "out"), "zip", "latest")
	if err != nil {
		t.Fatal(err)
	}
	report, err := filepath.EvalSymlinks(latest.Path("report.html"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, path := range links() {
		real, _ := filepath.EvalSymlinks(path)
		found = found || real == report
	}
	if !found {
		t.Errorf("no link leads to the report of the night that failed, %s: %v", report, links())
	}
	if page, err := os.ReadFile(report); err != nil || !strings.Contains(string(page), "a new generation proved itself") || !strings.Contains(string(page), "1 of 1 claim failed") {
		t.Errorf("%v: the red report does not know the night before", err)
	}
	if o := s.night("status"); o.code != 0 || !strings.Contains(o.stderr, "index.html") {
		t.Errorf("status does not say where the page is: %q", o.stderr)
	}
}
