package layer

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
)

// keyOrder is the order in which a layer's keys must stand, so that every
// layer reads alike: what and why, then the knobs, the deed, the proof.
var keyOrder = []string{"layer", "replaces", "summary", "threat", "refs", "requires", "after",
	"params", "packages", "payload", "state", "logins", "files", "cloud-config", "domain", "checks"}

// maxFile bounds a file of a layer's tree, in bytes: a whole seed has no more.
const maxFile = 16 << 20

// template is a file of the layer's tree before parameters are bound.
type template struct {
	source  string // path inside the layer's folder
	path    string // path in the guest
	mode    fs.FileMode
	owner   string
	when    When
	content []byte
	expand  bool // the file is a text/template
}

// The forms of words in a layer.yaml.
var (
	anything = lazy.Regexp(`.`)
	openClaw = lazy.Regexp(`^` + OpenClaw + `$`)
	packages = lazy.Regexp(`^[a-z0-9][a-z0-9+.-]+(\|[a-z0-9][a-z0-9+.-]+)*$`)
	param    = lazy.Regexp(`^[a-z][a-z0-9_]{0,30}$`)
)

type loader struct {
	*Layer
	fsys     fs.FS
	problems diag.List
}

// embedded are the layers that were loaded from the program itself. They are the same for
// as long as it runs, and nobody changes a loaded layer: a thousand hosts read each once.
var embedded sync.Map

// place is where a loaded layer is from, and how messages call that.
type place struct {
	fsys         embed.FS
	name, origin string
	builtin      bool
}

// load loads a layer. What is embedded is loaded once.
func load(fsys fs.FS, name, origin string, builtin bool) (*Layer, error) {
	own, ok := fsys.(embed.FS)
	if !ok {
		return read(fsys, name, origin, builtin)
	}
	at := place{own, name, origin, builtin}
	if known, ok := embedded.Load(at); ok {
		return known.(*Layer), nil
	}
	l, err := read(fsys, name, origin, builtin)
	if err == nil {
		embedded.Store(at, l)
	}
	return l, err
}

func read(fsys fs.FS, name, origin string, builtin bool) (*Layer, error) {
	node, err := doc.Read(fsys, name+"/layer.yaml", origin+"/"+name+"/layer.yaml")
	if err != nil {
		return nil, err
	}
	l := loader{fsys: fsys, Layer: &Layer{Name: name, Builtin: builtin, Origin: origin + "/" + name, node: node}}
	get := node.Fields("", &l.problems, keyOrder...)
	if node.Kind == doc.Map {
		l.order()
		l.words(get)
		l.params(get("params"))
		l.states(get("state"))
		l.tree(get("files"))
		l.cloudConfig, l.domain, l.checks = get("cloud-config"), get("domain"), get("checks")
		l.cloudConfigShape()
		l.domainShape()
		l.checkShapes()
	}
	if err := l.problems.Err(); err != nil {
		return nil, err
	}
	return l.Layer, nil
}

func (l *loader) order() {
	last := -1
	for _, pair := range l.node.Pairs {
		at := slices.Index(keyOrder, pair.Key.Text)
		if at >= 0 && at < last {
			l.problems.Add(pair.Key.Problem(pair.Key.Text, "the order is "+strings.Join(keyOrder, ", "),
				"this key must come before %s", keyOrder[last]))
		}
		last = max(last, at)
	}
}

// words reads the keys that are plain text or lists of words.
func (l *loader) words(get func(string) *doc.Node) {
	text := func(key string) string {
		n := get(key)
		switch {
		case n == nil:
			l.problems.Add(l.node.Problem("", "", "the key %q is missing", key))
		case n.Kind != doc.String || n.Text == "":
			l.problems.Add(n.Problem(key, "", "this is %s, want one line of text", n.Kind))
		case !oneLine(n.Text):
			l.problems.Add(n.Problem(key, "", "want one line of printable text"))
		default:
			return n.Text
		}
		return ""
	}
	if name := text("layer"); name != "" && name != l.Name {
		l.problems.Add(get("layer").Problem("layer", "rename one of the two", "the name %q differs from the folder's, %q", name, l.Name))
	}
	if replaces := get("replaces"); replaces != nil && replaces.Text != l.Name {
		l.problems.Add(replaces.Problem("replaces", "", "want the layer's own name, %q", l.Name))
	}
	l.Summary, l.Threat = text("summary"), text("threat")
	if l.Threat == "none" {
		l.Threat = ""
	}
	list := func(key string, form lazy.Regexp, what string) []string {
		var words []string
		n := get(key)
		if n == nil {
			return nil
		}
		if n.Kind != doc.List {
			l.problems.Add(n.Problem(key, "", "this is %s, want a list", n.Kind))
		}
		for i, item := range n.Items {
			if item.Kind != doc.String || !form.MatchString(item.Text) {
				l.problems.Add(item.Problem(fmt.Sprintf("%s[%d]", key, i), "", "%q is not allowed, want %s", item.Text, what))
				continue
			}
			words = append(words, item.Text)
		}
		return words
	}
	l.Refs = list("refs", anything, "text")
	l.Requires, l.After = list("requires", plain, "a layer's name"), list("after", plain, "a layer's name")
	l.Logins = list("logins", userName, "the name of an account")
	l.Payload = list("payload", openClaw, OpenClaw)
	l.Packages = list("packages", packages, "the name of a Debian package")
}

func (l *loader) params(n *doc.Node) {
	if n == nil {
		return
	}
	if n.Kind != doc.Map {
		l.problems.Add(n.Problem("params", "", "this is %s, want a map of parameters", n.Kind))
	}
	for _, pair := range n.Pairs {
		at := "params." + pair.Key.Text
		if !param.MatchString(pair.Key.Text) || pair.Key.Text == "host" || pair.Key.Text == "admin" {
			l.problems.Add(pair.Key.Problem(at, "a-z, 0-9 and _, starting with a letter, at most 31; host and admin are taken", "%q is no name for a parameter", pair.Key.Text))
			continue
		}
		l.param(pair, at)
	}
}

func (l *loader) param(pair doc.Pair, at string) {
	before := len(l.problems)
	get := pair.Value.Fields(at, &l.problems, "type", "default", "min", "max", "of", "help")
	if pair.Value.Kind != doc.Map {
		return
	}
	p := Param{Name: pair.Key.Text, Default: get("default")}
	if n := get("type"); n != nil && slices.Contains(typeNames(), n.Text) {
		p.Type = n.Text
	} else if n != nil {
		l.problems.Add(n.Problem(at+".type", diag.DidYouMean(n.Text, typeNames()), "unknown type %q", n.Text))
	} else {
		l.problems.Add(pair.Value.Problem(at, "", "the key \"type\" is missing"))
	}
	if n := get("help"); n != nil && n.Kind == doc.String {
		p.Help = n.Text
	} else {
		l.problems.Add(pair.Value.Problem(at, "say in one sentence what it sets", "the key \"help\" is missing"))
	}
	p.Min, p.Max = l.bound(get("min"), at+".min"), l.bound(get("max"), at+".max")
	if n := get("of"); n != nil {
		for _, item := range n.Items {
			if !safeWord.MatchString(item.Text) || item.Text == "" || item.Kind != doc.String {
				l.problems.Add(item.Problem(at+".of", "", "%q is not a plain word", item.Text))
			}
			p.Of = append(p.Of, item.Text)
		}
	}
	if (p.Type == "enum") != (len(p.Of) > 0) {
		l.problems.Add(pair.Value.Problem(at, "", "an enum needs the key \"of\" with its words, and nothing else has it"))
	}
	if p.Type == "secret" && p.Default != nil && p.Default.Text != "" {
		l.problems.Add(p.Default.Problem(at+".default", "write \"\" for none", "a host's secrets have other names: no default fits all"))
	}
	p.Required = p.Default == nil
	if len(l.problems) > before {
		return
	}
	if !p.Required {
		p.bind(p.Default, at+".default", &l.problems)
	}
	l.Params = append(l.Params, p)
}

func (l *loader) bound(n *doc.Node, at string) *int64 {
	if n == nil {
		return nil
	}
	i, err := strconv.ParseInt(n.Text, 10, 64)
	if err != nil || n.Kind != doc.Int {
		l.problems.Add(n.Problem(at, "", "%q is not allowed, want a whole number", n.Text))
		return nil
	}
	return &i
}

// tree reads the folder files/ and the exceptions under the key files.
func (l *loader) tree(n *doc.Node) {
	root := l.Name + "/files"
	if info, err := fs.Lstat(l.fsys, root); err == nil && !info.IsDir() { // WalkDir follows a link to a directory
		l.problems.Add(diag.Problem{Pos: diag.Position{File: l.Origin + "/files"},
			Message: "this is not a directory", Hint: "a layer holds plain files only"})
		return
	}
	err := fs.WalkDir(l.fsys, root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			l.problems.Add(diag.Problem{Pos: diag.Position{File: l.Origin + strings.TrimPrefix(name, l.Name)},
				Message: "this is not a regular file", Hint: "a layer holds plain files only"})
			return nil
		}
		if info, err := entry.Info(); err != nil {
			return err
		} else if info.Size() > maxFile {
			l.problems.Add(diag.Problem{Pos: diag.Position{File: l.Origin + strings.TrimPrefix(name, l.Name)},
				Message: fmt.Sprintf("the file has %d bytes, at most %d are read", info.Size(), maxFile),
				Hint:    "a layer's files travel in the seed, which is for words"})
			return nil
		}
		content, err := fs.ReadFile(l.fsys, name)
		if err != nil {
			return err
		}
		if !guest.MatchString(strings.TrimPrefix(name, root)) {
			l.problems.Add(diag.Problem{Pos: diag.Position{File: l.Origin + strings.TrimPrefix(name, l.Name)},
				Message: "the path has characters other than letters, digits and . _ - + @"})
		}
		to, expand := strings.CutSuffix(strings.TrimPrefix(name, root), ".tmpl")
		l.files = append(l.files, template{source: strings.TrimPrefix(name, l.Name), path: to, mode: 0o644,
			owner: "root:root", when: Early, content: content, expand: expand})
		return nil
	})
	if err != nil && !isMissing(l.fsys, root) {
		l.problems.Add(diag.Problem{Pos: diag.Position{File: l.Origin + "/files"}, Message: err.Error()})
	}
	sort.Slice(l.files, func(i, j int) bool { return l.files[i].path < l.files[j].path })
	if n == nil {
		return
	}
	if n.Kind != doc.Map {
		l.problems.Add(n.Problem("files", "", "this is %s, want a map of guest paths", n.Kind))
	}
	for _, pair := range n.Pairs {
		l.exception(pair)
	}
}

func isMissing(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err != nil
}

// exception applies one entry of the key files to the file it names.
func (l *loader) exception(pair doc.Pair) {
	at := "files." + pair.Key.Text
	i := slices.IndexFunc(l.files, func(f template) bool { return f.path == pair.Key.Text })
	if i < 0 {
		var paths []string
		for _, f := range l.files {
			paths = append(paths, f.path)
		}
		l.problems.Add(pair.Key.Problem(at, diag.DidYouMean(pair.Key.Text, paths),
			"the layer's folder files/ has no %s", path.Clean(pair.Key.Text)))
		return
	}
	file := &l.files[i]
	get := pair.Value.Fields(at, &l.problems, "mode", "owner", "when")
	if n := get("mode"); n != nil {
		mode, err := strconv.ParseUint(n.Text, 8, 32)
		if n.Kind != doc.String || err != nil || len(n.Text) != 4 || mode&^0o775 != 0 {
			l.problems.Add(n.Problem(at+".mode", `write it like "0755"`,
				"%q is not allowed, want four octal digits in quotes, no set-id bits, not writable by others", n.Text))
		}
		file.mode = fs.FileMode(mode)
	}
	if n := get("owner"); n != nil {
		user, group, ok := strings.Cut(n.Text, ":")
		if !ok || !userName.MatchString(user) || !userName.MatchString(group) {
			l.problems.Add(n.Problem(at+".owner", "", "%q is not allowed, want user:group", n.Text))
		}
		file.owner = n.Text
	}
	if n := get("when"); n != nil {
		file.when = When(n.Text)
		if !slices.Contains([]When{Boot, Early, Late}, file.when) {
			l.problems.Add(n.Problem(at+".when", "", "%q is not allowed, want boot, early or late", n.Text))
		}
	}
	if file.when != Late && file.owner != "root:root" {
		l.problems.Add(pair.Value.Problem(at, "add `when: late`",
			"the owner %s does not exist yet when the file is written; cloud-init would skip every file after it", file.owner))
	}
}

// cloudConfigShape refuses what has a better place in a layer.
func (l *loader) cloudConfigShape() {
	n := l.cloudConfig
	if n == nil {
		return
	}
	if n.Kind != doc.Map {
		l.problems.Add(n.Problem("cloud-config", "", "this is %s, want cloud-init's own keys", n.Kind))
		return
	}
	for key, hint := range map[string]string{
		"write_files": "put the file into the layer's folder files/",
		"packages":    "use the layer's key packages",
		"merge_how":   "bake merges by itself",
	} {
		if at := n.Get(key); at != nil {
			l.problems.Add(at.Problem("cloud-config."+key, hint, "%s is not accepted in a layer", key))
		}
	}
}
