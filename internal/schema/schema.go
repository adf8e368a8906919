// Package schema checks cloud-config and network-config against cloud-init's
// own JSON Schema, the one of the very cloud-init that will read them.
//
// The schema is read out of the base image (package inspect). Before anybody has
// looked into that, the one of the newest cloud-init known takes its place: Newest,
// which is part of bake. cloud-init validates with its own as well, but in the guest,
// after the boot, and only to warn. Here every finding has the line and column of the
// value, in whichever file that stands.
//
// It promises that a document is valid here exactly if cloud-init finds it so,
// but for the formats of text (a URI, a host name), which cloud-init checks only
// where optional Python modules are installed; that one mistake in a value that
// may have several forms is one finding, for the form that comes nearest; and
// that what is deprecated is a warning.
//
// It refuses nothing: a keyword that it does not know is ignored, as the
// standard has it.
//
// # Decisions
//
// 2026-11: an interpreter of the twenty keywords that these schemas use, instead
// of a library. Compiling cloud-init's schema costs a library 55 to 139 ms; here
// only the definitions of the keys in the document are ever decoded, which takes
// a few milliseconds, so that nothing needs to be kept between runs. The
// libraries also have no hook where cloud-init has its own: deprecated is a
// finding, and within oneOf no failure. A test compares verdicts with
// cloud-init's own validator.
package schema

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"bake/internal/diag"
	"bake/internal/doc"
)

// Schema is one of cloud-init's schemas. Several goroutines may check with it.
type Schema struct {
	root  node
	defs  map[string]json.RawMessage
	known sync.Map // definitions that have been decoded, by name: node
}

// node is a schema, decoded one level deep: what is in it, when it is needed.
type node map[string]json.RawMessage

// Finding is a violation, or with Deprecated the use of what will go.
type Finding struct {
	diag.Problem
	Deprecated bool
}

// Parse reads the JSON of a schema.
func Parse(data []byte) (*Schema, error) {
	s := &Schema{}
	if err := json.Unmarshal(data, &s.root); err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	if raw, ok := s.root["$defs"]; ok {
		if err := json.Unmarshal(raw, &s.defs); err != nil {
			return nil, fmt.Errorf("reading the schema's definitions: %w", err)
		}
	}
	return s, nil
}

// Check validates a document.
func (s *Schema) Check(document *doc.Node) []Finding {
	c := checker{schema: s}
	return c.check(s.root, document, "")
}

func (s *Schema) definition(ref string) node {
	name, ok := strings.CutPrefix(ref, "#/$defs/")
	if !ok {
		return nil
	}
	if n, ok := s.known.Load(name); ok {
		return n.(node)
	}
	var n node
	json.Unmarshal(s.defs[name], &n) // one that is none says nothing
	s.known.Store(name, n)
	return n
}

// get decodes a keyword; it reports false when it is not there or of another kind.
func get[T any](n node, key string) (value T, ok bool) {
	raw, ok := n[key]
	if !ok {
		return value, false
	}
	return value, json.Unmarshal(raw, &value) == nil
}

// text is a keyword that is text, "" when it is not.
func text(n node, key string) string {
	value, _ := get[string](n, key)
	return value
}
