// Package binascii decodes what mail programs encode, as leniently as Python's
// module of this name: what cloud-init makes of a part's transfer encoding.
//
// The decoders of Go's library refuse input that Python takes, and a part that
// Python takes is one the guest acts on.
package binascii

import (
	"bytes"
	"errors"
	"strings"
)

var errMalformed = errors.New("malformed")

// Base64 decodes as a2b_base64 does. If it is not strict it skips what is no
// digit and does not read what follows the padding.
func Base64(text []byte, strict bool) ([]byte, error) {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	var data []byte
	quad, pads, padding := 0, 0, false
	var left byte
	if strict && len(text) > 0 && text[0] == '=' {
		return nil, errMalformed
	}
	for i, b := range text {
		if b == '=' {
			padding = true
			if pads++; quad >= 2 && quad+pads >= 4 {
				if strict && i+1 < len(text) {
					return nil, errMalformed
				}
				return data, nil
			}
			continue
		}
		at := strings.IndexByte(digits, b)
		switch {
		case at < 0 && strict, at >= 0 && strict && padding:
			return nil, errMalformed
		case at < 0:
			continue
		}
		pads = 0
		d := byte(at)
		switch quad {
		case 0:
			left = d
		case 1:
			data, left = append(data, left<<2|d>>4), d&0x0f
		case 2:
			data, left = append(data, left<<4|d>>2), d&0x03
		case 3:
			data, left = append(data, left<<6|d), 0
		}
		quad = (quad + 1) % 4
	}
	if quad != 0 {
		return nil, errMalformed
	}
	return data, nil
}

// Body64 decodes the base64 body of a message as Python's email package does:
// what cannot be decoded stays as it is.
func Body64(text []byte) []byte {
	text = bytes.Join(Lines(text), nil)
	padded := text
	if over := len(text) % 4; over > 0 {
		padded = append(bytes.Clone(text), "==="[:4-over]...)
	}
	if data, err := Base64(padded, true); err == nil {
		return data
	}
	if data, err := Base64(text, false); err == nil {
		return data
	}
	if data, err := Base64(append(bytes.Clone(text), "=="...), false); err == nil {
		return data
	}
	return text
}

// Lines splits at \n, \r and \r\n, as bytes.splitlines does.
func Lines(text []byte) [][]byte {
	var lines [][]byte
	for len(text) > 0 {
		end := bytes.IndexAny(text, "\r\n")
		if end < 0 {
			return append(lines, text)
		}
		lines = append(lines, text[:end])
		if bytes.HasPrefix(text[end:], []byte("\r\n")) {
			end++
		}
		text = text[end+1:]
	}
	return lines
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

func hexOf(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return (b | 0x20) - 'a' + 10
}

// QuotedPrintable decodes as a2b_qp does.
func QuotedPrintable(text []byte) []byte {
	var data []byte
	for i := 0; i < len(text); {
		if text[i] != '=' {
			data = append(data, text[i])
			i++
			continue
		}
		if i++; i >= len(text) {
			break
		}
		switch b := text[i]; {
		case b == '\n' || b == '\r': // a soft line break
			for i < len(text) && text[i] != '\n' {
				i++
			}
			i++
		case b == '=':
			data = append(data, '=')
			i++
		case i+1 < len(text) && isHex(b) && isHex(text[i+1]):
			data = append(data, hexOf(b)<<4|hexOf(text[i+1]))
			i += 2
		default:
			data = append(data, '=')
		}
	}
	return data
}

// BodyUU decodes a uuencoded body as Python's email package does: what cannot
// be decoded stays as it is.
func BodyUU(text []byte) []byte {
	lines := Lines(text)
	begin := 0
	for ; begin < len(lines); begin++ {
		rest, ok := bytes.CutPrefix(lines[begin], []byte("begin "))
		mode, _, _ := bytes.Cut(rest, []byte(" "))
		mode = bytes.TrimSpace(mode)
		if ok && len(mode) > 0 && len(bytes.Trim(mode, "01234567")) == 0 {
			break
		}
	}
	if begin == len(lines) {
		return text
	}
	var data []byte
	for _, line := range lines[begin+1:] {
		if len(line) == 0 {
			return text
		}
		if string(bytes.Trim(line, " \t\r\n\f")) == "end" {
			break
		}
		decoded, err := uuLine(line)
		if err != nil { // encoders that add too much
			decoded, err = uuLine(line[:min(len(line), (int((line[0]-32)&63)*4+5)/3)])
		}
		if err != nil {
			return text
		}
		data = append(data, decoded...)
	}
	return data
}

func uuLine(line []byte) ([]byte, error) {
	if len(line) == 0 {
		return nil, nil
	}
	want := int(line[0]-' ') & 63
	line = line[1:]
	var data []byte
	left, bits := 0, 0
	for ; len(data) < want; line = line[min(1, len(line)):] {
		digit := 0
		if len(line) > 0 && line[0] != '\n' && line[0] != '\r' {
			if line[0] < ' ' || line[0] > ' '+64 {
				return nil, errMalformed
			}
			digit = int(line[0]-' ') & 63
		}
		left, bits = left<<6|digit, bits+6
		if bits >= 8 {
			bits -= 8
			data = append(data, byte(left>>bits))
			left &= 1<<bits - 1
		}
	}
	if len(bytes.Trim(line, " `\r\n")) > 0 {
		return nil, errMalformed
	}
	return data, nil
}
