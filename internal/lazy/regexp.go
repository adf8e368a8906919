// Package lazy holds what would make every start of bake slower if it were made at
// the start.
package lazy

import (
	"regexp"
	"sync"
)

// A Regexp is a regular expression that is compiled when it is first used, and panics
// then if it is none: a run uses few of them. All of them together took as long as the
// rest of a start, and enough memory for the garbage collector to begin.
type Regexp string

var compiled sync.Map // of *regexp.Regexp by Regexp

// Compiled is the expression, the same one each time.
func (r Regexp) Compiled() *regexp.Regexp {
	if known, ok := compiled.Load(r); ok {
		return known.(*regexp.Regexp)
	}
	made, _ := compiled.LoadOrStore(r, regexp.MustCompile(string(r)))
	return made.(*regexp.Regexp)
}

func (r Regexp) MatchString(s string) bool            { return r.Compiled().MatchString(s) }
func (r Regexp) FindString(s string) string           { return r.Compiled().FindString(s) }
func (r Regexp) FindStringIndex(s string) []int       { return r.Compiled().FindStringIndex(s) }
func (r Regexp) FindStringSubmatch(s string) []string { return r.Compiled().FindStringSubmatch(s) }

func (r Regexp) FindSubmatch(b []byte) [][]byte { return r.Compiled().FindSubmatch(b) }

func (r Regexp) FindStringSubmatchIndex(s string) []int {
	return r.Compiled().FindStringSubmatchIndex(s)
}

func (r Regexp) FindAllString(s string, n int) []string { return r.Compiled().FindAllString(s, n) }

func (r Regexp) FindAllStringSubmatch(s string, n int) [][]string {
	return r.Compiled().FindAllStringSubmatch(s, n)
}

func (r Regexp) ReplaceAllString(s, with string) string {
	return r.Compiled().ReplaceAllString(s, with)
}

func (r Regexp) ReplaceAllStringFunc(s string, with func(string) string) string {
	return r.Compiled().ReplaceAllStringFunc(s, with)
}
