package layer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	text "text/template"
	"unicode/utf8"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// Render binds the parameters that a host file gives to the layer (a Map, or
// nil for none) and fills in everything. Path is where they stand in the host
// file. The error is a diag.List.
func (l *Layer) Render(given *doc.Node, path string, facts Facts) (Rendered, error) {
	var problems diag.List
	s := newScope(facts, &problems)
	l.bind(given, path, s)
	if err := problems.Err(); err != nil {
		return Rendered{}, err
	}
	out := Rendered{Name: l.Name, Summary: l.Summary, Threat: l.Threat, Refs: l.Refs, Packages: l.Packages, Payload: l.Payload, State: l.State}
	if l.cloudConfig != nil {
		out.CloudConfig = s.expand(l.cloudConfig, "cloud-config")
		out.emitted = &emitted{node: out.CloudConfig}
	}
	for _, file := range l.files {
		content := file.content
		if file.expand {
			content = s.template(file, l.Origin+file.source)
		}
		out.Files = append(out.Files, File{Path: file.path, Mode: file.mode, Owner: file.owner,
			When: file.when, Content: content, Origin: l.Origin + file.source, Source: file.content})
	}
	out.Shares = l.readShares(s)
	out.Checks = l.readChecks(s)
	return out, problems.Err()
}

func (l *Layer) bind(given *doc.Node, path string, s *scope) {
	var known []string
	for _, p := range l.Params {
		known = append(known, p.Name)
	}
	get := func(string) *doc.Node { return nil }
	if given != nil {
		get = given.Fields(path, s.problems, known...)
	}
	for _, p := range l.Params {
		n := get(p.Name)
		if n == nil && p.Required {
			where := given
			if where == nil {
				where = &doc.Node{Kind: doc.Map, Pos: diag.Position{File: l.Origin + "/layer.yaml"}}
			}
			s.problems.Add(where.Problem(doc.Join(path, p.Name), p.Help,
				"the layer %s needs the parameter %q, %s", l.Name, p.Name, p.form()))
			continue
		}
		if n == nil {
			n = p.Default
		}
		v, ok := p.bind(n, doc.Join(path, p.Name), s.problems)
		if ok && p.Type == "secret" {
			v, ok = s.secret(v, n, doc.Join(path, p.Name))
		}
		if ok {
			s.put(p.Name, v)
		}
	}
}

// unprintable carries free text through a template. text/template refuses to
// print a function and cannot make the argument this one wants, so only a
// quoting function can let the text out.
type unprintable func(pass) string

type pass struct{ printed bool }

// Format notes that package fmt was asked for the text, by printf or inside a
// list, where text/template does not look; what it prints is empty.
func (u unprintable) Format(fmt.State, rune) { u(pass{printed: true}) }

var quoting = text.FuncMap{
	"shell": func(v any) (string, error) { return quote(v, shellWord) },
	"join":  func(list []any, separator string) (string, error) { return join(list, separator) },
}

func quote(v any, as func(string) string) (string, error) {
	if hidden, ok := v.(unprintable); ok {
		return as(hidden(pass{})), nil
	}
	if list, ok := v.([]any); ok {
		return "", fmt.Errorf("a list of %d values cannot be quoted as one: use range", len(list))
	}
	return as(fmt.Sprint(v)), nil
}

func join(list []any, separator string) (string, error) {
	var words []string
	for _, v := range list {
		if _, hidden := v.(unprintable); hidden {
			return "", fmt.Errorf("free text cannot be joined: use range and a quoting function")
		}
		words = append(words, fmt.Sprint(v))
	}
	return strings.Join(words, separator), nil
}

// shellWord quotes for /bin/sh: nothing is special between single quotes.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (s *scope) plain(v value, element string) any {
	switch {
	case !v.safe:
		return unprintable(func(why pass) string {
			s.leaked = s.leaked || why.printed
			return element
		})
	case v.kind == doc.Int:
		i, err := strconv.ParseInt(element, 10, 64)
		if err == nil {
			return i
		}
	case v.kind == doc.Bool:
		return element == "true"
	}
	return element
}

func (s *scope) data() map[string]any {
	data := map[string]any{}
	for name, v := range s.values {
		var is any
		if v.list {
			list := []any{}
			for _, element := range v.text {
				list = append(list, s.plain(v, element))
			}
			is = list
		} else {
			is = s.plain(v, v.text[0])
		}
		group, member, dotted := strings.Cut(name, ".")
		if !dotted {
			data[name] = is
			continue
		}
		if data[group] == nil {
			data[group] = map[string]any{}
		}
		data[group].(map[string]any)[member] = is
	}
	return data
}

var templateError = lazy.Regexp(`^template: .*?:(\d+)(?::(\d+))?: (?:executing "[^"]*" at )?(.*)$`)

// templateKey is what text/template says of a name that data does not have.
var templateKey = lazy.Regexp(`map has no entry for key "([^"]*)"`)

func (s *scope) template(file template, name string) []byte {
	wrong := func(err error) []byte {
		problem := diag.Problem{Pos: diag.Position{File: name}, Message: err.Error(), Width: 1}
		if m := templateError.FindStringSubmatch(err.Error()); m != nil {
			problem.Pos.Line, _ = strconv.Atoi(m[1])
			col, _ := strconv.Atoi(m[2])
			problem.Message = m[3]
			lines := strings.Split(string(file.content), "\n")
			if problem.Pos.Line <= len(lines) {
				problem.Source = lines[problem.Pos.Line-1]
			}
			problem.Pos.Col = 1 + utf8.RuneCountInString(problem.Source[:min(col, len(problem.Source))])
		}
		if m := templateKey.FindStringSubmatch(problem.Message); m != nil {
			problem.Message, problem.Hint = fmt.Sprintf("unknown parameter %q", m[1]), diag.DidYouMean(m[1], s.names)
		}
		if strings.Contains(problem.Message, "can't print") {
			problem.Message, s.leaked = "free text is printed as it is", true
		}
		if s.leaked {
			problem.Hint = "free text needs a quoting function here: {{shell .name}}"
		}
		s.problems.Add(problem)
		return nil
	}
	parsed, err := text.New("file").Option("missingkey=error").Funcs(quoting).Parse(string(file.content))
	if err != nil {
		return wrong(err)
	}
	var out bytes.Buffer
	s.leaked = false
	if err := parsed.Execute(&out, s.data()); err != nil {
		return wrong(err)
	}
	if s.leaked {
		return wrong(errors.New("free text is printed by printf or the like, or as part of a list or map"))
	}
	return out.Bytes()
}
