package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"bake/internal/verify"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("report.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("report.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

// The published schema is of what is written, and of nothing else.
func TestSchema(t *testing.T) {
	schema := compiled(t)
	for name, r := range map[string]verify.Report{"sample": sample().Report, "good": good().Report, "hostile": hostile().Report,
		"empty": {Schema: "bake.report/1"}} {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, schema, string(data)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	data, _ := json.Marshal(sample().Report)
	for old, bad := range map[string]string{
		`"bake.report/1"`: `"bake.report/2"`, `"passed":5`: `"passed":-5`, `"passed":5,`: ``, `"ok":true`: `"ok":"yes"`, `"kind":"rst"`: `"kind":"ack"`,
		`"host":"zap"`: `"host":"zap","hots":"zap"`, `"began":"2026-11-28T03:00:00Z"`: `"began":"yesterday"`, `"port":22`: `"port":70000`,
	} {
		text := strings.Replace(string(data), old, bad, 1)
		if text == string(data) {
			t.Fatalf("the sample has no %s", old)
		}
		if validate(t, schema, text) == nil {
			t.Errorf("%s is as good as %s", bad, old)
		}
	}
}

// Every field that can be written has its place in the schema: a sample may lack one.
func TestSchemaHasEveryField(t *testing.T) {
	var document map[string]any
	if err := json.Unmarshal(Schema(), &document); err != nil {
		t.Fatal(err)
	}
	fieldsIn(t, "report", reflect.TypeFor[verify.Report](), document)
}

func fieldsIn(t *testing.T, path string, of reflect.Type, schema map[string]any) {
	switch {
	case of.Kind() == reflect.Pointer:
		fieldsIn(t, path, of.Elem(), schema)
		return
	case of.Kind() == reflect.Slice:
		items, _ := schema["items"].(map[string]any)
		fieldsIn(t, path+"[]", of.Elem(), items)
		return
	case of.Kind() != reflect.Struct || of.Implements(reflect.TypeFor[json.Marshaler]()):
		return
	}
	properties, _ := schema["properties"].(map[string]any)
	for field := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && name == "" {
			fieldsIn(t, path, field.Type, schema)
			continue
		}
		property, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s.%s is not in schema.json", path, name)
			continue
		}
		fieldsIn(t, path+"."+name, field.Type, property)
	}
}
