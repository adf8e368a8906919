// Package label holds the labels of hosts, and selectors that pick hosts by them.
//
// Both are written as Kubernetes writes them, so that who knows one knows the other. A
// label is a key and a value: the key is a name, or a DNS name, a slash and a name; the
// value is a name or nothing. A name has at most 63 letters, digits, "-", "_" and ".", and
// begins and ends with a letter or digit. A selector is requirements with commas between
// them, all of which must hold:
//
//	role=web, role==web    the label is there and has this value
//	role!=web              it is not there, or has another value
//	zone in (a,b)          it is there and has one of these values
//	zone notin (a,b)       it is not there, or has none of them
//	edge                   it is there
//	!edge                  it is not
//
// An empty selector picks every host.
//
// It promises that what Parse accepts means here what it means there, and that a
// requirement is never dropped: what is not understood is an error that shows the place.
//
// # Decisions
//
// 2026-11: a parser of its own. The one of k8s.io/apimachinery brings eleven modules for a
// page of grammar.
//
// 2026-11: no greater and less (replicas>3), which Kubernetes has for nodes alone.
package label

import (
	"fmt"
	"slices"
	"strings"

	"bake/internal/lazy"
)

var (
	name   = lazy.Regexp(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	prefix = lazy.Regexp(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$`)
)

const (
	nameLength   = 63
	prefixLength = 253
)

// CheckKey says why a text is no key of a label.
func CheckKey(key string) error {
	before, after, ok := strings.Cut(key, "/")
	if !ok {
		before, after = "", key
	}
	switch {
	case ok && (len(before) > prefixLength || !prefix.MatchString(before)):
		return fmt.Errorf("%q is no key of a label: before the slash stands a DNS name", key)
	case len(after) > nameLength || !name.MatchString(after):
		return fmt.Errorf("%q is no key of a label: want at most %d letters, digits, -, _ and ., a letter or digit first and last", key, nameLength)
	}
	return nil
}

// CheckValue says why a text is no value of a label.
func CheckValue(value string) error {
	if value != "" && (len(value) > nameLength || !name.MatchString(value)) {
		return fmt.Errorf("%q is no value of a label: want at most %d letters, digits, -, _ and ., a letter or digit first and last", value, nameLength)
	}
	return nil
}

// A Selector picks by labels. The zero one picks all.
type Selector struct{ all []requirement }

// requirement is one key and what its value must be.
type requirement struct {
	key    string
	values []string // nil: any
	not    bool
}

// Matches says whether labels are picked.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s.all {
		value, is := labels[r.key]
		if r.values != nil {
			is = is && slices.Contains(r.values, value)
		}
		if is == r.not {
			return false
		}
	}
	return true
}

// String is the selector in one spelling: equal selectors need not be spelled alike.
func (s Selector) String() string {
	var words []string
	for _, r := range s.all {
		switch {
		case r.values == nil && r.not:
			words = append(words, "!"+r.key)
		case r.values == nil:
			words = append(words, r.key)
		case len(r.values) == 1:
			words = append(words, r.key+map[bool]string{false: "=", true: "!="}[r.not]+r.values[0])
		default:
			words = append(words, r.key+map[bool]string{false: " in (", true: " notin ("}[r.not]+strings.Join(r.values, ",")+")")
		}
	}
	return strings.Join(words, ",")
}

// A SyntaxError says where a selector stops making sense.
type SyntaxError struct {
	Text    string
	At      int // character, from 0
	Message string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("selector, character %d: %s\n  %s\n  %s^", e.At+1, e.Message, e.Text, strings.Repeat(" ", e.At))
}

// Parse reads a selector. The error is a *SyntaxError.
func Parse(text string) (Selector, error) {
	p := parser{text: []rune(text)}
	p.next()
	var s Selector
	if p.word == "" {
		return s, nil
	}
	for p.err == nil {
		if r := p.requirement(); p.err == nil {
			s.all = append(s.all, r)
		}
		if p.word == "" {
			break
		}
		p.take(",", "a comma between requirements")
	}
	if p.err != nil {
		return Selector{}, p.err
	}
	return s, nil
}

// parser goes over words, of which there are marks (= == != ! , ( )) and others.
type parser struct {
	text []rune
	to   int // where the next word is looked for
	at   int // where the word stands
	word string
	err  error
}

const marks = "=!,()"

func (p *parser) next() {
	for p.to < len(p.text) && strings.ContainsRune(" \t", p.text[p.to]) {
		p.to++
	}
	p.at = p.to
	switch rest := p.text[p.to:]; {
	case len(rest) == 0:
	case strings.HasPrefix(string(rest), "==") || strings.HasPrefix(string(rest), "!="):
		p.to += 2
	case strings.ContainsRune(marks, rest[0]):
		p.to++
	default:
		for p.to < len(p.text) && !strings.ContainsRune(marks+" \t", p.text[p.to]) {
			p.to++
		}
	}
	p.word = string(p.text[p.at:p.to])
}

func (p *parser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = &SyntaxError{string(p.text), p.at, fmt.Sprintf(format, args...)}
	}
}

// found is the word for messages.
func (p *parser) found() string {
	if p.word == "" {
		return "its end"
	}
	return fmt.Sprintf("%q", p.word)
}

func (p *parser) take(word, what string) {
	if p.word != word {
		p.fail("here is %s, want %s", p.found(), what)
		return
	}
	p.next()
}

func (p *parser) requirement() (r requirement) {
	if p.word == "!" {
		p.next()
		r.not = true
	}
	if p.word == "" || strings.ContainsAny(p.word[:1], marks) {
		p.fail("here is %s, want the key of a label", p.found())
		return r
	}
	if err := CheckKey(p.word); err != nil {
		p.fail("%v", err)
		return r
	}
	r.key = p.word
	p.next()
	if r.not {
		return r
	}
	switch operator := p.word; operator {
	case "=", "==", "!=":
		p.next()
		r.not = operator == "!="
		r.values = []string{p.value()}
	case "in", "notin":
		p.next()
		r.not = operator == "notin"
		p.take("(", "values in round brackets")
		for p.err == nil {
			r.values = append(r.values, p.value())
			if p.word != "," {
				break
			}
			p.next()
		}
		p.take(")", "a comma or a closing bracket")
	case "", ",":
	default:
		p.fail("here is %s, want =, ==, !=, in, notin or a comma", p.found())
	}
	return r
}

// value reads a value, which may be empty where a comma, a bracket or the end stands.
func (p *parser) value() string {
	switch p.word {
	case "", ",", ")":
		return ""
	}
	if strings.ContainsAny(p.word[:1], marks) {
		p.fail("here is %s, want a value", p.found())
		return ""
	}
	if err := CheckValue(p.word); err != nil {
		p.fail("%v", err)
	}
	value := p.word
	p.next()
	return value
}
