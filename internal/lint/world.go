package lint

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
	"bake/internal/layer"
)

// world is the machine as its words describe it.
type world struct {
	host     *host.Host // nil for a foreign file
	config   *doc.Node
	files    []*file
	users    []user
	packages []packageName
	commands []command
	assigned []assignment
	units    map[string]*unit // by file name
	found    []Finding
	advice   string          // of the next report
	calls    *calls          // see called
	accounts map[string]bool // see knowsUser
}

// spot is a place in a file of the user's.
type spot struct {
	node   *doc.Node
	path   string
	pos    *diag.Position // where it is, if not where the node begins
	source string
	width  int
}

// problem makes a problem at the place.
func (s spot) problem(hint, format string, args ...any) diag.Problem {
	if s.node == nil {
		s.node = &doc.Node{Kind: doc.Map}
	}
	p := s.node.Problem(s.path, hint, format, args...)
	if s.pos != nil {
		p.Pos, p.Source, p.Width = *s.pos, s.source, max(1, s.width)
	}
	if p.Pos.Line == 0 {
		p.Source = ""
	}
	return p
}

// hint replaces the rule's own fix in the next report.
func (w *world) hint(text string) *world {
	w.advice = text
	return w
}

// report notes that a rule is broken, with the rule's own severity.
func (w *world) report(id string, at spot, format string, args ...any) {
	w.add(id, "", at, format, args...)
}

// warn notes it as a warning: this case may be meant.
func (w *world) warn(id string, at spot, format string, args ...any) {
	w.add(id, Warning, at, format, args...)
}

func (w *world) add(id string, severity Severity, at spot, format string, args ...any) {
	rule := ruleByID(id)
	if rule == nil {
		panic("lint: no rule " + id)
	}
	if severity == "" {
		severity = rule.Severity
	}
	hint := w.advice
	if w.advice = ""; hint == "" {
		hint = rule.Fix
	}
	p := at.problem(hint, format, args...)
	p.Rule, p.Warning = id, severity == Warning
	p.Secret = strings.HasPrefix(id, "secret-")
	w.found = append(w.found, Finding{Rule: id, Severity: severity, Problem: p})
}

// file is a file that the machine will have.
type file struct {
	path    string
	mode    int64 // -1 where it cannot be told
	owner   string
	late    bool // written at the end of the first boot
	boot    bool // written before bootcmd
	append  bool
	text    string
	hidden  bool // its text is not known: from the network, or binary
	entry   *doc.Node
	name    string // of the entry: write_files[3]
	content *doc.Node
	layer   *layer.File // of which it is made
	made    *command    // that writes it, where no write_files does
	place   placer      // of its lines, where it is a part of user-data
}

// at is the place of a character of a line of the text, counted from 0.
func (f *file) at(line, col, width int) spot {
	s := spot{node: f.content, path: f.path, width: width}
	switch {
	case f.place != nil:
		return f.place(line, col, width)
	case f.made != nil && f.made.inputAt != nil:
		return f.made.inputAt(line)
	case f.made != nil:
		return f.made.at
	case f.layer != nil:
		pos := diag.Position{File: f.layer.Origin}
		pos.Line, pos.Col, s.source = align(f.layer, line, col)
		s.pos = &pos
	case f.content != nil:
		pos, source := f.content.Inside(line, col)
		s.pos, s.source = &pos, source
	default:
		s.node = f.entry
	}
	return s
}

// key is the place of a key of the entry, or of the entry without it.
func (f *file) key(key string) spot {
	s := spot{node: f.entry, path: f.name}
	if f.place != nil {
		return f.place(0, 0, 1)
	}
	switch n := f.entry.Get(key); {
	case f.made != nil:
		return f.made.at
	case f.layer != nil:
		s = spot{node: &doc.Node{Kind: doc.Map, Pos: diag.Position{File: f.layer.Origin}}, path: f.path}
	case n != nil && n.Pos.Line > 0:
		s = spot{node: n, path: f.name + "." + key}
	}
	return s
}

// align finds the line of a layer's file that a line of its text is made of.
func align(f *layer.File, line, col int) (number, column int, source string) {
	made := strings.Split(string(f.Content), "\n")
	given := strings.Split(string(f.Source), "\n")
	if line >= len(made) {
		return 0, 0, ""
	}
	if len(made) == len(given) && made[line] == given[line] {
		return line + 1, col + 1, given[line]
	}
	for i, text := range given {
		if text == made[line] {
			return i + 1, col + 1, text
		}
	}
	for i, text := range given {
		if strings.Contains(text, "{{") && resembles(text, made[line]) {
			return i + 1, 1, text
		}
	}
	return 0, 0, ""
}

// resembles reports whether a line of a template can have become the text: what is
// not between braces is in it, in order.
func resembles(template, text string) bool {
	for i, piece := range strings.Split(template, "{{") {
		if i > 0 {
			_, piece, _ = strings.Cut(piece, "}}")
		}
		at := strings.Index(text, piece)
		if at < 0 {
			return false
		}
		text = text[at+len(piece):]
	}
	return true
}

func (f *file) lines() []string { return strings.Split(strings.TrimSuffix(f.text, "\n"), "\n") }

// packageName is one that the machine installs.
type packageName struct {
	name string
	at   spot
}

func newWorld(config *doc.Node, h *host.Host) *world {
	w := &world{config: config, host: h, units: map[string]*unit{}}
	w.read()
	return w
}

// read makes the picture, beside the files that are there.
func (w *world) read() {
	w.readFiles()
	w.readUsers()
	w.readPackages()
	w.readCommands()
	w.readWritten()
	w.readUnits()
}

func (w *world) readFiles() {
	made := map[string]*layer.File{}
	if w.host != nil {
		for i := range w.host.Layers {
			for j := range w.host.Layers[i].Files {
				f := &w.host.Layers[i].Files[j]
				made[f.Path] = f
				if f.When == layer.Boot {
					w.files = append(w.files, &file{path: f.Path, mode: int64(f.Mode.Perm()), owner: f.Owner, boot: true,
						text: string(f.Content), layer: f})
				}
			}
		}
	}
	list := w.config.Get("write_files")
	if list == nil {
		return
	}
	for i, entry := range list.Items {
		if entry.Kind != doc.Map {
			continue
		}
		f := readFile(entry, fmt.Sprintf("write_files[%d]", i))
		if entry.Pos.Line == 0 {
			f.layer = made[f.path]
		}
		w.files = append(w.files, f)
	}
}

func readFile(entry *doc.Node, name string) *file {
	f := &file{entry: entry, name: name, mode: 0o644, owner: "root:root", content: entry.Get("content")}
	if n := entry.Get("path"); n != nil {
		f.path = n.Text
	}
	if n := entry.Get("owner"); n != nil {
		f.owner = n.Text
	}
	f.late, f.append = isTrue(entry.Get("defer")), isTrue(entry.Get("append"))
	if n := entry.Get("permissions"); n != nil {
		mode, err := strconv.ParseInt(strings.TrimPrefix(n.Text, "0o"), 8, 32)
		if f.mode = mode; err != nil {
			f.mode = -1
		}
	}
	if f.content != nil {
		f.text = f.content.Text
	}
	encoding := ""
	if n := entry.Get("encoding"); n != nil {
		encoding = strings.ToLower(n.Text)
	}
	switch encoding {
	case "", "text/plain":
	case "b64", "base64":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(f.text), ""))
		if f.text, f.hidden = string(data), err != nil; err != nil {
			f.text = ""
		}
	default:
		f.text, f.hidden = "", true
	}
	if entry.Get("source") != nil {
		f.hidden = true
	}
	return f
}

func isTrue(n *doc.Node) bool { return n != nil && n.Kind == doc.Bool && n.Text == "true" }
func isFalse(n *doc.Node) bool {
	return n != nil && n.Kind == doc.Bool && n.Text == "false"
}

func (w *world) readPackages() {
	list := w.config.Get("packages")
	if list != nil {
		for i, item := range list.Items {
			at := spot{node: item, path: fmt.Sprintf("packages[%d]", i)}
			switch {
			case item.Kind == doc.String:
				name, _, _ := strings.Cut(item.Text, "=")
				w.packages = append(w.packages, packageName{name, at})
			case item.Kind == doc.List && len(item.Items) > 0:
				w.packages = append(w.packages, packageName{item.Items[0].Text, at})
			case item.Get("apt") != nil:
				for _, sub := range item.Get("apt").Items {
					name := sub.Text
					if len(sub.Items) > 0 {
						name = sub.Items[0].Text
					}
					w.packages = append(w.packages, packageName{name, at})
				}
			}
		}
	}
	if w.host == nil {
		return
	}
	for _, l := range w.host.Layers {
		for _, names := range l.Packages {
			for _, name := range strings.Split(names, "|") {
				w.packages = append(w.packages, packageName{name: name})
			}
		}
	}
}

// installs reports whether the machine gets one of the packages, by cloud-init or
// by a command.
func (w *world) installs(names ...string) bool {
	for _, p := range w.packages {
		if slices.Contains(names, p.name) {
			return true
		}
	}
	for _, c := range w.commands {
		if c.installs(names) {
			return true
		}
	}
	return false
}

// file returns what is written at a path, nil for nothing.
func (w *world) file(path string) *file {
	for _, f := range w.files {
		if f.path == path {
			return f
		}
	}
	return nil
}

// under returns the files directly in a directory.
func (w *world) under(dir string) []*file {
	var all []*file
	for _, f := range w.files {
		if rest, ok := strings.CutPrefix(f.path, dir+"/"); ok && !strings.Contains(rest, "/") && !f.hidden {
			all = append(all, f)
		}
	}
	return all
}

// check lets every rule look.
func (w *world) check() {
	for _, look := range []func(*world){
		checkKeys, checkFiles, checkNames, checkCron, checkSecrets, checkSudoers, checkUnits, checkFirewall, checkRules,
		checkFail2ban, checkDocker, checkUpgrades, checkSSHD, checkUsers, checkPackages, checkCommands, checkSysctl,
		checkMounts, checkSettings, checkFormats, checkConfigs, checkUsage, checkCalls, checkValues, checkKeyValues, checkAccountFiles, checkWhole,
	} {
		look(w)
	}
}
