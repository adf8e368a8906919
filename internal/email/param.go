package email

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"bake/internal/lazy"
)

// Strip is Python's str.strip.
func Strip(text string) string { return strings.TrimFunc(text, Space) }

// Space is Python's str.isspace of one character.
func Space(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

// A param is a parameter of a header. Extended ones (RFC 2231) have a charset,
// which may be missing.
type param struct {
	name, value string
	extended    bool
	charset     string
	noCharset   bool
}

// Filename is the name of an attachment, "" when it has none. An error is an
// exception in Python.
func (m *Message) Filename() (string, error) {
	for _, place := range []struct{ header, name string }{{"Content-Disposition", "filename"}, {"Content-Type", "name"}} {
		p, ok, err := m.param(place.header, place.name)
		if err != nil {
			return "", err
		}
		if ok {
			name, err := p.collapse()
			return Strip(name), err
		}
	}
	return "", nil
}

// boundary is the boundary of a multipart.
func (m *Message) boundary() (string, bool, error) {
	p, ok, err := m.param("Content-Type", "boundary")
	if err != nil {
		return "", ok, err
	}
	text, err := p.collapse()
	return strings.TrimRightFunc(text, Space), ok, err
}

func (m *Message) param(header, name string) (p param, ok bool, err error) {
	value, ok := m.Get(header)
	if !ok {
		return param{}, false, nil
	}
	params, err := decodeParams(splitParams(value))
	if err != nil {
		return param{}, false, err
	}
	for _, p := range params {
		if strings.EqualFold(p.name, name) {
			p.value = unquote(p.value)
			return p, true, nil
		}
	}
	return param{}, false, nil
}

// splitParams splits a header at the semicolons outside of quotes.
func splitParams(text string) []param {
	var params []param
	text = ";" + text
	for strings.HasPrefix(text, ";") {
		text = text[1:]
		end := strings.IndexByte(text, ';')
		for end > 0 && (strings.Count(text[:end], `"`)-strings.Count(text[:end], `\"`))%2 != 0 {
			next := strings.IndexByte(text[end+1:], ';')
			if next < 0 {
				end = -1
				break
			}
			end += 1 + next
		}
		if end < 0 {
			end = len(text)
		}
		name, value, has := strings.Cut(text[:end], "=")
		if has {
			name = strings.ToLower(Strip(name))
		}
		params = append(params, param{name: Strip(name), value: Strip(value)})
		text = text[end:]
	}
	return params
}

func unquote(text string) string {
	if len(text) > 1 {
		if text[0] == '"' && text[len(text)-1] == '"' {
			return strings.ReplaceAll(strings.ReplaceAll(text[1:len(text)-1], `\\`, `\`), `\"`, `"`)
		}
		if text[0] == '<' && text[len(text)-1] == '>' {
			return text[1 : len(text)-1]
		}
	}
	return text
}

// Quote escapes what unquote takes back.
func Quote(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), `"`, `\"`)
}

var continuationForm = lazy.Regexp(`^(\w+)\*(?:([0-9]+)\*?)?\n?$`)

type continuation struct {
	number  int // -1 for none
	value   string
	encoded bool
}

// decodeParams joins what RFC 2231 has split and decodes it.
func decodeParams(params []param) ([]param, error) {
	done := params[:1:1]
	var names []string
	split := map[string][]continuation{}
	for _, p := range params[1:] {
		value := unquote(p.value)
		m := continuationForm.FindStringSubmatch(p.name)
		if m == nil {
			done = append(done, param{name: p.name, value: `"` + Quote(value) + `"`})
			continue
		}
		c := continuation{-1, value, strings.HasSuffix(p.name, "*")}
		if m[2] != "" {
			c.number, _ = strconv.Atoi(m[2])
		}
		if split[m[1]] == nil {
			names = append(names, m[1])
		}
		split[m[1]] = append(split[m[1]], c)
	}
	for _, name := range names {
		p, err := join(name, split[name])
		if err != nil {
			return nil, err
		}
		done = append(done, p)
	}
	return done, nil
}

var errMixed = errors.New("a parameter is given both whole and in numbered pieces")

func join(name string, pieces []continuation) (param, error) {
	for _, c := range pieces[1:] {
		if (c.number < 0) != (pieces[0].number < 0) {
			return param{}, errMixed
		}
	}
	slices.SortStableFunc(pieces, func(a, b continuation) int {
		if a.number != b.number {
			return a.number - b.number
		}
		return strings.Compare(a.value, b.value)
	})
	p := param{name: name}
	var text strings.Builder
	for _, c := range pieces {
		if c.encoded {
			c.value, p.extended = percent(c.value), true
		}
		text.WriteString(c.value)
	}
	value := Quote(text.String())
	if p.extended {
		if parts := strings.SplitN(value, "'", 3); len(parts) == 3 {
			p.charset, value = parts[0], parts[2]
		} else {
			p.noCharset = true
		}
	}
	p.value = `"` + value + `"`
	return p, nil
}

// percent undoes percent-encoding; each byte becomes the character of its number.
func percent(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		if text[i] == '%' && i+2 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				out.WriteRune(rune(code))
				i += 3
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		out.WriteRune(r)
		i += size
	}
	return out.String()
}

var notWord = lazy.Regexp(`[^a-z0-9.]+`)

// charsets are the names that Python knows for the three that somebody may
// use. It knows a hundred others, whose values stay as they are here.
var charsets = func() map[string]string {
	names := map[string]string{}
	for charset, all := range map[string]string{
		"utf-8":   "utf_8 u8 utf utf8 utf8_ucs2 utf8_ucs4 cp65001",
		"ascii":   "ascii 646 ansi_x3.4_1968 ansi_x3_4_1968 ansi_x3.4_1986 cp367 csascii ibm367 iso646_us iso_646.irv_1991 iso_ir_6 us us_ascii",
		"latin-1": "latin_1 8859 cp819 csisolatin1 ibm819 iso8859 iso8859_1 iso_8859_1 iso_8859_1_1987 iso_ir_100 l1 latin latin1",
	} {
		for _, name := range strings.Fields(all) {
			names[name] = charset
		}
	}
	return names
}()

// errNull is what Python says of a charset with a zero byte, and nobody expects.
var errNull = errors.New("ValueError: embedded null character")

// collapse makes text of a value, whatever it is.
func (p param) collapse() (string, error) {
	if !p.extended {
		return unquote(p.value), nil
	}
	if strings.ContainsRune(p.charset, 0) {
		return "", errNull
	}
	return p.decode(), nil
}

func (p param) decode() string {
	charset := charsets[strings.Trim(notWord.ReplaceAllString(strings.ToLower(p.charset), "_"), "_")]
	if p.noCharset {
		charset = "ascii"
	}
	raw := rawUnicodeEscape(p.value)
	switch charset {
	case "ascii":
		var out strings.Builder
		for _, b := range raw {
			if b < 0x80 {
				out.WriteByte(b)
			} else {
				out.WriteRune(utf8.RuneError)
			}
		}
		return out.String()
	case "utf-8":
		return strings.ToValidUTF8(string(raw), "\ufffd")
	case "latin-1":
		var out strings.Builder
		for _, b := range raw {
			out.WriteRune(rune(b))
		}
		return out.String()
	}
	return unquote(p.value)
}

// Attachment is a Content-Disposition header that names a file, as Python
// writes it.
func Attachment(filename string) string {
	for _, r := range filename {
		if r >= 0x80 {
			return "attachment; filename*=utf-8''" + percentEncode(filename)
		}
	}
	if filename == "" {
		return "attachment; filename"
	}
	return `attachment; filename="` + Quote(filename) + `"`
}

func percentEncode(text string) string {
	var out strings.Builder
	for _, b := range []byte(text) {
		if 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("_.-~", b) >= 0 {
			out.WriteByte(b)
		} else {
			fmt.Fprintf(&out, "%%%02X", b)
		}
	}
	return out.String()
}
