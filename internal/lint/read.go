package lint

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// UnsupportedError says that a file is user-data of a kind whose content cannot be
// checked.
type UnsupportedError struct{ File, Kind string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s is %s: only #cloud-config, network-config and meta-data can be checked", diag.Printable(e.File), e.Kind)
}

// foreign are the beginnings of user-data that is no cloud-config.
var foreignKinds = []struct{ prefix, kind string }{
	{"#!", "a script"}, {"#cloud-config-archive", "an archive of parts"}, {"#cloud-boothook", "a boothook"},
	{"#part-handler", "a part handler"}, {"#cloud-config-jsonp", "a JSON patch"}, {"\x1f\x8b", "compressed"}, {"Content-Type:", "a MIME message"}, {"MIME-Version:", "a MIME message"},
	{"From ", "a MIME message"},
}

var (
	jinjaHeader = lazy.Regexp(`(?i)^##\s*template:\s*jinja`)
	jinjaName   = lazy.Regexp(`\{\{\s*(?:ds\.|v1\.|instance_id|local_hostname|region|merged_)`)
	dockerForm  = lazy.Regexp(`\{\{\s*(?:\.[A-Z]|json|range|index|end|if \.)`)
	jinjaRaw    = lazy.Regexp(`(?s)\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}`)
)

// File checks a file that is not bake's: user-data (#cloud-config), network-config
// or meta-data, told apart by what is in it. The error is an *UnsupportedError.
func File(name string, data []byte) ([]Finding, error) {
	if bytes.HasPrefix(data, []byte("#include")) {
		w, lines := &world{}, strings.Split(string(data), "\n")
		w.links(lines[1:], func(line, col, width int) spot {
			return spot{pos: &diag.Position{File: name, Line: line + 2, Col: col + 1}, source: lines[line+1], width: width}
		})
		return w.sorted(), nil
	}
	for _, f := range foreignKinds {
		if bytes.HasPrefix(data, []byte(f.prefix)) && !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
			return nil, &UnsupportedError{name, f.kind}
		}
	}
	w := &world{config: &doc.Node{Kind: doc.Map}, units: map[string]*unit{}}
	text := string(data)
	lines := strings.Split(text, "\n")
	at := func(line, col, width int) spot {
		return spot{pos: &diag.Position{File: name, Line: line + 1, Col: col + 1}, source: lines[min(line, len(lines)-1)], width: width}
	}
	header := headerOf(w, name, data, at)
	if jinjaHeader.MatchString(lines[0]) {
		return w.template(name, data, header, at), nil
	}
	root, odd, err := doc.Foreign(name, data)
	if root != nil && header == "" {
		switch kind := kindOf(name, root); kind {
		case "network-config", "meta-data":
			w.oddities(odd)
			if kind == "meta-data" {
				checkMeta(w, root)
			} else {
				checkNetwork(w, root)
				w.networkSchema(newest(), root)
			}
			return w.sorted(), nil
		}
		w.report("yaml-header", at(0, 0, max(1, len(lines[0]))), "the first line is not #cloud-config: cloud-init ignores the whole file")
	}
	w.oddities(odd)
	var list diag.List
	switch {
	case errors.As(err, &list):
		for _, p := range list {
			w.found = append(w.found, finding("yaml-syntax", Error, p))
		}
		return w.sorted(), nil
	case root.Kind == doc.Null:
		w.report("yaml-not-a-map", at(0, 0, 1), "there is nothing in the file: cloud-init drops it")
	case root.Kind != doc.Map:
		w.report("yaml-not-a-map", spot{node: root}, "this is %s, want a map of keys: cloud-init drops the file", root.Kind)
	default:
		w.found = append(w.found, Config(root)...)
	}
	return w.sorted(), nil
}

// Config checks a merged cloud-config whose nodes know where they stand.
func Config(config *doc.Node) []Finding {
	w := newWorld(config, nil)
	w.check()
	w.checkRelease(newest())
	return w.sorted()
}

func finding(id string, severity Severity, p diag.Problem) Finding {
	p.Rule, p.Warning = id, severity == Warning
	return Finding{Rule: id, Severity: severity, Problem: p}
}

func (w *world) oddities(odd []doc.Oddity) {
	for _, o := range odd {
		if o.Kind == doc.Duplicate {
			w.found = append(w.found, finding("yaml-duplicate-key", Error, o.Problem))
		} else {
			w.found = append(w.found, finding("yaml-ambiguous", Warning, o.Problem))
		}
	}
}

// headerOf looks at the first lines and returns what kind of file they announce, ""
// for none.
func headerOf(w *world, name string, data []byte, at func(line, col, width int) spot) string {
	text := string(data)
	first, rest, _ := strings.Cut(text, "\n")
	jinja := jinjaHeader.MatchString(first)
	if jinja {
		first, _, _ = strings.Cut(rest, "\n")
		bare := jinjaRaw.ReplaceAllStringFunc(text, func(raw string) string { return strings.Repeat("\n", strings.Count(raw, "\n")) })
		for i, line := range strings.Split(bare, "\n") {
			if m := dockerForm.FindStringIndex(line); m != nil {
				w.report("jinja-eats-braces", at(i, m[0], 2), "the file is a jinja template: this is replaced, by nothing or an error")
				break
			}
		}
	} else {
		for i, line := range strings.Split(text, "\n") {
			if m := jinjaName.FindStringIndex(line); m != nil && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				w.report("jinja-not-rendered", at(i, m[0], 2), "without ## template: jinja as the first line this stays as it is")
				break
			}
		}
	}
	header := strings.TrimRight(first, " \t\r")
	switch {
	case header == "#cloud-config":
		return header
	case bytes.HasPrefix(data, []byte("\xef\xbb\xbf")):
		w.report("yaml-header", at(0, 0, 1), "the file starts with a byte order mark: cloud-init ignores the whole file")
		return "bom"
	case lazy.Regexp(`(?i)^#+\s*cloud[-_ ]?config`).MatchString(header):
		w.report("yaml-header", at(0, 0, len(header)), "%q is not #cloud-config: cloud-init ignores the whole file", header)
		return "wrong"
	case jinja && strings.HasPrefix(header, "#!"):
		return "script"
	case jinja:
		return "jinja"
	case lazy.Regexp(`(?m)^#cloud-config[ \t\r]*$`).MatchString(text) && strings.TrimSpace(first) == "":
		line := strings.Count(text[:strings.Index(text, "#cloud-config")], "\n")
		w.report("yaml-header", at(line, 0, len("#cloud-config")), "#cloud-config is not on the first line: cloud-init ignores the whole file")
		return "late"
	}
	return ""
}

// kindOf tells the files of a seed apart.
func kindOf(name string, root *doc.Node) string {
	has := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return root.Get(k) != nil })
	}
	switch {
	case root.Kind != doc.Map:
		return "user-data"
	case strings.HasSuffix(name, "network-config"), has("ethernets", "bonds", "vlans", "bridges"), has("network") && len(root.Pairs) == 1, has("version") && has("config"):
		return "network-config"
	case strings.HasSuffix(name, "meta-data"), has("instance-id", "local-hostname", "dsmode"):
		return "meta-data"
	}
	return "user-data"
}
