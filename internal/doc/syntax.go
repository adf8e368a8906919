package doc

import (
	"slices"
	"strconv"
	"strings"

	"bake/internal/lazy"
)

var (
	errorLine     = lazy.Regexp(`^yaml: (?:line (\d+): )?(.*)$`)
	unknownAnchor = lazy.Regexp(`^unknown anchor '([^']+)' referenced`)
)

// syntax turns an error of the scanner, which knows lines but not columns,
// into a problem at the first character of that line.
func (p *parser) syntax(err error) {
	if err.Error() == "EOF" {
		problem := p.at(1, 1, 1)
		problem.Message = "the file has no content, only comments"
		p.problems.Add(problem)
		return
	}
	line, message := 0, err.Error()
	if m := errorLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = m[2]
	}
	hint := ""
	for _, known := range scannerErrors {
		if strings.Contains(message, known.text) {
			message, hint = known.means, known.hint
			line += known.below
			break
		}
	}
	// The scanner takes a quote on the first line for one on no line, and says
	// where the text ended instead.
	if message == openQuote && (line >= len(p.lines) && p.lines[len(p.lines)-1] == "") {
		line = 1
	}
	if m := unknownAnchor.FindStringSubmatch(message); m != nil { // of which it says no line
		line = 1 + slices.IndexFunc(p.lines, func(l string) bool { return strings.Contains(l, "*"+m[1]) })
	}
	line = max(1, min(line, len(p.lines)))
	text := p.lines[line-1]
	if strings.Contains(text, "\t") && strings.TrimLeft(text, " ") != strings.TrimLeft(text, " \t") {
		message, hint = "a tab in the indentation", "indent with spaces, not tabs"
	}
	col := 1 + len(text) - len(strings.TrimLeft(text, " \t"))
	problem := p.at(line, col, len([]rune(strings.TrimSpace(text))))
	problem.Message, problem.Hint = "not valid YAML: "+message, hint
	p.problems.Add(problem)
}

const openQuote = "a quote is opened and not closed"

// scannerErrors says in the user's words what the scanner says in its own.
// Below is how many lines too high the scanner reports it: one for what its
// parser finds, none for what its tokenizer finds.
var scannerErrors = []struct {
	text, means, hint string
	below             int
}{
	{"did not find expected ',' or '}'", "a { is not closed, or a comma is missing", "write {key: value, key: value}", 1},
	{"did not find expected ',' or ']'", "a [ is not closed, or a comma is missing", "write [value, value]", 1},
	{"did not find expected key", "this does not fit the lines around it", "keys of one map start in the same column", 1},
	{"did not find expected '-' indicator", "this does not fit the list it is in", "entries of one list start with - in the same column", 1},
	{"did not find expected node content", "a value is missing", "", 1},
	{"mapping values are not allowed in this context", "a second colon, or a key that does not fit the lines above",
		"put text that has a colon in quotes; keys of one map start in the same column", 0},
	{"could not find expected ':'", "a key without a colon", "write key: value", 0},
	{"found unexpected end of stream", openQuote, "", 0},
	{"found character that cannot start any token", "a value starts with a character that YAML keeps for itself",
		"put text that starts with @, ` or % in quotes", 0},
}
