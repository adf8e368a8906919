package label

import (
	"errors"
	"strings"
	"testing"
)

func TestSelector(t *testing.T) {
	web := map[string]string{"role": "web", "zone": "a", "edge": "", "example.org/tier": "1"}
	for text, want := range map[string]bool{
		"":                                   true,
		"  ":                                 true,
		"role=web":                           true,
		"role==web":                          true,
		"role = web":                         true,
		"role=db":                            false,
		"rank=web":                           false,
		"role!=db":                           true,
		"role!=web":                          false,
		"rank!=web":                          true,
		"zone in (a,b)":                      true,
		"zone in ( b , c )":                  false,
		"zone in(a)":                         true,
		"rank in (a)":                        false,
		"zone notin (b,c)":                   true,
		"zone notin (a)":                     false,
		"rank notin (a)":                     true,
		"edge":                               true,
		"!edge":                              false,
		"! rank":                             true,
		"rank":                               false,
		"edge=":                              true,
		"role=":                              false,
		"edge in (,x)":                       true,
		"example.org/tier=1":                 true,
		"role=web,zone!=b,edge,!rank":        true,
		"role=web,zone!=a":                   false,
		"in in (a)":                          false,
		"role=web,example.org/tier in (2)":   false,
		"role=web,zone in (a,b),!maintained": true,
	} {
		s, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s.Matches(web); got != want {
			t.Errorf("%q: %v", text, got)
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() || again.Matches(web) != want {
			t.Errorf("%q becomes %q, %v", text, s, err)
		}
	}
}

func TestSelectorRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"role web":                        `character 6: here is "web", want =`,
		"=web":                            `character 1: here is "=", want the key`,
		"role=web,":                       "character 10: here is its end, want the key",
		",role":                           "character 1",
		"!role=web":                       `here is "=", want a comma`,
		"!!role":                          `here is "!", want the key`,
		"zone in a":                       `here is "a", want values in round brackets`,
		"zone in (a":                      "here is its end, want a comma or a closing bracket",
		"zone in (a b)":                   `here is "b", want a comma or a closing`,
		"zone in (a))":                    `here is ")", want a comma between`,
		"role=web)":                       `here is ")", want a comma between`,
		"role==" + "=web":                 `here is "=", want a value`,
		"replicas>3":                      `"replicas>3" is no key`,
		"role=-web":                       `"-web" is no value`,
		"Example.org/a=b":                 "before the slash stands a DNS name",
		"a/b/c":                           `"a/b/c" is no key`,
		"role=" + strings.Repeat("x", 64): "at most 63",
		"rôle=web":                        `"rôle" is no key`,
	} {
		_, err := Parse(text)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	_, err := Parse("a=b c")
	if err == nil || !strings.HasSuffix(err.Error(), "\n  a=b c\n      ^") {
		t.Errorf("the place is not shown: %v", err)
	}
}

// What is accepted is never dropped: a selector with a requirement more picks no more.
func FuzzParse(f *testing.F) {
	f.Add("a=b,c!=d,e in (x,y),!f")
	f.Add("a notin (b,)")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q becomes %q, then %q: %v", text, s, again, err)
		}
		if strings.Trim(text, " \t") != "" && len(s.all) == 0 {
			t.Fatalf("%q picks everything", text)
		}
	})
}
