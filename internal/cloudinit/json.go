package cloudinit

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
	"bake/internal/pyyaml"
)

// jsonReader reads JSON as Python's json.loads does where jsonpatch calls it:
// NaN and Infinity are numbers, a key that is there twice has a list of its
// values, a lone surrogate is one.
type jsonReader struct {
	text string
	at   int
	pos  diag.Position
}

func (j *jsonReader) fail() (*doc.Node, error) {
	return nil, valueError{fmt.Sprintf("it is not valid JSON, from character %d on", j.at+1)}
}

func parseJSON(text string, pos diag.Position) (*doc.Node, error) {
	j := &jsonReader{text: text, pos: pos}
	j.space()
	n, err := j.value(0)
	if err != nil {
		return nil, err
	}
	if j.space(); j.at < len(j.text) {
		return j.fail()
	}
	return n, nil
}

func (j *jsonReader) space() {
	for j.at < len(j.text) && strings.IndexByte(" \t\n\r", j.text[j.at]) >= 0 {
		j.at++
	}
}

func (j *jsonReader) take(word string) bool {
	if strings.HasPrefix(j.text[j.at:], word) {
		j.at += len(word)
		return true
	}
	return false
}

func (j *jsonReader) make(kind doc.Kind, text string) *doc.Node {
	return &doc.Node{Kind: kind, Text: text, Pos: j.pos}
}

var (
	jsonNumber = lazy.Regexp(`^(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?`)
	jsonWords  = []struct {
		word string
		kind doc.Kind
		text string
	}{{"null", doc.Null, ""}, {"true", doc.Bool, "true"}, {"false", doc.Bool, "false"},
		{"NaN", doc.Float, ".nan"}, {"Infinity", doc.Float, ".inf"}, {"-Infinity", doc.Float, "-.inf"}}
)

func (j *jsonReader) value(depth int) (*doc.Node, error) {
	for _, w := range jsonWords {
		if j.take(w.word) {
			return j.make(w.kind, w.text), nil
		}
	}
	if j.at >= len(j.text) || depth > 200 {
		return j.fail()
	}
	switch j.text[j.at] {
	case '"':
		text, ok := j.string()
		if !ok {
			return j.fail()
		}
		return j.make(doc.String, text), nil
	case '[':
		return j.list(depth)
	case '{':
		return j.object(depth)
	}
	m := jsonNumber.FindStringSubmatch(j.text[j.at:])
	if m == nil || len(m[1]) > 4300 {
		return j.fail()
	}
	j.at += len(m[0])
	if m[2] == "" && m[3] == "" {
		n, _ := new(big.Int).SetString(m[1], 10)
		return j.make(doc.Int, n.String()), nil
	}
	f, _ := strconv.ParseFloat(m[0], 64)
	return j.make(doc.Float, pyyaml.FloatText(f)), nil
}

func (j *jsonReader) list(depth int) (*doc.Node, error) {
	n := j.make(doc.List, "")
	j.at++
	for j.space(); !j.take("]"); j.space() {
		if len(n.Items) > 0 {
			if !j.take(",") {
				return j.fail()
			}
			j.space()
		}
		item, err := j.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Items = append(n.Items, item)
	}
	return n, nil
}

func (j *jsonReader) object(depth int) (*doc.Node, error) {
	var keys []string
	values := map[string][]*doc.Node{}
	j.at++
	for j.space(); !j.take("}"); j.space() {
		if len(keys) > 0 {
			if !j.take(",") {
				return j.fail()
			}
			j.space()
		}
		if j.at >= len(j.text) || j.text[j.at] != '"' {
			return j.fail()
		}
		key, ok := j.string()
		j.space()
		if !ok || !j.take(":") {
			return j.fail()
		}
		j.space()
		value, err := j.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); values[key] != nil {
			keys = keys[:len(keys)-1]
		}
		values[key] = append(values[key], value)
	}
	n := j.make(doc.Map, "")
	for _, key := range keys {
		value := values[key][0]
		if len(values[key]) > 1 {
			value = j.make(doc.List, "")
			value.Items = values[key]
		}
		n.Set(key, value)
	}
	return n, nil
}

var jsonEscapes = map[byte]string{'"': `"`, '\\': `\`, '/': "/", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t"}

func (j *jsonReader) string() (text string, ok bool) {
	var out strings.Builder
	for j.at++; j.at < len(j.text); {
		switch b := j.text[j.at]; {
		case b == '"':
			j.at++
			return out.String(), true
		case b < 0x20:
			return "", false
		case b != '\\':
			out.WriteByte(b)
			j.at++
		default:
			if j.at+1 >= len(j.text) {
				return "", false
			}
			if means, ok := jsonEscapes[j.text[j.at+1]]; ok {
				out.WriteString(means)
				j.at += 2
				continue
			}
			r, ok := j.hex4(j.at)
			if !ok {
				return "", false
			}
			j.at += 6
			if low, ok := j.hex4(j.at); ok && utf16.IsSurrogate(r) && r < 0xdc00 && 0xdc00 <= low && low < 0xe000 {
				r = utf16.DecodeRune(r, low)
				j.at += 6
			}
			if utf16.IsSurrogate(r) {
				out.Write([]byte{0xed, byte(0x80 | r>>6&0x3f), byte(0x80 | r&0x3f)})
			} else {
				out.WriteRune(r)
			}
		}
	}
	return "", false
}

var jsonHex = lazy.Regexp(`^\\u[0-9a-fA-F]{4}`)

func (j *jsonReader) hex4(at int) (rune, bool) {
	if !jsonHex.MatchString(j.text[min(at, len(j.text)):]) {
		return 0, false
	}
	code, _ := strconv.ParseUint(j.text[at+2:at+6], 16, 32)
	return rune(code), true
}
