package cloudinit

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"bake/internal/doc"
	"bake/internal/email"
	"bake/internal/pyyaml"
)

// archive takes a #cloud-config-archive apart. What is in it is not looked at
// again: an archive, an include or something compressed in it is lost.
func (p *processor) archive(text, file string, m *email.Message) error {
	place := p.places[m]
	if m.Encoding() != "" {
		place = pyyaml.Source{File: fmt.Sprintf("%s (decoded, line %d)", file, m.Line), Line: 1}
	}
	entries, err := pyyaml.Load(text, place, pyyaml.Options{Unicode: p.options.old()})
	var failed *pyyaml.Error
	switch {
	case errors.As(err, &failed) && failed.Uncaught:
		return fmt.Errorf("an archive that breaks the YAML reader: %s", failed.Message)
	case err != nil:
		p.lost(m, place, fmt.Sprintf("an archive that is not YAML: %s", failed.Message))
		return nil
	case entries == nil:
		return nil
	case entries.Kind != doc.List && entries.Kind != pyyaml.Set:
		p.lost(m, place, fmt.Sprintf("an archive is a list, this is %s", entries.Kind))
		return nil
	}
	for i, entry := range entries.Items {
		if err := p.entry(entry); err != nil {
			return fmt.Errorf("entry %d of an archive: %w", i+1, err)
		}
	}
	return nil
}

// lost notes that cloud-init drops something before it has become a part.
func (p *processor) lost(m *email.Message, place pyyaml.Source, reason string) {
	m.Set("Content-Type", "text/cloud-config-archive")
	p.dropped = append(p.dropped, Part{Name: "archive", Type: "text/cloud-config-archive", Verdict: Lost, Reason: reason,
		Pos: position(place)})
}

var errType = errors.New("content that is not text")

func (p *processor) entry(entry *doc.Node) error {
	if entry.Kind == doc.String {
		entry = (&doc.Node{Kind: doc.Map}).Set("content", entry)
	}
	if entry.Kind != doc.Map {
		p.dropped = append(p.dropped, Part{Name: "archive", Type: "text/cloud-config-archive", Verdict: Lost, Pos: entry.Pos,
			Reason: fmt.Sprintf("an entry of an archive is a map or text, this is %s", entry.Kind)})
		return nil
	}
	content := entry.Get("content")
	if content == nil {
		content = doc.Text("")
	}
	kind, err := entryType(entry, content)
	if err != nil {
		return err
	}
	m, err := p.entryMessage(kind, content)
	if err != nil {
		return err
	}
	p.places[m] = pyyaml.Source{File: fmt.Sprintf("%s (content at line %d)", content.Pos.File, content.Pos.Line), Line: 1}
	if name := entry.Get("filename"); name != nil {
		m.Set("Content-Disposition", email.Attachment(pythonText(name)))
	}
	if index := entry.Get("launch-index"); index != nil {
		m.Add("Launch-Index", pythonText(index))
	}
	if err := entryHeaders(m, entry); err != nil {
		return err
	}
	return p.attach(m)
}

// entryType is the type that an entry says it has, or looks as if it has.
func entryType(entry, content *doc.Node) (string, error) {
	if kind := entry.Get("type"); kind != nil && truth(kind) {
		if kind.Kind != doc.String {
			return "", fmt.Errorf("a type that is %s", kind.Kind)
		}
		if !strings.Contains(kind.Text, "/") {
			return "", fmt.Errorf("the type %q has no slash", kind.Text)
		}
		return kind.Text, nil
	}
	switch content.Kind {
	case doc.String:
		if found := typeOf(content.Text); found != "" {
			return found, nil
		}
		return "text/cloud-config", nil
	case pyyaml.Bytes:
		if found := typeOf(content.Text); found != "" && utf8.ValidString(content.Text) {
			return found, nil
		}
		return "application/octet-stream", nil
	}
	return "", errType
}

// truth is what Python takes for true.
func truth(n *doc.Node) bool {
	switch n.Kind {
	case doc.Null:
		return false
	case doc.Bool:
		return n.Text == "true"
	case doc.Int, doc.Float:
		return pyyaml.Identity(n) != "n 0"
	case doc.List, doc.Map, pyyaml.Set:
		return len(n.Items)+len(n.Pairs) > 0
	case pyyaml.Date:
		return true
	}
	return n.Text != ""
}

func (p *processor) entryMessage(kind string, content *doc.Node) (*email.Message, error) {
	m := &email.Message{}
	main, _, _ := strings.Cut(kind, "/")
	if main != "text" {
		m.Add("Content-Type", kind)
		m.Add("MIME-Version", "1.0")
		switch content.Kind {
		case doc.String:
			m.Payload = content.Text
		case pyyaml.Bytes:
			m.Payload, m.Raw = content.Text, true
		case doc.Null:
		default:
			return nil, errType
		}
		return m, nil
	}
	if content.Kind != doc.String && content.Kind != pyyaml.Bytes {
		return nil, errType
	}
	if !utf8.ValidString(content.Text) {
		return nil, errors.New("content that is not UTF-8")
	}
	if name, value, is := strings.Cut(kind, "="); is && !strings.Contains(name, ";") {
		// Python writes the header anew, and takes the type for a parameter.
		if kind, value = email.Strip(name), email.Strip(value); value != "" {
			kind += `="` + email.Quote(value) + `"`
		}
	}
	charset := "us-ascii"
	for _, r := range content.Text {
		if r >= 0x80 {
			charset = "utf-8"
		}
	}
	m.Add("Content-Type", fmt.Sprintf(`%s; charset="%s"`, kind, charset))
	m.Add("MIME-Version", "1.0")
	m.Add("Content-Transfer-Encoding", map[string]string{"us-ascii": "7bit", "utf-8": "base64"}[charset])
	p.exact[m] = content.Text
	return m, nil
}

// entryHeaders makes headers of the keys that have no meaning of their own.
func entryHeaders(m *email.Message, entry *doc.Node) error {
	for _, pair := range entry.Pairs {
		if pair.Key.Kind != doc.String {
			return fmt.Errorf("a key that is %s", pair.Key.Kind)
		}
		switch strings.ToLower(pair.Key.Text) {
		case "content", "filename", "type", "launch-index", "content-disposition", "number-attachments", "content-type":
			continue
		}
		switch pair.Value.Kind {
		case doc.String:
			m.Add(pair.Key.Text, pair.Value.Text)
		case doc.Null:
			m.Add(pair.Key.Text, "")
		default:
			return fmt.Errorf("%s is %s, and becomes a header, which is text", pair.Key.Text, pair.Value.Kind)
		}
	}
	return nil
}

// pythonText is Python's str of a value, for those that are likely.
func pythonText(n *doc.Node) string {
	switch n.Kind {
	case doc.Null:
		return "None"
	case doc.Bool:
		return strings.ToUpper(n.Text[:1]) + n.Text[1:]
	}
	return n.Text
}
