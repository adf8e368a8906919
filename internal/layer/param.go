package layer

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// A Param is a parameter that a host file may set.
type Param struct {
	Name     string
	Type     string // one of the names in paramTypes
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
	safeWord = lazy.Regexp(`^[A-Za-z0-9_@%+=:,./-]*$`)
	userName = lazy.Regexp(`^[a-z_][a-z0-9_-]{0,31}$`)
	plain    = lazy.Regexp(`^[a-z][a-z0-9_.-]{0,62}$`)
	word     = lazy.Regexp(`^[A-Za-z0-9][A-Za-z0-9_+=:,./-]{0,127}$`)
	guest    = lazy.Regexp(`^/[A-Za-z0-9._/@+-]*$`)
	image    = lazy.Regexp(`^([a-z0-9][a-z0-9_.:/-]{0,254}@)?sha256:[0-9a-f]{64}$`)
	duration = lazy.Regexp(`^([1-9][0-9]{0,8}|0)(s|m|h|d)$`)
	size     = lazy.Regexp(`^([1-9][0-9]{0,17})(KiB|MiB|GiB|TiB)?$`)
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
	{"path", "an absolute path of letters, digits and . _ - + @, without .. and //"},
	{"duration", "a duration such as 90s, 10m, 1h or 7d"},
	{"size", "a size such as 512MiB or 3GiB"},
	{"enum", "one of the words the layer lists"},
	{"ssh_keys", "a list of public keys as in authorized_keys, without options"},
	{"cidr", "an address such as 2001:db8::1, or a network such as 192.0.2.0/24 with zeros after the prefix"},
	{"word", "a word: letters, digits and _ + = : , . / -, starting with a letter or digit, at most 128"},
	{"image", "a container image by its digest: NAME@sha256: and 64 hex digits, or the latter alone for one that is loaded by hand"},
	{"users", "a list of user names"},
	{"user_keys", "a list of lines: a user name, a blank and a public key as in authorized_keys"},
	{"names", "a list of names"},
	{"words", "a list of words without blanks"},
	{"paths", "a list of absolute paths"},
	{"cidrs", "a list of addresses and networks"},
	{"string", "one line of printable text"},
	{"secret", "the name of one of the host's secrets"},
}

// itemTypes says what a list type is a list of; ssh_key and user_key are no types of
// their own.
var itemTypes = map[string]string{"ports": "port", "ssh_keys": "ssh_key", "names": "name", "paths": "path", "cidrs": "cidr",
	"users": "user", "user_keys": "user_key", "words": "word"}

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
		form += fmt.Sprintf(", from %s to %s", p.amount(*p.Min), p.amount(*p.Max))
	case p.Min != nil:
		form += ", at least " + p.amount(*p.Min)
	case p.Max != nil:
		form += ", at most " + p.amount(*p.Max)
	}
	return form
}

// amount writes a bound as a host file would: 512MiB, 1h, 80 characters.
func (p Param) amount(n int64) string {
	in := func(units []unit) string {
		for _, u := range units {
			if n != 0 && n%u.factor == 0 {
				return fmt.Sprintf("%d%s", n/u.factor, u.name)
			}
		}
		return strconv.FormatInt(n, 10)
	}
	switch p.Type {
	case "size":
		return in(sizeUnits)
	case "duration":
		return in(durationUnits)
	case "string":
		return fmt.Sprintf("%d characters", n)
	}
	return in(nil)
}

// A unit is a suffix of a number and what it multiplies by.
type unit struct {
	name   string
	factor int64
}

// The units, largest first.
var (
	sizeUnits     = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}
	durationUnits = []unit{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}
)

// bind checks a value given in a host file or as a default.
func (p Param) bind(n *doc.Node, path string, problems *diag.List) (value, bool) {
	wrong := func(n *doc.Node) (value, bool) {
		problems.Add(p.problem(n, path))
		return value{}, false
	}
	if itemTypes[p.Type] != "" {
		if n.Kind != doc.List {
			return wrong(n)
		}
		return p.bindItems(n, path, problems)
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

func (p Param) bindItems(list *doc.Node, path string, problems *diag.List) (value, bool) {
	of := Param{Type: itemTypes[p.Type], Min: p.Min, Max: p.Max}
	v := value{kind: doc.String, list: true, safe: of.Type != "ssh_key" && of.Type != "user_key"}
	if of.Type == "port" {
		v.kind = doc.Int
	}
	ok := true
	for i, item := range list.Items {
		text, fits := of.element(item)
		if !fits {
			problems.Add(of.problem(item, fmt.Sprintf("%s[%d]", path, i)))
			ok = false
		}
		v.text = append(v.text, text)
	}
	return v, ok
}

// problem says that a value is none of the type.
func (p Param) problem(n *doc.Node, path string) diag.Problem {
	switch name, key, _ := strings.Cut(n.Text, " "); {
	case p.Type == "ssh_key":
		return n.Problem(path, KeyHint, "%v", CheckKey(n.Text))
	case p.Type == "user_key" && !userName.MatchString(name):
		return n.Problem(path, "write a line such as: ops ssh-ed25519 AAAA... ops@desk", "%q is not a user name", name)
	case p.Type == "user_key":
		return n.Problem(path, KeyHint, "after the user name: %v", CheckKey(key))
	case p.Type == "secret":
		return misplaced(n, path, "write the name alone: what it is stands nowhere in a host file", "want "+p.form())
	}
	if n.Kind == doc.Null || !n.Scalar() {
		return n.Problem(path, "", "this is %s, want %s", n.Kind, p.form())
	}
	other, hint := *n, "write it in quotes"
	switch {
	case n.Kind != doc.String:
		other.Kind = doc.String
	case n.Text == "true" || n.Text == "false":
		other.Kind, hint = doc.Bool, "write it without quotes"
	default:
		other.Kind, hint = doc.Int, "write it without quotes"
	}
	if _, fits := p.element(&other); !fits {
		hint = ""
	}
	return n.Problem(path, hint, "%q is not allowed, want %s", n.Text, p.form())
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
	case "port":
		text, ok := number(n.Text, 1)
		i, _ := strconv.Atoi(text)
		return text, ok && n.Kind == doc.Int && i >= 1 && i <= 65535
	case "user":
		return n.Text, isText && userName.MatchString(n.Text)
	case "name":
		return n.Text, isText && plain.MatchString(n.Text)
	case "word":
		return n.Text, isText && word.MatchString(n.Text)
	case "image":
		return n.Text, isText && image.MatchString(n.Text)
	case "path":
		return n.Text, isText && guest.MatchString(n.Text) && path.Clean(n.Text) == n.Text
	case "duration":
		return scaled(duration, n, durationUnits, number)
	case "size":
		return scaled(size, n, sizeUnits, number)
	case "enum":
		return n.Text, isText && slices.Contains(p.Of, n.Text)
	case "ssh_key": // of ssh_keys
		return n.Text, isText && CheckKey(n.Text) == nil
	case "user_key": // of user_keys
		name, key, _ := strings.Cut(n.Text, " ")
		return n.Text, isText && userName.MatchString(name) && CheckKey(key) == nil
	case "cidr":
		if prefix, err := netip.ParsePrefix(n.Text); isText && err == nil {
			return prefix.String(), prefix == prefix.Masked() && prefix.Addr().Zone() == ""
		}
		address, err := netip.ParseAddr(n.Text)
		return n.Text, isText && err == nil && address.Zone() == ""
	case "secret":
		return n.Text, isText && (plain.MatchString(n.Text) || n.Text == "" && p.Default != nil)
	case "string":
		return n.Text, isText && oneLine(n.Text) && p.within(int64(len([]rune(n.Text))))
	}
	return "", false
}

// misplaced is a problem with what should be the name of a secret and may be a
// secret instead: it is not quoted, and its line not shown.
func misplaced(n *doc.Node, path, hint, message string) diag.Problem {
	problem := n.Problem(path, hint, "%s", message)
	problem.Secret = true
	return problem
}

func (p Param) within(i int64) bool {
	return (p.Min == nil || i >= *p.Min) && (p.Max == nil || i <= *p.Max)
}

func scaled(form lazy.Regexp, n *doc.Node, units []unit, number func(string, int64) (string, bool)) (string, bool) {
	m := form.FindStringSubmatch(n.Text)
	if m == nil || n.Kind != doc.String && n.Kind != doc.Int {
		return "", false
	}
	i := slices.IndexFunc(units, func(u unit) bool { return u.name == m[2] })
	return number(m[1], units[i].factor)
}

func oneLine(text string) bool {
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return len(text) <= 4096 && utf8.ValidString(text)
}

// Read checks a node against the parameter's type and bounds and returns its
// elements in canonical form: numbers in decimal, durations in seconds, sizes
// in bytes. What is wrong is added to problems; ok is false then. Host files
// use it too, so that a size is a size everywhere.
func (p Param) Read(n *doc.Node, path string, problems *diag.List) (elements []string, ok bool) {
	v, ok := p.bind(n, path, problems)
	return v.text, ok
}

// Documented returns the parameter's default as it would stand in a host
// file, "" when the parameter is required.
func (p Param) Documented() string {
	if p.Default == nil {
		return ""
	}
	if p.Default.Kind != doc.List {
		return p.Default.Text
	}
	text := "["
	for i, item := range p.Default.Items {
		if i > 0 {
			text += ", "
		}
		text += item.Text
	}
	return text + "]"
}
