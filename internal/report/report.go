// Package report turns what was found out about a machine into what people and
// programs read: a page, JUnit, TAP, metrics.
//
// The page is one HTML file that needs nothing else: no request leaves it, and its
// Content-Security-Policy forbids any. It is readable on a phone, on paper, in the
// dark, by keyboard and without its script, which only searches and folds. Every
// chart is SVG drawn here, hidden from screen readers and followed by the same in words;
// nothing is said by a colour alone.
//
// It promises that what a guest said is text. All of the page is written by
// html/template with the guest's words as plain strings; there is no template.HTML in this
// package (a test looks), the policy names the digests of the one script and the one
// style, and a test opens a page of a hostile guest in a browser. What a guest said
// at length is cut: report.json has it whole.
//
// The same Subject gives the same bytes. Nothing here reads a file, a clock or the
// network.
//
// # Decisions
//
// 2026-11: a report is about a generation as its own files describe it: claims.json has
// what the layers say of themselves, so that a page can be made again later, when
// the layers have changed.
//
// 2026-11: charts are drawn here and not by a library in the page: there are two of
// them, of a dozen points, and they have to be there without a script. A library
// that draws as well is 200 kB in every report. Would change for charts that
// somebody has to move in.
//
// 2026-11: each chart is there twice, wide and narrow. An SVG that is scaled to a
// phone has letters nobody can read.
//
// 2026-11: the script and the style are allowed by digest, not by a nonce: a nonce
// that is the same in every copy of a file is none.
package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"sync"

	"bake/internal/artifact"
	"bake/internal/nightly"
	"bake/internal/verify"
)

// A Subject is what a report is about: what was found out about a generation, and
// what is known of it beside that. All but Report may be empty.
type Subject struct {
	Report   verify.Report
	Plan     verify.Plan       // claims.json
	Manifest artifact.Manifest // manifest.json
	Before   string            // the generation that was proven before it
	Changes  []string          // since that one, as bake diff has them
	Nights   []nightly.Night   // the newest last
	SBOM     []byte            // sbom.json: what is installed, CycloneDX
	Signer   string            // id of the key that has signed the generation
}

//go:embed schema.json
var schema []byte

// Schema is the JSON Schema of report.json.
func Schema() []byte { return bytes.Clone(schema) }

//go:embed page.tmpl index.tmpl parts.tmpl
var files embed.FS

//go:embed page.css
var style string

//go:embed page.js
var script string

// templates are read when the first page is written.
var templates = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{"inc": func(n int) int { return n + 1 }}).ParseFS(files, "*.tmpl"))
})

// frame is what every page has around it.
type frame struct {
	Title  string
	Policy string
	Style  template.CSS
	Script template.JS
	OK     bool
}

func newFrame(title string, ok bool) frame {
	return frame{Title: title, OK: ok, Style: template.CSS(style), Script: template.JS(script),
		Policy: strings.Join([]string{"default-src 'none'", "script-src " + digest(script), "style-src " + digest(style),
			"img-src data:", "base-uri 'none'", "form-action 'none'"}, "; ")}
}

// digest is how a policy names a script or a style.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// HTML is the page.
func (s Subject) HTML() ([]byte, error) { return execute("page.tmpl", newPage(s)) }

func execute(name string, data any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates().ExecuteTemplate(&out, name, data); err != nil {
		return nil, fmt.Errorf("writing a page: %w", err)
	}
	return out.Bytes(), nil
}
