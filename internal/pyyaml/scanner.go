package pyyaml

import (
	"fmt"
	"slices"
	"strings"
)

// mark is a place in the text, counted from 0, in characters.
type mark struct{ index, line, col int }

type tokenKind int

const (
	streamEnd tokenKind = iota
	directiveToken
	documentStart
	documentEnd
	blockSequenceStart
	blockMappingStart
	blockEnd
	flowSequenceStart
	flowMappingStart
	flowSequenceEnd
	flowMappingEnd
	keyToken
	valueToken
	blockEntry
	flowEntry
	aliasToken
	anchorToken
	tagToken
	scalarToken
)

var tokenNames = [...]string{"the end", "a directive", "---", "...", "a list", "a map", "the end of a block", "[", "{", "]", "}",
	"a key", ":", "-", ",", "an alias", "an anchor", "a tag", "a value"}

type token struct {
	kind       tokenKind
	start, end mark
	value      string // a scalar, a name, a directive's name, a tag's suffix
	handle     string // a tag's or a directive's
	hasHandle  bool
	plain      bool
}

// simpleKey is a place where a key may have begun: the ":" comes later.
type simpleKey struct {
	token    int
	required bool
	at       mark
}

const (
	breaks    = "\r\n\u0085\u2028\u2029"
	endBreaks = "\x00" + breaks
	blank     = endBreaks + " \t"
	endBlank  = endBreaks + " " // as blank, without the tab
	hexadecim = "0123456789ABCDEFabcdef"
)

func in(set string, r rune) bool { return strings.ContainsRune(set, r) }

type scanner struct {
	text     []rune // ends in NUL, which is no printable character
	at       mark
	done     bool
	flow     int
	tokens   []token
	taken    int
	indent   int
	indents  []int
	allowKey bool
	keys     map[int]simpleKey // by flow level
}

func newScanner(text []rune) *scanner {
	return &scanner{text: append(text, 0), indent: -1, allowKey: true, keys: map[int]simpleKey{}}
}

func (s *scanner) peek(k int) rune {
	if s.at.index+k >= len(s.text) {
		return 0
	}
	return s.text[s.at.index+k]
}

func (s *scanner) prefix(n int) string {
	end := min(s.at.index+n, len(s.text))
	return encode(s.text[s.at.index:end])
}

func (s *scanner) forward(n int) {
	for range n {
		if s.at.index >= len(s.text) {
			return
		}
		r := s.text[s.at.index]
		s.at.index++
		switch {
		case in("\n\u0085\u2028\u2029", r) || r == '\r' && s.peek(0) != '\n':
			s.at.line++
			s.at.col = 0
		case r != '\ufeff':
			s.at.col++
		}
	}
}

func (s *scanner) fail(format string, args ...any) {
	panic(&Error{mark: s.at, Message: fmt.Sprintf(format, args...)})
}

// next returns the token at the head, which take removes.
func (s *scanner) next() token {
	for s.needMore() {
		s.fetch()
	}
	if len(s.tokens) == 0 {
		return token{kind: streamEnd, start: s.at, end: s.at}
	}
	return s.tokens[0]
}

func (s *scanner) is(kinds ...tokenKind) bool { return slices.Contains(kinds, s.next().kind) }

func (s *scanner) take() token {
	t := s.next()
	if len(s.tokens) > 0 {
		s.taken++
		s.tokens = s.tokens[1:]
	}
	return t
}

func (s *scanner) needMore() bool {
	if s.done {
		return false
	}
	if len(s.tokens) == 0 {
		return true
	}
	s.dropStale()
	for _, key := range s.keys {
		if key.token == s.taken {
			return true
		}
	}
	return false
}

func (s *scanner) fetch() {
	s.toNextToken()
	s.dropStale()
	s.unwind(s.at.col)
	r := s.peek(0)
	block := s.flow == 0
	switch {
	case r == 0:
		s.unwind(-1)
		s.removeKey()
		s.allowKey = false
		s.keys = map[int]simpleKey{}
		s.add(streamEnd, 0)
		s.done = true
	case r == '%' && s.at.col == 0:
		s.unwind(-1)
		s.removeKey()
		s.allowKey = false
		s.tokens = append(s.tokens, s.directive())
	case r == '-' && s.separator("---"):
		s.documentIndicator(documentStart)
	case r == '.' && s.separator("..."):
		s.documentIndicator(documentEnd)
	case r == '[':
		s.flowStart(flowSequenceStart)
	case r == '{':
		s.flowStart(flowMappingStart)
	case r == ']':
		s.flowEnd(flowSequenceEnd)
	case r == '}':
		s.flowEnd(flowMappingEnd)
	case r == ',':
		s.allowKey = true
		s.removeKey()
		s.add(flowEntry, 1)
	case r == '-' && in(blank, s.peek(1)):
		s.blockEntry()
	case r == '?' && (!block || in(blank, s.peek(1))):
		s.key()
	case r == ':' && (!block || in(blank, s.peek(1))):
		s.value()
	case r == '*' || r == '&':
		s.saveKey()
		s.allowKey = false
		s.tokens = append(s.tokens, s.anchor())
	case r == '!':
		s.saveKey()
		s.allowKey = false
		s.tokens = append(s.tokens, s.tag())
	case (r == '|' || r == '>') && block:
		s.allowKey = true
		s.removeKey()
		s.tokens = append(s.tokens, s.blockScalar(r == '>'))
	case r == '\'' || r == '"':
		s.saveKey()
		s.allowKey = false
		s.tokens = append(s.tokens, s.flowScalar(r == '"'))
	case s.plainStarts():
		s.saveKey()
		s.allowKey = false
		s.tokens = append(s.tokens, s.plain())
	default:
		s.fail("a value cannot start with %q", r)
	}
}

// add appends a token that is n characters long.
func (s *scanner) add(kind tokenKind, n int) {
	start := s.at
	s.forward(n)
	s.tokens = append(s.tokens, token{kind: kind, start: start, end: s.at})
}

func (s *scanner) separator(text string) bool {
	return s.at.col == 0 && s.prefix(3) == text && in(blank, s.peek(3))
}

func (s *scanner) anySeparator() bool {
	prefix := s.prefix(3)
	return (prefix == "---" || prefix == "...") && in(blank, s.peek(3))
}

func (s *scanner) plainStarts() bool {
	r := s.peek(0)
	return !in(blank+"-?:,[]{}#&*!|>'\"%@`", r) ||
		!in(blank, s.peek(1)) && (r == '-' || s.flow == 0 && in("?:", r))
}

// dropStale forgets the keys that cannot be any more: one is on a single line
// and not longer than 1024 characters.
func (s *scanner) dropStale() {
	for level, key := range s.keys {
		if key.at.line != s.at.line || s.at.index-key.at.index > 1024 {
			if key.required {
				s.fail("a key without a colon")
			}
			delete(s.keys, level)
		}
	}
}

func (s *scanner) saveKey() {
	if s.allowKey {
		required := s.flow == 0 && s.indent == s.at.col
		s.removeKey()
		s.keys[s.flow] = simpleKey{s.taken + len(s.tokens), required, s.at}
	}
}

func (s *scanner) removeKey() {
	if key, ok := s.keys[s.flow]; ok {
		if key.required {
			s.fail("a key without a colon")
		}
		delete(s.keys, s.flow)
	}
}

func (s *scanner) unwind(col int) {
	if s.flow > 0 {
		return
	}
	for s.indent > col {
		s.indent = s.indents[len(s.indents)-1]
		s.indents = s.indents[:len(s.indents)-1]
		s.add(blockEnd, 0)
	}
}

func (s *scanner) addIndent(col int) bool {
	if s.indent >= col {
		return false
	}
	s.indents = append(s.indents, s.indent)
	s.indent = col
	return true
}

func (s *scanner) documentIndicator(kind tokenKind) {
	s.unwind(-1)
	s.removeKey()
	s.allowKey = false
	s.add(kind, 3)
}

func (s *scanner) flowStart(kind tokenKind) {
	s.saveKey()
	s.flow++
	s.allowKey = true
	s.add(kind, 1)
}

func (s *scanner) flowEnd(kind tokenKind) {
	s.removeKey()
	s.flow--
	s.allowKey = false
	s.add(kind, 1)
}

func (s *scanner) blockEntry() {
	if s.flow == 0 {
		if !s.allowKey {
			s.fail("an entry of a list cannot stand here")
		}
		if s.addIndent(s.at.col) {
			s.add(blockSequenceStart, 0)
		}
	}
	s.allowKey = true
	s.removeKey()
	s.add(blockEntry, 1)
}

func (s *scanner) key() {
	s.beginEntry("a key cannot stand here")
	s.add(keyToken, 1)
}

// beginEntry begins a mapping, in a block where there is none yet, for a ? or a : that no
// key stands before.
func (s *scanner) beginEntry(misplaced string) {
	if s.flow == 0 {
		if !s.allowKey {
			s.fail("%s", misplaced)
		}
		if s.addIndent(s.at.col) {
			s.add(blockMappingStart, 0)
		}
	}
	s.allowKey = s.flow == 0
	s.removeKey()
}

func (s *scanner) value() {
	if key, ok := s.keys[s.flow]; ok {
		delete(s.keys, s.flow)
		at := key.token - s.taken
		s.tokens = slices.Insert(s.tokens, at, token{kind: keyToken, start: key.at, end: key.at})
		if s.flow == 0 && s.addIndent(key.at.col) {
			s.tokens = slices.Insert(s.tokens, at, token{kind: blockMappingStart, start: key.at, end: key.at})
		}
		s.allowKey = false
	} else {
		s.beginEntry("a second colon, or a key that does not fit the lines above")
	}
	s.add(valueToken, 1)
}

func (s *scanner) toNextToken() {
	if s.at.index == 0 && s.peek(0) == '\ufeff' {
		s.forward(1)
	}
	for {
		s.skipSpaces()
		s.skipComment()
		if s.lineBreak() == "" {
			return
		}
		if s.flow == 0 {
			s.allowKey = true
		}
	}
}

func (s *scanner) skipSpaces() {
	for s.peek(0) == ' ' {
		s.forward(1)
	}
}

func (s *scanner) skipComment() {
	if s.peek(0) == '#' {
		for !in(endBreaks, s.peek(0)) {
			s.forward(1)
		}
	}
}

// restOfLine wants nothing but a comment on the rest of the line.
func (s *scanner) restOfLine() {
	s.skipSpaces()
	s.skipComment()
	if r := s.peek(0); !in(endBreaks, r) {
		s.fail("%q where only a comment can stand", r)
	}
	s.lineBreak()
}

func (s *scanner) lineBreak() string {
	switch r := s.peek(0); r {
	case '\r', '\n', '\u0085':
		n := 1
		if r == '\r' && s.peek(1) == '\n' {
			n = 2
		}
		s.forward(n)
		return "\n"
	case '\u2028', '\u2029':
		s.forward(1)
		return string(r)
	}
	return ""
}
