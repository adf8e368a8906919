// Package diag holds what bake says about a user's file that is wrong: where,
// what, what is allowed and what to do.
//
// A wrong file is not an error like a full disk: all its problems are
// collected, sorted by position and printed together, so that one run shows
// one person everything there is to mend. A problem prints as
//
//	hosts/zap.yaml:7:3: error: machine.memroy: unknown key "memroy"
//	  7 |   memroy: 3GiB
//	    |   ^^^^^^
//	  hint: did you mean "memory"?
//
// It promises that text from the file reaches the terminal without its control
// characters: a hostile host file cannot move the cursor or forge a line.
// A line on which somebody wrote a secret is shown by no problem of a list.
//
// # Decisions
//
// 2026-11: problems carry the source line themselves instead of a reference to
// a file cache; the few bytes buy a type that can be built, compared and
// printed without any state. A language server would change that.
package diag

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Position is a place in a file. Line and Col count from 1; Col counts
// characters, not bytes. A Line of 0 means the file as a whole.
type Position struct {
	File string
	Line int
	Col  int
}

// String returns file:line:col, or the file alone when the line is 0.
func (p Position) String() string {
	if p.Line == 0 {
		return Printable(p.File)
	}
	return fmt.Sprintf("%s:%d:%d", Printable(p.File), p.Line, p.Col)
}

// A Problem is one thing that is wrong with a user's file.
type Problem struct {
	Pos     Position
	Path    string // where in the document, e.g. "machine.memory"; may be empty
	Message string // one sentence part in lower case, with the value and what is allowed
	Hint    string // what to do, "" when there is nothing to suggest
	Source  string // the whole source line, "" when there is none
	Width   int    // characters to underline from Pos.Col, at least 1
	Warning bool   // it is no reason to refuse the file
	Rule    string // the name of the rule it breaks, "" for what needs none
	Secret  bool   // a secret may stand on the line: no problem of a list shows it
}

func (p Problem) write(w *strings.Builder) {
	severity := "error"
	if p.Warning {
		severity = "warning"
	}
	fmt.Fprintf(w, "%s: %s: ", p.Pos, severity)
	if p.Path != "" {
		w.WriteString(Printable(p.Path) + ": ")
	}
	w.WriteString(Printable(p.Message))
	if p.Rule != "" {
		w.WriteString(" [" + p.Rule + "]")
	}
	w.WriteString("\n")
	if p.Source != "" && p.Pos.Line > 0 && !p.Secret {
		number := fmt.Sprint(p.Pos.Line)
		gutter := strings.Repeat(" ", len(number))
		line := []rune(Printable(strings.TrimRight(p.Source, "\r\n")))
		col := min(max(p.Pos.Col, 1), len(line)+1)
		if len(line) > maxSource { // the part of it that is spoken of
			from := min(max(col-1-maxSource/2, 0), len(line)-maxSource)
			if from+maxSource < len(line) {
				line[from+maxSource-1] = '…'
			}
			if from > 0 {
				line[from] = '…'
			}
			line, col = line[from:from+maxSource], col-from
		}
		width := max(1, min(p.Width, len(line)-col+1))
		fmt.Fprintf(w, "  %s | %s\n", number, string(line))
		fmt.Fprintf(w, "  %s | %s%s\n", gutter, strings.Repeat(" ", col-1), strings.Repeat("^", width))
	}
	if p.Hint != "" {
		w.WriteString("  hint: " + Printable(p.Hint) + "\n")
	}
}

// maxSource is how many characters of a source line are shown: one of a megabyte tells
// nobody anything.
const maxSource = 200

// A List is every problem found so far. As an error it prints all of them; an
// empty List is not an error, see Err.
type List []Problem

// Add appends problems.
func (l *List) Add(problems ...Problem) { *l = append(*l, problems...) }

// Err returns the list, sorted by position and without exact repetitions, or
// nil when it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	sorted := slices.Clone(l)
	slices.SortStableFunc(sorted, func(a, b Problem) int {
		if c := strings.Compare(a.Pos.File, b.Pos.File); c != 0 {
			return c
		}
		if a.Pos.Line != b.Pos.Line {
			return a.Pos.Line - b.Pos.Line
		}
		return a.Pos.Col - b.Pos.Col
	})
	hide(sorted)
	seen := map[Problem]bool{}
	return slices.DeleteFunc(sorted, func(p Problem) bool {
		twice := seen[p]
		seen[p] = true
		return twice
	})
}

// hide takes the source away from all problems on a line that one of them calls
// secret.
func hide(l List) {
	type line struct {
		file   string
		number int
	}
	secret := map[line]bool{}
	for _, p := range l {
		if p.Secret {
			secret[line{p.Pos.File, p.Pos.Line}] = true
		}
	}
	for i, p := range l {
		if secret[line{p.Pos.File, p.Pos.Line}] {
			l[i].Source = ""
		}
	}
}

// Error prints every problem with its snippet and hint, without a final
// newline.
func (l List) Error() string {
	var w strings.Builder
	for _, p := range l {
		p.write(&w)
	}
	return strings.TrimSuffix(w.String(), "\n")
}

// Printable returns text with every character that could drive a terminal
// replaced by U+FFFD, and tabs by one space, so that columns still count.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
