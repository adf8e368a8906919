package main

import (
	"testing"
	"time"
)

func TestAging(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	clock = func() time.Time { return now }
	t.Cleanup(func() { clock = time.Now })
	for serial, want := range map[string]string{
		"20261112-2294": "debian:13, serial 20261112-2294, 17d old",
		"20261129.1":    "debian:13, serial 20261129.1, 12h old",
		"20270101":      "debian:13, serial 20270101, 0m old", // a clock that is wrong
		"2026":          "debian:13, serial 2026",
		"":              "debian:13",
	} {
		if got := (agingView{Reference: "debian:13", Serial: serial, Since: dayOf(serial)}).String(); got != want {
			t.Errorf("%s: %q, want %q", serial, got, want)
		}
	}
}
