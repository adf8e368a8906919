package seed

import (
	"fmt"
	"strings"

	"bake/internal/doc"
	"bake/internal/host"
)

// A Part is one entry of the merged cloud-config and the place it comes from.
type Part struct {
	Path string `json:"path"` // such as "bootcmd[1]"
	From string `json:"from"` // file:line:col, or the file alone
	Text string `json:"text"` // the entry on one line, cut to 76 characters
}

// Explain lists the merged cloud-config, entry by entry: each top-level value
// and each item of a top-level list. The error is that of Build.
func Explain(h *host.Host, program []byte) ([]Part, error) {
	config, err := Config(h, program)
	if err != nil {
		return nil, err
	}
	var parts []Part
	add := func(path string, n *doc.Node) {
		parts = append(parts, Part{Path: path, From: n.Pos.String(), Text: oneLine(n)})
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
