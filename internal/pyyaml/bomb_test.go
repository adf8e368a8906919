package pyyaml

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestMergeBomb: merge keys that multiply are not followed to their end.
func TestMergeBomb(t *testing.T) {
	bomb := func(levels int) string {
		text := "m0: &m0 {x: 1}\n"
		for i := range levels {
			text += fmt.Sprintf("m%[2]d: &m%[2]d {<<: [%[1]s]}\n", strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d, ", i), 9), ", "), i+1)
		}
		return text
	}
	if value, err := Load(bomb(3), Source{}, Options{}); err != nil || len(value.Get("m3").Pairs) != 1 {
		t.Error(err)
	}
	var failed *Error
	if _, err := Load(bomb(6), Source{}, Options{}); !errors.As(err, &failed) || !failed.Uncertain || !strings.Contains(failed.Message, "multiply") {
		t.Errorf("%v", err)
	}
}
