package lint

import (
	"net/url"
	"path"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// A Part is one of a file that has several, as a handler of cloud-init's gets it.
type Part struct {
	Name, Type, Text string
	Pos              diag.Position // of the first line of Text
}

// Foreign checks what cloud-init makes of a file that is no #cloud-config by itself:
// what it loses, the configuration that it merges, if any, and what is in the parts.
func Foreign(lost diag.List, config *doc.Node, parts ...Part) []Finding {
	var out []Finding
	for _, p := range lost {
		out = append(out, finding("part-lost", Error, p))
	}
	w := &world{config: &doc.Node{Kind: doc.Map}, units: map[string]*unit{}}
	if config != nil && config.Kind == doc.Map {
		w.config = config
	}
	for _, p := range parts {
		w.files = append(w.files, p.file(w)...)
	}
	if w.config != config && len(w.files) == 0 {
		return append(out, w.sorted()...)
	}
	before := w.found
	w.read()
	w.check()
	if w.config == config {
		w.checkRelease(newest())
	}
	w.found = append(w.found, before...)
	return append(out, w.sorted()...)
}

// file is the script that a part is, if it is one.
func (p Part) file(w *world) []*file {
	lines := strings.Split(p.Text, "\n")
	place := func(line, col, width int) spot {
		source := lines[max(0, min(line, len(lines)-1))]
		return spot{path: p.Name, pos: &diag.Position{File: p.Pos.File, Line: p.Pos.Line + line, Col: col + 1}, source: source, width: width}
	}
	script := strings.HasPrefix(p.Type, "text/x-shellscript") || p.Type == "text/cloud-boothook"
	switch {
	case script && !strings.HasPrefix(p.Text, "#!") && p.Type != "text/cloud-boothook":
		w.report("script-shebang", place(0, 0, 1), "the script does not start with #!: the kernel cannot run it (Exec format error)")
	case script:
		return []*file{{path: path.Join("/var/lib/cloud/instance/scripts", p.Name), mode: 0o700, owner: "root:root", text: p.Text, place: place}}
	case p.Type == "text/cloud-config" && jinjaHeader.MatchString(p.Text) && jinjaTag.MatchString(p.Text):
		w.report("jinja-not-rendered", place(0, 0, len(lines[0])), "a part with the type text/cloud-config is not rendered, whatever its first line says: write text/jinja2")
	case p.Type == "text/jinja2":
		w.checkTemplate(p.Text, place)
	}
	return nil
}

var linkForm = lazy.Regexp(`^[a-z][a-z0-9+.-]*://`)

// links checks the lines of an #include.
func (w *world) links(lines []string, at placer) {
	for i, line := range lines {
		text := strings.TrimSpace(line)
		_, bad := url.Parse(text)
		switch {
		case text == "" || text[0] == '#':
		case bad != nil || !linkForm.MatchString(text) && !strings.HasPrefix(text, "/"):
			w.report("include-link", at(i, 0, len(line)), "%q is no URL: cloud-init gives up, and applies nothing of the user-data", text)
		case strings.HasPrefix(text, "http://"):
			w.hint("https://...").warn("include-link", at(i, 0, len(line)), "anybody on the way can send something else, which root runs")
		}
	}
}
