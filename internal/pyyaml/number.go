package pyyaml

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"bake/internal/binascii"
	"bake/internal/doc"
	"bake/internal/lazy"
)

func (c *constructor) bool(n *node) *doc.Node {
	switch strings.ToLower(c.scalar(n)) {
	case "yes", "true", "on":
		return c.make(n, doc.Bool, "true")
	case "no", "false", "off":
		return c.make(n, doc.Bool, "false")
	}
	c.uncaught(n, "this is neither true nor false")
	return nil
}

// signed takes the sign off a number without its underscores.
func (c *constructor) signed(n *node) (text string, negative bool) {
	text = strings.ReplaceAll(c.scalar(n), "_", "")
	if text == "" {
		c.uncaught(n, "this is no number")
	}
	if text[0] == '-' || text[0] == '+' {
		return text[1:], text[0] == '-'
	}
	return text, false
}

func (c *constructor) int(n *node) string {
	text, negative := c.signed(n)
	if text == "" {
		c.uncaught(n, "this is no number")
	}
	value := new(big.Int)
	switch {
	case text == "0":
	case strings.HasPrefix(text, "0b"):
		value = c.digits(n, text[2:], 2)
	case strings.HasPrefix(text, "0x"):
		value = c.digits(n, text[2:], 16)
	case text[0] == '0':
		value = c.digits(n, text, 8)
	case strings.Contains(text, ":"):
		for part := range strings.SplitSeq(text, ":") {
			value.Mul(value, big.NewInt(60))
			value.Add(value, c.digits(n, part, 10))
		}
	default:
		value = c.digits(n, text, 10)
	}
	if negative {
		value.Neg(value)
	}
	return value.String()
}

// maxDigits is where Python refuses to read or write a decimal number.
const maxDigits = 4300

// digits is Python's int(text, base).
func (c *constructor) digits(n *node, text string, base int) *big.Int {
	text = strings.TrimFunc(text, func(r rune) bool { return in(" \t\n\v\f\r", r) })
	unsigned := strings.TrimLeft(text, "+-")
	if len(text)-len(unsigned) > 1 {
		c.fail(n, "this is no number")
	}
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" {
		if len(unsigned) > 2 && strings.EqualFold(unsigned[:2], prefix) {
			unsigned = unsigned[2:]
		}
	}
	value, ok := new(big.Int).SetString(unsigned, base)
	if !ok || strings.ContainsAny(unsigned, "+-_") {
		c.fail(n, "this is no number")
	}
	if base == 10 && len(unsigned) > maxDigits {
		c.fail(n, "a number of more than %d digits", maxDigits)
	}
	if strings.HasPrefix(text, "-") {
		value.Neg(value)
	}
	return value
}

func (c *constructor) float(n *node) string {
	text, negative := c.signed(n)
	text = strings.ToLower(text)
	var value float64
	switch {
	case text == ".inf":
		value = math.Inf(1)
	case text == ".nan":
		return ".nan"
	case strings.Contains(text, ":"):
		parts := strings.Split(text, ":")
		base := 1.0
		for i := len(parts) - 1; i >= 0; i-- {
			value += c.decimal(n, parts[i]) * base
			base *= 60
		}
	default:
		value = c.decimal(n, text)
	}
	if negative {
		value = -value
	}
	return FloatText(value)
}

var decimalForm = lazy.Regexp(`^[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|infinity|nan)$`)

func (c *constructor) decimal(n *node, text string) float64 {
	text = strings.TrimFunc(text, func(r rune) bool { return in(" \t\n\v\f\r", r) })
	value, err := strconv.ParseFloat(text, 64)
	if !decimalForm.MatchString(text) || err != nil && !math.IsInf(value, 0) {
		c.fail(n, "this is no number")
	}
	return value
}

// FloatText writes a number so that YAML 1.1 and 1.2 read it as a decimal one.
func FloatText(value float64) string {
	switch {
	case math.IsNaN(value):
		return ".nan"
	case math.IsInf(value, 1):
		return ".inf"
	case math.IsInf(value, -1):
		return "-.inf"
	}
	text := strconv.FormatFloat(value, 'g', -1, 64)
	if mantissa, exponent, ok := strings.Cut(text, "e"); ok {
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		return mantissa + "e" + exponent
	}
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

var timestampForm = lazy.Regexp(`^([0-9]{4})-([0-9][0-9]?)-([0-9][0-9]?)` +
	`(?:(?:[Tt]|[ \t]+)([0-9][0-9]?):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?` +
	`(?:[ \t]*(Z|([-+])([0-9][0-9]?)(?::([0-9]{2}))?))?)?\n?\z`)

// timestamp writes a date as Python's isoformat does.
func (c *constructor) timestamp(n *node) string {
	text := c.scalar(n)
	if n.shape != scalarShape {
		c.fail(n, "this is no date")
	}
	m := timestampForm.FindStringSubmatch(text)
	if m == nil {
		c.uncaught(n, "this is no date")
	}
	number := func(i int) int { v, _ := strconv.Atoi(m[i]); return v }
	year, month, day := number(1), number(2), number(3)
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if year < 1 || month < 1 || month > 12 || date.Day() != day {
		c.fail(n, "there is no such day")
	}
	iso := date.Format("2006-01-02")
	if m[4] == "" {
		return iso
	}
	if number(4) > 23 || number(5) > 59 || number(6) > 59 {
		c.fail(n, "there is no such time")
	}
	iso += fmt.Sprintf("T%02d:%02d:%02d", number(4), number(5), number(6))
	if fraction := (m[7] + "000000")[:6]; fraction != "000000" {
		iso += "." + fraction
	}
	switch {
	case m[9] != "":
		hours, minutes := number(10), number(11)
		if minutes += 60 * hours; minutes >= 24*60 {
			c.fail(n, "there is no such time zone")
		}
		sign := m[9]
		if minutes == 0 {
			sign = "+"
		}
		iso += fmt.Sprintf("%s%02d:%02d", sign, minutes/60, minutes%60)
	case m[8] != "":
		iso += "+00:00"
	}
	return iso
}

func (c *constructor) binary(n *node) string {
	text := c.scalar(n)
	for _, r := range text {
		if r > 0x7f {
			c.fail(n, "base64 is ASCII")
		}
	}
	data, err := binascii.Base64([]byte(text), false)
	if err != nil {
		c.fail(n, "this is no base64")
	}
	return string(data)
}
