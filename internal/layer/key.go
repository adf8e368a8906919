package layer

// A Key is a key of layer.yaml.
type Key struct {
	Name  string
	Form  string // text, list or map
	About string // one line
}

// Keys describes every key of layer.yaml, in the order in which they stand.
func Keys() []Key {
	var all []Key
	for _, name := range keyOrder {
		all = append(all, Key{name, keyForms[name][0], keyForms[name][1]})
	}
	return all
}

var keyForms = map[string][2]string{
	"layer":        {"text", "the folder's name"},
	"replaces":     {"text", "the name of the built-in layer whose place this takes: its own"},
	"summary":      {"text", "what it does, in one line"},
	"threat":       {"text", "what it defends against, or none"},
	"refs":         {"list", "where to read more: man pages, benchmarks"},
	"requires":     {"list", "layers that must be there"},
	"after":        {"list", "layers that come before this one if they are there"},
	"params":       {"map", "what a host file may set, by name"},
	"packages":     {"list", "Debian packages that it needs"},
	"payload":      {"list", "what else the payload must hold"},
	"state":        {"list", "directories that outlive the root disk"},
	"logins":       {"list", "accounts that it makes for others to log in by a key"},
	"files":        {"map", "exceptions to 0644 root:root early for files of the folder files/, by guest path"},
	"cloud-config": {"map", "cloud-init's own keys"},
	"domain":       {"map", "what it needs of the machine"},
	"checks":       {"map", "the claims that prove it, inside and outside"},
}

// ParamTypes lists the types of parameters.
func ParamTypes() []string { return typeNames() }
