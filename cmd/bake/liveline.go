package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"bake/internal/diag"
)

const (
	spin      = 250 * time.Millisecond // between two looks of a line that only waits
	usual     = 80                     // columns of a terminal that does not say
	barStep   = 8                      // a bar is one of these long, 2 or 3: not another with every digit behind it
	back      = "\r\x1b[K"             // to the start of the line, which is erased
	spinnerOf = `|/-\`
)

// liveLine is the unfinished line at the end of a terminal: what is being done, and
// either how far it is, as a bar, or for how long already.
type liveLine struct {
	isShown bool
	isSpun  bool // somebody turns the spinner
	text    string
	rest    string // of a bar: 30 %, 180.0 of 600.0 MiB
	done    int64
	total   int64 // 0 where nobody knows: there is no bar
	since   time.Time
	turns   int
}

// stage shows what is being done, of which nobody knows how long it takes: on a
// terminal a line that the next one replaces, otherwise nothing. "" takes it away.
func (u *ui) stage(format string, args ...any) {
	u.show(liveLine{text: fmt.Sprintf(format, args...)})
}

// bar shows how far something is, of which the end is known unless total is 0.
func (u *ui) bar(text, rest string, done, total int64) {
	u.show(liveLine{text: text, rest: rest, done: done, total: total})
}

func (u *ui) show(l liveLine) {
	if u.quiet || !u.env.Terminal {
		return
	}
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if l.text == "" {
		u.clear()
		return
	}
	l.isShown, l.isSpun, l.since = true, u.line.isSpun, time.Now()
	if l.text == u.line.text && u.line.isShown { // said again, it goes on
		l.since, l.turns = u.line.since, u.line.turns
	}
	u.line = l
	u.draw(time.Now())
	if !l.isSpun {
		u.line.isSpun = true
		go u.turn()
	}
}

// turn turns the spinner while there is a line.
func (u *ui) turn() {
	ticker := time.NewTicker(spin)
	defer ticker.Stop()
	for range ticker.C {
		if !u.tick(time.Now()) {
			return
		}
	}
}

// tick draws the line again if it is one that waits, and says whether there is one.
func (u *ui) tick(now time.Time) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if !u.line.isShown {
		u.line.isSpun = false
		return false
	}
	if u.line.rest == "" {
		u.line.turns++
		u.draw(now)
	}
	return true
}

// draw writes the line, in the columns that the terminal has at the moment. The last
// stays free: some terminals go to the next line behind it.
func (u *ui) draw(now time.Time) {
	columns := usual
	if u.env.Columns != nil {
		if n := u.env.Columns(); n > 0 {
			columns = n
		}
	}
	fmt.Fprint(u.env.Stderr, back+u.line.fit(columns-1, now))
}

// fit is the line in at most so many columns. What is left out first is the bar, then
// the end of the text; how far it is, or for how long, stays.
func (l liveLine) fit(columns int, now time.Time) string {
	text, rest := "bake: "+diag.Printable(l.text), ""
	switch waited := now.Sub(l.since).Round(time.Second); {
	case l.rest != "":
		text += ": "
		rest = l.rest
	case waited >= time.Second:
		rest = fmt.Sprintf(" %c %v", spinnerOf[l.turns%len(spinnerOf)], waited)
	}
	rest = cut(rest, max(columns*2/3, columns-width(text)))
	return cut(text, columns-width(rest)) + bar(columns-width(text)-width(rest), l.done, l.total) + rest
}

// bar is a bar with a space behind it, in so many columns; "" if they are too few, or
// it has no end.
func bar(columns int, done, total int64) string {
	room := min(3, (columns-len("[] "))/barStep) * barStep
	if room <= 0 || total <= 0 {
		return ""
	}
	filled := int(float64(room) * min(1, max(0, float64(done)/float64(total))))
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", room-filled) + "] "
}

// width is how many columns a text takes at most: what may take two counts as two.
func width(text string) (n int) {
	for _, r := range text {
		n += columnsOf(r)
	}
	return n
}

func columnsOf(r rune) int {
	const hangul, ellipsis = 0x1100, '…' // below it nothing is wide
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case r < hangul || r == ellipsis:
		return 1
	}
	return 2
}

// cut is a text in at most so many columns.
func cut(text string, columns int) string {
	if width(text) <= columns {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		if columns -= columnsOf(r); columns < 1 {
			break
		}
		out.WriteRune(r)
	}
	return out.String() + "…"
}

// clear removes the unfinished line.
func (u *ui) clear() {
	if u.line.isShown {
		fmt.Fprint(u.env.Stderr, back)
		u.line = liveLine{isSpun: u.line.isSpun}
	}
}

// above is a writer to a terminal that may have an unfinished line, which goes first.
type above struct {
	ui *ui
	w  io.Writer
}

func (a above) Write(p []byte) (int, error) {
	a.ui.mutex.Lock()
	defer a.ui.mutex.Unlock()
	a.ui.clear()
	return a.w.Write(p)
}
