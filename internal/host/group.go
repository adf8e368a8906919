package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/label"
)

const (
	everyone   = "defaults" // the group that all hosts are in, if it has a file
	ownPrefix  = "bake/"    // of labels that are bake's own
	ownLabel   = ownPrefix + "host"
	layersPath = "layers"
)

// groupFile is the name of a group's file in hosts/.
func groupFile(group string) string { return "_" + group + ".yaml" }

// Groups returns the names of all groups that config/hosts has a file for, sorted; the
// one of all hosts is not among them.
func Groups(config string) []string {
	found, _ := fs.Glob(os.DirFS(filepath.Join(config, "hosts")), "_*.yaml") // the pattern is constant and well formed
	var names []string
	for _, file := range found {
		if name := strings.TrimSuffix(strings.TrimPrefix(file, "_"), ".yaml"); name != everyone && IsName(name) {
			names = append(names, name)
		}
	}
	return names
}

// inherit lays a host file over those of its groups, and these over that of all hosts.
// Each value keeps the place where it is written. The files are those that had a part in
// it, by their names in hosts/.
func inherit(config string, own *doc.Node) (merged *doc.Node, groups, files []string, err error) {
	var problems diag.List
	groups = groupsOf(own, config, &problems)
	for _, group := range append([]string{everyone}, groups...) {
		node, err := readGroup(config, group)
		var list diag.List
		switch {
		case errors.Is(err, fs.ErrNotExist): // of a group that is named: reported where it is
			continue
		case errors.As(err, &list):
			problems.Add(list...)
			continue
		case err != nil:
			return nil, nil, nil, err
		}
		files = append(files, groupFile(group))
		merged = lay(merged, node, "")
	}
	if err := problems.Err(); err != nil {
		return nil, nil, nil, err
	}
	return lay(merged, own, ""), groups, files, nil
}

// groupsOf reads which groups a host is in.
func groupsOf(own *doc.Node, config string, problems *diag.List) (groups []string) {
	n := own.Get("groups")
	if n == nil {
		return nil
	}
	if n.Kind != doc.List {
		problems.Add(n.Problem("groups", "write groups: [web]", "this is %s, want a list of groups", n.Kind))
		return nil
	}
	for i, item := range n.Items {
		at := fmt.Sprintf("groups[%d]", i)
		switch {
		case item.Kind != doc.String || !IsName(item.Text):
			problems.Add(item.Problem(at, "", "%q is no name of a group: want a-z, 0-9 and -, starting with a letter", item.Text))
		case item.Text == everyone:
			problems.Add(item.Problem(at, "leave it away", "every host is in the group %s", everyone))
		case slices.Contains(groups, item.Text):
			problems.Add(item.Problem(at, "remove one of the two", "the group %q is listed twice", item.Text))
		case !isGroup(config, item.Text):
			hint := "write the file, which holds keys of a host file"
			if known := Groups(config); len(known) > 0 {
				hint = diag.DidYouMean(item.Text, known)
			}
			problems.Add(item.Problem(at, hint, "unknown group %q: there is no %s", item.Text, filepath.Join(config, "hosts", groupFile(item.Text))))
		default:
			groups = append(groups, item.Text)
		}
	}
	return groups
}

// isGroup asks for one file: the directory may have thousands.
func isGroup(config, group string) bool {
	_, err := os.Lstat(filepath.Join(config, "hosts", groupFile(group)))
	return err == nil
}

// readGroup reads what a group's hosts share.
func readGroup(config, group string) (*doc.Node, error) {
	dir := filepath.Join(config, "hosts")
	node, err := doc.Read(os.DirFS(dir), groupFile(group), filepath.Join(dir, groupFile(group)))
	if err != nil {
		return nil, err
	}
	var problems diag.List
	if node.Kind != doc.Map {
		problems.Add(node.Problem("", "", "this is %s, want keys of a host file", node.Kind))
	}
	for _, pair := range node.Pairs {
		switch pair.Key.Text {
		case "host":
			problems.Add(pair.Key.Problem("host", "remove it", "a group is no host"))
		case "groups":
			problems.Add(pair.Key.Problem("groups", "name both groups in the host files", "a group is in no group"))
		}
	}
	return node, problems.Err()
}

// isWhole says of maps whether they are one value, of which no part makes sense beside
// another's.
func isWhole(path string) bool {
	parent, _, _ := strings.Cut(path, ".")
	return path == "network.attach" || parent == "secrets" && path != "secrets"
}

// lay returns what is over, with what is under where that says nothing. Neither is
// changed, and under may be nil.
func lay(under, over *doc.Node, path string) *doc.Node {
	switch {
	case under == nil:
		return over
	case path == layersPath && under.Kind == doc.List && over.Kind == doc.List:
		return layLayers(under, over)
	case under.Kind != doc.Map || over.Kind != doc.Map || isWhole(path):
		return over
	}
	out := *over // its place is where what is missing is missed
	out.Pairs = nil
	for _, pair := range under.Pairs {
		if value := over.Get(pair.Key.Text); value != nil {
			at := slices.IndexFunc(over.Pairs, func(p doc.Pair) bool { return p.Key.Text == pair.Key.Text })
			pair = doc.Pair{Key: over.Pairs[at].Key, Value: lay(pair.Value, value, doc.Join(path, pair.Key.Text))}
		}
		out.Pairs = append(out.Pairs, pair)
	}
	for _, pair := range over.Pairs {
		if under.Get(pair.Key.Text) == nil {
			out.Pairs = append(out.Pairs, pair)
		}
	}
	return &out
}

// layLayers is lay for the lists of layers: those of both, each once, with the parameters
// of both.
func layLayers(under, over *doc.Node) *doc.Node {
	out := *over
	out.Items = slices.Clone(under.Items)
	for _, item := range over.Items {
		name, _ := layerOf(item)
		at := slices.IndexFunc(under.Items, func(o *doc.Node) bool {
			other, _ := layerOf(o)
			return name != "" && other == name
		})
		if at < 0 {
			out.Items = append(out.Items, item)
			continue
		}
		if _, params := layerOf(under.Items[at]); params != nil {
			out.Items[at] = layParams(params, item)
		} else {
			out.Items[at] = item
		}
	}
	return &out
}

// layParams is an entry of the list of layers with parameters that it inherits.
func layParams(under, item *doc.Node) *doc.Node {
	name, own := layerOf(item)
	out := *item
	if own == nil {
		key := *item
		out.Kind, out.Text = doc.Map, ""
		out.Pairs = []doc.Pair{{Key: &key, Value: under}}
		return &out
	}
	out.Pairs = []doc.Pair{{Key: item.Pairs[0].Key, Value: lay(under, own, doc.Join(layersPath, name))}}
	return &out
}

// layerOf reads an entry of the list of layers: its name, "" for what is none, and its
// parameters, nil for none.
func layerOf(item *doc.Node) (name string, params *doc.Node) {
	switch {
	case item.Kind == doc.String:
		return item.Text, nil
	case item.Kind == doc.Map && len(item.Pairs) == 1:
		return item.Pairs[0].Key.Text, item.Pairs[0].Value
	}
	return "", nil
}

// labels reads the labels of a host, and adds its own.
func (r *resolver) labels(n *doc.Node, name string) {
	r.host.Labels = labelsOf(n, name, &r.problems)
}

func labelsOf(n *doc.Node, name string, problems *diag.List) map[string]string {
	labels := map[string]string{ownLabel: name}
	if n == nil {
		return labels
	}
	if n.Kind != doc.Map {
		problems.Add(n.Problem("labels", "write labels: {role: web}", "this is %s, want keys and values", n.Kind))
		return labels
	}
	for _, pair := range n.Pairs {
		key, path := pair.Key.Text, "labels."+pair.Key.Text
		if err := label.CheckKey(key); err != nil {
			problems.Add(pair.Key.Problem(path, "", "%v", err))
			continue
		}
		if strings.HasPrefix(key, ownPrefix) {
			problems.Add(pair.Key.Problem(path, "choose another key", "labels that begin with %s are bake's own", ownPrefix))
			continue
		}
		if pair.Value.Kind != doc.String {
			problems.Add(pair.Value.Problem(path, "put it in quotes", "this is %s, want text", pair.Value.Kind))
			continue
		}
		if err := label.CheckValue(pair.Value.Text); err != nil {
			problems.Add(pair.Value.Problem(path, "", "%v", err))
			continue
		}
		labels[key] = pair.Value.Text
	}
	return labels
}

// Labels returns the labels of a host without reading more of it than is needed for
// that. The error is as that of Load.
func Labels(config, name string) (map[string]string, error) {
	own, err := read(config, name)
	if err != nil {
		return nil, err
	}
	merged, _, _, err := inherit(config, own)
	if err != nil {
		return nil, err
	}
	var problems diag.List
	labels := labelsOf(merged.Get("labels"), name, &problems)
	return labels, problems.Err()
}
