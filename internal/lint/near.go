package lint

import (
	"strings"

	"bake/internal/diag"
)

// near returns a hint if the word is nearly one of the known ones, "" otherwise.
func near(word string, known []string) string {
	if hint := diag.DidYouMean(word, known); strings.HasPrefix(hint, "did you mean") {
		return hint
	}
	return ""
}

// typo reports whether the word is a slip of the keyboard away from a known one: one
// letter too many, too few or wrong, or two neighbours swapped.
func typo(word string, known []string) (meant string, is bool) {
	for _, k := range known {
		if word == k {
			return "", false
		}
	}
	for _, k := range known {
		if oneOff(word, k) {
			return k, true
		}
	}
	return "", false
}

func oneOff(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch {
	case len(a) < len(b):
		return a[i:] == b[i+1:]
	case i == len(a):
		return true
	case i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]:
		return true
	}
	return a[i+1:] == b[i+1:]
}
