package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bake/internal/verify"
)

func written(t *testing.T, s Subject) []byte {
	t.Helper()
	page, err := s.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// inside is what stands between two tags, each of which is there once.
func inside(t *testing.T, page []byte, tag string) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)<`+tag+`\b[^>]*>(.*?)</`+tag+`>`).FindAllSubmatch(page, -1)
	if len(m) != 1 {
		t.Fatalf("%s is there %d times", tag, len(m))
	}
	return string(m[0][1])
}

// The policy lets the one script and the one style in, by digest, and nothing else.
func TestPolicy(t *testing.T) {
	index, err := Index(hostile().Nights, linkless)
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range map[string][]byte{"good": written(t, good()), "hostile": written(t, hostile()), "empty": written(t, Subject{}), "index": index} {
		policy := regexp.MustCompile(`http-equiv="Content-Security-Policy" content="([^"]*)"`).FindAllSubmatch(page, -1)
		if len(policy) != 1 {
			t.Fatalf("%s: %d policies", name, len(policy))
		}
		want := "default-src 'none'; script-src " + digest(inside(t, page, "script")) + "; style-src " + digest(inside(t, page, "style")) +
			"; img-src data:; base-uri 'none'; form-action 'none'"
		if got := html.UnescapeString(string(policy[0][1])); got != want {
			t.Errorf("%s: the policy is %s\nwant %s", name, got, want)
		}
		if found := regexp.MustCompile(`\s(style|on[a-z]+)="`).Find(page); found != nil {
			t.Errorf("%s: %s, which the policy forbids", name, found)
		}
	}
}

// Nothing in this package says of a text that it is HTML.
func TestNoRawHTML(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, found := range regexp.MustCompile(`template\.(HTML|HTMLAttr|URL|Srcset|JSStr|CSS|JS)\([^)]*\)`).FindAllString(string(source), -1) {
			if found != "template.CSS(style)" && found != "template.JS(script)" {
				t.Errorf("%s: %s", name, found)
			}
		}
	}
}

// A page has every claim of its report once, and says of each what the report does.
func TestClaimsAreCounted(t *testing.T) {
	for name, s := range map[string]Subject{"good": good(), "bad": sample(), "hostile": hostile()} {
		page := written(t, s)
		all := bytes.Count(page, []byte(`<details class="claim `))
		bad := bytes.Count(page, []byte(`<details class="claim failed"`))
		if all != len(s.Report.Results) || bad != failures(s.Report) {
			t.Errorf("%s: %d claims, %d failed, the report has %d and %d", name, all, bad, len(s.Report.Results), failures(s.Report))
		}
		if again := written(t, s); !bytes.Equal(page, again) {
			t.Errorf("%s: another page for the same report", name)
		}
	}
}

func TestVerdict(t *testing.T) {
	for want, change := range map[string]func(*verify.Report){
		"all 7 claims hold":                   func(*verify.Report) {},
		"1 of 7 claims failed":                func(r *verify.Report) { r.Results[2].OK = false },
		"stayed shut, 1 of 7 claims failed":   func(r *verify.Report) { r.Results[2].OK, r.Attestation = false, "ssh: no" },
		"stayed shut":                         func(r *verify.Report) { r.Attestation = "seal: no space left" },
		"nothing was tried":                   func(r *verify.Report) { r.Results = nil },
		"2 of 7 claims failed (cannot fail)":  func(r *verify.Report) { *r = sample().Report },
		"all 7 claims hold, none made itself": func(r *verify.Report) { r.Attestation = "" },
	} {
		r := good().Report
		change(&r)
		words, _, _ := strings.Cut(want, " (")
		words, _, _ = strings.Cut(words, ", none")
		page := newPage(Subject{Report: r})
		if page.Verdict != words || page.OK != (r.Err() == nil) || page.OK != strings.HasPrefix(words, "all") {
			t.Errorf("%s: %q, %v", want, page.Verdict, page.OK)
		}
	}
}

// Of a machine that stayed shut a page shows first what keeps it so.
func TestCauses(t *testing.T) {
	s := good()
	s.Report.Attestation = "sudoers: kim may run"
	for i, r := range s.Report.Results {
		s.Report.Results[i].OK = r.Layer == "docker"
	}
	names := func(all []claimView) (text string) {
		for _, c := range all {
			text += c.Layer + " " + c.Where + ", "
		}
		return text
	}
	page := newPage(s)
	if got, want := names(page.Failed)+"| "+names(page.Follows), "ssh inside, ufw inside, sudoers inside, | boot console, ssh outside, ufw outside, "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if text := string(written(t, s)); !strings.Contains(text, "3 more, which may only follow") || !strings.Contains(text, "it stayed shut") || strings.Contains(text, "then it opened") {
		t.Error("the page does not say what follows, or says that it opened")
	}
	for i, r := range s.Report.Results {
		s.Report.Results[i].OK = r.Where == "inside"
	}
	if page := newPage(s); len(page.Failed) != 3 || page.Follows != nil {
		t.Errorf("nothing is a cause: %s| %s", names(page.Failed), names(page.Follows))
	}
	s.Report.Attestation = attested
	if page := newPage(s); len(page.Failed) != 3 || page.Follows != nil {
		t.Errorf("a machine that opened: %s| %s", names(page.Failed), names(page.Follows))
	}
}

func TestShorten(t *testing.T) {
	if text := strings.Repeat("a line\n", 20); shorten(text) != text {
		t.Error("a short text is cut")
	}
	for _, text := range []string{strings.Repeat("x\n", 5000), strings.Repeat("é", 50000)} {
		short := shorten(text)
		if len(short) > mostBytes+60 || strings.Count(short, "\n") > mostLines+1 || strings.ToValidUTF8(short, "") != short ||
			!strings.HasSuffix(short, fmt.Sprintf("\n... %d bytes in all: report.json has them", len(text))) {
			t.Errorf("%d bytes, ends with %q", len(short), short[len(short)-60:])
		}
	}
}

// What report.json has is what a page is made of: nothing gets lost on the way.
func TestSameFromJSON(t *testing.T) {
	s := sample()
	data, err := json.Marshal(s.Report)
	if err != nil {
		t.Fatal(err)
	}
	var again Subject = s
	again.Report = verify.Report{}
	if err := json.Unmarshal(data, &again.Report); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written(t, s), written(t, again)) {
		t.Error("another page")
	}
}
