package verify

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"testing"
)

func TestUntil(t *testing.T) {
	long := strings.Repeat("x", 5000) // longer than the reader's buffer
	for name, test := range map[string]struct {
		in, text string
		number   int
		fails    bool
	}{
		"output":             {"a\nb\n\nmark 3\nnext", "a\nb\n\n", 3, false},
		"no output":          {"\nmark 0\n", "\n", 0, false},
		"mark inside a line": {"a mark 1\nmark 2\n", "a mark 1\n", 2, false},
		"mark as a word":     {"marks 1\nmark 2\n", "marks 1\n", 2, false},
		"long line":          {long + "\nmark 0\n", long + "\n", 0, false},
		"mark after a piece": {strings.Repeat("x", 4096) + "mark 1\nmark 2\n", strings.Repeat("x", 4096) + "mark 1\n", 2, false},
		"cut":                {"a\nmark 0", "a\nmark 0", 0, true},
		"no number":          {"a\nmark x\n", "a\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			text, number, err := until(bufio.NewReader(strings.NewReader(test.in)), "mark")
			if text != test.text || number != test.number || (err != nil) != test.fails {
				t.Errorf("until = %q, %d, %v", text, number, err)
			}
		})
	}
}

// One shell, one command after the other: none sees or spoils the next.
func TestExecute(t *testing.T) {
	r := newGuest(t, whole()).inspect(t)
	if err := r.enter(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		run, out string
		exit     int
	}{
		{"echo a; echo b >&2", "a", 0},
		{"echo a; echo b >&2; exit 3", "a\nb", 3},
		{"printf a", "a", 0},
		{"cat; cd /; x=1; set -e; umask 0", "", 0}, // nothing to read, nothing to keep
		{"cat state; echo $x", "good", 0},
		{"exec false", "", 1},
		{"'", "", 2},
		{"echo 'it'\\''s' \"$((1+1))\"", "it's 2", 0},
		{"yes | head -c 100000 | wc -c", "100000", 0},
		{"head -c 100000 /dev/zero | tr '\\0' x", strings.Repeat("x", maxOutput), 0},
		{"echo a & wait", "a", 0},
	} {
		out, exit, err := r.execute(context.Background(), test.run)
		if test.exit == 2 {
			out = "" // a shell's own words for it
		}
		if strings.TrimSpace(out) != test.out || exit != test.exit || err != nil {
			t.Errorf("%s: %.40q, %d, %v", test.run, out, exit, err)
		}
	}
}

// A command that does not end costs its connection, not the next command.
func TestExecuteGivesUp(t *testing.T) {
	r := newGuest(t, whole()).inspect(t)
	if err := r.enter(context.Background()); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(enough)
	if _, _, err := r.execute(ctx, "sleep 600"); !errors.Is(err, enough) {
		t.Errorf("execute: %v", err)
	}
	if r.root != nil {
		t.Error("the shell of a command that was given up is still in use")
	}
	r.try(context.Background(), inside("true"))
	if got := r.report.Results[0]; !got.OK {
		t.Errorf("the next command: %+v", got)
	}
}
