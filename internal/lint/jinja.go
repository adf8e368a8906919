package lint

import (
	"errors"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

var (
	jinjaTag  = lazy.Regexp(`(?s)\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}`)
	jinjaWord = lazy.Regexp(`^\{%[-+]?\s*([a-z]+)`)
	jinjaV1   = lazy.Regexp(`\bv1\.([a-z_0-9]+)`)
	// instanceNames are the standard ones of instance-data.
	instanceNames = words(`_beta_keys availability_zone availability-zone cloud_id cloud-id cloud_name cloud-name cloudname distro distro_release distro-release distro_version distro-version instance_id instance-id
		kernel_release kernel-release local_hostname local-hostname machine platform public_ssh_keys python_version python-version region subplatform system_platform system-platform variant`)
	jinjaBlocks = words("if for macro call filter block raw autoescape trans")
)

type placer func(line, col, width int) spot

// template checks a file that jinja renders before anybody else reads it.
func (w *world) template(name string, data []byte, header string, at placer) []Finding {
	w.checkTemplate(string(data), at)
	if header != "#cloud-config" {
		if header == "jinja" {
			w.report("yaml-header", at(1, 0, 1), "the second line is not #cloud-config: cloud-init does not know what the rendered file is")
		}
		return w.sorted()
	}
	root, odd, err := doc.Template(name, data)
	branches := strings.Contains(string(data), "{%")
	for _, o := range odd {
		if o.Kind != doc.Duplicate || !branches { // which may be one of two branches
			w.oddities([]doc.Oddity{o})
		}
	}
	var list diag.List
	switch {
	case errors.As(err, &list):
		severity := Error
		if branches {
			severity = Warning
		}
		for _, p := range list {
			w.found = append(w.found, finding("yaml-syntax", severity, p))
		}
	case root.Kind == doc.Map:
		w.found = append(w.found, Config(root)...)
	case !branches:
		w.report("yaml-not-a-map", spot{node: root}, "this is %s, want a map of keys: cloud-init drops the file", root.Kind)
	}
	return w.sorted()
}

// checkTemplate looks for what jinja refuses, or replaces by nothing.
func (w *world) checkTemplate(text string, at placer) {
	text = jinjaRaw.ReplaceAllStringFunc(text, func(raw string) string { return strings.Repeat("\n", strings.Count(raw, "\n")) })
	place := func(offset int) spot {
		before := text[:offset]
		return at(strings.Count(before, "\n"), offset-strings.LastIndexByte(before, '\n')-1, 2)
	}
	type block struct {
		word   string
		offset int
	}
	var open []block
	rest := []byte(text)
	for _, m := range jinjaTag.Compiled().FindAllStringIndex(text, -1) {
		tag := text[m[0]:m[1]]
		for i := m[0]; i < m[1]; i++ {
			if rest[i] != '\n' {
				rest[i] = ' '
			}
		}
		if v := jinjaV1.FindStringSubmatch(tag); v != nil && !slices.Contains(instanceNames, v[1]) && !strings.HasPrefix(tag, "{#") && !strings.Contains(tag, "default(") && !strings.Contains(tag, " is ") {
			w.hint(near(v[1], instanceNames)).report("jinja-undefined", place(m[0]), "instance-data has no v1.%s: CI_MISSING_JINJA_VAR stands there instead", v[1])
		}
		word := jinjaWord.FindStringSubmatch(tag)
		switch {
		case word == nil:
		case slices.Contains(jinjaBlocks, word[1]):
			open = append(open, block{word[1], m[0]})
		case strings.HasPrefix(word[1], "end"):
			if len(open) == 0 || word[1] != "end"+open[len(open)-1].word {
				if slices.Contains(words("endset"), word[1]) {
					continue
				}
				w.report("jinja-syntax", place(m[0]), "nothing opens what %s ends: jinja refuses the file", word[1])
				return
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		last := open[len(open)-1]
		w.report("jinja-syntax", place(last.offset), "the %s is not ended by end%s: jinja refuses the file", last.word, last.word)
		return
	}
	for _, left := range []string{"{{", "{%"} {
		if i := strings.Index(string(rest), left); i >= 0 {
			w.report("jinja-syntax", place(i), "%s is not closed: jinja refuses the file", left)
			return
		}
	}
}
