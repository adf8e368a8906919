package layer

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"bake/internal/diag"
	"bake/internal/doc"
)

// A Param is a parameter that a host file may set.
type Param struct {
	Name     string
	Type     string // one of the keys of paramTypes
	Required bool
	Min, Max *int64 // bounds of numbers, ports, seconds, bytes; of the length of a string
	Of       []string
	Help     string
	Default  *doc.Node // nil when Required
}

// value is a bound parameter. Every type but string is safe: its elements
// match safeWord, so they mean nothing to a shell, sudoers or a unit file.
type value struct {
	kind doc.Kind
	list bool
	safe bool
	text []string // one element unless list
}

var (
	safeWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]*$`)
	userName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	plain    = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,62}$`)
	guest    = regexp.MustCompile(`^/[A-Za-z0-9._/@+-]*$`)
	duration = regexp.MustCompile(`^([1-9][0-9]{0,8}|0)(s|m|h|d)$`)
	size     = regexp.MustCompile(`^([1-9][0-9]{0,9})(KiB|MiB|GiB|TiB)?$`)
)

// paramTypes lists the types in the order in which messages name them, with
// the form of a value.
var paramTypes = []struct{ name, form string }{
	{"bool", "true or false"},
	{"int", "a whole number"},
	{"port", "a port number from 1 to 65535"},
	{"ports", "a list of port numbers from 1 to 65535"},
	{"user", "a user name such as ops: a-z, 0-9, - and _, at most 32"},
	{"name", "a name: a-z, 0-9, . - and _, starting with a letter, at most 63"},
	{"path", "an absolute path of letters, digits and . _ - + @"},
	{"duration", "a duration such as 90s, 10m, 1h or 7d"},
	{"size", "a size such as 512MiB or 3GiB"},
	{"enum", "one of the words the layer lists"},
	{"ssh_keys", "a list of public keys as in authorized_keys, without options"},
	{"cidr", "an address or network such as 192.0.2.0/24 or 2001:db8::1"},
	{"string", "one line of printable text"},
}

func typeNames() []string {
	var names []string
	for _, t := range paramTypes {
		names = append(names, t.name)
	}
	return names
}

func (p Param) form() string {
	if p.Type == "enum" {
		return "one of " + strings.Join(p.Of, ", ")
	}
	form := ""
	for _, t := range paramTypes {
		if t.name == p.Type {
			form = t.form
		}
	}
	switch {
	case p.Min != nil && p.Max != nil:
		form += fmt.Sprintf(", from %d to %d", *p.Min, *p.Max)
	case p.Min != nil:
		form += fmt.Sprintf(", at least %d", *p.Min)
	case p.Max != nil:
		form += fmt.Sprintf(", at most %d", *p.Max)
	}
	return form
}

// bind checks a value given in a host file or as a default.
func (p Param) bind(n *doc.Node, path string, problems *diag.List) (value, bool) {
	wrong := func(at *doc.Node) (value, bool) {
		shown := at.Text
		if !at.Scalar() {
			shown = string(at.Kind)
		}
		problems.Add(at.Problem(path, "", "%q is not allowed, want %s", shown, p.form()))
		return value{}, false
	}
	if p.Type == "ports" || p.Type == "ssh_keys" {
		if n.Kind != doc.List {
			return wrong(n)
		}
		v := value{kind: doc.Int, list: true, safe: p.Type == "ports"}
		if p.Type == "ssh_keys" {
			v.kind = doc.String
		}
		for _, item := range n.Items {
			text, ok := p.element(item)
			if !ok {
				return wrong(item)
			}
			v.text = append(v.text, text)
		}
		return v, true
	}
	text, ok := p.element(n)
	if !ok {
		return wrong(n)
	}
	v := value{kind: doc.String, safe: p.Type != "string", text: []string{text}}
	switch p.Type {
	case "bool":
		v.kind = doc.Bool
	case "int", "port", "duration", "size":
		v.kind = doc.Int
	}
	if v.safe && !safeWord.MatchString(text) { // unreachable unless a type above is too generous
		return wrong(n)
	}
	return v, true
}

// element checks one scalar and returns its canonical text: durations in
// seconds, sizes in bytes.
func (p Param) element(n *doc.Node) (string, bool) {
	number := func(digits string, factor int64) (string, bool) {
		i, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || i > math.MaxInt64/factor || !p.within(i*factor) {
			return "", false
		}
		return strconv.FormatInt(i*factor, 10), true
	}
	isText := n.Kind == doc.String
	switch p.Type {
	case "bool":
		return n.Text, n.Kind == doc.Bool
	case "int":
		if n.Kind != doc.Int {
			return "", false
		}
		return number(n.Text, 1)
	case "port", "ports":
		text, ok := number(n.Text, 1)
		i, _ := strconv.Atoi(text)
		return text, ok && n.Kind == doc.Int && i >= 1 && i <= 65535
	case "user":
		return n.Text, isText && userName.MatchString(n.Text)
	case "name":
		return n.Text, isText && plain.MatchString(n.Text)
	case "path":
		return n.Text, isText && guest.MatchString(n.Text) && path.Clean(n.Text) == n.Text
	case "duration":
		return scaled(duration, n, map[string]int64{"s": 1, "m": 60, "h": 3600, "d": 86400}, number)
	case "size":
		return scaled(size, n, map[string]int64{"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}, number)
	case "enum":
		return n.Text, isText && slices.Contains(p.Of, n.Text)
	case "ssh_keys":
		return n.Text, isText && CheckKey(n.Text) == nil
	case "cidr":
		if prefix, err := netip.ParsePrefix(n.Text); isText && err == nil {
			return prefix.String(), prefix == prefix.Masked() && prefix.Addr().Zone() == ""
		}
		address, err := netip.ParseAddr(n.Text)
		return n.Text, isText && err == nil && address.Zone() == ""
	case "string":
		return n.Text, isText && oneLine(n.Text) && p.within(int64(len([]rune(n.Text))))
	}
	return "", false
}

func (p Param) within(i int64) bool {
	return (p.Min == nil || i >= *p.Min) && (p.Max == nil || i <= *p.Max)
}

func scaled(form *regexp.Regexp, n *doc.Node, units map[string]int64, number func(string, int64) (string, bool)) (string, bool) {
	m := form.FindStringSubmatch(n.Text)
	if m == nil || n.Kind != doc.String && n.Kind != doc.Int {
		return "", false
	}
	return number(m[1], units[m[2]])
}

func oneLine(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return len(text) <= 4096
}

// Read checks a node against the parameter's type and bounds and returns its
// elements in canonical form: numbers in decimal, durations in seconds, sizes
// in bytes. What is wrong is added to problems; ok is false then. Host files
// use it too, so that a size is a size everywhere.
func (p Param) Read(n *doc.Node, path string, problems *diag.List) (elements []string, ok bool) {
	v, ok := p.bind(n, path, problems)
	return v.text, ok
}
