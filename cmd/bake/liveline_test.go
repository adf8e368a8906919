package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFit: whatever is said, the line fits, and what matters is what stays.
func TestFit(t *testing.T) {
	began := time.Unix(0, 0)
	half := liveLine{text: "zap: storing", rest: "50 %, 50.0 of 100.0 MiB", done: 50, total: 100, since: began}
	wide := liveLine{text: "zap: 検査する画像 " + strings.Repeat("é", 3), since: began}
	tests := []struct {
		line    liveLine
		columns int
		after   time.Duration
		want    string
	}{
		{half, 100, 0, "bake: zap: storing: [############------------] 50 %, 50.0 of 100.0 MiB"},
		{half, 79, 0, "bake: zap: storing: [############------------] 50 %, 50.0 of 100.0 MiB"},
		{half, 60, 0, "bake: zap: storing: [####----] 50 %, 50.0 of 100.0 MiB"},
		{half, 53, 0, "bake: zap: storing: 50 %, 50.0 of 100.0 MiB"},
		{half, 36, 0, "bake: zap: s…50 %, 50.0 of 100.0 MiB"},
		{half, 20, 0, "bake: …50 %, 50.0 o…"},
		{liveLine{text: "zap: fetching", rest: "50.0 MiB", done: 50, since: began}, 79, 0, "bake: zap: fetching: 50.0 MiB"},
		{liveLine{text: "zap: checking", since: began}, 79, 0, "bake: zap: checking"},
		{liveLine{text: "zap: checking", since: began}, 79, 12 * time.Second, "bake: zap: checking | 12s"},
		{liveLine{text: "zap: checking", since: began, turns: 5}, 79, 75 * time.Second, "bake: zap: checking / 1m15s"},
		{liveLine{text: "zap: checking", since: began}, 20, 75 * time.Second, "bake: zap: … | 1m15s"},
		{liveLine{text: "a\x1b[31mb\r", since: began}, 79, 0, "bake: a\ufffd[31mb\ufffd"},
		{wide, 79, 0, "bake: zap: 検査する画像 ééé"},
		{wide, 20, 0, "bake: zap: 検査する…"},
	}
	for _, test := range tests {
		got := test.line.fit(test.columns, began.Add(test.after))
		if got != test.want {
			t.Errorf("%d columns:\n%q, want\n%q", test.columns, got, test.want)
		}
		for columns := 5; columns < 200; columns++ {
			if got := test.line.fit(columns, began.Add(test.after)); width(got) > columns {
				t.Errorf("%q has more than %d columns", got, columns)
			}
		}
	}
}

// TestTick: a line that waits says for how long, one with a bar is left alone, and one
// that is gone stays so.
func TestTick(t *testing.T) {
	var out bytes.Buffer
	columns := 40
	u, e := newUI(env{Stdout: &out, Stderr: &out, Terminal: true, Columns: func() int { return columns }})
	u.line.isSpun = true // by the test
	u.stage("zap: checking")
	later := func(seconds int) time.Time { return u.line.since.Add(time.Duration(seconds) * time.Second) }
	u.tick(later(3))
	u.stage("zap: checking") // again: it goes on
	columns = 20
	u.tick(later(65))
	u.bar("zap: writing", "50 %", 1, 2)
	u.tick(later(70))
	fmt.Fprintln(e.Stdout, "the product")
	if u.tick(later(71)) || u.line.isSpun {
		t.Error("there is no line, and it still turns")
	}
	u.stage("")
	want := "bake: zap: checking" + back + "bake: zap: checking / 3s" + back + "bake: zap: checking" + back +
		"bake: zap: … - 1m5s" + back + "bake: zap: wri…50 %" + back + "the product\n"
	if got := out.String(); got != back+want {
		t.Errorf("%q, want\n%q", got, back+want)
	}
}

func TestPaint(t *testing.T) {
	const report = "ok    attest: shut\nFAIL  ufw: shut\nok    FAIL       ssh: refused\n      got   ok then\nokay x\nmissing  qemu\nok\n"
	plainly, coloured := &ui{}, &ui{env: env{Colour: true}}
	if got := plainly.paint(report); got != report {
		t.Errorf("%q", got)
	}
	const want = "\x1b[32mok\x1b[m    attest: shut\n\x1b[31mFAIL\x1b[m  ufw: shut\n\x1b[32mok\x1b[m    \x1b[31mFAIL\x1b[m       ssh: refused\n" +
		"      got   ok then\nokay x\n\x1b[31mmissing\x1b[m  qemu\nok\n"
	got := coloured.paint(report)
	if got != want {
		t.Errorf("%q, want\n%q", got, want)
	}
	if bare := regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(got, ""); bare != report {
		t.Errorf("colours change the words: %q", bare)
	}
}

// TestTerminals runs bake on terminals of several widths, on one that understands
// nothing, and without one, as a pipe and a journal have it.
func TestTerminals(t *testing.T) {
	w := newWorkshop(t)
	for _, columns := range []uint16{0, 20, 40, 80, 200} {
		said := w.onTerminal(t, columns, []string{"TERM=xterm"}, "image", "--host", "zap")
		if columns == 0 {
			columns = usual
		}
		drawn := 0
		for _, line := range strings.Split(strings.ReplaceAll(said, "\r\n", "\n"), back) {
			live, _, isPrinted := strings.Cut(line, "\n")
			if !isPrinted && strings.HasPrefix(live, "bake: ") {
				drawn++
				if width(live) >= int(columns) {
					t.Errorf("%d columns, the line has %d: %q", columns, width(live), live)
				}
			}
		}
		if drawn < 2 || !strings.Contains(said, "out/zap/") {
			t.Errorf("%d columns, %d lines that come and go: %q", columns, drawn, said)
		}
	}
	for _, test := range []struct {
		name     string
		env      []string
		coloured bool
	}{
		{"a terminal", []string{"TERM=xterm"}, true},
		{"an empty NO_COLOR", []string{"TERM=xterm", "NO_COLOR="}, true},
		{"NO_COLOR", []string{"TERM=xterm", "NO_COLOR=1"}, false},
		{"a dumb one", []string{"TERM=dumb"}, false},
	} {
		said := w.onTerminal(t, 80, test.env, "doctor")
		if !strings.Contains(said, "qemu-img") || strings.Contains(said, "\x1b[32m") != test.coloured {
			t.Errorf("%s: %q", test.name, said)
		}
		if test.env[0] == "TERM=dumb" && strings.Contains(said, "\x1b") {
			t.Errorf("%s: %q", test.name, said)
		}
	}
	for _, args := range [][]string{{"doctor"}, {"image", "--host", "zap"}} {
		if o := finish(t, w.command(args...)); !plain(o.stdout) || !plain(o.stderr) || o.stdout == "" {
			t.Errorf("bake %q in a pipe: %q, %q", args, o.stdout, o.stderr)
		}
	}
}

// onTerminal runs bake on a terminal with so many columns, 0 for one that does not say,
// and returns all that came to it.
func (w workshop) onTerminal(t *testing.T, columns uint16, environment []string, args ...string) string {
	t.Helper()
	person, program := openTerminal(t)
	if err := unix.IoctlSetWinsize(int(program.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = program, program
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "NO_COLOR=") && !strings.HasPrefix(variable, "TERM=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, environment...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	program.Close() // so that the terminal ends with bake
	var said bytes.Buffer
	_, _ = said.ReadFrom(person) // until an error: it has hung up
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 4) { // of doctor: something is missing
		t.Fatalf("bake %q: %v: %q", args, err, said.String())
	}
	return said.String()
}
