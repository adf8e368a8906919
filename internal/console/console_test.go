package console

import (
	"strings"
	"testing"
)

func TestTail(t *testing.T) {
	lines := strings.Split(strings.Repeat("old\n", 20)+"one\ntwo", "\n")
	if got := Tail(lines); strings.Count(got, "\n  | ") != tailLines || !strings.HasSuffix(got, "\n  | one\n  | two") {
		t.Errorf("%q", got)
	}
	if got := Tail([]string{"one"}); got != "\n  | one" {
		t.Errorf("%q", got)
	}
}
