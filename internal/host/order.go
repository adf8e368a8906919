package host

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"bake/internal/attest"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/layer"
	"bake/internal/secret"
)

// chosen is a layer as a host file lists it.
type chosen struct {
	name  *doc.Node // where the name stands
	given *doc.Node // its parameters, nil for none
	path  string
	layer *layer.Layer
}

func (r *resolver) layers(n *doc.Node, shelf layer.Shelf) {
	if n == nil || n.Kind != doc.List || len(n.Items) == 0 {
		const hint = "write layers: [ssh, ufw]; bake layers shows what there is"
		switch {
		case n == nil:
			r.problems.Add(r.node.Problem("layers", hint, "the key \"layers\" is missing: nothing would be hardened"))
		case n.Kind == doc.List:
			r.problems.Add(n.Problem("layers", hint, "the list is empty: nothing would be hardened"))
		default:
			r.problems.Add(n.Problem("layers", hint, "this is %s, want a list of layers", n.Kind))
		}
		return
	}
	items := n.Items
	if !slices.ContainsFunc(items, isAttest) && slices.Contains(shelf.Names(), attest.Layer) {
		own := *n
		own.Kind, own.Text, own.Items = doc.String, attest.Layer, nil
		items = slices.Concat(items, []*doc.Node{&own})
	}
	var all []chosen
	for i, item := range items {
		c, ok := r.choose(item, fmt.Sprintf("layers[%d]", i), shelf)
		if !ok {
			continue
		}
		if twice := slices.IndexFunc(all, func(o chosen) bool { return o.name.Text == c.name.Text }); twice >= 0 {
			r.problems.Add(c.name.Problem(c.path, "remove one of the two", "the layer %q is listed twice, first on line %d",
				c.name.Text, all[twice].name.Pos.Line))
			continue
		}
		all = append(all, c)
	}
	all = r.delivery(r.keeping(r.packages(all, n, shelf), shelf), shelf)
	// Shut the door first: what other layers do before the network happens behind it.
	slices.SortStableFunc(all, func(a, b chosen) int { return rank(a) - rank(b) })
	facts := layer.Facts{Host: r.host.Name, AdminName: r.host.Admin.Name, AdminKeys: r.host.Admin.Keys, Secrets: secret.Names(r.host.Secrets), State: r.outliving(all), Logins: logins(all)}
	if facts.AdminName == "" { // reported already; the layers are not to blame
		facts.AdminName = "nobody"
	}
	for _, c := range r.order(all) {
		given := c.given
		if given == nil { // what is missing is missing where the layer is named
			none := *c.name
			none.Kind, none.Text = doc.Map, ""
			given = &none
		}
		rendered, err := c.layer.Render(given, c.path, facts)
		r.add(err)
		r.host.Layers = append(r.host.Layers, rendered)
	}
}

// logins lists the accounts that the layers make for others to log in.
func logins(all []chosen) (names []string) {
	for _, c := range all {
		for _, name := range c.layer.Logins {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// isAttest says whether an entry of layers names the layer that every machine
// has.
func isAttest(item *doc.Node) bool {
	return item.Text == attest.Layer || item.Get(attest.Layer) != nil
}

func rank(c chosen) int {
	if c.name.Text == attest.Layer {
		return 0
	}
	return 1
}

// payloadLayer installs the packages of the others.
const payloadLayer = "payload"

// payload reads whether packages come on a disk.
func (r *resolver) payload(n *doc.Node) {
	r.host.Offline = true
	if text, ok := r.read(n, "payload", layer.Param{Type: "enum", Of: []string{"offline", "none"}}); ok {
		r.host.Offline = text == "offline"
	}
}

// packages puts the layer that installs the packages of the others before them if
// there are any.
func (r *resolver) packages(all []chosen, n *doc.Node, shelf layer.Shelf) []chosen {
	r.host.Offline = r.host.Offline && slices.Contains(shelf.Names(), payloadLayer) &&
		slices.ContainsFunc(all, func(c chosen) bool { return len(c.layer.Packages)+len(c.layer.Payload) > 0 })
	for _, c := range all {
		if len(c.layer.Payload) > 0 && !r.host.Offline {
			r.problems.Add(c.name.Problem(c.path, "remove payload: none", "the layer %s needs a payload: there is no other way to get %s",
				c.name.Text, strings.Join(c.layer.Payload, ", ")))
		}
	}
	if !r.host.Offline {
		if listed := find(all, payloadLayer); listed >= 0 {
			r.problems.Add(all[listed].name.Problem(all[listed].path, "remove it: it comes along with payload: offline and a layer that needs packages",
				"there are no packages that the layer could install"))
		}
		return all
	}
	own := *n
	own.Kind, own.Text, own.Items = doc.String, payloadLayer, nil
	return r.first(all, &own, payloadLayer, shelf)
}

// secretsLayer delivers the secrets; the host file's key has the same name.
const secretsLayer = "secrets"

// delivery puts the layer that delivers the secrets before all others if there
// are any.
func (r *resolver) delivery(all []chosen, shelf layer.Shelf) []chosen {
	if len(r.host.Secrets) == 0 {
		listed := find(all, secretsLayer)
		if n := r.node.Get(secretsLayer); listed >= 0 && (n == nil || len(n.Pairs) == 0) {
			r.problems.Add(all[listed].name.Problem(all[listed].path, "remove it, or write secrets: {NAME: {file: PATH}}, which brings the layer along",
				"the host has no secrets that the layer could deliver"))
		}
		return all
	}
	return r.first(all, keyOf(r.node, secretsLayer), secretsLayer, shelf)
}

// find says where a layer is listed, -1 for nowhere.
func find(all []chosen, name string) int {
	return slices.IndexFunc(all, func(c chosen) bool { return c.name.Text == name })
}

// first puts a layer that comes along by itself before all others: as it is listed, with
// its parameters, or else as name has it, which stands where it comes from.
func (r *resolver) first(all []chosen, name *doc.Node, path string, shelf layer.Shelf) []chosen {
	if listed := find(all, name.Text); listed >= 0 {
		c := all[listed]
		return slices.Insert(slices.Delete(all, listed, listed+1), 0, c)
	}
	c, ok := r.choose(name, path, shelf)
	if !ok {
		return all
	}
	return slices.Insert(all, 0, c)
}

// keyOf is a key that a map has, as a node.
func keyOf(n *doc.Node, key string) *doc.Node {
	at := slices.IndexFunc(n.Pairs, func(p doc.Pair) bool { return p.Key.Text == key })
	return n.Pairs[at].Key
}

// add takes over the problems of an error made elsewhere.
func (r *resolver) add(err error) {
	var list diag.List
	if errors.As(err, &list) {
		r.problems.Add(list...)
	} else if err != nil {
		r.problems.Add(diag.Problem{Pos: diag.Position{File: r.host.File}, Message: err.Error()})
	}
}

// choose reads one entry of layers: a name, or a map with one name and its
// parameters.
func (r *resolver) choose(item *doc.Node, path string, shelf layer.Shelf) (chosen, bool) {
	c := chosen{name: item, path: path}
	if item.Kind == doc.Map && len(item.Pairs) == 1 {
		c.name, c.given = item.Pairs[0].Key, item.Pairs[0].Value
		c.path = doc.Join(path, c.name.Text)
	}
	if c.name.Kind != doc.String {
		r.problems.Add(item.Problem(path, "- ufw, or - ufw: {allow_tcp: [22]}", "want a layer's name, or one name with its parameters"))
		return c, false
	}
	if c.given != nil && c.given.Kind != doc.Map {
		r.problems.Add(c.given.Problem(c.path, "- "+c.name.Text+": {parameter: value}", "this is %s, want the layer's parameters", c.given.Kind))
		return c, false
	}
	opened, err := shelf.Open(c.name.Text)
	if errors.Is(err, fs.ErrNotExist) {
		r.problems.Add(c.name.Problem(c.path, diag.DidYouMean(c.name.Text, shelf.Names()), "unknown layer %q", c.name.Text))
		return c, false
	}
	r.add(err)
	c.layer = opened
	return c, err == nil
}

// order keeps the listed order, except that a layer comes after those which it
// requires or follows. It reports missing requirements and circles.
func (r *resolver) order(all []chosen) []chosen {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.name.Text
	}
	for _, c := range all {
		for _, need := range c.layer.Requires {
			if !slices.Contains(names, need) {
				r.problems.Add(c.name.Problem(c.path, "list "+need+" too", "the layer %s requires the layer %s", c.name.Text, need))
			}
		}
	}
	var sorted []chosen
	placed := map[string]bool{}
	for len(sorted) < len(all) {
		next := slices.IndexFunc(all, func(c chosen) bool {
			before := slices.Concat(c.layer.Requires, c.layer.After)
			return !placed[c.name.Text] && !slices.ContainsFunc(before, func(name string) bool {
				return slices.Contains(names, name) && !placed[name]
			})
		})
		if next < 0 {
			r.circle(all, placed)
			return nil
		}
		placed[all[next].name.Text] = true
		sorted = append(sorted, all[next])
	}
	return sorted
}

func (r *resolver) circle(all []chosen, placed map[string]bool) {
	var left []string
	var first *chosen
	for i, c := range all {
		if !placed[c.name.Text] {
			left = append(left, c.name.Text)
			if first == nil {
				first = &all[i]
			}
		}
	}
	r.problems.Add(first.name.Problem(first.path, "see requires and after in their layer.yaml",
		"no order fits the layers %s: they follow each other in a circle", strings.Join(left, ", ")))
}
