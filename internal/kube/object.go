package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"gopkg.in/yaml.v3"
)

// An Object is one as JSON has it: maps, lists, texts, json.Number, bool.
type Object map[string]any

// Decode reads a stream of YAML documents.
func Decode(stream []byte) (all []Object, err error) {
	for decoder := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		o := Object(document)
		if o.Kind() == "" || o.Name() == "" {
			return nil, fmt.Errorf("a document has no kind or no name")
		}
		all = append(all, o.Clone())
	}
}

// DecodeJSON reads an object; its numbers stay what they are.
func DecodeJSON(text []byte) (o Object, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&o)
	return o, err
}

// Kind is the object's.
func (o Object) Kind() string { return o.Text("kind") }

// Name is the object's.
func (o Object) Name() string { return o.Text("metadata", "name") }

// Get is what is at a path, nil for nothing.
func (o Object) Get(path ...string) any {
	var at any = map[string]any(o)
	for _, key := range path {
		m, _ := at.(map[string]any)
		at = m[key]
	}
	return at
}

// Text is the text at a path, "" for nothing or something else.
func (o Object) Text(path ...string) string {
	text, _ := o.Get(path...).(string)
	return text
}

// Set puts something at a path, nil to take away what is there.
func (o Object) Set(value any, path ...string) {
	at := map[string]any(o)
	for _, key := range path[:len(path)-1] {
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	if last := path[len(path)-1]; value == nil {
		delete(at, last)
	} else {
		at[last] = value
	}
}

// Clone is a copy that shares nothing.
func (o Object) Clone() Object {
	var out Object
	text, err := json.Marshal(o)
	if err == nil {
		out, err = DecodeJSON(text)
	}
	if err != nil {
		panic(err) // it came from JSON, or from YAML whose keys are texts
	}
	return out
}

// Same says whether two values are the same JSON.
func Same(a, b any) bool {
	one, err := json.Marshal(a)
	two, failed := json.Marshal(b)
	return err == nil && failed == nil && bytes.Equal(one, two)
}
