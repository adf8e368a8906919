package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// sayings are the words that bake and its machines can say: the text between the
// verbs of every literal of the code, every claim, and every script of a layer.
type sayings []saying

// A saying is what stands between its verbs.
type saying []string

var (
	verb        = regexp.MustCompile(`%[-+# 0-9.*\[\]]*[a-zA-Z]`)
	placeholder = regexp.MustCompile(`\(\([a-z_]+\)\)`)
	variable    = regexp.MustCompile(`\$\{?[A-Za-z0-9_@*#]+\}?|\$\([^)]*\)|\{\{[^}]*\}\}`)
)

func newSayings(t *testing.T) sayings {
	t.Helper()
	var all sayings
	for _, root := range []string{"../../cmd", "../../internal", "../../layers"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "bin"):
				return fs.SkipDir
			case entry.IsDir() || strings.HasSuffix(path, "_test.go"):
				return nil
			case filepath.Ext(path) == ".go":
				return all.addSource(path)
			case strings.HasPrefix(path, "../../layers"):
				return all.addLines(path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 1000 {
		t.Fatalf("only %d sayings were found", len(all))
	}
	return all
}

func (s *sayings) addSource(path string) error {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err == nil {
			for line := range strings.Lines(text) {
				s.add(line, verb)
			}
		}
		return true
	})
	return nil
}

func (s *sayings) addLines(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		line = strings.TrimPrefix(strings.TrimPrefix(line, "- "), "claim: ")
		s.add(placeholder.ReplaceAllString(line, "%s"), verb)
		for _, quoted := range strings.Split(line, `"`) {
			s.add(variable.ReplaceAllString(quoted, "%s"), verb)
		}
	}
	return nil
}

// add notes a saying, unless too little of it is fixed to recognise it.
func (s *sayings) add(text string, hole *regexp.Regexp) {
	var one saying
	fixed := 0
	for _, part := range hole.Split(strings.TrimSpace(strings.ReplaceAll(text, "%%", "%")), -1) {
		if n := letterCount(part); n >= 3 {
			one, fixed = append(one, part), fixed+n
		}
	}
	if fixed >= 4 {
		*s = append(*s, one)
	}
}

// in counts the letters of a text that are this saying's, in its order. What a saying
// ends in may be left out, as causes are.
func (s saying) in(text string) (n int) {
	for _, part := range s {
		at := strings.Index(text, part)
		if at < 0 {
			break
		}
		n += letterCount(part)
		text = text[at+len(part):]
	}
	return n
}

func letterCount(text string) (n int) {
	for _, r := range text {
		if unicode.IsLetter(r) {
			n++
		}
	}
	return n
}

// say reports whether a text can be said: enough of it are words of ours.
func (s sayings) say(text string) bool { return s.closest(text) >= 0.45 }

// closest is the largest share of a text's letters that a saying and its cause have, of
// those in words that are no names and numbers.
func (s sayings) closest(text string) float64 {
	var words []string
	for word := range strings.FieldsSeq(text) {
		if !strings.ContainsAny(word, "0123456789/") && !strings.Contains(strings.TrimRight(word, ".:"), ".") {
			words = append(words, word)
		}
	}
	best, second := 0, 0
	for _, one := range s {
		switch n := one.in(text); {
		case n > best:
			best, second = n, best
		case n > second && n != best: // the same words may stand twice in the code
			second = n
		}
	}
	return float64(best+second) / max(float64(letterCount(strings.Join(words, " "))), 1)
}

// isTable reports whether a line is cells that can each be said.
func (s sayings) isTable(line string) bool {
	cells := columns.Split(line, -1)
	for _, cell := range cells {
		if letterCount(cell) >= 4 && !strings.ContainsAny(cell, "0123456789/") && !s.say(cell) {
			return false
		}
	}
	return len(cells) > 1
}

// quoted is a line of the user's file, in a message about it.
var quoted = regexp.MustCompile(`^\d+ \| `)

var columns = regexp.MustCompile(`\s{2,}`)

// check holds every line of an output to what can be said; "..." is left out.
func (s sayings) check(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if letterCount(strings.Trim(line, ".")) < 4 || quoted.MatchString(line) {
			continue
		}
		if !s.say(line) && !s.say(strings.TrimPrefix(line, "bake: ")) && !s.isTable(line) {
			return fmt.Errorf("nothing in the code says %q", line)
		}
	}
	return nil
}
