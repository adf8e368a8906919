package backup

import (
	"fmt"
	"slices"
	"time"
)

// surplus returns what need not stay of the backups of one host, the oldest first. The
// rules are restic's: of each of the last so many days that have one, the last backup
// stays, and so on, and with Within all that are younger than the newest by that much.
func (k keep) surplus(all []Snapshot) (gone []Snapshot) {
	if len(all) == 0 {
		return nil
	}
	newest := all[len(all)-1].Time
	rules := []*struct {
		left int
		of   func(time.Time) string
		last string
	}{
		{left: k.Daily, of: func(t time.Time) string { return t.UTC().Format(time.DateOnly) }},
		{left: k.Weekly, of: func(t time.Time) string { year, week := t.UTC().ISOWeek(); return fmt.Sprint(year, week) }},
		{left: k.Monthly, of: func(t time.Time) string { return t.UTC().Format("2006-01") }},
	}
	for i, s := range slices.Backward(all) {
		stays := i == len(all)-1 || s.Time.Add(k.Within).After(newest)
		for _, r := range rules {
			if of := r.of(s.Time); r.left > 0 && of != r.last {
				r.left, r.last, stays = r.left-1, of, true
			}
		}
		if !stays {
			gone = append(gone, s)
		}
	}
	slices.Reverse(gone)
	return gone
}
