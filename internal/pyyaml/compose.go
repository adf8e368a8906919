package pyyaml

// What a node of the text is.
type shape int

const (
	scalarShape shape = iota
	listShape
	mapShape
)

type node struct {
	shape shape
	tag   string
	text  string
	items []*node
	pairs [][2]*node
	at    mark
}

const core = "tag:yaml.org,2002:"

var shapeTags = map[shape]string{scalarShape: core + "str", listShape: core + "seq", mapShape: core + "map"}

// composer is PyYAML's parser and composer in one: what they do in turns on
// events is done here by recursion.
type composer struct {
	*scanner
	handles map[string]string
	anchors map[string]*node
	depth   int
}

// maxDepth is where Python, which recurses several times a level, is about to
// give up as well.
const maxDepth = 100

func (c *composer) failAt(t token, message string) { panic(&Error{mark: t.start, Message: message}) }

// single composes the one document there may be; nil stands for none.
func (c *composer) single() *node {
	c.handles = map[string]string{"!": "!", "!!": core}
	var root *node
	if !c.is(directiveToken, documentStart, streamEnd) {
		root = c.node(true, false)
		c.skipDocumentEnd()
	} else if c.documentStart() {
		root = c.content()
		c.skipDocumentEnd()
	}
	if root == nil {
		return nil
	}
	if more := c.next(); c.documentStart() {
		c.failAt(more, "a second document starts here")
	}
	return root
}

func (c *composer) skipDocumentEnd() {
	if c.is(documentEnd) {
		c.take()
	}
}

// documentStart reads up to the content of an explicit document, if there is one.
func (c *composer) documentStart() bool {
	for c.is(documentEnd) {
		c.take()
	}
	if c.is(streamEnd) {
		return false
	}
	c.handles = map[string]string{}
	version := false
	for c.is(directiveToken) {
		switch t := c.take(); {
		case t.handle == "YAML" && !t.hasHandle:
			if version {
				c.failAt(t, "a second YAML directive")
			}
			if t.value != "1" {
				c.failAt(t, "a YAML version other than 1")
			}
			version = true
		case t.hasHandle:
			if _, twice := c.handles[t.handle]; twice {
				c.failAt(t, "a tag handle is declared twice")
			}
			c.handles[t.handle] = t.value
		}
	}
	for handle, means := range map[string]string{"!": "!", "!!": core} {
		if _, ok := c.handles[handle]; !ok {
			c.handles[handle] = means
		}
	}
	if !c.is(documentStart) {
		c.failAt(c.next(), tokenNames[c.next().kind]+" where a document starts with ---")
	}
	c.take()
	return true
}

func (c *composer) content() *node {
	if c.is(directiveToken, documentStart, documentEnd, streamEnd) {
		return empty(c.next().start)
	}
	return c.node(true, false)
}

func empty(at mark) *node { return &node{tag: resolve(""), at: at} }

// node composes a node; an indentless list may stand as a value of a map.
func (c *composer) node(block, indentless bool) *node {
	if c.depth++; c.depth > maxDepth {
		panic(&Error{mark: c.next().start, Message: "nested too deep", Uncaught: true})
	}
	defer func() { c.depth-- }()
	if c.is(aliasToken) {
		t := c.take()
		if c.anchors[t.value] == nil {
			c.failAt(t, "no anchor of this name stands above")
		}
		return c.anchors[t.value]
	}
	n, anchor, tagged := c.properties()
	if anchor.value != "" {
		if c.anchors[anchor.value] != nil {
			c.failAt(anchor, "an anchor of this name stands above already")
		}
		c.anchors[anchor.value] = n
	}
	c.fill(n, block, indentless, tagged || anchor.value != "")
	return n
}

// properties reads anchor and tag, in either order.
func (c *composer) properties() (n *node, anchor token, tagged bool) {
	n = &node{at: c.next().start}
	var tag token
	for range 2 {
		switch {
		case c.is(anchorToken) && anchor.value == "":
			anchor = c.take()
		case c.is(tagToken) && !tagged:
			tag, tagged = c.take(), true
		}
	}
	if tagged {
		n.tag = tag.value
		if tag.hasHandle {
			prefix, ok := c.handles[tag.handle]
			if !ok {
				c.failAt(tag, "a tag handle that is not declared")
			}
			n.tag = prefix + tag.value
		}
	}
	return n, anchor, tagged
}

func (c *composer) fill(n *node, block, indentless, properties bool) {
	implicit := n.tag == "" || n.tag == "!"
	t := c.next()
	switch {
	case indentless && t.kind == blockEntry:
		n.shape = listShape
	case t.kind == flowSequenceStart || block && t.kind == blockSequenceStart:
		n.shape = listShape
	case t.kind == flowMappingStart || block && t.kind == blockMappingStart:
		n.shape = mapShape
	case t.kind == scalarToken:
		c.take()
		n.text = t.value
		if t.plain && n.tag == "" || n.tag == "!" {
			n.tag = resolve(n.text)
		}
	case properties:
		if implicit {
			n.tag = resolve("")
		}
	default:
		c.failAt(t, tokenNames[t.kind]+" where a value should be")
	}
	if n.tag == "" || n.tag == "!" {
		n.tag = shapeTags[n.shape]
	}
	switch {
	case n.shape == listShape && t.kind == blockEntry:
		c.indentless(n)
	case n.shape == listShape && t.kind == blockSequenceStart:
		c.blockList(n)
	case n.shape == listShape:
		c.flowList(n)
	case n.shape == mapShape && t.kind == blockMappingStart:
		c.blockMap(n)
	case n.shape == mapShape:
		c.flowMap(n)
	}
}

func (c *composer) blockList(n *node) {
	c.take()
	for c.is(blockEntry) {
		t := c.take()
		if c.is(blockEntry, blockEnd) {
			n.items = append(n.items, empty(t.end))
		} else {
			n.items = append(n.items, c.node(true, false))
		}
	}
	c.blockEnds()
}

func (c *composer) indentless(n *node) {
	for c.is(blockEntry) {
		t := c.take()
		if c.is(blockEntry, keyToken, valueToken, blockEnd) {
			n.items = append(n.items, empty(t.end))
		} else {
			n.items = append(n.items, c.node(true, false))
		}
	}
}

func (c *composer) blockEnds() {
	if t := c.next(); t.kind != blockEnd {
		c.failAt(t, tokenNames[t.kind]+" does not fit the lines around it")
	}
	c.take()
}

func (c *composer) blockMap(n *node) {
	c.take()
	for c.is(keyToken) {
		t := c.take()
		key := empty(t.end)
		if !c.is(keyToken, valueToken, blockEnd) {
			key = c.node(true, true)
		}
		value := empty(c.next().start)
		if c.is(valueToken) {
			t := c.take()
			value = empty(t.end)
			if !c.is(keyToken, valueToken, blockEnd) {
				value = c.node(true, true)
			}
		}
		n.pairs = append(n.pairs, [2]*node{key, value})
	}
	c.blockEnds()
}

// flowNext reports whether another entry follows, and takes the comma before it.
func (c *composer) flowNext(end tokenKind, first bool) bool {
	if c.is(end) {
		return false
	}
	if !first {
		if t := c.next(); t.kind != flowEntry {
			c.failAt(t, tokenNames[t.kind]+" where a comma or the end should be")
		}
		c.take()
	}
	return !c.is(end)
}

// flowNode composes a node, or an empty one before one of these tokens.
func (c *composer) flowNode(before mark, ends ...tokenKind) *node {
	if c.is(ends...) {
		return empty(before)
	}
	return c.node(false, false)
}

func (c *composer) flowValue(ends ...tokenKind) *node {
	if c.is(valueToken) {
		t := c.take()
		return c.flowNode(t.end, ends...)
	}
	return empty(c.next().start)
}

func (c *composer) flowList(n *node) {
	c.take()
	for first := true; c.flowNext(flowSequenceEnd, first); first = false {
		if !c.is(keyToken) {
			n.items = append(n.items, c.node(false, false))
			continue
		}
		t := c.take()
		single := &node{shape: mapShape, tag: core + "map", at: t.start}
		key := c.flowNode(t.end, valueToken, flowEntry, flowSequenceEnd)
		single.pairs = [][2]*node{{key, c.flowValue(flowEntry, flowSequenceEnd)}}
		n.items = append(n.items, single)
	}
	c.take()
}

func (c *composer) flowMap(n *node) {
	c.take()
	for first := true; c.flowNext(flowMappingEnd, first); first = false {
		var key, value *node
		if c.is(keyToken) {
			t := c.take()
			key = c.flowNode(t.end, valueToken, flowEntry, flowMappingEnd)
			value = c.flowValue(flowEntry, flowMappingEnd)
		} else {
			key = c.node(false, false)
			value = empty(c.next().start)
		}
		n.pairs = append(n.pairs, [2]*node{key, value})
	}
	c.take()
}
