package domain

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A Difference is an element or an attribute that two XMLs of a domain do not agree on.
type Difference struct {
	Element string `json:"element"` // such as devices/disk[vda]/driver@cache
	Wanted  string `json:"wanted"`  // its value, "present" for an element that has none, or "absent"
	Found   string `json:"found"`
}

const present, absent = "present", "absent"

// Diff names what of one XML of a domain another has not or has otherwise, and the
// devices that the other has more. It overlooks what libvirt adds by itself, of what is
// defined and of what runs: addresses, aliases, controllers, the version of the machine
// type; and names, titles and metadata, which run nothing.
func Diff(wanted, found string) ([]Difference, error) {
	a, err := readTree(wanted)
	if err != nil {
		return nil, err
	}
	b, err := readTree(found)
	if err != nil {
		return nil, err
	}
	var all []Difference
	compareTrees(a, b, "", &all)
	return all, nil
}

// Edited names what of a generation's XML is not so in the domain that was defined of
// it, with or without KVM, and with what the mark says it got of what it left to the
// hypervisor: somebody has edited that, or the generation.
func Edited(generation []byte, mark Mark, defined string) ([]Difference, error) {
	found, err := readTree(defined)
	if err != nil {
		return nil, err
	}
	wants, _, err := ReadMark(string(generation))
	if err != nil {
		return nil, err
	}
	fit, err := fitted(generation, wants, mark, found.part("type") == "qemu")
	if err != nil {
		return nil, err
	}
	return Diff(fit, defined)
}

// tree is an element of a document.
type tree struct {
	name     string
	text     string
	attrs    []xml.Attr // sorted by name
	children []*tree
}

func readTree(text string) (*tree, error) {
	decoder := xml.NewDecoder(strings.NewReader(text))
	root := &tree{}
	open := []*tree{root}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(root.children) == 1 {
			return root.children[0], nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the XML of a domain: %w", err)
		}
		at := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			child := &tree{name: token.Name.Local, attrs: slices.Clone(token.Attr)}
			slices.SortFunc(child.attrs, func(a, b xml.Attr) int { return cmp.Compare(a.Name.Local, b.Name.Local) })
			at.children = append(at.children, child)
			open = append(open, child)
		case xml.EndElement:
			at.text = strings.TrimSpace(at.text)
			at.inKiB()
			open = open[:len(open)-1]
		case xml.CharData:
			at.text += string(token)
		}
	}
}

// inKiB has sizes of memory as libvirt has them.
func (t *tree) inKiB() {
	for i, attr := range t.attrs {
		if n, err := strconv.ParseInt(t.text, 10, 64); attr.Name.Local == "unit" && attr.Value == "b" && err == nil && n%1024 == 0 {
			t.attrs[i].Value, t.text = "KiB", strconv.FormatInt(n/1024, 10)
		}
	}
}

func (t *tree) attr(name string) (string, bool) {
	for _, a := range t.attrs {
		if a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

func (t *tree) has(child string) bool {
	return slices.ContainsFunc(t.children, func(c *tree) bool { return c.name == child })
}

// at is an attribute of a child, "" where there is none.
func (t *tree) at(child, name string) string {
	for _, c := range t.children {
		if c.name == child {
			value, _ := c.attr(name)
			return value
		}
	}
	return ""
}

// key tells an element from its siblings of the same name.
func (t *tree) key() string {
	own := func(names ...string) string {
		var parts []string
		for _, name := range names {
			if value, ok := t.attr(name); ok {
				parts = append(parts, value)
			}
		}
		return strings.Join(parts, ":")
	}
	switch t.name {
	case "disk":
		return t.at("target", "dev")
	case "interface":
		return t.at("mac", "address")
	case "filesystem":
		return t.at("target", "dir")
	case "channel":
		return t.at("target", "name")
	case "serial", "parallel", "console":
		return t.at("target", "port")
	case "controller":
		return own("type", "index")
	case "input":
		return own("type", "bus")
	case "hostdev":
		for _, c := range t.children {
			if c.name == "source" {
				for _, address := range c.children {
					return strings.Join([]string{address.part("domain"), address.part("bus"), address.part("slot"), address.part("function"), address.part("uuid")}, ":")
				}
			}
		}
	}
	return own("name", "id")
}

// part is an attribute, "" where there is none.
func (t *tree) part(name string) string {
	value, _ := t.attr(name)
	return value
}

// find is the child that is the same thing, nil for none.
func (t *tree) find(wanted *tree) *tree {
	for _, c := range t.children {
		if c.name == wanted.name && c.key() == wanted.key() {
			return c
		}
	}
	return nil
}

// silent are elements that run nothing.
var silent = []string{"metadata", "title", "description"}

// added are what libvirt adds none of by itself, by what they are in: devices, and what
// would have a machine run, or be run, otherwise without any of its devices being another.
var added = map[string][]string{
	"":   {"commandline", "override", "seclabel", "memoryBacking", "sysinfo", "launchSecurity", "numatune", "cputune", "memtune", "blkiotune", "keywrap", "perf"},
	"os": {"kernel", "initrd", "cmdline", "dtb", "init", "initarg", "boot", "bootmenu", "smbios", "acpi"},
	"devices": {"disk", "interface", "filesystem", "hostdev", "channel", "graphics", "redirdev", "smartcard", "shmem", "vsock", "sound", "hub", "tpm",
		"serial", "parallel", "console", "memory", "nvram", "panic", "iommu", "lease", "crypto", "pstore"},
	"disk":      {"shareable", "transient", "encryption", "mirror", "auth"},
	"interface": {"script", "downscript", "backenddomain"},
}

func compareTrees(wanted, found *tree, path string, all *[]Difference) {
	differ := func(element, a, b string) { *all = append(*all, Difference{element, a, b}) }
	for _, a := range wanted.attrs {
		if a.Name.Space == "xmlns" || a.Name.Local == "xmlns" {
			continue
		}
		value, ok := found.attr(a.Name.Local)
		switch {
		case !ok && path == "os" && a.Name.Local == "firmware" && found.has("loader"): // libvirt has found one
		case path == "cpu" && a.Name.Local == "check": // and has checked
		case !ok:
			differ(path+"@"+a.Name.Local, a.Value, absent)
		case value != a.Value && !isVersion(path+"@"+a.Name.Local, a.Value, value):
			differ(path+"@"+a.Name.Local, a.Value, value)
		}
	}
	if wanted.text != found.text && len(wanted.children) == 0 {
		differ(path, cmp.Or(wanted.text, absent), cmp.Or(found.text, absent))
	}
	for _, c := range wanted.children {
		if path == "" && slices.Contains(silent, c.name) {
			continue
		}
		name := c.path(path, wanted)
		switch other := found.find(c); {
		case other != nil:
			compareTrees(c, other, name, all)
		case c.at("source", "startupPolicy") == "": // which may be gone
			differ(name, cmp.Or(c.text, present), absent)
		}
	}
	seen := map[string]int{}
	for _, c := range found.children {
		seen[c.name+c.key()]++
		if slices.Contains(added[wanted.within(path)], c.name) && seen[c.name+c.key()] > wanted.count(c) && !c.isConfining() {
			differ(c.path(path, found), absent, present)
		}
	}
}

// within is by what name added knows an element.
func (t *tree) within(path string) string {
	if path == "" {
		return ""
	}
	return t.name
}

// count is how many children are the same thing as another's.
func (t *tree) count(of *tree) (n int) {
	for _, c := range t.children {
		if c.name == of.name && c.key() == of.key() {
			n++
		}
	}
	return n
}

// isConfining says whether an element is what libvirt confines QEMU with by itself: a label of
// the hypervisor's, and none that somebody has taken away or chosen.
func (t *tree) isConfining() bool {
	return t.name == "seclabel" && (t.part("type") == "dynamic" && t.part("relabel") != no || t.part("model") == "none")
}

// path names a child, with its key where there are others.
func (t *tree) path(parent string, of *tree) string {
	name := t.name
	if key := t.key(); key != "" && (parent == "devices" || slices.ContainsFunc(of.children, func(c *tree) bool { return c != t && c.name == t.name })) {
		name += "[" + key + "]"
	}
	if parent == "" {
		return name
	}
	return parent + "/" + name
}

// isVersion says whether a machine type is one of those that another stands for.
func isVersion(path, wanted, found string) bool {
	return path == "os/type@machine" && (strings.HasPrefix(found, "pc-"+wanted+"-") || strings.HasPrefix(found, wanted+"-"))
}
