package inspect

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes words of an image fit for a terminal and for JSON: what is not
// text, above all an escape sequence, becomes U+FFFD.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// line is clean text on one line.
func line(s string) string {
	return strings.Join(strings.Fields(clean(s)), " ")
}

// stanzas parses paragraphs of "Field: value" as in RFC 822, which dpkg and apt
// use: lines that begin with a blank continue the value, those that begin with
// "#" are comments. Field names come in lower case. Other lines are skipped.
func stanzas(text string, use func(map[string]string)) {
	fields, last := map[string]string{}, ""
	flush := func() {
		if len(fields) > 0 {
			use(fields)
		}
		fields, last = map[string]string{}, ""
	}
	for text := range strings.Lines(text) {
		text = strings.TrimRight(text, "\r\n")
		name, value, found := strings.Cut(text, ":")
		switch {
		case strings.TrimSpace(text) == "":
			flush()
		case text[0] == '#':
		case text[0] == ' ' || text[0] == '\t':
			if last != "" {
				fields[last] += "\n" + text[1:]
			}
		case found:
			last = strings.ToLower(strings.TrimSpace(name))
			fields[last] = strings.TrimSpace(value)
		}
	}
	flush()
}

// osRelease parses os-release(5): shell assignments without expansion.
func osRelease(text string) map[string]string {
	values := map[string]string{}
	for text := range strings.Lines(text) {
		name, value, found := strings.Cut(strings.TrimSpace(text), "=")
		if found && !strings.HasPrefix(name, "#") {
			values[name] = unquote(value)
		}
	}
	return values
}

// unquote undoes the shell's quoting of one word.
func unquote(s string) string {
	var out strings.Builder
	var quote rune
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				out.WriteByte('\\')
			}
			out.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case r == quote:
			quote = 0
		default:
			out.WriteRune(r)
		}
	}
	return line(out.String())
}
