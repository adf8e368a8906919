package seed

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"bake/internal/doc"
	"bake/internal/host"
)

// A Part is one entry of the merged cloud-config and the place it comes from.
type Part struct {
	Path string `json:"path"` // such as "bootcmd[1]"
	From string `json:"from"` // file:line:col, or the file alone
	Text string `json:"text"` // the entry on one line, cut to 76 characters

	Overrides []string `json:"overrides,omitempty"` // what of layers it takes the place of: file:line:col: value
}

// Explain lists the merged cloud-config, entry by entry: each top-level value
// and each item of a top-level list. The error is that of Build.
func Explain(h *host.Host, program []byte) ([]Part, error) {
	config, err := Config(h, program)
	if err != nil {
		return nil, err
	}
	var parts []Part
	over := overridden(h)
	add := func(path string, n *doc.Node) {
		top, _, _ := strings.Cut(path, "[")
		parts = append(parts, Part{Path: path, From: n.Pos.String(), Text: oneLine(n), Overrides: over[top]})
	}
	for _, pair := range config.Pairs {
		if pair.Value.Kind != doc.List {
			add(pair.Key.Text, pair.Value)
			continue
		}
		for i, item := range pair.Value.Items {
			add(fmt.Sprintf("%s[%d]", pair.Key.Text, i), item)
		}
	}
	return parts, nil
}

// At lists what is at a path of the merged cloud-config, whole: a value, the values of a map,
// the entries of a list; or, of a path that starts with /, the file that the machine will
// have there. None is no error.
func At(h *host.Host, program []byte, path string) ([]Part, error) {
	config, err := Config(h, program)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(path, "/") {
		return fileAt(h, config, path), nil
	}
	n, from := config, ""
	steps := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
	if len(steps) == 0 {
		return nil, nil
	}
	for _, step := range steps {
		if i, err := strconv.Atoi(step); err == nil && n.Kind == doc.List {
			if i < 0 || i >= len(n.Items) {
				return nil, nil
			}
			n = n.Items[i]
		} else if n = n.Get(step); n == nil {
			return nil, nil
		}
		from = cmp.Or(n.Pos.String(), from) // what bake has made stands nowhere by itself
	}
	var parts []Part
	add := func(path string, n *doc.Node) {
		parts = append(parts, Part{Path: path, From: cmp.Or(n.Pos.String(), from), Text: flat(n)})
	}
	switch n.Kind {
	case doc.Map:
		for _, pair := range n.Pairs {
			add(doc.Join(path, pair.Key.Text), pair.Value)
		}
	case doc.List:
		for i, item := range n.Items {
			add(fmt.Sprintf("%s[%d]", path, i), item)
		}
	default:
		add(path, n)
	}
	return parts, nil
}

// fileAt is the file at a path of the machine.
func fileAt(h *host.Host, config *doc.Node, path string) (parts []Part) {
	for _, l := range h.Layers {
		for _, f := range l.Files {
			if f.Path == path {
				parts = append(parts, Part{Path: path, From: f.Origin, Text: string(f.Content)})
			}
		}
	}
	if list := config.Get("write_files"); list != nil && len(parts) == 0 {
		for i, item := range list.Items {
			content := item.Get("content")
			if p := item.Get("path"); p != nil && p.Text == path && content != nil {
				parts = append(parts, Part{Path: fmt.Sprintf("write_files[%d]", i), From: item.Pos.String(), Text: content.Text})
			}
		}
	}
	return parts
}

// overridden says what of layers the host's own words take the place of, by the key at the
// top of it.
func overridden(h *host.Host) map[string][]string {
	out := map[string][]string{}
	for _, dotted := range h.Winning {
		top, _, _ := strings.Cut(dotted, ".")
		for _, l := range h.Layers {
			n := l.CloudConfig
			for _, key := range strings.Split(dotted, ".") {
				n = n.Get(key)
			}
			if n != nil {
				out[top] = append(out[top], fmt.Sprintf("%s: %s", n.Pos, oneLine(n)))
			}
		}
	}
	return out
}

// Config is the merged cloud-config as a tree whose nodes know where they come
// from; Line is 0 in the place of what bake has made of a file of a layer. The error
// is that of Build.
func Config(h *host.Host, program []byte) (*doc.Node, error) {
	s, err := withClaims(h, program)
	if err != nil {
		return nil, err
	}
	return merge(h, s, nil)
}

// Network is the network-config as a tree, in the place of the host file.
func Network(h *host.Host) (*doc.Node, error) {
	text, err := doc.Emit(network(h))
	if err != nil {
		return nil, fmt.Errorf("writing network-config: %w", err)
	}
	return doc.Parse("network-config of "+h.File, text)
}

func oneLine(n *doc.Node) string {
	text := flat(n)
	if first, _, more := strings.Cut(text, "\n"); more {
		text = first + " ..."
	}
	if runes := []rune(text); len(runes) > 76 {
		text = string(runes[:73]) + "..."
	}
	return text
}

func flat(n *doc.Node) string {
	var parts []string
	switch n.Kind {
	case doc.List:
		for _, item := range n.Items {
			parts = append(parts, flat(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case doc.Map:
		for _, pair := range n.Pairs {
			parts = append(parts, pair.Key.Text+": "+flat(pair.Value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return n.Text
}
