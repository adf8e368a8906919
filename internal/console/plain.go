package console

import (
	"unicode"
	"unicode/utf8"
)

// Plain turns a terminal stream into text that a terminal only prints: escape
// sequences and control characters are removed, except newline and tab. What
// is no printable character (C1 controls, bidirectional overrides, bytes that
// are not UTF-8) becomes U+FFFD. The result does not depend on how the stream
// is cut into pieces. The zero value is ready.
type Plain struct {
	state plainState
	rest  []byte // an incomplete character
}

type plainState int

const (
	inText     plainState = iota
	inEscape              // after ESC
	inSequence            // after ESC [, up to a final byte
	inString              // after ESC ] and the like, up to BEL or ESC \
	inStringEscape
)

// Filter returns what the next piece of the stream adds to the text.
func (p *Plain) Filter(in []byte) []byte {
	data := append(p.rest, in...)
	out := make([]byte, 0, len(data))
	for len(data) > 0 && utf8.FullRune(data) {
		char, size := utf8.DecodeRune(data)
		out = p.step(out, char)
		data = data[size:]
	}
	p.rest = append([]byte(nil), data...)
	return out
}

// step handles one character. A newline ends whatever sequence it is in, so a
// guest cannot hide more than one line.
func (p *Plain) step(out []byte, char rune) []byte {
	if char == '\n' {
		p.state = inText
		return append(out, '\n')
	}
	switch p.state {
	case inText:
		return p.text(out, char)
	case inEscape:
		p.state = afterEscape(char)
	case inSequence:
		if char >= 0x40 && char <= 0x7e {
			p.state = inText
		} else if char == 0x1b {
			p.state = inEscape
		}
	case inString:
		switch char {
		case 0x07:
			p.state = inText
		case 0x1b:
			p.state = inStringEscape
		}
	case inStringEscape:
		p.state = inString
		if char == '\\' {
			p.state = inText
		}
	}
	return out
}

func afterEscape(char rune) plainState {
	switch {
	case char == '[':
		return inSequence
	case char == ']' || char == 'P' || char == 'X' || char == '^' || char == '_':
		return inString
	case char == 0x1b || char >= 0x20 && char <= 0x2f: // an intermediate: one more follows
		return inEscape
	}
	return inText
}

func (p *Plain) text(out []byte, char rune) []byte {
	switch {
	case char == 0x1b:
		p.state = inEscape
		return out
	case char == '\t':
		return append(out, '\t')
	case char < 0x20 || char == 0x7f:
		return out
	case !unicode.IsGraphic(char) || char == 0x2028 || char == 0x2029:
		return utf8.AppendRune(out, utf8.RuneError)
	}
	return utf8.AppendRune(out, char)
}
