package main

import (
	"slices"
	"strings"
)

// table lays rows out in columns that are as wide as what is in them, so that what is
// short has room in the 80 columns of a terminal. The columns named are of numbers, which
// stand to the right; the last is as long as it is.
func table(rows [][]string, numbers ...int) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	var lines []string
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			room := strings.Repeat(" ", widths[i]-width(cell))
			if slices.Contains(numbers, i) {
				cell = room + cell
			} else {
				cell += room
			}
			line.WriteString(cell + "  ")
		}
		lines = append(lines, strings.TrimRight(line.String(), " "))
	}
	return lines
}
