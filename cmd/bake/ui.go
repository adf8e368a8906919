package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"

	"bake/internal/diag"
)

// ui speaks to the person: standard output carries the product alone, what is
// said about it goes to standard error with the prefix "bake:".
type ui struct {
	env   env
	quiet bool
	wrote bool // something whose path was printed
	mutex sync.Mutex
	line  liveLine
}

// newUI speaks to the person of e, and returns an e whose standard output goes to the
// same terminal, if it does, without meeting what is being said.
func newUI(e env) (*ui, env) {
	u := &ui{}
	if e.Terminal {
		e.Stdout = above{u, e.Stdout}
	}
	u.env = e
	return u, e
}

// say prints one line about what happened.
func (u *ui) say(format string, args ...any) {
	if !u.quiet {
		u.warn(format, args...)
	}
}

// warn prints one line that nobody may miss, whatever the options.
func (u *ui) warn(format string, args ...any) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.clear()
	fmt.Fprintf(u.env.Stderr, "bake: %s\n", diag.Printable(fmt.Sprintf(format, args...)))
}

// fail prints an error: a diag.List as it is, with its own positions, anything
// else on lines with the prefix.
func (u *ui) fail(err error) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.clear()
	if list, ok := alone(err).(diag.List); ok {
		fmt.Fprintln(u.env.Stderr, list.Error())
		problems := "1 problem"
		if len(list) != 1 {
			problems = fmt.Sprintf("%d problems", len(list))
		}
		if !u.wrote {
			problems += ", nothing was written"
		}
		fmt.Fprintf(u.env.Stderr, "bake: %s\n", problems)
		return
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(u.env.Stderr, "bake: %s\n", diag.Printable(strings.TrimRight(line, "\n")))
	}
}

// alone is an error that errors.Join was given with nothing beside it.
func alone(err error) error {
	for {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok || len(joined.Unwrap()) != 1 {
			return err
		}
		err = joined.Unwrap()[0]
	}
}

// colours of the words by which a line begins that is somebody's verdict: green, yellow,
// red. Nothing is said by a colour alone.
var colours = map[string]string{"ok": "32", "slow": "33", "missing": "31", "FAIL": "31"}

// paint colours the verdicts at the beginnings of lines, where somebody sees colours.
func (u *ui) paint(text string) string {
	if !u.env.Colour {
		return text
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		for { // a claim that was falsified has two
			word, rest, ok := strings.Cut(line, " ")
			colour, known := colours[word]
			if !known || !ok {
				break
			}
			line = strings.TrimLeft(rest, " ")
			fmt.Fprintf(&out, "\x1b[%sm%s\x1b[m %s", colour, word, rest[:len(rest)-len(line)])
		}
		out.WriteString(line)
	}
	return out.String()
}

// printLines prints results for people, one a line.
func (u *ui) printLines(lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(u.env.Stdout, u.paint(diag.Printable(line))); err != nil {
			return err
		}
	}
	return nil
}

// printJSON writes a result for programs. Characters that could drive a
// terminal are escaped, as JSON allows everywhere but demands only of the first
// 32.
func (u *ui) printJSON(v any) error { return encodeJSON(u.env.Stdout, v) }

func encodeJSON(w io.Writer, v any) error {
	var out, safe bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return err
	}
	for _, r := range out.String() {
		if r == '\n' || unicode.IsPrint(r) {
			safe.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&safe, "\\u%04x", unit)
		}
	}
	_, err := w.Write(safe.Bytes())
	return err
}
