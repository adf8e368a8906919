package vm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// scripted returns a monitor whose other end answers each command in turn with
// a script's line, in which %d is the command's id; it hangs up at the end.
func scripted(t *testing.T, script ...string) *monitor {
	t.Helper()
	ours, theirs := net.Pipe()
	q := newMonitor(ours)
	t.Cleanup(func() { ours.Close(); theirs.Close(); <-q.done })
	go func() {
		defer theirs.Close()
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		commands := bufio.NewReader(theirs)
		for i, line := range script {
			if _, err := commands.ReadString('\n'); err != nil {
				return
			}
			fmt.Fprintln(theirs, strings.ReplaceAll(line, "%d", fmt.Sprint(i+1)))
		}
		commands.ReadString('\n')
	}()
	return q
}

func TestMonitor(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want, fails  string
	}{
		{"answer", `{"return": "yes\r\n", "id": %d}`, "yes\n", ""},
		{"event first", `{"event": "RESET", "id": %d}` + "\n" + `{"return": "yes", "id": %d}`, "yes", ""},
		{"another's answer first", `{"return": "no", "id": 99}` + "\n" + `{"return": "yes", "id": %d}`, "yes", ""},
		{"error", `{"error": {"class": "GenericError", "desc": "no disk"}, "id": %d}`, "", "no disk"},
		{"not a string", `{"return": {}, "id": %d}`, "", "cannot unmarshal"},
		{"no JSON", `hello`, "", "not understood"},
		{"endless line", strings.Repeat("x", monitorLimit+1), "", "too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := scripted(t, test.script).human(context.Background(), "info x")
			if got != test.want || (err == nil) != (test.fails == "") {
				t.Fatalf("human = %q, %v", got, err)
			}
			if err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("human: %v; want %q", err, test.fails)
			}
		})
	}
}

func TestMonitorHangsUp(t *testing.T) {
	_, err := scripted(t).do(context.Background(), "quit", nil)
	if err == nil || !strings.Contains(err.Error(), "quit: the monitor has closed") {
		t.Errorf("do: %v", err)
	}
}

// A command that was given up does not take the next one's answer.
func TestMonitorGivesUp(t *testing.T) {
	q := scripted(t, `{"event": "STOP"}`, `{"return": "late", "id": 1}`+"\n"+`{"return": "mine", "id": 2}`)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := q.human(ctx, "first"); !errors.Is(err, context.Canceled) {
		t.Errorf("human: %v", err)
	}
	if got, err := q.human(context.Background(), "second"); got != "mine" || err != nil {
		t.Errorf("human = %q, %v", got, err)
	}
}
