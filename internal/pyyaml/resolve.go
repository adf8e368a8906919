package pyyaml

import "bake/internal/lazy"

// The regular expressions of PyYAML's resolver, in its order. What Python's $
// takes is the end or a line feed before it.
var resolvers = []struct {
	first string // the characters a value of this kind can start with; "" is the empty value
	empty bool
	tag   string
	form  lazy.Regexp
}{
	{"yYnNtTfFoO", false, "bool", lazy.Regexp(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)\n?\z`)},
	{"-+0123456789.", false, "float", lazy.Regexp(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?` +
		`|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\n?\z`)},
	{"-+0123456789", false, "int", lazy.Regexp(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)` +
		`|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)\n?\z`)},
	{"<", false, "merge", lazy.Regexp(`^<<\n?\z`)},
	{"~nN", true, "null", lazy.Regexp(`^(?:~|null|Null|NULL|)\n?\z`)},
	{"0123456789", false, "timestamp", lazy.Regexp(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}` +
		`|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)\n?\z`)},
	{"=", false, "value", lazy.Regexp(`^=\n?\z`)},
	{"!&*", false, "yaml", lazy.Regexp(`^[!&*]\n?\z`)},
}

// resolve gives the tag of a plain scalar.
func resolve(text string) string {
	for _, r := range resolvers {
		if text == "" && !r.empty || text != "" && !in(r.first, rune(text[0])) {
			continue
		}
		if r.form.MatchString(text) {
			return core + r.tag
		}
	}
	return core + "str"
}
