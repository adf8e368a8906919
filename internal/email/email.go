// Package email reads a message as Python's email package does under its
// policy compat32: what cloud-init makes of a MIME file.
//
// Go's net/mail and mime/multipart refuse messages that Python reads with a
// shrug, and read some differently: a missing blank line behind the headers, a
// boundary that never closes, a header that is malformed. The guest runs what
// Python reads, so the rules of its feedparser and message are followed here.
//
// Text is UTF-8; where Python would have surrogate escapes for bytes that are
// none, the bytes stand themselves.
//
// # Decisions
//
// 2026-11: own parser. None of the packages for mail aims at being wrong in the
// same places as another one; the test in package cloudinit compares messages
// by the thousand.
package email

import (
	"fmt"
	"iter"
	"strings"

	"bake/internal/binascii"
)

// Header is one line of a message's head. Names keep their case, which
// matters to some who read them.
type Header struct{ Name, Value string }

// Message is a message, or a part of one.
type Message struct {
	Headers   []Header
	Parts     []*Message // of a multipart or a message/*
	Container bool       // its payload is Parts, even when there are none
	Payload   string     // of all others, in its transfer encoding
	Line      int        // the line on which Payload starts, 0 for nowhere
	Head      int        // the line on which the headers start

	// Raw says that Payload is bytes that were never decoded as text.
	Raw bool

	defaultType string
}

// Get returns the first header of a name, in whatever case.
func (m *Message) Get(name string) (value string, ok bool) {
	for _, h := range m.Headers {
		if strings.EqualFold(h.Name, name) {
			return h.Value, true
		}
	}
	return "", false
}

// Set takes all headers of a name away and appends a new one.
func (m *Message) Set(name, value string) {
	var kept []Header
	for _, h := range m.Headers {
		if !strings.EqualFold(h.Name, name) {
			kept = append(kept, h)
		}
	}
	m.Headers = append(kept, Header{name, value})
}

// Add appends a header.
func (m *Message) Add(name, value string) { m.Headers = append(m.Headers, Header{name, value}) }

// Exact returns a header as a Python dict of the message has it: there must be
// one whose name is spelled just so, and then the first in any spelling counts.
func (m *Message) Exact(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			value, _ := m.Get(name)
			return value
		}
	}
	return ""
}

// ContentType is type/subtype in lower case. What is malformed is text/plain.
func (m *Message) ContentType() string {
	value, ok := m.Get("Content-Type")
	if !ok {
		if m.defaultType != "" {
			return m.defaultType
		}
		return "text/plain"
	}
	kind, _, _ := strings.Cut(value, ";")
	kind = strings.ToLower(Strip(kind))
	if strings.Count(kind, "/") != 1 {
		return "text/plain"
	}
	return kind
}

// MainType is the part of ContentType before the slash.
func (m *Message) MainType() string {
	kind, _, _ := strings.Cut(m.ContentType(), "/")
	return kind
}

// Walk yields the message and all its parts, outside in.
func (m *Message) Walk() iter.Seq[*Message] {
	return func(yield func(*Message) bool) { m.walk(yield) }
}

func (m *Message) walk(yield func(*Message) bool) bool {
	if !yield(m) {
		return false
	}
	for _, part := range m.Parts {
		if !part.walk(yield) {
			return false
		}
	}
	return true
}

// Encoding is the transfer encoding as it counts: a blank behind it and it
// is another one, that nobody knows.
func (m *Message) Encoding() string {
	value, _ := m.Get("Content-Transfer-Encoding")
	return strings.ToLower(value)
}

// Decoded is the payload without its transfer encoding. Characters that are
// not ASCII do not survive in a message that was read as text: those up to
// U+00FF become one byte, the others an escape of six or ten characters.
func (m *Message) Decoded() string {
	payload := []byte(m.Payload)
	if !m.Raw {
		payload = rawUnicodeEscape(m.Payload)
	}
	switch m.Encoding() {
	case "quoted-printable":
		return string(binascii.QuotedPrintable(payload))
	case "base64":
		return string(binascii.Body64(payload))
	case "x-uuencode", "uuencode", "uue", "x-uue":
		return string(binascii.BodyUU(payload))
	}
	return string(payload)
}

func rawUnicodeEscape(text string) []byte {
	var out []byte
	for _, r := range text {
		switch {
		case r < 0x100:
			out = append(out, byte(r))
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = fmt.Appendf(out, `\U%08x`, r)
		}
	}
	return out
}
