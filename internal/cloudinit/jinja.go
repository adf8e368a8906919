package cloudinit

import (
	"strings"

	"bake/internal/email"
	"bake/internal/lazy"
)

var templateLine = lazy.Regexp(`(?i)^##\s*template:([^\n]*)`)

// template renders a part, if no expression is in it, and hands it on.
func (h *handlers) template(part *Part, m *email.Message) {
	first, rest, _ := strings.Cut(part.Text, "\n")
	form := templateLine.FindStringSubmatch(first)
	switch {
	case form == nil:
		part.lose("its first line is not ## template: jinja")
		return
	case strings.ToLower(email.Strip(form[1])) != "jinja":
		part.lose("a template is of type jinja, this says %q", start(email.Strip(form[1])))
		return
	case strings.Contains(rest, "{{") || strings.Contains(rest, "{%") || strings.Contains(rest, "{#"):
		part.Verdict = Unknown
		h.unknown(part, "what a template becomes depends on the machine: a variable that it does not have is "+
			"replaced by CI_MISSING_JINJA_VAR/ and its name")
		return
	}
	rendered := plainTemplate(rest)
	if rendered == "" {
		part.Verdict = Empty
		return
	}
	switch kind := typeOf(rendered); kind {
	case "text/cloud-config", "text/cloud-config-jsonp":
		h.merge(part, m, rendered)
		part.Pos.Line++
	case "text/x-shellscript":
		h.script(part, unix(rendered), "scripts")
	case "text/cloud-boothook":
		if h.options.old() {
			part.lose("cloud-init %s does not take a boothook for a template", h.options.Version)
			return
		}
		h.boothook(part, rendered)
	default:
		part.lose("a template becomes #cloud-config, a boothook or a script with #!, this starts with %q", start(rendered))
	}
}

// plainTemplate is what jinja makes of a template without expressions.
func plainTemplate(text string) string {
	rendered := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	rendered = strings.TrimSuffix(rendered, "\n")
	if strings.HasSuffix(text, "\n") {
		rendered += "\n"
	}
	return rendered
}
