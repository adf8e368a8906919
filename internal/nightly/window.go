package nightly

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/lazy"
)

// A Policy says when a host's machine at work may be changed by a night. The zero value
// is never.
type Policy struct {
	Always  bool
	Windows []Window
}

// Allows says whether a change may begin at that moment, in its time zone.
func (p Policy) Allows(t time.Time) bool {
	return p.Always || slices.ContainsFunc(p.Windows, func(w Window) bool { return w.holds(t) })
}

// String is the policy as it is written.
func (p Policy) String() string {
	var all []string
	for _, w := range p.Windows {
		all = append(all, w.text)
	}
	switch {
	case p.Always:
		return "always"
	case len(all) == 0:
		return "never"
	}
	return strings.Join(all, ", ")
}

// A Window is a time of the day, on some days of the week.
type Window struct {
	text     string
	days     [7]bool // by time.Weekday, of its beginning
	from, to int     // minutes since midnight; to is of the next day if it is not after from
}

var windowForm = lazy.Regexp(`^(?:([A-Za-z,.]+) )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})$`)

// ReadPolicy reads always, never or windows: "Sat,Sun 02:00-05:00", "Mon..Fri
// 22:00-01:00", "03:00-04:00" for every day.
func ReadPolicy(texts ...string) (p Policy, err error) {
	for _, text := range texts {
		switch {
		case (text == "always" || text == "never") && len(texts) == 1:
			return Policy{Always: text == "always"}, nil
		case text == "always" || text == "never":
			return p, fmt.Errorf("%s stands alone", text)
		}
		w, err := readWindow(text)
		if err != nil {
			return p, err
		}
		p.Windows = append(p.Windows, w)
	}
	return p, nil
}

func readWindow(text string) (w Window, err error) {
	m := windowForm.FindStringSubmatch(text)
	if m == nil {
		return w, fmt.Errorf("%q is no window: want Sat,Sun 02:00-05:00", text)
	}
	w.text = text
	if w.days, err = readDays(m[1]); err != nil {
		return w, err
	}
	clock := func(hour, minute string) int {
		h, _ := strconv.Atoi(hour)
		m, _ := strconv.Atoi(minute)
		if h > 23 || m > 59 {
			err = fmt.Errorf("%s:%s is no time of the day", hour, minute)
		}
		return 60*h + m
	}
	w.from, w.to = clock(m[2], m[3]), clock(m[4], m[5])
	if err == nil && w.from == w.to {
		err = errors.New("a window that ends when it begins: write always, or two windows")
	}
	return w, err
}

var dayNames = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"} // as time.Weekday counts

// readDays reads Mon,Wed and Mon..Fri; nothing is every day.
func readDays(text string) (days [7]bool, err error) {
	if text == "" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "..")
		if !isRange {
			last = first
		}
		from, to := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("%q is no day: want Mon, Tue, Wed, Thu, Fri, Sat, Sun, or Mon..Fri", part)
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, nil
}

func (w Window) holds(t time.Time) bool {
	minute, day := 60*t.Hour()+t.Minute(), int(t.Weekday())
	if w.from < w.to {
		return w.days[day] && w.from <= minute && minute < w.to
	}
	return w.days[day] && minute >= w.from || w.days[(day+6)%7] && minute < w.to
}

// A WaitError says that a machine at work is not changed yet, because it may not be now.
// It is no failure.
type WaitError struct {
	Generation string
	Until      Policy
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("generation %s waits to be deployed: %s", e.Generation, e.Until)
}
