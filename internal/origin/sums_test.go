package origin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseSums(t *testing.T) {
	real, _ := testdata(t, "jammy-release-20260722")
	digests, err := parseSums(real, "sha256")
	if err != nil {
		t.Fatal(err)
	}
	const want = "757908b2fd6d5b1431bb45070fc1f56cbf017d4025568d292ece37d9cc75e812"
	if got := digests["ubuntu-22.04-server-cloudimg-amd64.img"]; got != want || len(digests) != strings.Count(string(real), "\n") {
		t.Errorf("%s of %d, want %s", got, len(digests), want)
	}
	if got := findDistro("ubuntu").stated(digests, "22.04", "amd64"); got != "20260722" {
		t.Errorf("the serial is %q", got)
	}
	long, short := strings.Repeat("0f", 64), strings.Repeat("0f", 32)
	for name, test := range map[string]struct{ list, algorithm, want string }{
		"star":                  {short + " *a.img\n", "sha256", ""},
		"two blanks":            {short + "  a.img\n", "sha256", ""},
		"sha512":                {long + "  a.img\n", "sha512", ""},
		"sha512 for sha256":     {long + "  a.img\n", "sha256", "is not a sha256 and a name"},
		"sha256 for sha512":     {short + "  a.img\n", "sha512", "is not a sha512 and a name"},
		"upper case":            {strings.ToUpper(short) + " *a.img\n", "sha256", "line 1"},
		"one blank":             {short + " a.img\n", "sha256", "line 1"},
		"tab":                   {short + "\t*a.img\n", "sha256", "line 1"},
		"no name":               {short + " *\n", "sha256", "line 1"},
		"a blank line":          {short + " *a\n\n" + short + " *b\n", "sha256", "line 2"},
		"a comment":             {"# hello\n", "sha256", "line 1"},
		"BSD form":              {"SHA256 (a.img) = " + short + "\n", "sha256", "line 1"},
		"carriage return":       {short + " *a.img\r\n", "sha256", "not the plain name"},
		"slash":                 {short + " *x/a.img\n", "sha256", "not the plain name"},
		"dots":                  {short + " *..\n", "sha256", "not the plain name"},
		"backslash":             {short + " *..\\a.img\n", "sha256", "not the plain name"},
		"hidden":                {short + " *.a.img\n", "sha256", "not the plain name"},
		"option":                {short + " *-a.img\n", "sha256", "not the plain name"},
		"blank in name":         {short + " *a b\n", "sha256", "not the plain name"},
		"escape":                {short + " *a\x1b[2J\n", "sha256", "not the plain name"},
		"escaped by sha256sum":  {"\\" + short + " *a\\nb\n", "sha256", "line 1"},
		"name of 256":           {short + " *" + strings.Repeat("a", 256) + "\n", "sha256", "not the plain name"},
		"twice":                 {short + " *a\n" + short + " *a\n", "sha256", "line 2 of the list has a a second time"},
		"twice in two forms":    {short + " *a\n" + short + "  a\n", "sha256", "a second time"},
		"empty":                 {"", "sha256", "is empty"},
		"blank":                 {" \n", "sha256", "is empty"},
		"no end":                {short + " *a", "sha256", "cut off"},
		"unknown algorithm":     {short + " *a\n", "md5", "line 1"},
		"signed in the clear":   {"-----BEGIN PGP SIGNED MESSAGE-----\n", "sha256", "line 1"},
		"a line without an end": {strings.Repeat("a", 5000) + "\n", "sha256", "..."},
	} {
		_, err := parseSums([]byte(test.list), test.algorithm)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case err != nil && strings.ContainsAny(err.Error(), "\x1b\r\n"):
			t.Errorf("%s: the message drives the terminal: %q", name, err)
		}
	}
}

func TestStated(t *testing.T) {
	const stem = "ubuntu-24.04-server-cloudimg-amd64"
	note := func(kind, from, to string) string {
		return stem + "." + kind + "." + from + "." + to + ".image_changelog.json"
	}
	for name, test := range map[string]struct {
		names []string
		want  string
	}{
		"nothing":       {[]string{stem + ".img"}, ""},
		"one":           {[]string{note("daily", "20260711", "20260722")}, "20260722"},
		"two agree":     {[]string{note("daily", "20260711", "20260722"), note("release", "20260705", "20260722")}, "20260722"},
		"two differ":    {[]string{note("daily", "20260711", "20260722"), note("release", "20260705", "20260723")}, ""},
		"a second one":  {[]string{note("release", "20260722", "20260722.1")}, "20260722.1"},
		"no day":        {[]string{note("daily", "20260711", "20269922")}, ""},
		"other machine": {[]string{strings.Replace(note("daily", "20260711", "20260722"), "amd64", "arm64", 1)}, ""},
		"only part":     {[]string{"x" + note("daily", "20260711", "20260722"), note("daily", "20260711", "20260722") + ".gz"}, ""},
	} {
		names := map[string]string{}
		for _, n := range test.names {
			names[n] = "digest"
		}
		if got := findDistro("ubuntu").stated(names, "24.04", "amd64"); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// Whatever is read as a list is that list: written again it has the same lines.
func FuzzParseSums(f *testing.F) {
	real, _ := testdata(f, "jammy-release-20260722")
	f.Add(real)
	f.Add([]byte(strings.Repeat("0", 64) + "  ../a\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		digests, err := parseSums(content, "sha256")
		if err != nil {
			return
		}
		var again []string
		for name, digest := range digests {
			if strings.ContainsAny(name, "/\\ \t\r\n\x00") || name == "" || strings.HasPrefix(name, ".") {
				t.Errorf("the name %q", name)
			}
			again = append(again, fmt.Sprintf("%s *%s", digest, name))
		}
		lines := strings.Split(strings.TrimSuffix(strings.ReplaceAll(string(content), "  ", " *"), "\n"), "\n")
		slices.Sort(again)
		slices.Sort(lines)
		if !slices.Equal(again, lines) {
			t.Errorf("%q was read as %q", content, slices.Sorted(maps.Keys(digests)))
		}
	})
}
