package adopt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"bake/internal/cloudinit"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
	"bake/internal/pyyaml"
)

// config makes a layer of a part that is cloud-config.
func (p *planner) config(part cloudinit.Part) error {
	l := newLayer(p.layerName(part.Name), part)
	for _, pair := range part.Config.Pairs {
		if pair.Key.Kind != doc.String {
			p.Left.Add(pair.Key.Problem(pair.Key.Text, "", "a key that is %s, which no module of cloud-init reads", pair.Key.Kind))
			continue
		}
		key := pair.Key.Text
		value, err := plain(pair.Value)
		if err != nil {
			p.Left.Add(pair.Key.Problem(key, "", "%v", err))
			continue
		}
		if value = p.prune(key, value, pair.Value, p.final.Get(key)); value == nil {
			continue
		}
		switch key {
		case "merge_how", "merge_type", "launch-index":
		case "packages":
			p.packages(l, value)
		case "write_files":
			p.writeFiles(l, value)
		case "manage_etc_hosts":
			p.wins = append(p.wins, key)
			p.extra.Set(key, value)
		default:
			if strings.Contains(flat(value), "((") { // a layer would take it for a parameter
				p.own(key, value)
				continue
			}
			l.config.Set(key, value)
		}
	}
	if len(l.config.Pairs)+len(l.packages.Items)+len(l.tree) == 0 {
		return nil
	}
	return p.add(l)
}

// own puts a value into the host file's cloud-config.
func (p *planner) own(key string, value *doc.Node) {
	if have := p.extra.Get(key); have != nil && have.Kind == doc.List && value.Kind == doc.List {
		have.Items = append(have.Items, value.Items...)
		return
	}
	p.extra.Set(key, value)
}

// plain copies a value without what only YAML 1.1 has.
func plain(n *doc.Node) (*doc.Node, error) {
	c := &doc.Node{Kind: n.Kind, Text: n.Text}
	switch n.Kind {
	case pyyaml.Date:
		c.Kind = doc.String
	case pyyaml.Bytes:
		c.Kind = doc.String
	case pyyaml.Set:
		c.Kind = doc.List
	}
	if c.Kind == doc.String && !utf8.ValidString(c.Text) {
		return nil, fmt.Errorf("text with bytes that are not UTF-8")
	}
	for _, item := range n.Items {
		i, err := plain(item)
		if err != nil {
			return nil, err
		}
		c.Items = append(c.Items, i)
	}
	for _, pair := range n.Pairs {
		value, err := plain(pair.Value)
		if err != nil {
			return nil, err
		}
		c.Set(pair.Key.Text, value)
	}
	if _, err := doc.Emit((&doc.Node{Kind: doc.Map}).Set("value", c)); err != nil {
		return nil, fmt.Errorf("a value that cannot be written so that everybody reads it alike: %s", diag.Printable(n.Text))
	}
	return c, nil
}

// prune takes out what contradicts the final configuration: two parts that
// disagree cannot both be right, and cloud-init has decided. A nil is all of it.
func (p *planner) prune(path string, value, origin, final *doc.Node) *doc.Node {
	switch {
	case final == nil || value.Kind == doc.List && final.Kind == doc.List:
		return value
	case value.Kind == doc.Map && final.Kind == doc.Map:
		kept := &doc.Node{Kind: doc.Map}
		for i, pair := range value.Pairs {
			if v := p.prune(doc.Join(path, pair.Key.Text), pair.Value, origin.Pairs[min(i, len(origin.Pairs)-1)].Value, final.Get(pair.Key.Text)); v != nil {
				kept.Set(pair.Key.Text, v)
			}
		}
		return kept
	}
	same, err := plain(final)
	if err == nil && same.Equal(value) {
		return value
	}
	p.Notes = append(p.Notes, fmt.Sprintf("%s: %s: another part contradicts it, and cloud-init uses that one: %s", origin.Pos, path, diag.Printable(flat(final))))
	return nil
}

func flat(n *doc.Node) string {
	words := []string{n.Text}
	for _, item := range n.Items {
		words = append(words, flat(item))
	}
	for _, pair := range n.Pairs {
		words = append(words, pair.Key.Text+": "+flat(pair.Value))
	}
	return strings.Join(words, " ")
}

var packageForm = lazy.Regexp(`^[a-z0-9][a-z0-9+.-]+$`)

func (p *planner) packages(l *layer, value *doc.Node) {
	rest := &doc.Node{Kind: doc.List}
	for _, item := range value.Items {
		if item.Kind == doc.String && packageForm.MatchString(item.Text) {
			if !slices.ContainsFunc(l.packages.Items, item.Equal) {
				l.packages.Items = append(l.packages.Items, item)
			}
		} else {
			rest.Items = append(rest.Items, item)
		}
	}
	if len(rest.Items) > 0 || value.Kind != doc.List {
		p.own("packages", map[bool]*doc.Node{true: rest, false: value}[value.Kind == doc.List])
	}
}

// writeFiles turns entries into files of the layer. Those that a layer cannot
// say stay entries, of the host file.
func (p *planner) writeFiles(l *layer, value *doc.Node) {
	rest := &doc.Node{Kind: doc.List}
	for _, entry := range value.Items {
		if !p.writeFile(l, entry) {
			rest.Items = append(rest.Items, entry)
		}
	}
	if len(rest.Items) > 0 {
		p.own("write_files", rest)
	}
}

var (
	pathForm  = lazy.Regexp(`^(?:/[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*|/\.[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*)+$`)
	ownerForm = lazy.Regexp(`^[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*$`)
)

func (p *planner) writeFile(l *layer, entry *doc.Node) bool {
	target := entry.Get("path")
	if entry.Kind != doc.Map || target == nil || !pathForm.MatchString(target.Text) || strings.HasSuffix(target.Text, ".tmpl") || p.taken[target.Text] {
		return false
	}
	for _, pair := range entry.Pairs {
		if !slices.Contains([]string{"path", "content", "owner", "permissions", "encoding", "defer"}, pair.Key.Text) {
			return false
		}
	}
	mode, ok := octal(entry.Get("permissions"))
	content, known := decode(entry.Get("content"), entry.Get("encoding"))
	owner, when := "root:root", ""
	if n := entry.Get("owner"); n != nil {
		owner = n.Text
	}
	if n := entry.Get("defer"); n != nil && n.Text == "true" || owner != "root:root" {
		when = "late"
	}
	if !ok || !known || !ownerForm.MatchString(owner) {
		return false
	}
	p.taken[target.Text] = true // a layer's file is in one layer only
	l.file(target.Text, mode, owner, when, content)
	return true
}

// octal is the mode that cloud-init makes of permissions: a number is taken as
// it is, text is octal.
func octal(n *doc.Node) (string, bool) {
	if n == nil {
		return "", true
	}
	var mode int64
	var err error
	switch n.Kind {
	case doc.Int:
		number, _ := new(big.Int).SetString(n.Text, 10)
		if number == nil || !number.IsInt64() {
			return "", false
		}
		mode = number.Int64()
	case doc.String:
		mode, err = strconv.ParseInt(strings.TrimPrefix(n.Text, "0o"), 8, 32)
	default:
		return "", false
	}
	if err != nil || mode < 0 || mode&^0o775 != 0 {
		return "", false
	}
	return fmt.Sprintf("%04o", mode), true
}

func decode(content, encoding *doc.Node) ([]byte, bool) {
	if content == nil {
		return nil, true
	}
	if content.Kind != doc.String {
		return nil, false
	}
	name := ""
	if encoding != nil {
		name = strings.ToLower(strings.TrimSpace(encoding.Text))
	}
	data, err := []byte(content.Text), error(nil)
	switch name {
	case "", "text/plain":
		return data, true
	case "b64", "base64", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64":
		data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(content.Text), ""))
	default:
		return nil, false
	}
	if err == nil && strings.HasPrefix(name, "gz") {
		var reader *gzip.Reader
		if reader, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			data, err = io.ReadAll(io.LimitReader(reader, 16<<20))
		}
	}
	return data, err == nil
}
