package doc

import (
	"gopkg.in/yaml.v3"

	"bake/internal/lazy"
)

// What PyYAML's SafeLoader makes of a plain scalar (its resolver.py), as far
// as it is not text.
var (
	bool11  = lazy.Regexp(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)
	int11   = lazy.Regexp(`^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$`)
	base60  = lazy.Regexp(`^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$`)
	float11 = lazy.Regexp(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	time11  = lazy.Regexp(`^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:$|[Tt \t])`)

	// The spellings that both versions read alike.
	plainInt   = lazy.Regexp(`^-?(?:0|[1-9][0-9]{0,17})$`)
	plainFloat = lazy.Regexp(`^-?(?:0|[1-9][0-9]*)\.[0-9]+$`)
)

// ambiguity says why a plain scalar does not mean the same to everybody, or
// returns "".
func ambiguity(y *yaml.Node) string {
	text := y.Value
	switch {
	case text == "true" || text == "false" || text == "null" || text == "" || text == "~":
		return ""
	case plainInt.MatchString(text) || plainFloat.MatchString(text):
		return ""
	case bool11.MatchString(text) || y.Tag == "!!bool":
		return "is read as true or false by YAML 1.1: write true or false"
	case base60.MatchString(text):
		return "is read as a number in base 60 by YAML 1.1"
	case time11.MatchString(text) || y.Tag == "!!timestamp":
		return "is read as a date by YAML 1.1"
	case text == "=" || text == "<<" || y.Tag == "!!null":
		return "has a meaning of its own in YAML"
	case int11.MatchString(text) || float11.MatchString(text) || y.Tag == "!!int" || y.Tag == "!!float":
		return "is read as different numbers by YAML 1.1 and 1.2: write a plain decimal"
	}
	return ""
}
