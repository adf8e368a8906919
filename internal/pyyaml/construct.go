package pyyaml

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
)

// constructor makes values of nodes. Lists, maps and sets are filled in rounds,
// as PyYAML's generators do it: an alias may lead back to what is being filled.
type constructor struct {
	source  Source
	lines   []string
	options Options
	made    map[*node]*doc.Node
	rounds  []func()
	merged  int // pairs that merge keys have brought
}

func (c *constructor) document(n *node) *doc.Node {
	root := c.value(n)
	for len(c.rounds) > 0 {
		round := c.rounds
		c.rounds = nil
		for _, fill := range round {
			fill()
		}
	}
	return root
}

func (c *constructor) fail(n *node, format string, args ...any) {
	panic(&Error{mark: n.at, Message: fmt.Sprintf(format, args...)})
}

func (c *constructor) uncaught(n *node, format string, args ...any) {
	panic(&Error{mark: n.at, Message: fmt.Sprintf(format, args...), Uncaught: true})
}

func (c *constructor) value(n *node) *doc.Node {
	if v := c.made[n]; v != nil {
		return v
	}
	v := c.construct(n)
	c.made[n] = v
	return v
}

func (c *constructor) make(n *node, kind doc.Kind, text string) *doc.Node {
	return doc.At(kind, text, diag.Position{File: c.source.File, Line: c.source.Line + n.at.line, Col: n.at.col + 1}, c.lines)
}

func (c *constructor) construct(n *node) *doc.Node {
	tag, ours := strings.CutPrefix(n.tag, core)
	if !ours {
		tag = ""
	}
	switch tag {
	case "null":
		c.scalar(n)
		return c.make(n, doc.Null, "")
	case "bool":
		return c.bool(n)
	case "int":
		return c.make(n, doc.Int, c.int(n))
	case "float":
		return c.make(n, doc.Float, c.float(n))
	case "timestamp":
		return c.make(n, Date, c.timestamp(n))
	case "binary":
		return c.make(n, Bytes, c.binary(n))
	case "str":
		return c.make(n, doc.String, c.scalar(n))
	case "python/unicode":
		if c.options.Unicode {
			return c.make(n, doc.String, c.scalar(n))
		}
	case "omap", "pairs":
		return c.later(n, doc.List, c.fillPairs)
	case "set":
		return c.later(n, Set, c.fillMap)
	case "seq":
		return c.later(n, doc.List, func(n *node, v *doc.Node) {
			if n.shape != listShape {
				c.fail(n, "this is not a list")
			}
			for _, item := range n.items {
				v.Items = append(v.Items, c.value(item))
			}
		})
	case "map":
		return c.later(n, doc.Map, c.fillMap)
	}
	c.fail(n, "nothing is known of the tag %s", n.tag)
	return nil
}

func (c *constructor) later(n *node, kind doc.Kind, fill func(*node, *doc.Node)) *doc.Node {
	v := c.make(n, kind, "")
	c.rounds = append(c.rounds, func() { fill(n, v) })
	return v
}

func (c *constructor) scalar(n *node) string {
	switch n.shape {
	case mapShape:
		for _, pair := range n.pairs {
			if pair[0].tag == core+"value" {
				return c.scalar(pair[1])
			}
		}
		c.fail(n, "this is a map, want a single value")
	case listShape:
		c.fail(n, "this is a list, want a single value")
	}
	return n.text
}

// flatten puts the maps of merge keys before the keys of the map itself.
func (c *constructor) flatten(n *node) {
	var merged [][2]*node
	take := func(pairs [][2]*node) {
		if c.merged += len(pairs); c.merged > maxValues { // of a file of a few lines, too
			panic(&Error{mark: n.at, Message: "merge keys that multiply beyond measure", Uncertain: true})
		}
		merged = append(merged, pairs...)
	}
	for i := 0; i < len(n.pairs); {
		key, value := n.pairs[i][0], n.pairs[i][1]
		switch key.tag {
		case core + "merge":
			n.pairs = append(n.pairs[:i:i], n.pairs[i+1:]...)
			switch value.shape {
			case mapShape:
				c.flatten(value)
				take(value.pairs)
			case listShape:
				for _, item := range value.items {
					if item.shape != mapShape {
						c.fail(item, "<< merges maps only")
					}
					c.flatten(item)
				}
				for j := len(value.items) - 1; j >= 0; j-- {
					take(value.items[j].pairs)
				}
			default:
				c.fail(value, "<< merges maps only")
			}
			continue
		case core + "value":
			key.tag = core + "str"
		}
		i++
	}
	if len(merged) > 0 {
		n.pairs = append(merged, n.pairs...)
	}
}

func (c *constructor) fillMap(n *node, v *doc.Node) {
	if n.shape != mapShape {
		c.fail(n, "this is not a map")
	}
	c.flatten(n)
	at := map[string]int{}
	for _, pair := range n.pairs {
		key := c.value(pair[0])
		if key.Kind == doc.List || key.Kind == doc.Map || key.Kind == Set {
			c.fail(pair[0], "a key cannot be %s", key.Kind)
		}
		value := c.value(pair[1])
		same := Identity(key)
		if i, twice := at[same]; twice { // the first key and the last value are what is left
			if v.Kind == doc.Map {
				v.Pairs[i].Value = value
			}
			continue
		}
		at[same] = max(len(v.Pairs), len(v.Items))
		if v.Kind == Set {
			v.Items = append(v.Items, key)
		} else {
			v.Pairs = append(v.Pairs, doc.Pair{Key: key, Value: value})
		}
	}
}

// Identity is what makes two keys the same to Python: 1, 1.0 and true are.
func Identity(key *doc.Node) string {
	switch key.Kind {
	case doc.Bool:
		return map[string]string{"true": "n 1", "false": "n 0"}[key.Text]
	case doc.Int:
		return "n " + key.Text
	case doc.Float:
		if f, err := strconv.ParseFloat(key.Text, 64); err == nil {
			if whole, accuracy := big.NewFloat(f).Int(nil); accuracy == big.Exact {
				return "n " + whole.String()
			}
		}
	}
	return string(key.Kind) + " " + key.Text
}

// fillPairs makes a list of pairs, which are lists of two.
func (c *constructor) fillPairs(n *node, v *doc.Node) {
	if n.shape != listShape {
		c.fail(n, "this is not a list")
	}
	for _, item := range n.items {
		if item.shape != mapShape || len(item.pairs) != 1 {
			c.fail(item, "this is not a map of one key")
		}
		pair := c.make(item, doc.List, "")
		pair.Items = []*doc.Node{c.value(item.pairs[0][0]), c.value(item.pairs[0][1])}
		v.Items = append(v.Items, pair)
	}
}
