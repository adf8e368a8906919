package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"bake/internal/nightly"
)

func linkless(nightly.Outcome) string { return "" }

// A browser shows the page without a complaint and without a request; what it shows is what
// the report says; it can be searched and folded by keyboard.
func TestPageInBrowser(t *testing.T) {
	b := openBrowser(t)
	s := booted(t)
	page := written(t, s)
	dir := looked(t)
	devices := []struct {
		name   string
		width  int
		scheme string
	}{{"desk", 1280, "dark"}, {"phone", 390, "light"}, {"desk", 1280, "light"}, {"phone", 390, "dark"}}
	for i, d := range devices {
		b.scheme(t, d.scheme)
		b.size(t, d.width, 900, d.name == "phone")
		b.show(t, page)
		var width int // a phone makes room for what is too wide
		if b.eval(t, `document.documentElement.scrollWidth`, &width); width > d.width {
			t.Errorf("on a %s the page is %d pixels wide", d.name, width)
		}
		if i < 2 || os.Getenv("BAKE_PICTURES") != "" {
			b.picture(t, filepath.Join(dir, "report-"+d.name+"-"+d.scheme+".png"))
		}
	}
	t.Run("counts", func(t *testing.T) {
		data, err := json.Marshal(s.Report)
		if err != nil {
			t.Fatal(err)
		}
		var report struct {
			Results []struct {
				Claim string
				OK    bool
			}
		}
		if err := json.Unmarshal(data, &report); err != nil {
			t.Fatal(err)
		}
		var claims []string
		b.eval(t, `[...document.querySelectorAll('details.claim .text')].map(e => e.textContent)`, &claims)
		if len(claims) != len(report.Results) {
			t.Fatalf("the page has %d claims, report.json %d", len(claims), len(report.Results))
		}
		for _, result := range report.Results {
			if !strings.Contains("\n"+strings.Join(claims, "\n")+"\n", "\n"+result.Claim+"\n") {
				t.Errorf("the page does not claim %q", result.Claim)
			}
		}
		var ticks int
		if b.eval(t, `document.querySelectorAll('.strip i').length`, &ticks); ticks != len(claims) {
			t.Errorf("the strip has %d ticks", ticks)
		}
	})
	t.Run("search by keyboard", func(t *testing.T) { searchByKeyboard(t, b, len(s.Report.Results)) })
	t.Run("search packages by keyboard", func(t *testing.T) { searchPackages(t, b) })
	t.Run("fold by keyboard", func(t *testing.T) { foldByKeyboard(t, b) })
	t.Run("on paper", func(t *testing.T) {
		var shut int
		b.eval(t, `dispatchEvent(new Event('beforeprint')), document.querySelectorAll('details.claim:not([open])').length`, &shut)
		if shut > 0 {
			t.Errorf("%d claims are folded on paper", shut)
		}
		b.do(t, "Page.printToPDF", map[string]any{"preferCSSPageSize": true}, nil)
	})
	if all := b.complaints(); len(all) > 0 {
		t.Errorf("the browser complains: %s", strings.Join(all, "\n"))
	}
}

// TestPicture takes the picture of a report in docs/, when testdata/lab/picture asks for it.
func TestPicture(t *testing.T) {
	path := os.Getenv("BAKE_PICTURE")
	if path == "" {
		t.Skip("no BAKE_PICTURE")
	}
	b := openBrowser(t)
	b.scheme(t, "light")
	b.size(t, 1120, 800, false)
	b.show(t, written(t, booted(t)))
	var got struct{ Data []byte }
	b.do(t, "Page.captureScreenshot", map[string]any{"format": "png"}, &got)
	whole, err := png.Decode(bytes.NewReader(got.Data))
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, whole); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, small.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes", path, small.Len())
}

const shown = `[...document.querySelectorAll('details.claim')].filter(e => e.checkVisibility()).length`

func searchByKeyboard(t *testing.T, b *browser, all int) {
	b.press(t, "/")
	b.press(t, strings.Split("sshd", "")...)
	var state struct {
		Focus, Value, Said string
		Shown              int
		Right              bool
	}
	look := func() {
		t.Helper()
		b.eval(t, `({focus: document.activeElement.type, value: document.activeElement.value, said: document.getElementById('claims-said').textContent,
			shown: `+shown+`, right: [...document.querySelectorAll('details.claim')].filter(e => e.checkVisibility()).every(e => e.textContent.includes('sshd') || e.closest('.layer').querySelector('h3').textContent.includes('sshd'))})`, &state)
	}
	look()
	if state.Focus != "search" || state.Value != "sshd" || state.Shown == 0 || state.Shown == all || !state.Right ||
		state.Said != fmt.Sprintf("%d of %d claims", state.Shown, all) {
		t.Errorf("after / s s h d: %+v", state)
	}
	b.press(t, strings.Split("zzz", "")...)
	var nothing bool
	b.eval(t, `document.querySelector('.nothing').checkVisibility()`, &nothing)
	if look(); state.Shown != 0 || !nothing {
		t.Errorf("after words that no claim has: %+v", state)
	}
	b.press(t, "Escape")
	if look(); state.Shown != all || state.Value != "" || state.Said != fmt.Sprintf("%d claims", all) {
		t.Errorf("after Escape: %+v", state)
	}
}

func searchPackages(t *testing.T, b *browser) {
	var state struct {
		Rows []string
		Said string
		Open bool
	}
	const look = `({rows: [...document.querySelectorAll('#package-list [data-item]')].filter(e => e.checkVisibility()).map(e => e.textContent),
		said: document.getElementById('packages-said').textContent, open: document.getElementById('package-list').open})`
	if b.eval(t, look, &state); state.Open || len(state.Rows) > 0 {
		t.Errorf("a long list is not folded: %v, %d", state.Open, len(state.Rows))
	}
	if os.Getenv("BAKE_REPORT") != "" {
		return // another machine has other packages
	}
	b.eval(t, `document.querySelector('input[data-of=package-list]').focus()`, nil)
	b.press(t, strings.Split("base-files", "")...)
	if b.eval(t, look, &state); !state.Open || len(state.Rows) != 1 || !strings.HasPrefix(state.Rows[0], "base-files") || !strings.HasPrefix(state.Said, "1 of ") {
		t.Errorf("after base-files: %+v", state)
	}
}

func foldByKeyboard(t *testing.T, b *browser) {
	const open = `document.querySelectorAll('details.claim[open]').length`
	var n int
	b.eval(t, `document.querySelector('details.claim summary').focus()`, nil)
	b.press(t, "Enter")
	if b.eval(t, open, &n); n != 1 {
		t.Errorf("after Enter %d claims are open", n)
	}
	b.press(t, "Enter")
	if b.eval(t, open, &n); n != 0 {
		t.Errorf("after Enter again %d claims are open", n)
	}
	b.press(t, "Tab")
	var on string
	if b.eval(t, `document.activeElement.tagName`, &on); on != "SUMMARY" {
		t.Errorf("Tab leads from a claim to %s", on)
	}
	b.eval(t, `document.querySelector('button[data-fold]').focus()`, nil)
	b.press(t, "Enter")
	var all int
	b.eval(t, `document.querySelectorAll('details.claim').length`, &all)
	if b.eval(t, open, &n); n != all {
		t.Errorf("unfolded: %d of %d", n, all)
	}
	b.press(t, "Enter")
	if b.eval(t, open, &n); n != 0 {
		t.Errorf("folded: %d are open", n)
	}
	b.eval(t, `location.hash = document.querySelector('details.claim').id, new Promise(done => setTimeout(done))`, nil)
	if b.eval(t, open, &n); n != 1 {
		t.Errorf("a link to a claim opened %d", n)
	}
}

// Whatever a guest says is text: it makes no element, runs nothing and fetches nothing.
func TestHostileGuestInBrowser(t *testing.T) {
	b := openBrowser(t)
	s := hostile()
	index, err := Index(s.Nights, linkless)
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range map[string][]byte{"page": written(t, s), "index": index} {
		b.size(t, 390, 900, true)
		b.show(t, page)
		var found struct {
			Text     string
			Elements []string
			Width    int
		}
		b.eval(t, `({text: document.documentElement.textContent, width: document.documentElement.scrollWidth,
			elements: [...document.querySelectorAll('*')].filter(e => /^(script|style|img|iframe|link|base|object|embed|form)$/i.test(e.localName) ||
				e.getAttributeNames().some(n => n.startsWith('on') || n === 'style')).map(e => e.localName)})`, &found)
		if got := strings.Join(found.Elements, " "); got != "link style script" {
			t.Errorf("%s: there are %s", name, got)
		}
		if found.Width > 390 {
			t.Errorf("%s: it is %d pixels wide on a phone", name, found.Width)
		}
		for _, words := range hostileWords {
			if utf8.ValidString(words) && !strings.ContainsAny(words, "\x00\r") && name == "page" && !strings.Contains(found.Text, words) {
				t.Errorf("%s: %q is not there as text", name, words)
			}
		}
		if all := b.complaints(); len(all) > 0 {
			t.Errorf("%s: the browser complains: %s", name, strings.Join(all, "\n"))
		}
		b.picture(t, filepath.Join(looked(t), "hostile-"+name+".png"))
	}
}
