package console

import (
	"bytes"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPlain(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"text", "a\tb\r\nc", "a\tb\nc"},
		{"colour", "[\x1b[0;32m  OK  \x1b[0m] Started", "[  OK  ] Started"},
		{"clear screen", "\x1bc\x1b[2J\x1b[1;1Hboot", "boot"},
		{"title", "\x1b]0;rm -rf /\x07x", "x"},
		{"title, long end", "\x1b]0;rm -rf /\x1b\\x", "x"},
		{"device control", "\x1bP$q\"p\x1b\\x", "x"},
		{"character set", "\x1b(Bx", "x"},
		{"unfinished title", "\x1b]0;title\nnext", "\nnext"},
		{"unfinished sequence", "\x1b[31\nnext", "\nnext"},
		{"restarted sequence", "\x1b[3\x1b[31mx", "x"},
		{"bell and backspace", "a\x07\x08\x7fb", "ab"},
		{"overwrite", "bad\rgood", "badgood"},
		{"C1 control", "a\u009b31mb", "a\uFFFD31mb"},
		{"C1 byte", "a\x9b31mb", "a\uFFFD31mb"},
		{"bidi override", "a\u202eb", "a\uFFFDb"},
		{"line separator", "a\u2028b", "a\uFFFDb"},
		{"umlaut", "grün", "grün"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p Plain
			if got := string(p.Filter([]byte(test.in))); got != test.want {
				t.Errorf("Filter(%q) = %q, want %q", test.in, got, test.want)
			}
		})
	}
}

// Whatever comes in and however it is cut, what comes out is printable.
func FuzzPlain(f *testing.F) {
	f.Add([]byte("\x1b[31mred\x1b[0m\r\n\xe2\x80"), 3)
	f.Add([]byte("\x1b]0;t\x1b\\\xff\x9b"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var whole, parts Plain
		want := whole.Filter(in)
		cut = max(0, min(cut, len(in)))
		got := append(parts.Filter(in[:cut]), parts.Filter(in[cut:])...)
		if !bytes.Equal(got, want) {
			t.Errorf("cut at %d: %q, whole: %q", cut, got, want)
		}
		if !utf8.Valid(want) {
			t.Errorf("%q is not UTF-8", want)
		}
		for _, char := range string(want) {
			if char != '\n' && char != '\t' && char != utf8.RuneError && !unicode.IsGraphic(char) {
				t.Errorf("%q holds %U", want, char)
			}
		}
	})
}
