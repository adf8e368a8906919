package lint

import (
	"regexp"
	"sync"
)

// A pattern is a regular expression that is compiled when it is first used: a run uses
// few of them, and all together took a third of the time in which bake starts.
type pattern string

var compiled sync.Map // of *regexp.Regexp by pattern

func (p pattern) regexp() *regexp.Regexp {
	if known, ok := compiled.Load(p); ok {
		return known.(*regexp.Regexp)
	}
	made := regexp.MustCompile(string(p))
	compiled.Store(p, made)
	return made
}

func (p pattern) MatchString(s string) bool            { return p.regexp().MatchString(s) }
func (p pattern) FindString(s string) string           { return p.regexp().FindString(s) }
func (p pattern) FindStringIndex(s string) []int       { return p.regexp().FindStringIndex(s) }
func (p pattern) FindStringSubmatch(s string) []string { return p.regexp().FindStringSubmatch(s) }

func (p pattern) FindStringSubmatchIndex(s string) []int {
	return p.regexp().FindStringSubmatchIndex(s)
}

func (p pattern) FindAllStringSubmatch(s string, n int) [][]string {
	return p.regexp().FindAllStringSubmatch(s, n)
}

func (p pattern) ReplaceAllString(s, with string) string {
	return p.regexp().ReplaceAllString(s, with)
}

func (p pattern) ReplaceAllStringFunc(s string, with func(string) string) string {
	return p.regexp().ReplaceAllStringFunc(s, with)
}
