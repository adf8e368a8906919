package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bake/internal/host"
	"bake/layers"
)

// TestGenerated holds what the manual says of keys and layers to what the code knows;
// with -update it is written anew.
func TestGenerated(t *testing.T) {
	for _, part := range []struct{ page, name, text string }{
		{"docs/host-file.md", "keys", keyTable()},
		{"docs/layers.md", "auditor", auditorTable(t)},
		{"docs/layers.md", "layers", catalogue(t)},
	} {
		text := readPage(t, part.page)
		begin, end := "<!-- generated: "+part.name+" -->\n", "<!-- end: "+part.name+" -->\n"
		before, rest, ok := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			t.Errorf("%s has no place for %s", part.page, part.name)
			continue
		}
		want := before + begin + "\n" + part.text + "\n" + end + after
		switch {
		case want == text:
		case *update:
			if err := os.WriteFile(filepath.Join("../..", part.page), []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s is not what the code says of %s: make golden", part.page, part.name)
		}
	}
}

// cell makes a text fit into a cell of a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "|", `\|`)
}

func row(cells ...string) string {
	for i := range cells {
		cells[i] = cell(cells[i])
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// code sets a text in the font of code, if there is any.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func keyTable() string {
	text := "| key | what it may be | default | |\n|---|---|---|---|\n"
	for _, k := range host.Keys() {
		about := k.About
		if k.Example != "" {
			about += "<br>`" + strings.ReplaceAll(k.Example, "\n", "`<br>`") + "`"
		}
		text += row(code(k.Path), k.Form, k.Default, strings.TrimPrefix(about, "<br>"))
	}
	return text
}

func builtinLayers(t *testing.T) []layerView {
	t.Helper()
	a := &app{env: env{Layers: layers.FS}, config: t.TempDir()}
	var all []layerView
	for _, name := range a.shelf().Names() {
		l, err := a.shelf().Open(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, viewLayer(l))
	}
	return all
}

var (
	ofDocument = regexp.MustCompile(`^security document "?([^"]*)"?$`)
	layerOf    = regexp.MustCompile(`\d`)
)

// auditorTable sets the layers beside those of the security document, and says where
// they differ in the words of the layer's own README.md.
func auditorTable(t *testing.T) string {
	answered, rows := map[string]bool{}, map[string]string{}
	for _, view := range builtinLayers(t) {
		for _, ref := range view.Refs {
			m := ofDocument.FindStringSubmatch(ref)
			if m == nil {
				continue
			}
			order := layerOf.FindString(m[1])
			if strings.HasPrefix(m[1], "layer") {
				for _, number := range layerOf.FindAllString(m[1], -1) {
					answered[number] = true
				}
			} else if order != "" {
				order = "0" // before layer 1
			}
			rows[cmp.Or(order, "9")+view.Layer] = row(m[1], "["+view.Layer+"](#"+view.Layer+")", view.Summary, differs(t, view.Layer))
		}
	}
	if len(answered) != 8 {
		t.Errorf("of the eight layers of the security document only %v are answered", answered)
	}
	text := "| security document | layer | what it does | where it differs, and why |\n|---|---|---|---|\n"
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		text += rows[key]
	}
	return text
}

const differsHead = "## Where it differs from the security document\n\n"

// differs is what a layer's README.md says of the security document.
func differs(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../layers", name, "README.md"))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(data), differsHead)
	text, _, _ = strings.Cut(text, "\n#")
	return strings.Join(strings.Fields(text), " ")
}

// catalogue is a section for each layer.
func catalogue(t *testing.T) string {
	var out strings.Builder
	for _, view := range builtinLayers(t) {
		fmt.Fprintf(&out, "### %s\n\n%s\n\n", view.Layer, view.Summary)
		item := func(name, text string) {
			if text != "" {
				fmt.Fprintf(&out, "- %s: %s\n", name, text)
			}
		}
		item("against", view.Threat)
		item("see", strings.Join(view.Refs, "; "))
		item("requires", strings.Join(view.Requires, ", "))
		item("comes after", strings.Join(view.After, ", "))
		item("packages", strings.Join(view.Packages, ", "))
		item("state", strings.Join(view.State, ", "))
		item("differs", differs(t, view.Layer))
		if readme := "layers/" + view.Layer + "/README.md"; differs(t, view.Layer) == "" {
			if _, err := os.Stat("../../" + readme); err == nil {
				item("more", "["+readme+"](../"+readme+")")
			}
		}
		if len(view.Params) > 0 {
			out.WriteString("\n| parameter | | default | |\n|---|---|---|---|\n")
			for _, p := range view.Params {
				out.WriteString(row(code(p.Name), p.about(), code(p.Default), p.Help))
			}
		}
		out.WriteString("\n")
		for _, claim := range view.Claims {
			fmt.Fprintf(&out, "1. %s\n", claim)
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}
