package lint

import (
	_ "embed"
	"strings"
	"sync"
)

//go:embed words/rules.txt
var rulesText string

// table is every rule, sorted by name.
var table = sync.OnceValue(func() []Rule {
	var all []Rule
	for line := range strings.Lines(rulesText) {
		columns := strings.Split(strings.TrimSpace(line), " | ")
		if len(columns) != 6 || strings.HasPrefix(line, "#") {
			continue
		}
		all = append(all, Rule{ID: columns[0], Severity: Severity(columns[1]), What: columns[2], Why: columns[3], Fix: columns[4], Source: columns[5]})
	}
	return all
})
