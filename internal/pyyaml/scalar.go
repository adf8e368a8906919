package pyyaml

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

func word(r rune) bool {
	return '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || in("-_", r)
}

// name reads a name of letters, digits, - and _ that ends before one of these.
func (s *scanner) name(what, ends string) string {
	n := 0
	for word(s.peek(n)) {
		n++
	}
	if n == 0 {
		s.fail("%s without a name", what)
	}
	name := s.prefix(n)
	s.forward(n)
	if r := s.peek(0); !in(ends, r) {
		s.fail("%q in the name of %s", r, what)
	}
	return name
}

func (s *scanner) anchor() token {
	t := token{kind: anchorToken, start: s.at}
	what := "an anchor"
	if s.peek(0) == '*' {
		t.kind, what = aliasToken, "an alias"
	}
	s.forward(1)
	t.value = s.name(what, blank+"?:,]}%@`")
	t.end = s.at
	return t
}

func (s *scanner) directive() token {
	t := token{kind: directiveToken, start: s.at}
	s.forward(1)
	switch name := s.name("a directive", endBlank); name {
	case "YAML":
		s.skipSpaces()
		t.handle = name
		major := s.number()
		if s.peek(0) != '.' {
			s.fail("%q in a YAML version", s.peek(0))
		}
		s.forward(1)
		s.number()
		if !in(endBlank, s.peek(0)) {
			s.fail("%q in a YAML version", s.peek(0))
		}
		t.value = major
	case "TAG":
		s.skipSpaces()
		t.handle, t.hasHandle = s.tagHandle(), true
		if s.peek(0) != ' ' {
			s.fail("%q after the handle of a tag", s.peek(0))
		}
		s.skipSpaces()
		t.value = s.uri()
		if !in(endBlank, s.peek(0)) {
			s.fail("%q in a tag", s.peek(0))
		}
	default:
		for !in(endBreaks, s.peek(0)) {
			s.forward(1)
		}
	}
	s.restOfLine()
	t.end = s.at
	return t
}

func (s *scanner) number() string {
	n := 0
	for '0' <= s.peek(n) && s.peek(n) <= '9' {
		n++
	}
	if n == 0 {
		s.fail("%q in a YAML version", s.peek(0))
	}
	text := strings.TrimLeft(s.prefix(n), "0")
	s.forward(n)
	return text
}

func (s *scanner) tag() token {
	t := token{kind: tagToken, start: s.at}
	switch r := s.peek(1); {
	case r == '<':
		s.forward(2)
		t.value = s.uri()
		if s.peek(0) != '>' {
			s.fail("%q in a tag", s.peek(0))
		}
		s.forward(1)
	case in(blank, r):
		t.value = "!"
		s.forward(1)
	default:
		n := 1
		for !in(endBlank, s.peek(n)) && s.peek(n) != '!' {
			n++
		}
		t.handle, t.hasHandle = "!", true
		if s.peek(n) == '!' {
			t.handle = s.tagHandle()
		} else {
			s.forward(1)
		}
		t.value = s.uri()
	}
	if !in(endBlank, s.peek(0)) {
		s.fail("%q in a tag", s.peek(0))
	}
	t.end = s.at
	return t
}

func (s *scanner) tagHandle() string {
	if s.peek(0) != '!' {
		s.fail("%q where a tag starts with !", s.peek(0))
	}
	n := 1
	if s.peek(n) != ' ' {
		for word(s.peek(n)) {
			n++
		}
		if s.peek(n) != '!' {
			s.forward(n)
			s.fail("%q in the handle of a tag", s.peek(0))
		}
		n++
	}
	handle := s.prefix(n)
	s.forward(n)
	return handle
}

func (s *scanner) uri() string {
	var text strings.Builder
	some := false
	for {
		r := s.peek(0)
		if !word(r) && !in("-;/?:@&=+$,_.!~*'()[]%", r) {
			break
		}
		some = true
		if r != '%' {
			text.WriteRune(r)
			s.forward(1)
			continue
		}
		var codes []byte
		for s.peek(0) == '%' {
			s.forward(1)
			if !in(hexadecim, s.peek(0)) || !in(hexadecim, s.peek(1)) {
				s.fail("a %% in a tag without two hexadecimal digits")
			}
			code, _ := strconv.ParseUint(s.prefix(2), 16, 8)
			codes = append(codes, byte(code))
			s.forward(2)
		}
		if !utf8.Valid(codes) {
			s.fail("a tag that is not UTF-8")
		}
		text.Write(codes)
	}
	if !some {
		s.fail("%q where a tag should be", s.peek(0))
	}
	return text.String()
}

// blockScalar reads what follows | or >.
func (s *scanner) blockScalar(folded bool) token {
	t := token{kind: scalarToken, start: s.at}
	s.forward(1)
	chomp, increment := s.blockIndicators()
	s.restOfLine()
	lowest := max(s.indent+1, 1)
	var empty []string
	indent := lowest + increment - 1
	if increment == 0 {
		var deepest int
		empty, deepest, t.end = s.indentation()
		indent = max(lowest, deepest)
	} else {
		empty, t.end = s.emptyLines(indent)
	}
	var text strings.Builder
	end := ""
	for s.at.col == indent && s.peek(0) != 0 {
		text.WriteString(strings.Join(empty, ""))
		flush := !in(" \t", s.peek(0))
		n := 0
		for !in(endBreaks, s.peek(n)) {
			n++
		}
		text.WriteString(s.prefix(n))
		s.forward(n)
		end = s.lineBreak()
		empty, t.end = s.emptyLines(indent)
		if s.at.col != indent || s.peek(0) == 0 {
			break
		}
		if folded && end == "\n" && flush && !in(" \t", s.peek(0)) {
			if len(empty) == 0 {
				text.WriteByte(' ')
			}
		} else {
			text.WriteString(end)
		}
	}
	if chomp != '-' {
		text.WriteString(end)
	}
	if chomp == '+' {
		text.WriteString(strings.Join(empty, ""))
	}
	t.value = text.String()
	return t
}

func (s *scanner) blockIndicators() (chomp rune, increment int) {
	for range 2 {
		switch r := s.peek(0); {
		case in("+-", r) && chomp == 0:
			chomp = r
		case '0' <= r && r <= '9' && increment == 0:
			increment = int(r - '0')
			if increment == 0 {
				s.fail("an indentation of 0")
			}
		default:
			continue
		}
		s.forward(1)
	}
	if r := s.peek(0); !in(endBlank, r) {
		s.fail("%q after | or >", r)
	}
	return chomp, increment
}

func (s *scanner) indentation() (empty []string, deepest int, end mark) {
	end = s.at
	for in(" "+breaks, s.peek(0)) {
		if s.peek(0) == ' ' {
			s.forward(1)
			deepest = max(deepest, s.at.col)
		} else {
			empty = append(empty, s.lineBreak())
			end = s.at
		}
	}
	return empty, deepest, end
}

func (s *scanner) emptyLines(indent int) (empty []string, end mark) {
	end = s.at
	for s.at.col < indent && s.peek(0) == ' ' {
		s.forward(1)
	}
	for in(breaks, s.peek(0)) {
		empty = append(empty, s.lineBreak())
		end = s.at
		for s.at.col < indent && s.peek(0) == ' ' {
			s.forward(1)
		}
	}
	return empty, end
}

func (s *scanner) flowScalar(double bool) token {
	t := token{kind: scalarToken, start: s.at}
	quote := s.peek(0)
	s.forward(1)
	var text strings.Builder
	s.nonSpaces(double, &text)
	for s.peek(0) != quote {
		s.spaces(&text)
		s.nonSpaces(double, &text)
	}
	s.forward(1)
	t.value, t.end = text.String(), s.at
	return t
}

var escapes = map[rune]string{'0': "\x00", 'a': "\a", 'b': "\b", 't': "\t", '\t': "\t", 'n': "\n", 'v': "\v", 'f': "\f", 'r': "\r",
	'e': "\x1b", ' ': " ", '"': `"`, '\\': `\`, '/': "/", 'N': "\u0085", '_': "\u00a0", 'L': "\u2028", 'P': "\u2029"}

func (s *scanner) nonSpaces(double bool, text *strings.Builder) {
	for {
		n := 0
		for !in(blank+`'"\`, s.peek(n)) {
			n++
		}
		text.WriteString(s.prefix(n))
		s.forward(n)
		switch r := s.peek(0); {
		case !double && r == '\'' && s.peek(1) == '\'':
			text.WriteByte('\'')
			s.forward(2)
		case double && r == '\'' || !double && in(`"\`, r):
			text.WriteRune(r)
			s.forward(1)
		case double && r == '\\':
			s.escape(text)
		default:
			return
		}
	}
}

func (s *scanner) escape(text *strings.Builder) {
	s.forward(1)
	r := s.peek(0)
	if means, ok := escapes[r]; ok {
		text.WriteString(means)
		s.forward(1)
		return
	}
	if in(breaks, r) {
		s.lineBreak()
		text.WriteString(s.flowBreaks())
		return
	}
	n, ok := map[rune]int{'x': 2, 'u': 4, 'U': 8}[r]
	if !ok {
		s.fail(`the unknown escape \%c`, r)
	}
	s.forward(1)
	for k := range n {
		if !in(hexadecim, s.peek(k)) {
			s.fail("an escape without its %d hexadecimal digits", n)
		}
	}
	code, _ := strconv.ParseUint(s.prefix(n), 16, 32)
	if code > utf8.MaxRune {
		// Python's chr raises: a ValueError, or beyond 31 bits an OverflowError.
		panic(&Error{mark: s.at, Message: "an escape beyond the last character", Uncaught: code > 0x7fffffff})
	}
	text.WriteString(encode([]rune{rune(code)}))
	s.forward(n)
}

func (s *scanner) spaces(text *strings.Builder) {
	n := 0
	for in(" \t", s.peek(n)) {
		n++
	}
	white := s.prefix(n)
	s.forward(n)
	switch r := s.peek(0); {
	case r == 0:
		s.fail("a quote is opened and not closed")
	case in(breaks, r):
		end := s.lineBreak()
		more := s.flowBreaks()
		if end != "\n" {
			text.WriteString(end)
		} else if more == "" {
			text.WriteByte(' ')
		}
		text.WriteString(more)
	default:
		text.WriteString(white)
	}
}

func (s *scanner) flowBreaks() string {
	var text strings.Builder
	for {
		if s.anySeparator() {
			s.fail("a document ends within quotes")
		}
		for in(" \t", s.peek(0)) {
			s.forward(1)
		}
		if !in(breaks, s.peek(0)) {
			return text.String()
		}
		text.WriteString(s.lineBreak())
	}
}

func (s *scanner) plain() token {
	t := token{kind: scalarToken, start: s.at, end: s.at, plain: true}
	indent := s.indent + 1
	stops := ""
	if s.flow > 0 {
		stops = ",[]{}"
	}
	var text strings.Builder
	white := ""
	for s.peek(0) != '#' {
		n := 0
		for {
			r := s.peek(n)
			if in(blank, r) || r == ':' && in(blank+stops, s.peek(n+1)) || s.flow > 0 && in(",?[]{}", r) {
				break
			}
			n++
		}
		if n == 0 {
			break
		}
		s.allowKey = false
		text.WriteString(white + s.prefix(n))
		s.forward(n)
		t.end = s.at
		white = s.plainSpaces()
		if white == "" || s.peek(0) == '#' || s.flow == 0 && s.at.col < indent {
			break
		}
	}
	t.value = text.String()
	return t
}

func (s *scanner) plainSpaces() string {
	n := 0
	for s.peek(n) == ' ' {
		n++
	}
	white := s.prefix(n)
	s.forward(n)
	if !in(breaks, s.peek(0)) {
		return white
	}
	end := s.lineBreak()
	s.allowKey = true
	if s.anySeparator() {
		return ""
	}
	more := ""
	for in(" "+breaks, s.peek(0)) {
		if s.peek(0) == ' ' {
			s.forward(1)
			continue
		}
		more += s.lineBreak()
		if s.anySeparator() {
			return ""
		}
	}
	if end != "\n" {
		return end + more
	}
	if more == "" {
		return " "
	}
	return more
}
