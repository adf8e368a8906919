package diag

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestPosition(t *testing.T) {
	for _, test := range []struct {
		pos  Position
		want string
	}{
		{Position{"hosts/zap.yaml", 7, 3}, "hosts/zap.yaml:7:3"},
		{Position{File: "hosts/zap.yaml"}, "hosts/zap.yaml"},
		{Position{"a\x1b[2J\nb", 1, 1}, "a\ufffd[2J\ufffdb:1:1"},
	} {
		if got := test.pos.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// The layout is the package's promise: snippet, caret under the character, hint.
func TestError(t *testing.T) {
	at := func(line, col int) Position { return Position{"f", line, col} }
	for name, test := range map[string]struct {
		problem Problem
		want    string
	}{
		"everything": {
			Problem{Pos: at(7, 3), Path: "machine.memroy", Message: `unknown key "memroy"`,
				Hint: `did you mean "memory"?`, Source: "  memroy: 3GiB", Width: 6},
			"f:7:3: error: machine.memroy: unknown key \"memroy\"\n" +
				"  7 |   memroy: 3GiB\n" +
				"    |   ^^^^^^\n" +
				"  hint: did you mean \"memory\"?",
		},
		"a wide line number moves the gutter": {
			Problem{Pos: at(1234, 1), Message: "m", Source: "x", Width: 1},
			"f:1234:1: error: m\n  1234 | x\n       | ^",
		},
		"characters, not bytes": {
			Problem{Pos: at(1, 4), Message: "m", Source: "äöüß", Width: 1},
			"f:1:4: error: m\n  1 | äöüß\n    |    ^",
		},
		"a tab is one column": {
			Problem{Pos: at(1, 2), Message: "m", Source: "\tx", Width: 1},
			"f:1:2: error: m\n  1 |  x\n    |  ^",
		},
		"no wider than the line": {
			Problem{Pos: at(1, 3), Message: "m", Source: "abcd\r\n", Width: 99},
			"f:1:3: error: m\n  1 | abcd\n    |   ^^",
		},
		"behind the line": {
			Problem{Pos: at(1, 99), Message: "m", Source: "ab", Width: 5},
			"f:1:99: error: m\n  1 | ab\n    |   ^",
		},
		"before the line": {
			Problem{Pos: at(1, -4), Message: "m", Source: "ab", Width: -1},
			"f:1:-4: error: m\n  1 | ab\n    | ^",
		},
		"a long line, at its beginning": {
			Problem{Pos: at(1, 2), Message: "m", Source: strings.Repeat("x", 1000), Width: 3},
			"f:1:2: error: m\n  1 | " + strings.Repeat("x", 199) + "…\n    |  ^^^",
		},
		"a long line, in its middle": {
			Problem{Pos: at(1, 500), Message: "m", Source: strings.Repeat("x", 499) + "Y" + strings.Repeat("x", 499), Width: 1},
			"f:1:500: error: m\n  1 | …" + strings.Repeat("x", 99) + "Y" + strings.Repeat("x", 98) + "…\n    | " + strings.Repeat(" ", 100) + "^",
		},
		"a long line, at its end": {
			Problem{Pos: at(1, 999), Message: "m", Source: strings.Repeat("x", 999), Width: 5000},
			"f:1:999: error: m\n  1 | …" + strings.Repeat("x", 199) + "\n    | " + strings.Repeat(" ", 199) + "^",
		},
		"the whole file has no snippet": {
			Problem{Pos: Position{File: "f"}, Message: "m", Source: "ab", Width: 1},
			"f: error: m",
		},
		"a forged line stays in its line": {
			Problem{Pos: at(1, 1), Path: "a\nb", Message: "\x1b[31mred\r", Hint: "\u202eabc", Source: "a\x00\u009b", Width: 1},
			"f:1:1: error: a\ufffdb: \ufffd[31mred\ufffd\n  1 | a\ufffd\ufffd\n    | ^\n  hint: \ufffdabc",
		},
	} {
		if diff := cmp.Diff(test.want, List{test.problem}.Error()); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
}

func TestErr(t *testing.T) {
	if err := (List{}).Err(); err != nil {
		t.Errorf("an empty list is the error %v", err)
	}
	p := func(file string, line, col int, message string) Problem {
		return Problem{Pos: Position{file, line, col}, Message: message}
	}
	var list List
	list.Add(p("b", 1, 1, "x"), p("a", 2, 1, "x"), p("a", 1, 9, "x"), p("a", 10, 1, "x"))
	list.Add(p("a", 1, 2, "one"), p("a", 1, 2, "two"), p("a", 1, 2, "one"), p("a", 1, 9, "x"))
	before := fmt.Sprint(list)
	err := list.Err()
	want := List{p("a", 1, 2, "one"), p("a", 1, 2, "two"), p("a", 1, 9, "x"), p("a", 2, 1, "x"), p("a", 10, 1, "x"), p("b", 1, 1, "x")}
	var got List
	if !errors.As(fmt.Errorf("loading: %w", err), &got) {
		t.Fatalf("%v is no List", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if fmt.Sprint(list) != before {
		t.Error("Err changed the list it was called on")
	}
	if lines := strings.Count(got.Error(), "\n") + 1; lines != len(want) {
		t.Errorf("%d lines for %d problems", lines, len(want))
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"vcpus", "memory", "disk", "firmware", "tpm"}
	for word, want := range map[string]string{
		"memroy":  `did you mean "memory"?`, // two neighbours swapped
		"MEMORY":  `did you mean "memory"?`,
		"memor":   `did you mean "memory"?`,
		"memoryy": `did you mean "memory"?`,
		"cpus":    `did you mean "vcpus"?`,
		"disk":    `did you mean "disk"?`,
		"zzz":     "known: vcpus, memory, disk, firmware, tpm",
		"":        "known: vcpus, memory, disk, firmware, tpm",
		"päpörü":  "known: vcpus, memory, disk, firmware, tpm",
	} {
		if got := DidYouMean(word, known); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	if got := DidYouMean("a", nil); got != "" {
		t.Errorf("nothing is known, yet: %q", got)
	}
}

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "acb", 1},
		{"abc", "bc", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}, // 2 would be the unrestricted distance
	} {
		if got := edits(test.a, test.b); got != test.want {
			t.Errorf("%q, %q: %d, want %d", test.a, test.b, got, test.want)
		}
		if got := edits(test.b, test.a); got != test.want {
			t.Errorf("%q, %q: %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

// A line with a secret on it is not shown, whichever problem points at it.
func TestSecretLine(t *testing.T) {
	const source = "a: {b: hunter2, c: 1}"
	list := List{
		{Pos: Position{"f", 1, 1}, Message: "shown", Source: "x: 1"},
		{Pos: Position{"f", 2, 17}, Message: "beside it", Source: source},
		{Pos: Position{"f", 2, 8}, Message: "a secret", Source: source, Secret: true},
		{Pos: Position{"g", 2, 1}, Message: "shown, too", Source: "y: 1"},
	}
	text := list.Err().Error()
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "x: 1") || !strings.Contains(text, "y: 1") {
		t.Error(text)
	}
	if text := (List{list[2]}).Error(); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}

// Whatever a problem is made of, it is one line of each kind and drives no
// terminal.
func FuzzError(f *testing.F) {
	f.Add("f", "a.b", "message", "hint", "source", 1, 1, 1)
	f.Add("f\n", "\x1b]0;x\a", "\u202e", "\x00", "\xff\xfe", 9, 100, -3)
	f.Fuzz(func(t *testing.T, file, path, message, hint, source string, line, col, width int) {
		p := Problem{Pos: Position{file, line, col}, Path: path, Message: message, Hint: hint, Source: source, Width: width}
		text := List{p}.Error()
		want := 1
		if source != "" && line > 0 {
			want += 2
		}
		if hint != "" {
			want++
		}
		if got := strings.Count(text, "\n") + 1; got != want {
			t.Errorf("%d lines, want %d: %q", got, want, text)
		}
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%q in %q", r, text)
			}
		}
	})
}
