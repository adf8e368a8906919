package report

import (
	"fmt"
	"math"
	"time"
)

// chart is an SVG of time from left to right. Its numbers are for parts.tmpl.
type chart struct {
	Class         string // wide or narrow
	Width, Height float64
	Ticks         []point // with words under the axis
	Axis          float64 // where that is
	Bands         []box
	Marks         []point // with a number
	Lanes         []laneBox
	Shut          *box  // while nobody may be answered
	Opens         point // when that ends
	total         time.Duration
}

type point struct {
	X, Y, Foot float64
	Words      string
	Anchor     string // of the words: start, middle, end
}

type box struct {
	X, Y, Width, Height float64
	Class, Words        string
}

// Mid is where the words of a box begin.
func (b box) Mid() float64 { return round(b.X + b.Width/2) }

// Base is the line that they stand on.
func (b box) Base() float64 { return round(b.Y + b.Height/2 + 4) }

type laneBox struct {
	Label  point
	Y      float64
	From   float64 // to the chart's end
	IsOK   bool
	Cross  string // path of a mark that needs no colour
	Finish float64
}

const (
	margin  = 12.0 // at both sides, for half a mark
	radius  = 10.0
	bandY   = 30.0
	laneY   = 40.0
	letter  = 6.6 // width of one, on average, as the style has it
	axisRow = 26.0
)

func newChart(class string, width float64, total time.Duration) chart {
	c := chart{Class: class, Width: width, total: max(total, time.Millisecond)}
	every := tickEvery(c.total, width)
	for at := time.Duration(0); at <= c.total; at += every {
		anchor := "middle"
		if at == 0 {
			anchor = "start"
		}
		c.Ticks = append(c.Ticks, point{X: c.x(at), Words: clock(at, c.total), Anchor: anchor})
	}
	if last := len(c.Ticks) - 1; last > 0 && c.Ticks[last].X > width-2*margin {
		c.Ticks[last].Anchor = "end"
	}
	return c
}

// x is where a moment is. What lies beyond the chart is at its end.
func (c *chart) x(at time.Duration) float64 {
	part := min(max(float64(at)/float64(c.total), 0), 1)
	return round(margin + part*(c.Width-2*margin))
}

func round(x float64) float64 { return math.Round(x*10) / 10 }

// tickEvery is a distance that people count in, such that ticks have room.
func tickEvery(total time.Duration, width float64) time.Duration {
	most := time.Duration(width / 64)
	for _, s := range []time.Duration{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600} {
		if s*time.Second*most >= total {
			return s * time.Second
		}
	}
	return total
}

// clock is a moment on an axis.
func clock(at, total time.Duration) string {
	s := int(at.Seconds())
	switch {
	case s == 0:
		return "0"
	case total < 2*time.Minute:
		return fmt.Sprintf("%d s", s)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// bands draws what was so between one moment and the next, and a numbered mark at each.
func (c *chart) bands(all []moment) {
	rows := c.marks(all)
	top := float64(rows) * (2*radius + 4)
	for i, m := range all {
		end := c.total
		if i+1 < len(all) {
			end = all[i+1].at
		}
		b := box{X: c.x(m.at), Y: top + 6, Height: bandY, Class: m.class}
		b.Width = round(c.x(end) - b.X)
		if float64(len(m.then))*letter+12 < b.Width {
			b.Words = m.then
		}
		c.Bands = append(c.Bands, b)
	}
	for i := range c.Marks {
		c.Marks[i].Foot = top + 6
	}
	c.Axis = top + 6 + bandY
	c.Height = c.Axis + axisRow
}

// marks places numbers so that none covers another, and returns how many rows they take.
func (c *chart) marks(all []moment) int {
	var ends []float64 // of the rows, from below
	var row []int
	for _, m := range all {
		x := c.x(m.at)
		r := 0
		for r < len(ends) && ends[r] > x-2*radius-2 {
			r++
		}
		if r == len(ends) {
			ends = append(ends, 0)
		}
		ends[r] = x
		row = append(row, r)
	}
	for i, m := range all {
		y := float64(len(ends)-1-row[i])*(2*radius+4) + radius + 1
		c.Marks = append(c.Marks, point{X: c.x(m.at), Y: y, Words: fmt.Sprint(i + 1)})
	}
	return len(ends)
}

// lanes draws from when on there were answers of each kind.
func (c *chart) lanes(all []lane, opens time.Duration) {
	const top = 24.0
	finish := c.Width - margin
	for i, l := range all {
		y := top + float64(i)*laneY + 30
		b := laneBox{Label: point{X: margin, Y: y - 10, Words: c.fit(l.words)}, Y: y, From: c.x(l.at), IsOK: l.isOK, Finish: finish}
		b.Cross = fmt.Sprintf("M%.1f %.1fl10 10m0-10l-10 10", b.From-5, y-5)
		c.Lanes = append(c.Lanes, b)
	}
	c.Axis = top + float64(len(all))*laneY + 10
	c.Height = c.Axis + axisRow
	shut := box{X: margin, Y: top, Width: finish - margin, Height: c.Axis - top}
	c.Opens = point{X: -1}
	if opens > 0 {
		shut.Width = round(c.x(opens) - margin)
		c.Opens = point{X: c.x(opens), Y: top, Foot: c.Axis, Words: "opens", Anchor: "start"}
		if c.Opens.X > c.Width*3/4 {
			c.Opens.Anchor = "end"
		}
	}
	c.Shut = &shut
}

// fit cuts words that a chart has no room for; the list under it has them whole.
func (c *chart) fit(words string) string {
	most := int((c.Width - 2*margin) / letter)
	if text := []rune(words); len(text) > most {
		return string(text[:most-1]) + "…"
	}
	return words
}
