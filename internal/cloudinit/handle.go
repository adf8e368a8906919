package cloudinit

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/email"
	"bake/internal/pyyaml"
)

// handlers walks the parts, as cloud-init does with the handlers it comes with.
type handlers struct {
	*processor
	result   Result
	config   *doc.Node
	merged   int            // how many parts have gone into config
	scripts  map[string]int // which part wrote a file
	number   int
	programs bool // a part handler has been met
}

func position(place pyyaml.Source) diag.Position {
	return diag.Position{File: place.File, Line: max(1, place.Line), Col: 1}
}

// place is where a part's text stands: in the file itself, line for line, if
// nothing has decoded it.
func (h *handlers) place(m *email.Message) pyyaml.Source {
	place := h.places[m]
	switch m.Encoding() {
	case "base64", "quoted-printable", "x-uuencode", "uuencode", "uue", "x-uue":
		if _, exact := h.exact[m]; !exact {
			return pyyaml.Source{File: fmt.Sprintf("%s (decoded, line %d)", place.File, m.Line), Line: 1}
		}
	}
	return place
}

func (h *handlers) part(m *email.Message) error {
	if m.MainType() == "multipart" {
		return nil
	}
	name, err := m.Filename()
	if err != nil {
		return err
	}
	if name == "" {
		name = fmt.Sprintf("part-%03d", h.number)
	}
	h.number++
	part := Part{Name: name, raw: name, Type: m.ContentType(), Text: h.payload(m), Pos: position(h.place(m))}
	if part.Type == "text/part-handler" && !utf8.ValidString(part.Text) {
		return errors.New("a part handler with characters that are not ASCII and no transfer encoding: it cannot be written")
	}
	h.handle(&part, m)
	h.result.Parts = append(h.result.Parts, part)
	return nil
}

func (p *Part) lose(format string, args ...any) {
	p.Verdict, p.Reason = Lost, fmt.Sprintf(format, args...)
}

func (h *handlers) handle(part *Part, m *email.Message) {
	switch part.Type {
	case "text/cloud-config":
		h.merge(part, m, part.Text)
	case "text/cloud-config-jsonp":
		h.patch(part)
	case "text/x-shellscript":
		h.script(part, unix(part.Text), "scripts")
	case "text/x-shellscript-per-boot", "text/x-shellscript-per-instance", "text/x-shellscript-per-once":
		part.Name = part.Name[strings.LastIndexByte(part.Name, '/')+1:]
		h.script(part, unix(part.Text), strings.TrimPrefix(part.Type, "text/x-shellscript-"))
	case "text/cloud-boothook":
		h.boothook(part, part.Text)
	case "text/jinja2":
		h.template(part, m)
	case "text/part-handler":
		part.Verdict, h.programs = Handler, true
		h.unknown(part, "a part handler is a program, which runs in the guest alone and may take any part over")
	default:
		switch {
		case part.Text == "":
			part.Verdict = Empty
		case h.programs:
			part.Verdict, part.Reason = Unknown, "only the part handler above may know the type "+part.Type
		case part.Type == notMultipart:
			part.lose("it starts with none of the marks that cloud-init knows, such as #cloud-config, not with %q", start(part.Text))
		default:
			part.lose("nothing handles the type %s", part.Type)
		}
	}
}

func (h *handlers) unknown(part *Part, reason string) {
	part.Reason = reason
	h.result.Uncertain = append(h.result.Uncertain, fmt.Sprintf("%s: %s", part.Pos, reason))
}

// start is the beginning of a text, for a message.
func start(text string) string {
	line, _, _ := strings.Cut(strings.ToValidUTF8(text, "\ufffd"), "\n")
	if runes := []rune(line); len(runes) > 24 {
		line = string(runes[:24])
	}
	return line
}

// unix is cloud-init's dos2unix: the first line decides for all.
func unix(text string) string {
	if end := strings.IndexByte(text, '\n'); end > 0 && text[end-1] == '\r' {
		return strings.ReplaceAll(text, "\r\n", "\n")
	}
	return text
}

// cleanName is the name of the file that a script becomes.
func cleanName(name string) string {
	name = strings.ReplaceAll(name, "/", "_")
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("_-.()", r) || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, name)
}

// script writes a script for cloud-init to run.
func (h *handlers) script(part *Part, text, folder string) {
	part.Verdict = Script
	if folder == "boothooks" {
		part.Verdict = Boothook
	}
	name := cleanName(part.Name)
	part.Text = text
	switch {
	case !utf8.ValidString(part.Text):
		part.lose("it has characters that are not ASCII and no transfer encoding such as base64: cloud-init cannot write the file")
		return
	case name == "" || name == "." || name == "..":
		part.lose("the name %q is none that a file can have", start(part.Name))
		return
	}
	if i, twice := h.scripts[folder+"/"+name]; twice && part.Verdict == Script {
		earlier := &h.result.Parts[i]
		earlier.lose("a later script has the same name, %s, and replaces it", name)
		earlier.file, earlier.replaced = "", true
	}
	h.scripts[folder+"/"+name] = len(h.result.Parts)
	part.Name, part.file = name, folder+"/"+name
	if part.Verdict == Script && !strings.HasPrefix(part.Text, "#!") {
		part.Reason = "it does not start with #!, so running it fails"
	}
}

func (h *handlers) boothook(part *Part, text string) {
	text, _ = strings.CutPrefix(unix(text), "#cloud-boothook")
	h.script(part, strings.TrimLeftFunc(text, email.Space), "boothooks")
}

// merge puts a part into the configuration.
func (h *handlers) merge(part *Part, m *email.Message, text string) {
	config, err := pyyaml.Load(text, h.place(m), pyyaml.Options{Unicode: h.options.old()})
	var failed *pyyaml.Error
	switch {
	case errors.As(err, &failed) && failed.Uncertain:
		h.unknown(part, failed.Message)
		part.Verdict = Unknown
		return
	case err != nil:
		part.Pos, part.Marked = failed.Pos, !failed.Uncaught
		part.lose("it is not valid YAML: %s", failed.Message)
		return
	case config == nil:
		part.Marked = true
		part.lose("it has no content, only comments")
		return
	case config.Kind != doc.Map:
		part.Marked = true
		part.lose("it is %s, want a map", config.Kind)
		return
	}
	header := m.Exact("Merge-Type")
	if header == "" {
		header = m.Exact("X-Merge-Type")
	}
	rest, rules, err := extractRules(config, header)
	part.Config = rest
	if err != nil {
		var value valueError
		part.Marked = errors.As(err, &value)
		part.lose("%v", err)
		return
	}
	if h.config == nil || h.merged == 0 {
		h.config = &doc.Node{Kind: doc.Map}
	}
	merged, err := merger(rules).merge(h.config, rest)
	if err != nil {
		part.lose("%v", err)
		return
	}
	part.counted = true
	h.merged++
	if merged == h.config {
		part.lose("its merge type has no dict(): cloud-init leaves all of the part out and says nothing")
		return
	}
	h.config, part.Verdict = merged, Merged
}

// patch applies a JSON patch to the configuration.
func (h *handlers) patch(part *Part) {
	if h.config == nil || h.merged == 0 {
		h.config = &doc.Node{Kind: doc.Map}
	}
	text := strings.TrimLeftFunc(part.Text, email.Space)
	text, _ = strings.CutPrefix(text, "#cloud-config-jsonp")
	patched, err := applyPatch(h.config, text, part.Pos)
	if err != nil {
		var value valueError
		part.Marked = errors.As(err, &value)
		part.lose("%v", err)
		return
	}
	h.config, part.Verdict = patched, Merged
	part.counted = true
	h.merged++
}

// write follows cloud-init in writing what it has merged to cloud-config.txt, from where it is
// read again. Comments at the head of that file name the parts, whatever is in the names.
func (h *handlers) write() {
	if h.config != nil && h.config.Kind != doc.Map {
		h.drop(fmt.Sprintf("a patch makes %s of the configuration, and cloud-init reads nothing but a map", h.config.Kind))
		return
	}
	for i, part := range h.result.Parts {
		if !part.counted && (!part.Marked || h.options.old()) {
			continue // nothing is said of it there
		}
		name := email.Strip(strings.NewReplacer("\n", " ", "\r", " ", "\t", " ").Replace(part.raw))
		ends, err := pyyaml.Load("# "+name+"\n", pyyaml.Source{Line: 1}, pyyaml.Options{})
		switch isBroken := strings.ContainsAny(name, "\u0085\u2028\u2029"); {
		case isBroken && utf8.ValidString(name) && (err != nil || ends != nil):
			h.unknown(&h.result.Parts[i], "its name has a line break of YAML: the rest of the name stands before the whole configuration, which only the guest reads")
		case err != nil || !utf8.ValidString(name):
			h.drop(fmt.Sprintf("the part %q has a name with a character that YAML does not allow: cloud-init writes it into its file with the whole configuration, and cannot read that file any more", name))
			return
		}
	}
}

// drop loses all of the configuration.
func (h *handlers) drop(reason string) {
	h.config = nil
	for i := range h.result.Parts {
		if part := &h.result.Parts[i]; part.counted && part.Verdict == Merged {
			part.lose("%s", reason)
		}
	}
}
