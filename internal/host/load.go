package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/layer"
	"bake/internal/lazy"
	"bake/internal/secret"
)

// hostName is a DNS label that starts with a letter.
var hostName = lazy.Regexp(`^[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$`)

// UnknownError says that there is no host file of that name.
type UnknownError struct {
	Name  string
	Dir   string // where host files were looked for
	Known []string
}

func (e *UnknownError) Error() string {
	if !IsName(e.Name) {
		return fmt.Sprintf("unknown host %q: a host's name has a-z, 0-9 and -, starts with a letter and is a file in %s", e.Name, e.Dir)
	}
	if len(e.Known) == 0 {
		return fmt.Sprintf("unknown host %q: there is no host file in %s (bake init HOST writes one)", e.Name, e.Dir)
	}
	return fmt.Sprintf("unknown host %q: %s has %s", e.Name, e.Dir, strings.Join(e.Known, ", "))
}

// IsName reports whether a machine may have that name: a DNS label that starts
// with a letter.
func IsName(name string) bool { return hostName.MatchString(name) }

// Names returns the names of all host files in config/hosts, sorted. A name
// that no machine may have is among them, so that Load refuses the file and
// nobody takes it for baked; files that start with a dot or _ are no hosts.
func Names(config string) []string {
	// Not filepath.Glob: the directory's own name may have a [ in it.
	found, err := fs.Glob(os.DirFS(filepath.Join(config, "hosts")), "*.yaml")
	if err != nil {
		return nil // the pattern is constant and well formed
	}
	var names []string
	for _, path := range found {
		if name := strings.TrimSuffix(path, ".yaml"); !strings.HasPrefix(name, "_") && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// Load reads config/hosts/NAME.yaml, lays it over those of its groups and resolves it
// with the layers of the shelf. The error is an *UnknownError, a diag.List, or what the
// file system said.
func Load(config, name string, shelf layer.Shelf) (*Host, error) {
	node, err := read(config, name)
	if err != nil {
		return nil, err
	}
	return Resolve(config, name, node, shelf)
}

// Resolve is Load for a host file that was read already, wherever it stands.
func Resolve(config, name string, node *doc.Node, shelf layer.Shelf) (*Host, error) {
	merged, groups, files, err := inherit(config, node)
	if err != nil {
		return nil, err
	}
	r := resolver{node: merged, host: &Host{File: node.Pos.File, Merged: merged, Groups: groups, Shared: files}}
	r.resolve(name, shelf)
	if err := r.problems.Err(); err != nil {
		return nil, err
	}
	return r.host, nil
}

// read reads a host's own file.
func read(config, name string) (*doc.Node, error) {
	dir := filepath.Join(config, "hosts")
	unknown := func() error { return &UnknownError{Name: name, Dir: dir, Known: Names(config)} } // all files are read for it
	if !IsName(name) {
		return nil, unknown()
	}
	file := filepath.Join(dir, name+".yaml")
	node, err := doc.Read(os.DirFS(dir), name+".yaml", file)
	if errors.Is(err, fs.ErrNotExist) {
		other := filepath.Join(dir, name+".yml")
		if _, err := os.Lstat(other); err == nil {
			return nil, diag.List{{Pos: diag.Position{File: other}, Message: "a host file ends in .yaml",
				Hint: "rename it to " + name + ".yaml"}}
		}
		return nil, unknown()
	}
	return node, err
}

// resolver collects what is wrong while it fills a Host.
type resolver struct {
	node     *doc.Node
	host     *Host
	problems diag.List
}

func (r *resolver) resolve(name string, shelf layer.Shelf) {
	get := r.node.Fields("", &r.problems, "host", "groups", "labels", "base", "mirrors", "machine", "network", "domain", "admin",
		"layers", "payload", "secrets", "cloud-config", "override", "allow")
	if r.node.Kind != doc.Map {
		return
	}
	r.host.Name = r.text(r.node, get("host"), "host", "write the file's name: host: "+name)
	if n := get("host"); n != nil && r.host.Name != "" && r.host.Name != name {
		r.problems.Add(n.Problem("host", "rename one of the two", "the name %q differs from the file's, %q", r.host.Name, name))
	}
	r.labels(get("labels"), name)
	r.machine(get("machine"))
	r.base(get("base"))
	r.mirrors(get("mirrors"))
	r.network(get("network"), name)
	r.domain(get("domain"))
	r.admin(get("admin"))
	r.host.Secrets = secret.Read(get("secrets"), "secrets", &r.problems)
	r.payload(get("payload"))
	r.layers(get("layers"), shelf)
	r.config(get("cloud-config"), get("override"))
	r.allow(get("allow"))
}

// text reads a required line of text of parent.
func (r *resolver) text(parent, n *doc.Node, path, what string) string {
	switch {
	case n == nil:
		r.problems.Add(parent.Problem(path, what, "the key %q is missing", path[strings.LastIndexByte(path, '.')+1:]))
	case n.Kind != doc.String || n.Text == "":
		r.problems.Add(n.Problem(path, what, "this is %s, want text", n.Kind))
	case strings.ContainsFunc(n.Text, func(c rune) bool { return c < ' ' }):
		r.problems.Add(n.Problem(path, what, "%q has control characters", n.Text))
	default:
		return n.Text
	}
	return ""
}

func (r *resolver) config(config, override *doc.Node) {
	if config != nil {
		if config.Kind != doc.Map {
			r.problems.Add(config.Problem("cloud-config", "", "this is %s, want cloud-init's own keys", config.Kind))
		}
		r.host.Config = config
	}
	if override == nil {
		return
	}
	if override.Kind != doc.List {
		r.problems.Add(override.Problem("override", "", "this is %s, want a list of keys", override.Kind))
	}
	for i, item := range override.Items {
		path := fmt.Sprintf("override[%d]", i)
		at := config
		for _, key := range strings.Split(item.Text, ".") {
			at = at.Get(key)
		}
		if at == nil {
			r.problems.Add(item.Problem(path, "", "the host's cloud-config has no key %q", item.Text))
			continue
		}
		r.host.Winning = append(r.host.Winning, item.Text)
	}
}

// allow reads which rules of lint the host may break. Whether there are such rules
// is for lint to say.
func (r *resolver) allow(n *doc.Node) {
	if n == nil {
		return
	}
	if n.Kind != doc.Map {
		r.problems.Add(n.Problem("allow", "write allow: {RULE: why}", "this is %s, want rules with reasons", n.Kind))
		return
	}
	for _, pair := range n.Pairs {
		if pair.Value.Kind != doc.String || len(strings.Fields(pair.Value.Text)) < 2 {
			r.problems.Add(pair.Value.Problem("allow."+pair.Key.Text, "say why in a few words", "an exception needs a reason"))
			continue
		}
		r.host.Allow = append(r.host.Allow, Allowance{pair.Key.Text, pair.Value.Text, pair.Key})
	}
}
