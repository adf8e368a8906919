package cloudinit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"bake/internal/doc"
	"bake/internal/email"
	"bake/internal/lazy"
	"bake/internal/pyyaml"
)

const notMultipart = "text/x-not-multipart"

// prefixes say of what type a text is by its first characters: the longest
// that fits.
var prefixes = []struct{ start, kind string }{
	{"text/x-shellscript-per-instance", "text/x-shellscript-per-instance"},
	{"text/x-shellscript-per-boot", "text/x-shellscript-per-boot"},
	{"text/x-shellscript-per-once", "text/x-shellscript-per-once"},
	{"#cloud-config-archive", "text/cloud-config-archive"},
	{"#cloud-config-jsonp", "text/cloud-config-jsonp"},
	{"## template: jinja", "text/jinja2"},
	{"#cloud-boothook", "text/cloud-boothook"},
	{"#include-once", "text/x-include-once-url"},
	{"#cloud-config", "text/cloud-config"},
	{"#part-handler", "text/part-handler"},
	{"#include", "text/x-include-url"},
	{"#!", "text/x-shellscript"},
}

// typeOf gives the type of a text that starts as one of a known type.
func typeOf(text string) string {
	text = strings.TrimLeftFunc(strings.ToLower(text), email.Space)
	for _, p := range prefixes {
		if strings.HasPrefix(text, p.start) {
			return p.kind
		}
	}
	return ""
}

var compressed = map[string]bool{"application/gzip": true, "application/gzip-compressed": true, "application/gzipped": true,
	"application/x-compress": true, "application/x-compressed": true, "application/x-gunzip": true, "application/x-gzip": true,
	"application/x-gzip-compressed": true}

// processor is UserDataProcessor: it takes a file apart.
type processor struct {
	name      string
	options   Options
	attached  []*email.Message
	exact     map[*email.Message]string // payloads that need no decoding
	places    map[*email.Message]pyyaml.Source
	uncertain []string
	dropped   []Part
	depth     int
}

// process takes data apart as far as it goes. An error is an exception that
// nothing catches.
func (p *processor) process(data []byte) error {
	p.exact, p.places = map[*email.Message]string{}, map[*email.Message]pyyaml.Source{}
	if err := p.data(data, pyyaml.Source{File: p.name, Line: 1}); err != nil {
		return err
	}
	for _, attached := range p.attached {
		for m := range attached.Walk() {
			if err := writable(m); err != nil {
				return err
			}
		}
	}
	return nil
}

var unfolded = lazy.Regexp(`\r\n[^ \t]|\r[^ \n\t]|\n[^ \t]`)

// writable fails as Python does, where it has its fixes, when cloud-init
// writes a copy of the message: with a header that would be read as two.
func writable(m *email.Message) error {
	for _, h := range m.Headers {
		bad := unfolded.MatchString(h.Name + ":")
		lines := splitLines(h.Value)
		for _, line := range lines[min(1, len(lines)):] {
			bad = bad || line != "" && ascii(h.Value) && line[0] != ' ' && line[0] != '\t'
		}
		if bad {
			return fmt.Errorf("the header %q has a line break in it that is not followed by a blank", start(h.Name))
		}
	}
	return nil
}

func ascii(text string) bool {
	for _, r := range text {
		if r >= 0x80 {
			return false
		}
	}
	return true
}

func (p *processor) data(data []byte, place pyyaml.Source) error {
	if plain, err := gunzip(data); err == nil {
		data = plain
	} else if errors.Is(err, errTooBig) {
		return err
	}
	if !bytes.Contains(bytes.ToLower(data[:min(len(data), 4096)]), []byte("mime-version:")) {
		m := &email.Message{Payload: string(data), Raw: true, Line: place.Line, Head: place.Line}
		m.Add("Content-Type", notMultipart)
		m.Add("MIME-Version", "1.0")
		return p.message(m, place.File)
	}
	if !utf8.Valid(data) {
		return errors.New("a MIME message that is not UTF-8")
	}
	m, err := email.Parse(string(data), place.Line)
	if err != nil {
		return err
	}
	return p.message(m, place.File)
}

func (p *processor) message(base *email.Message, file string) error {
	var parts []*email.Message
	for m := range base.Walk() { // the types change on the way, the tree does not
		parts = append(parts, m)
	}
	for _, m := range parts {
		if err := p.one(base, m, file); err != nil {
			return err
		}
	}
	return nil
}

// payload is a part's payload as the handlers get it.
func (p *processor) payload(m *email.Message) string {
	if m.Container {
		return ""
	}
	if text, ok := p.exact[m]; ok {
		return text
	}
	return m.Decoded()
}

func (p *processor) one(base, m *email.Message, file string) error {
	if m.MainType() == "multipart" {
		return nil
	}
	p.places[m] = pyyaml.Source{File: file, Line: m.Line}
	was := m.ContentType()
	text := p.payload(m)
	if compressed[was] {
		var err error
		if m, was, text, err = p.unpack(m, was, text); err != nil {
			return err
		}
	}
	kind := was
	if was == "text/plain" || was == notMultipart || was == "text/x-shellscript" {
		if found := typeOf(text); found != "" {
			kind = found
		}
	}
	if kind != was {
		m.Set("Content-Type", kind)
	}
	switch kind {
	case "text/x-include-url", "text/x-include-once-url":
		return p.include(text)
	case "text/cloud-config-archive":
		return p.archive(text, file, m)
	}
	base.Set("Content-Type", kind)
	return p.attach(m)
}

// unpack makes a new message of a compressed one, with few of its headers. The
// type of what is in it is not known yet.
func (p *processor) unpack(m *email.Message, was, text string) (unpacked *email.Message, kind, plain string, err error) {
	data, err := gunzip([]byte(text))
	if err != nil {
		return nil, "", "", fmt.Errorf("a part of type %s that cannot be decompressed: %w", was, err)
	}
	if !utf8.Valid(data) {
		return nil, "", "", fmt.Errorf("a part of type %s with bytes that are not UTF-8", was)
	}
	found := typeOf(string(data))
	if found == "" {
		found = "text/plain"
	}
	n := &email.Message{Payload: string(data), Head: m.Head}
	n.Add("Content-Type", found)
	n.Add("MIME-Version", "1.0")
	name, err := m.Filename()
	if err != nil {
		return nil, "", "", err
	}
	if name != "" {
		n.Set("Content-Disposition", email.Attachment(name))
	}
	if index, ok := m.Get("Launch-Index"); ok {
		n.Set("Launch-Index", index)
	}
	p.places[n] = pyyaml.Source{File: fmt.Sprintf("%s (decompressed, line %d)", p.name, m.Head), Line: 1}
	return n, "text/plain", string(data), nil
}

// attach gives a part its name and keeps it.
func (p *processor) attach(m *email.Message) error {
	name, err := m.Filename()
	if err != nil {
		return err
	}
	if name == "" {
		m.Set("Content-Disposition", email.Attachment(fmt.Sprintf("part-%03d", len(p.attached)+1)))
	}
	if err := p.launchIndex(m); err != nil {
		return err
	}
	p.attached = append(p.attached, m)
	return nil
}

// launchIndex fails as cloud-init does: with an infinite one.
func (p *processor) launchIndex(m *email.Message) error {
	if _, ok := m.Get("Launch-Index"); ok || m.ContentType() != "text/cloud-config" {
		return nil
	}
	text := p.payload(m)
	config, err := pyyaml.Load(text, pyyaml.Source{}, pyyaml.Options{Unicode: p.options.old()})
	if err != nil || config == nil || config.Kind != doc.Map {
		return nil
	}
	if index := config.Get("launch-index"); index != nil && index.Kind == doc.Float && strings.HasSuffix(index.Text, ".inf") {
		return errors.New("a launch-index that is infinite")
	}
	return nil
}

// maxIncludes bounds what an #include can include.
const maxIncludes = 20

// include reads the addresses of an #include.
func (p *processor) include(text string) error {
	for _, line := range splitLines(text) {
		lower := strings.ToLower(line)
		switch {
		case strings.HasPrefix(lower, "#include-once"):
			line = strings.TrimLeftFunc(line[len("#include-once"):], email.Space)
		case strings.HasPrefix(lower, "#include"):
			line = strings.TrimLeftFunc(line[len("#include"):], email.Space)
		}
		url := email.Strip(line)
		if strings.HasPrefix(line, "#") || url == "" {
			continue
		}
		if p.options.Fetch == nil {
			p.uncertain = append(p.uncertain, fmt.Sprintf("what %s contains: only the guest fetches it; "+
				"if it cannot, nothing of the user-data is applied", url))
			continue
		}
		content, err := p.options.Fetch(url)
		if err != nil {
			return fmt.Errorf("fetching %s: %w", url, err)
		}
		if p.depth++; p.depth > maxIncludes {
			return errors.New("too many includes")
		}
		if err := p.data(content, pyyaml.Source{File: url, Line: 1}); err != nil {
			return err
		}
	}
	return nil
}

// splitLines is Python's str.splitlines.
func splitLines(text string) []string {
	var lines []string
	for len(text) > 0 {
		end := strings.IndexAny(text, "\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029")
		if end < 0 {
			return append(lines, text)
		}
		lines = append(lines, text[:end])
		_, size := utf8.DecodeRuneInString(text[end:])
		if strings.HasPrefix(text[end:], "\r\n") {
			size = 2
		}
		text = text[end+size:]
	}
	return lines
}
