package schema

import (
	"encoding/json"
	"fmt"
)

// prose are the keywords that no check looks at.
var prose = map[string]bool{"description": true, "title": true, "label": true, "default": true, "examples": true, "hidden": true}

// named are the keywords whose keys are names, which may be any word.
var named = map[string]bool{"properties": true, "patternProperties": true, "$defs": true}

// Compact returns a schema without its prose, which is two thirds of it: the
// form to keep.
func Compact(data []byte) ([]byte, error) {
	var whole any
	if err := json.Unmarshal(data, &whole); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	return json.Marshal(without(whole, false))
}

func without(value any, names bool) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = without(v[i], false)
		}
	case map[string]any:
		for key, inner := range v {
			if !names && prose[key] {
				delete(v, key)
			} else {
				v[key] = without(inner, !names && named[key])
			}
		}
	}
	return value
}
