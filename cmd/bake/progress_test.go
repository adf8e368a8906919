package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestMeter runs a download of 100 MiB on a clock of its own.
func TestMeter(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name            string
		terminal, quiet bool
		step            time.Duration // per MiB
		total           int64
		lines           int
		words           []string
	}{
		{"terminal", true, false, time.Second, 100 * mib, 2, []string{
			"\r\x1b[Kbake: x: [########--------] 50 %, 50.0 of 100.0 MiB, 1.0 MiB/s, 50s left", "bake: x: downloaded 100.0 MiB in 1m39s\n"}},
		{"terminal, at each block but not more often", true, false, 10 * time.Millisecond, 100 * mib, 2, []string{"x: [########################] 100 %"}},
		{"plain", false, false, time.Second, 100 * mib, 12, []string{
			"bake: x: downloading http://m/x.img\n", "bake: x: 10 %, 10.0 of 100.0 MiB, 1.0 MiB/s, 1m30s left\n", "bake: x: downloaded"}},
		{"plain, slow", false, false, 31 * time.Second, 100 * mib, 101, nil},
		{"plain, fast", false, false, time.Millisecond, 100 * mib, 2, nil},
		{"plain, of unknown size", false, false, time.Second, 0, 5, []string{"bake: x: 31.0 MiB, 1.0 MiB/s\n"}},
		{"quiet", false, true, time.Second, 100 * mib, 0, nil},
		{"quiet terminal", true, true, time.Second, 100 * mib, 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			now := time.Unix(0, 0)
			m := &meter{ui: &ui{env: env{Stderr: &out, Terminal: test.terminal}, quiet: test.quiet},
				label: "x", from: "http://m/x.img", now: func() time.Time { return now }}
			for done := int64(1); done <= 100; done++ {
				m.tell(done*mib, test.total)
				if done < 100 {
					now = now.Add(test.step)
				}
			}
			m.end(100 * mib)
			if got := strings.Count(out.String(), "\n"); got != test.lines {
				t.Errorf("%d lines, want %d:\n%s", got, test.lines, out.String())
			}
			for _, word := range test.words {
				if !strings.Contains(out.String(), word) {
					t.Errorf("%q is not in:\n%q", word, out.String())
				}
			}
			if drawn := strings.Count(out.String(), " %, "); test.terminal && !test.quiet && test.step < redraw && drawn > 12 {
				t.Errorf("the line was drawn %d times", drawn)
			}
		})
	}
}

// TestMeterAgain: what was there before says nothing about the rate, and a
// download that begins again is said to.
func TestMeterAgain(t *testing.T) {
	const mib = 1 << 20
	var out bytes.Buffer
	now := time.Unix(0, 0)
	m := &meter{ui: &ui{env: env{Stderr: &out}}, label: "x", from: "u", now: func() time.Time { return now }}
	for _, done := range []int64{50, 60, 0, 20} {
		m.tell(done*mib, 100*mib)
		now = now.Add(10 * time.Second)
	}
	want := "bake: x: downloading u\nbake: x: 60 %, 60.0 of 100.0 MiB, 1.0 MiB/s, 40s left\n" +
		"bake: x: downloading u\nbake: x: 20 %, 20.0 of 100.0 MiB, 2.0 MiB/s, 40s left\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
	m.end(0)
	if out.String() != want {
		t.Error("something was said about nothing")
	}
}
