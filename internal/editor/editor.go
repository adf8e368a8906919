// Package editor writes JSON Schemas of the host file and the layer file, so that
// an editor completes keys, shows what they mean and marks what is wrong while
// it is typed.
//
// They are made from what the code itself knows: the described keys of the host
// file, the layers on the shelf with their parameters, the types of parameters.
// A test holds them against the host files and layers of the repository and
// against files with a fault each. They say less than the loader, never
// anything else: what a text must look like is left to it.
//
// # Decisions
//
// 2026-11: draft 7, which the language servers for YAML read best.
package editor

import (
	"slices"
	"strconv"
	"strings"

	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/lazy"
)

// Schema is a JSON Schema.
type Schema map[string]any

const draft = "http://json-schema.org/draft-07/schema#"

// Host is the schema of a host file that can name these layers. Nothing is required: what
// is missing can stand in a group's file, which has the same schema.
func Host(layers []*layer.Layer) Schema {
	root := object("A machine that bake makes.")
	root["$schema"] = draft
	for _, key := range host.Keys() {
		at := root
		parts := strings.Split(key.Path, ".")
		for _, part := range parts[:len(parts)-1] {
			at = child(at, part)
		}
		for name, value := range ofKey(key) {
			child(at, parts[len(parts)-1])[name] = value
		}
	}
	properties := root["properties"].(Schema)
	properties["layers"].(Schema)["items"] = ofLayers(layers)
	properties["cloud-config"].(Schema)["additionalProperties"] = true
	for _, free := range []string{"labels", "allow"} { // of keys of the user's choice
		properties[free].(Schema)["additionalProperties"] = Schema{"type": "string"}
	}
	return root
}

func object(about string) Schema {
	return Schema{"type": "object", "description": about, "additionalProperties": false, "properties": Schema{}}
}

// child is the schema of a key; NAME stands for a name of the user's choice.
func child(of Schema, name string) Schema {
	group, key := "properties", name
	if name == "NAME" {
		group, key = "patternProperties", "^."
	}
	if of[group] == nil {
		of[group] = Schema{}
	}
	all := of[group].(Schema)
	if all[key] == nil {
		all[key] = object("")
	}
	return all[key].(Schema)
}

var (
	choice = lazy.Regexp(`^[A-Za-z0-9-]+(?:, [A-Za-z0-9-]+)* or [A-Za-z0-9-]+$`)
	bounds = lazy.Regexp(`^int (\d+) to (\d+)$`)
)

// ofKey reads the form in which the manual writes what a key may be.
func ofKey(key host.Key) Schema {
	about := key.Form
	if key.About != "" {
		about = strings.ToUpper(key.About[:1]) + key.About[1:] + " (" + key.Form + ")."
	}
	s := Schema{"description": about}
	if key.Default != "" {
		s["description"] = about + " Default: " + key.Default + "."
	}
	word, _, _ := strings.Cut(key.Form, " ")
	switch {
	case key.Form == "map":
		return s // it has the type already, and the keys that follow
	case key.Form == "bool":
		return scalar(s, "boolean")
	case word == "int":
		s = scalar(s, "integer")
		if m := bounds.FindStringSubmatch(key.Form); m != nil {
			s["minimum"], _ = strconv.Atoi(m[1])
			s["maximum"], _ = strconv.Atoi(m[2])
		}
		return s
	case word == "list":
		return scalar(s, "array")
	case choice.MatchString(key.Form):
		return oneOf(s, strings.FieldsFunc(strings.ReplaceAll(key.Form, " or ", ","), func(r rune) bool { return r == ',' || r == ' ' }))
	case word == "size":
		return scalar(s, "string", "integer")
	}
	return scalar(s, "string")
}

// oneOf has true and false among words be what YAML takes them for.
func oneOf(s Schema, words []string) Schema {
	if !slices.Contains(words, "true") {
		s = scalar(s, "string")
		s["enum"] = words
		return s
	}
	s = scalar(s, "string", "boolean")
	var values []any
	for _, word := range words {
		if isTrue, err := strconv.ParseBool(word); err == nil {
			values = append(values, isTrue)
		} else {
			values = append(values, word)
		}
	}
	s["enum"] = values
	return s
}

// scalar takes away what only a map has.
func scalar(s Schema, types ...string) Schema {
	s["type"] = types
	if len(types) == 1 {
		s["type"] = types[0]
	}
	return s
}

// ofLayers is what an entry of layers may be: a name, or a name with parameters.
func ofLayers(layers []*layer.Layer) Schema {
	var names []string
	withParams := object("A layer with parameters.")
	withParams["minProperties"], withParams["maxProperties"] = 1, 1
	for _, l := range layers {
		names = append(names, l.Name)
		params := object(l.Summary)
		for _, p := range l.Params {
			params["properties"].(Schema)[p.Name] = ofParam(p)
			if p.Required {
				required, _ := params["required"].([]string)
				params["required"] = append(required, p.Name)
			}
		}
		withParams["properties"].(Schema)[l.Name] = params
	}
	return Schema{"anyOf": []Schema{{"type": "string", "enum": names}, withParams}}
}

func ofParam(p layer.Param) Schema {
	s := Schema{"description": p.Help}
	switch p.Type {
	case "bool":
		s["type"] = "boolean"
	case "int", "port":
		s["type"] = "integer"
		if p.Min != nil {
			s["minimum"] = *p.Min
		}
		if p.Max != nil {
			s["maximum"] = *p.Max
		}
	case "enum":
		s["type"], s["enum"] = "string", p.Of
	case "size":
		s["type"] = []string{"string", "integer"}
	case "ports":
		s["type"], s["items"] = "array", Schema{"type": "integer", "minimum": 1, "maximum": 65535}
	case "ssh_keys", "names", "words", "paths", "cidrs", "users", "user_keys":
		s["type"], s["items"] = "array", Schema{"type": "string"}
	default:
		s["type"] = "string"
	}
	return s
}

// Layer is the schema of a layer.yaml.
func Layer() Schema {
	root := object("A layer: what it does, why, and the claims that prove it.")
	root["$schema"] = draft
	root["required"] = []string{"layer", "summary", "threat"}
	for _, key := range layer.Keys() {
		s := Schema{"description": key.About}
		switch key.Form {
		case "text":
			s["type"] = "string"
		case "list":
			s["type"] = "array"
		default:
			s["type"] = "object"
		}
		root["properties"].(Schema)[key.Name] = s
	}
	types := slices.Clone(layer.ParamTypes())
	root["properties"].(Schema)["params"].(Schema)["additionalProperties"] = Schema{"type": "object", "required": []string{"type", "help"},
		"properties": Schema{"type": Schema{"type": "string", "enum": types}, "help": Schema{"type": "string"}}}
	return root
}
