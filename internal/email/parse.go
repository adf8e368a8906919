package email

import (
	"errors"
	"strings"

	"bake/internal/lazy"
)

type line struct {
	text   string
	number int
}

type parser struct {
	lines  []line // what is left, the next one first
	number int
	ends   []func(string) bool // the boundaries of the multiparts around
	stack  []*Message
	last   *Message
}

// maxDepth is where Python's recursion ends as well, about.
const maxDepth = 60

var errDeep = errors.New("messages are nested too deep")

// Parse reads a message whose first line is line number first. An error is an
// exception in Python: almost nothing is malformed enough.
func Parse(text string, first int) (*Message, error) {
	p := &parser{number: first}
	for len(text) > 0 {
		end := strings.IndexAny(text, "\r\n")
		switch {
		case end < 0:
			end = len(text)
		case strings.HasPrefix(text[end:], "\r\n"):
			end += 2
		default:
			end++
		}
		p.lines = append(p.lines, line{text[:end], first})
		first += strings.Count(text[:end], "\n")
		text = text[end:]
	}
	p.number = first
	if err := p.message(); err != nil {
		return nil, err
	}
	return p.stack[0], nil
}

// next takes a line, but none that ends a multipart around.
func (p *parser) next() (line, bool) {
	if len(p.lines) == 0 {
		return line{number: p.number}, false
	}
	l := p.lines[0]
	for _, ends := range p.ends {
		if ends(l.text) {
			return l, false
		}
	}
	p.lines = p.lines[1:]
	return l, true
}

func (p *parser) unread(l line) { p.lines = append([]line{l}, p.lines...) }

// rest takes the lines up to the end, and says where they start.
func (p *parser) rest() (text string, first int) {
	var all strings.Builder
	first = p.number
	if len(p.lines) > 0 {
		first = p.lines[0].number
	}
	for l, ok := p.next(); ok; l, ok = p.next() {
		all.WriteString(l.text)
	}
	return all.String(), first
}

func newline(text string) bool { return strings.HasPrefix(text, "\n") || strings.HasPrefix(text, "\r") }

// chomp takes the line break off the end.
func chomp(text string) string {
	if cut, ok := strings.CutSuffix(text, "\r\n"); ok {
		return cut
	}
	if strings.HasSuffix(text, "\n") || strings.HasSuffix(text, "\r") {
		return text[:len(text)-1]
	}
	return text
}

var headerForm = lazy.Regexp(`^(?:From |[\x21-\x39\x3b-\x7e]*:|[\t ])`)

// message reads a message and leaves it on the stack.
func (p *parser) message() error {
	m := &Message{Head: p.number}
	if len(p.lines) > 0 {
		m.Head = p.lines[0].number
	}
	if len(p.stack) > maxDepth {
		return errDeep
	}
	if len(p.stack) > 0 {
		above := p.stack[len(p.stack)-1]
		if above.ContentType() == "multipart/digest" {
			m.defaultType = "message/rfc822"
		}
		above.Container = true
		above.Parts = append(above.Parts, m)
	}
	p.stack = append(p.stack, m)
	p.last = m
	var head []line
	for l, ok := p.next(); ok; l, ok = p.next() {
		if !headerForm.MatchString(l.text) {
			if !newline(l.text) {
				p.unread(l)
			}
			break
		}
		head = append(head, l)
	}
	p.headers(m, head)
	switch {
	case m.ContentType() == "message/delivery-status":
		return p.deliveryStatus()
	case m.MainType() == "message":
		err := p.message()
		p.pop()
		return err
	case m.MainType() == "multipart":
		return p.multipart(m)
	}
	m.Payload, m.Line = p.rest()
	return nil
}

func (p *parser) pop() { p.stack = p.stack[:len(p.stack)-1] }

func (p *parser) headers(m *Message, head []line) {
	name, value := "", ""
	flush := func() {
		if name != "" {
			m.Add(name, strings.TrimRight(value, "\r\n"))
		}
		name, value = "", ""
	}
	for i, l := range head {
		if l.text[0] == ' ' || l.text[0] == '\t' {
			if name != "" {
				value += l.text
			}
			continue
		}
		flush()
		if strings.HasPrefix(l.text, "From ") {
			if i > 0 && i == len(head)-1 { // the first line of the body, probably
				p.unread(l)
				return
			}
			continue
		}
		colon := strings.IndexByte(l.text, ':')
		if colon > 0 {
			name, value = l.text[:colon], strings.TrimLeft(l.text[colon+1:], " \t")
		}
	}
	flush()
}

func (p *parser) deliveryStatus() error {
	for {
		p.ends = append(p.ends, newline)
		err := p.message()
		p.pop()
		p.ends = p.ends[:len(p.ends)-1]
		if err != nil {
			return err
		}
		p.next()
		l, ok := p.next()
		if !ok {
			return nil
		}
		p.unread(l)
	}
}

// separators makes a function that knows the boundary: whether a line is one,
// and whether it is the last.
func separators(boundary string) func(text string) (is, end bool) {
	return func(text string) (is, end bool) {
		rest, ok := strings.CutPrefix(text, "--"+boundary)
		if !ok {
			return false, false
		}
		rest = chomp(rest)
		rest, end = strings.CutPrefix(rest, "--")
		return strings.Trim(rest, " \t") == "", end
	}
}

func (p *parser) multipart(m *Message) error {
	boundary, ok, err := m.boundary()
	if err != nil {
		return err
	}
	if !ok {
		m.Payload, m.Line = p.rest()
		return nil
	}
	separator := separators(boundary)
	is := func(text string) bool { is, _ := separator(text); return is }
	var preamble strings.Builder
	started, closed := false, false
	_, m.Line = "", p.number
	if len(p.lines) > 0 {
		m.Line = p.lines[0].number
	}
	for l, ok := p.next(); ok && !closed; {
		at, end := separator(l.text)
		switch {
		case !at:
			preamble.WriteString(l.text)
		case end:
			closed = true
			continue
		default:
			started = true
			for ok && is(l.text) { // several in a row are one
				l, ok = p.next()
			}
			if ok {
				p.unread(l)
			}
			if err := p.part(is); err != nil {
				return err
			}
		}
		l, ok = p.next()
	}
	if !started {
		m.Payload = preamble.String()
	}
	if !started || closed {
		p.rest()
	}
	return nil
}

// part reads one part of a multipart. The line break before the boundary
// belongs to the boundary.
func (p *parser) part(is func(string) bool) error {
	p.ends = append(p.ends, is)
	if err := p.message(); err != nil {
		return err
	}
	if last := p.last; last.MainType() != "multipart" && !last.Container {
		last.Payload = chomp(last.Payload)
	}
	p.ends = p.ends[:len(p.ends)-1]
	p.pop()
	p.last = p.stack[len(p.stack)-1]
	return nil
}
