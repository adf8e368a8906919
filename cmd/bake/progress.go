package main

import (
	"fmt"
	"sync"
	"time"
)

const (
	redraw   = 100 * time.Millisecond // of the line on a terminal
	pause    = time.Second            // without a terminal, at least, between two lines
	patience = 30 * time.Second       // and at most
)

// meter shows how something gets on that is counted in bytes: on a terminal a bar, else
// a line every tenth or half minute; of a download one at the start and the end, too.
type meter struct {
	ui    *ui
	label string // what is fetched, or done
	from  string // where a download is from
	now   func() time.Time

	mutex        sync.Mutex
	start, shown time.Time
	had, last    int64 // bytes; those there were at the start say nothing about the rate
	tenth        int64
}

// meter is one of what is no download.
func (u *ui) meter(label string) *meter { return &meter{ui: u, label: label, now: time.Now} }

// tell is a download.Progress.
func (m *meter) tell(done, total int64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	now := m.now()
	if m.start.IsZero() || done < m.last { // the first time, or again from the beginning
		m.start, m.had, m.tenth = now, done, tenths(done, total)
		m.shown = now
		if m.from != "" {
			m.ui.say("%s: downloading %s", m.label, m.from)
		}
	}
	m.last = done
	if m.ui.env.Terminal {
		if now.Sub(m.shown) >= redraw || done == total {
			m.shown = now
			m.ui.bar(m.label, m.standing(done, total, now), done, total)
		}
		return
	}
	since := now.Sub(m.shown)
	if tenth := tenths(done, total); tenth > m.tenth && since >= pause || since >= patience {
		m.tenth, m.shown = tenth, now
		m.ui.say("%s: %s", m.label, m.standing(done, total, now))
	}
}

// end says what it took, unless nothing was fetched.
func (m *meter) end(received int64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if received > 0 {
		m.ui.say("%s: downloaded %s in %v", m.label, amount(received), m.now().Sub(m.start).Round(100*time.Millisecond))
	}
}

func tenths(done, total int64) int64 {
	if total <= 0 {
		return 0
	}
	return done * 10 / total
}

// standing is how far it is: 30 %, 180.0 of 600.0 MiB, 12.3 MiB/s, 34s left.
func (m *meter) standing(done, total int64, now time.Time) string {
	text := amount(done)
	if total > 0 {
		text = fmt.Sprintf("%d %%, %.1f of %s", done*100/total, float64(done)/(1<<20), amount(total))
	}
	took := now.Sub(m.start).Seconds()
	if took < 0.5 || done <= m.had {
		return text // too early for a rate
	}
	rate := float64(done-m.had) / took
	text += fmt.Sprintf(", %.1f MiB/s", rate/(1<<20))
	if total > done {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		text += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return text
}

func amount(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
