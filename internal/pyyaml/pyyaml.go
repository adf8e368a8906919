// Package pyyaml reads YAML as PyYAML's SafeLoader does: what cloud-init makes
// of a foreign file, not what its author meant.
//
// bake's own files are read by package doc, which refuses whatever two readers
// could read differently. Here the point is to say what one reader, the one in
// the guest, will read: 0644 is 420, 22:22 is 1342, on is true, the last of
// two equal keys wins, a tab between tokens is an error. No YAML library for Go
// does that, neither in what its scalars mean nor in what it refuses, so the
// scanner, the parser, the resolver and the safe constructors of PyYAML 6 are
// followed here function by function.
//
// A text is characters in UTF-8. Where Python would have a lone surrogate,
// which only an escape such as "\ud800" makes, there are its three bytes in the
// generalized UTF-8 (WTF-8) that no valid text contains.
//
// Load promises that every value knows its place. It refuses, and says so as
// Uncertain, what PyYAML accepts and nobody writes: a value that contains
// itself, aliases that multiply to more than 100000 values.
//
// PyYAML is Copyright (c) 2017-2021 Ingy döt Net and (c) 2006-2016 Kirill
// Simonov, under the MIT license, which asks for this notice: "Permission is
// hereby granted, free of charge, to any person obtaining a copy of this
// software and associated documentation files, to deal in the Software without
// restriction, subject to the inclusion of the above copyright notice and this
// permission notice. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY."
//
// # Decisions
//
// 2026-11: an own reader instead of a library with other scalar rules on top.
// The library that package doc uses accepts documents that PyYAML refuses, and
// the other way round; a part that bake calls good and the guest drops is the
// very failure this is for. A test compares the two on mutated documents.
package pyyaml

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"bake/internal/diag"
	"bake/internal/doc"
)

// The kinds that YAML 1.1 has beside those of package doc. The text of a date
// is in Python's isoformat, that of bytes the bytes; a set has Items.
const (
	Date  doc.Kind = "a date"
	Bytes doc.Kind = "bytes"
	Set   doc.Kind = "a set"
)

// Source says where a text stands: its first line is line Line of File, or
// nowhere in particular when Line is 0.
type Source struct {
	File string
	Line int
}

// Options are where loaders differ.
type Options struct {
	Unicode bool // !!python/unicode is text, as in cloud-init before 23.1
}

// Error says why PyYAML makes nothing of a text.
type Error struct {
	Pos       diag.Position
	Message   string
	Uncaught  bool // an exception that is none of YAMLError, ValueError and TypeError
	Uncertain bool // PyYAML may well accept it: only this package does not
	mark      mark
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

// maxValues bounds what aliases can multiply to.
const maxValues = 100000

// Load reads the one document of a text. The value is nil when there is none.
func Load(text string, source Source, options Options) (value *doc.Node, err error) {
	if source.Line == 0 {
		source.Line = 1
	}
	defer func() {
		if r := recover(); r != nil {
			failed, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			failed.Pos = diag.Position{File: source.File, Line: source.Line + failed.mark.line, Col: failed.mark.col + 1}
			value, err = nil, failed
		}
	}()
	runes := decode(text)
	checkPrintable(runes)
	c := composer{scanner: newScanner(runes), anchors: map[string]*node{}}
	root := c.single()
	if root == nil {
		return nil, nil
	}
	lines := make([]string, source.Line-1, source.Line+strings.Count(text, "\n"))
	made := constructor{source: source, lines: append(lines, strings.Split(text, "\n")...), options: options, made: map[*node]*doc.Node{}}
	value = made.document(root)
	count := 0
	checkTree(value, map[*doc.Node]bool{}, &count)
	if value.Kind == doc.Null {
		return nil, nil
	}
	return value, nil
}

// checkPrintable refuses the characters that PyYAML's reader refuses, wherever
// they are.
func checkPrintable(runes []rune) {
	at := mark{}
	for i, r := range runes {
		switch {
		case r == '\t' || r == '\n' || r == '\r' || 0x20 <= r && r <= 0x7e || r == 0x85 || 0xa0 <= r && r <= 0xd7ff ||
			0xe000 <= r && r <= 0xfffd && r >= 0 || 0x10000 <= r && r <= 0x10ffff:
		case r < 0:
			panic(&Error{mark: at, Message: "a byte that is not UTF-8"})
		default:
			panic(&Error{mark: at, Message: fmt.Sprintf("a character that YAML does not have: U+%04X", r)})
		}
		at.index, at.col = i, at.col+1
		if r == '\n' {
			at.line, at.col = at.line+1, 0
		}
	}
}

// checkTree refuses a value within itself, and too many values.
func checkTree(n *doc.Node, above map[*doc.Node]bool, count *int) {
	*count++
	if above[n] || *count > maxValues {
		panic(&Error{Message: "a value that contains itself, or aliases that multiply beyond measure", Uncertain: true})
	}
	above[n] = true
	for _, item := range n.Items {
		checkTree(item, above, count)
	}
	for _, pair := range n.Pairs {
		checkTree(pair.Value, above, count)
	}
	delete(above, n)
}

// decode gives the characters of a text; a byte that is not UTF-8 is negative,
// a surrogate in WTF-8 is itself.
func decode(text string) []rune {
	runes := make([]rune, 0, len(text)+1)
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size == 1 {
			r = -rune(text[i])
			if i+2 < len(text) && text[i] == 0xed && 0xa0 <= text[i+1] && text[i+1] <= 0xbf && 0x80 <= text[i+2] && text[i+2] <= 0xbf {
				r, size = 0xd000|rune(text[i+1]&0x3f)<<6|rune(text[i+2]&0x3f), 3
			}
		}
		runes = append(runes, r)
		i += size
	}
	return runes
}

// encode is the inverse of decode.
func encode(runes []rune) string {
	var text strings.Builder
	for _, r := range runes {
		switch {
		case r < 0:
			text.WriteByte(byte(-r))
		case 0xd800 <= r && r <= 0xdfff:
			text.Write([]byte{0xed, byte(0x80 | r>>6&0x3f), byte(0x80 | r&0x3f)})
		default:
			text.WriteRune(r)
		}
	}
	return text.String()
}
