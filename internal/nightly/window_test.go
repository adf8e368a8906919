package nightly

import (
	"testing"
	"time"
)

func TestPolicy(t *testing.T) {
	for _, test := range []struct {
		policy  []string
		yes, no []string // as Mon 02:00
	}{
		{[]string{"always"}, []string{"Mon 00:00", "Sun 23:59"}, nil},
		{[]string{"never"}, nil, []string{"Mon 00:00", "Sun 23:59"}},
		{nil, nil, []string{"Mon 00:00"}},
		{[]string{"Sat,Sun 02:00-05:00"}, []string{"Sat 02:00", "Sun 04:59"}, []string{"Sat 01:59", "Sat 05:00", "Mon 03:00", "Fri 03:00"}},
		{[]string{"03:00-04:00"}, []string{"Mon 03:00", "Sun 03:30"}, []string{"Mon 04:00", "Mon 02:59"}},
		{[]string{"Mon..Fri 22:00-01:00"}, []string{"Mon 22:00", "Tue 00:59", "Sat 00:30", "Fri 23:59"}, []string{"Mon 00:30", "Sat 22:00", "Sun 00:30", "Tue 01:00"}},
		{[]string{"Sat..Mon 00:00-23:59"}, []string{"Sat 00:00", "Sun 12:00", "Mon 23:58"}, []string{"Mon 23:59", "Tue 12:00", "Fri 12:00"}},
		{[]string{"Mon 01:00-02:00", "Wed 01:00-02:00"}, []string{"Mon 01:30", "Wed 01:30"}, []string{"Tue 01:30"}},
	} {
		p, err := ReadPolicy(test.policy...)
		if err != nil {
			t.Errorf("%q: %v", test.policy, err)
			continue
		}
		for want, moments := range map[bool][]string{true: test.yes, false: test.no} {
			for _, moment := range moments {
				if got := p.Allows(at(t, moment)); got != want {
					t.Errorf("%s at %s: %v", p, moment, got)
				}
			}
		}
		if again, err := ReadPolicy(test.policy...); err != nil || again.String() != p.String() {
			t.Errorf("%s, %s, %v", p, again, err)
		}
	}
	for _, bad := range [][]string{{""}, {"Sat"}, {"2:00-3:00"}, {"24:00-25:00"}, {"01:60-02:00"}, {"01:00-01:00"}, {"Sam 01:00-02:00"}, {"sat 01:00-02:00"},
		{"Sat, Sun 01:00-02:00"}, {"Mon. 01:00-02:00"}, {"always", "01:00-02:00"}, {"01:00-02:00", "never"}, {"sometimes"}} {
		if p, err := ReadPolicy(bad...); err == nil {
			t.Errorf("%q was read as %s", bad, p)
		}
	}
}

// at is a moment of some week.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	clock, err := time.Parse("15:04", text[4:])
	if err != nil {
		t.Fatal(err)
	}
	for day := 1; day <= 7; day++ {
		moment := time.Date(2026, 3, day, clock.Hour(), clock.Minute(), 0, 0, time.UTC)
		if moment.Format("Mon") == text[:3] {
			return moment
		}
	}
	t.Fatalf("%q is no day", text)
	return time.Time{}
}
