package main

import (
	"slices"
	"testing"
)

func TestTable(t *testing.T) {
	got := table([][]string{{"HOST", "SIZE", "WHY"}, {"zap", "12.5 MiB", ""}, {"a-much-longer-one", "1.0 MiB", "画像 x"}, {"b"}}, 1)
	want := []string{
		"HOST                   SIZE  WHY",
		"zap                12.5 MiB",
		"a-much-longer-one   1.0 MiB  画像 x",
		"b",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want\n%q", got, want)
	}
	if got := table(nil); got != nil {
		t.Errorf("%q", got)
	}
}
