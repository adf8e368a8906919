package lint

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// command is one simple command that a boot runs.
type command struct {
	words      []string // "" where a word is made by the shell
	text       []string // the words as they are written, without quotes where that is plain
	boot       bool     // in bootcmd
	item       int      // of the list
	list       bool     // written as a list of words: no shell reads them
	at         spot
	from       []string // the command words that pipe into it
	fetched    bool     // a word holds what curl or wget prints
	guarded    bool     // its failure is swallowed: || true
	appends    []string // files that it appends to
	writes     []string // files that it writes
	input      string   // a here-document
	inputAt    func(line int) spot
	background bool   // with & behind it
	nested     bool   // in the text of sh -c
	condition  bool   // behind && or ||, or within if, case or a loop
	script     string // the file that it stands in, "" for runcmd and bootcmd
}

// name is the program, without directory.
func (c *command) name() string {
	if len(c.words) == 0 {
		return ""
	}
	return c.words[0][strings.LastIndexByte(c.words[0], '/')+1:]
}

// has reports whether one of the words is among the arguments.
func (c *command) has(words ...string) bool {
	return len(c.words) > 0 && slices.ContainsFunc(c.words[1:], func(w string) bool { return slices.Contains(words, w) })
}

// args are the arguments that are no options.
func (c *command) args() []string {
	var out []string
	for _, w := range c.words[min(1, len(c.words)):] {
		if !strings.HasPrefix(w, "-") {
			out = append(out, w)
		}
	}
	return out
}

// is reports whether the command is a program with that first argument.
func (c *command) is(program string, verbs ...string) bool {
	args := c.args()
	return c.name() == program && (len(verbs) == 0 || len(args) > 0 && slices.Contains(verbs, args[0]))
}

// installs reports whether the command installs one of the packages with apt.
func (c *command) installs(names []string) bool {
	args := c.args()
	if c.name() == "snap" && len(args) > 1 && args[0] == "install" {
		return slices.ContainsFunc(args[1:], func(a string) bool { return slices.Contains(names, a) })
	}
	i := slices.Index(args, "install")
	return slices.Contains([]string{"apt", "apt-get", "aptitude"}, c.name()) && i >= 0 &&
		slices.ContainsFunc(args[i+1:], func(a string) bool {
			name, _, _ := strings.Cut(a, "=")
			return slices.Contains(names, name)
		})
}

// wrappers run the rest of their words.
var wrappers = map[string]int{"sudo": 0, "env": 0, "nice": 0, "nohup": 0, "timeout": 1, "exec": 0, "command": 0,
	"time": 0, "eatmydata": 0, "ionice": 0, "setsid": 0, "chroot": 1, "cloud-init-per": 2}

// inner is the command that a wrapper runs, or the command itself.
func (c *command) inner() *command {
	skip, ok := wrappers[c.name()]
	if !ok {
		return c
	}
	i := 1
	for i < len(c.words) && (strings.HasPrefix(c.words[i], "-") || strings.Contains(c.words[i], "=") || skip > 0) {
		if c.name() == "sudo" && slices.Contains([]string{"-u", "-g", "-h", "-D"}, c.words[i]) {
			i++
		} else if !strings.HasPrefix(c.words[i], "-") && !strings.Contains(c.words[i], "=") {
			skip--
		}
		i++
	}
	if i >= len(c.words) {
		return c
	}
	out := *c
	out.words, out.text = c.words[i:], c.text[i:]
	return out.inner()
}

// commandLists are the lists of commands, in the order in which they run.
func (w *world) commandLists() iter.Seq2[string, []*doc.Node] {
	return func(yield func(string, []*doc.Node) bool) {
		for _, key := range []string{"bootcmd", "runcmd"} {
			if list := w.config.Get(key); list != nil && list.Kind == doc.List && !yield(key, list.Items) {
				return
			}
		}
	}
}

func (w *world) readCommands() {
	for key, items := range w.commandLists() {
		for i, item := range items {
			at := spot{node: item, path: fmt.Sprintf("%s[%d]", key, i)}
			if key == "bootcmd" && item.Pos.Line == 0 && w.host != nil {
				continue // a file of a layer, which is looked at as one
			}
			r := shellReader{w: w, boot: key == "bootcmd", item: i}
			switch item.Kind {
			case doc.String:
				r.read(item.Text, at.path, func(line, col, width int) spot {
					pos, source := item.Inside(line, col)
					return spot{node: item, path: at.path, pos: &pos, source: source, width: width}
				})
			case doc.List:
				r.list(item, at)
			}
		}
	}
	for _, f := range w.files {
		shebang, _, _ := strings.Cut(f.text, "\n")
		if strings.HasPrefix(shebang, "#!") && f.layer == nil && isShell(shebang) {
			r := shellReader{w: w, item: -1, script: f.path, bash: !strings.HasSuffix(strings.Fields(shebang + " x")[0], "/sh")}
			r.read(f.text, f.path, f.at)
		}
	}
}

func isShell(shebang string) bool {
	for _, field := range strings.Fields(strings.TrimPrefix(shebang, "#!")) {
		if slices.Contains([]string{"sh", "bash", "dash"}, field[strings.LastIndexByte(field, '/')+1:]) {
			return true
		}
	}
	return false
}

// shellReader collects the commands of one text.
type shellReader struct {
	w      *world
	boot   bool
	item   int
	script string
	bash   bool
	nested bool
	inside int // conditions around the statement
	place  placer
}

// assignment is a variable that a shell text sets.
type assignment struct {
	name, value string
	at          spot
}

// list reads a command that is written as words.
func (r *shellReader) list(item *doc.Node, at spot) {
	c := command{boot: r.boot, item: r.item, list: true, at: at, nested: r.nested}
	for _, n := range item.Items {
		c.words, c.text = append(c.words, n.Text), append(c.text, n.Text)
	}
	r.w.commands = append(r.w.commands, c)
	inner := c.inner()
	if i := slices.Index(inner.words, "-c"); i < 0 && len(inner.words) > 2 && strings.HasPrefix(inner.words[1], "-") && strings.HasSuffix(inner.words[1], "c") {
		r.shC(&c, item, 1)
	} else if i > 0 {
		r.shC(&c, item, i)
	}
}

// shC reads the text that a listed shell is given with -c.
func (r *shellReader) shC(c *command, item *doc.Node, at int) {
	inner := c.inner()
	if !slices.Contains([]string{"sh", "bash", "dash"}, inner.name()) || at+1 >= len(inner.words) {
		return
	}
	node := item.Items[len(item.Items)-len(inner.words)+at+1]
	sub := shellReader{w: r.w, boot: r.boot, item: r.item, bash: inner.name() == "bash", nested: true}
	sub.read(node.Text, c.at.path, func(line, col, width int) spot {
		pos, source := node.Inside(line, col)
		return spot{node: node, path: c.at.path, pos: &pos, source: source, width: width}
	})
}

// read parses a shell text and adds its commands.
func (r *shellReader) read(text, path string, place func(line, col, width int) spot) {
	r.place = place
	parsed, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "")
	if err != nil {
		var syn syntax.ParseError
		line, col, message := uint(1), uint(1), err.Error()
		if errors.As(err, &syn) {
			line, col, message = syn.Pos.Line(), syn.Pos.Col(), syn.Text
		}
		r.w.report("cmd-syntax", place(int(line)-1, int(col)-1, 1), "the shell cannot read this: %s", message)
		return
	}
	if !r.bash {
		r.bashisms(parsed)
	}
	for _, stmt := range parsed.Stmts {
		r.stmt(stmt, nil, false)
	}
}

// stmt adds the commands of a statement; from are the words that pipe into it.
func (r *shellReader) stmt(stmt *syntax.Stmt, from []string, guarded bool) (first []string) {
	switch x := stmt.Cmd.(type) {
	case *syntax.CallExpr:
		return r.call(x, stmt, from, guarded)
	case *syntax.BinaryCmd:
		switch x.Op {
		case syntax.Pipe, syntax.PipeAll:
			first = r.stmt(x.X, from, guarded)
			r.stmt(x.Y, append(slices.Clone(from), first...), guarded)
			return first
		case syntax.OrStmt:
			r.stmt(x.X, from, isTrueCall(x.Y))
			r.branch(x.Y, nil, guarded)
		default:
			r.stmt(x.X, from, guarded)
			r.branch(x.Y, nil, guarded)
		}
	case *syntax.DeclClause:
		for _, assign := range x.Args {
			r.assigns(assign)
		}
	case nil:
	default:
		_, block := stmt.Cmd.(*syntax.Block)
		syntax.Walk(stmt.Cmd, func(n syntax.Node) bool {
			s, ok := n.(*syntax.Stmt)
			switch {
			case ok && block:
				r.stmt(s, from, guarded)
			case ok:
				r.branch(s, from, guarded)
			}
			return !ok
		})
	}
	return nil
}

// branch is stmt for one that does not always run.
func (r *shellReader) branch(stmt *syntax.Stmt, from []string, guarded bool) {
	r.inside++
	r.stmt(stmt, from, guarded)
	r.inside--
}

// assigns notes a variable that is set for itself.
func (r *shellReader) assigns(assign *syntax.Assign) {
	if assign.Name == nil || assign.Value == nil {
		return
	}
	value, _ := wordText(assign.Value)
	pos := assign.Pos()
	r.w.assigned = append(r.w.assigned, assignment{assign.Name.Value, value, r.place(int(pos.Line())-1, int(pos.Col())-1, len(assign.Name.Value)+1+len(value))})
}

func isTrueCall(s *syntax.Stmt) bool {
	call, ok := s.Cmd.(*syntax.CallExpr)
	return ok && len(call.Args) == 1 && (call.Args[0].Lit() == "true" || call.Args[0].Lit() == ":")
}

func (r *shellReader) call(x *syntax.CallExpr, stmt *syntax.Stmt, from []string, guarded bool) []string {
	c := command{boot: r.boot, item: r.item, from: from, guarded: guarded, nested: r.nested, script: r.script, background: stmt.Background, condition: r.inside > 0}
	for _, word := range x.Args {
		literal, plain := wordText(word)
		c.text = append(c.text, literal)
		if !plain {
			c.fetched = c.fetched || fetches(word)
		}
		c.words = append(c.words, literal)
	}
	pos := x.Pos()
	c.at = r.place(int(pos.Line())-1, int(pos.Col())-1, len(strings.Join(c.text, " ")))
	for _, assign := range x.Assigns {
		if assign.Value != nil && len(x.Args) > 0 {
			literal, _ := wordText(assign.Value)
			c.text = append(c.text, assign.Name.Value+"="+literal)
		} else if len(x.Args) == 0 {
			r.assigns(assign)
		}
	}
	r.redirects(&c, stmt)
	if len(c.words) > 0 {
		r.w.commands = append(r.w.commands, c)
	}
	for _, word := range x.Args { // $(...) runs commands, too
		r.substitutions(word, guarded)
	}
	for _, assign := range x.Assigns {
		if assign.Value != nil {
			r.substitutions(assign.Value, guarded)
		}
	}
	inner := c.inner()
	if i := slices.Index(inner.words, "-c"); i > 0 && i+1 < len(inner.words) && slices.Contains([]string{"sh", "bash", "dash"}, inner.name()) && inner.words[i+1] != "" {
		at := c.at
		sub := shellReader{w: r.w, boot: r.boot, item: r.item, bash: inner.name() == "bash", nested: true, script: r.script}
		sub.read(inner.words[i+1], at.path, func(int, int, int) spot { return at })
	} else if i := slices.IndexFunc(inner.words, func(a string) bool { return a == "-c" || a == "--command" }); i > 0 && i+1 < len(inner.words) && slices.Contains([]string{"su", "runuser"}, inner.name()) {
		at := c.at
		sub := shellReader{w: r.w, boot: r.boot, item: r.item, bash: true, nested: true, script: r.script}
		sub.read(inner.words[i+1], at.path, func(int, int, int) spot { return at })
	}
	if len(c.words) == 0 {
		return nil
	}
	return []string{c.inner().name()}
}

func (r *shellReader) substitutions(word *syntax.Word, guarded bool) {
	syntax.Walk(word, func(n syntax.Node) bool {
		if s, ok := n.(*syntax.CmdSubst); ok {
			for _, stmt := range s.Stmts {
				r.stmt(stmt, nil, guarded)
			}
			return false
		}
		return true
	})
}

func (r *shellReader) redirects(c *command, stmt *syntax.Stmt) {
	for _, redirect := range stmt.Redirs {
		if redirect.Word == nil {
			continue
		}
		target, _ := wordText(redirect.Word)
		switch redirect.Op {
		case syntax.AppOut, syntax.AppAll:
			c.appends = append(c.appends, target)
		case syntax.RdrOut, syntax.RdrAll, syntax.RdrClob:
			c.writes = append(c.writes, target)
		case syntax.Hdoc, syntax.DashHdoc:
			if redirect.Hdoc != nil {
				c.input, _ = wordText(redirect.Hdoc)
				start := int(redirect.Hdoc.Pos().Line()) - 1
				c.inputAt = func(line int) spot { return r.place(start+line, 0, 1) }
			}
		}
	}
}

// wordText is what a word says, with $name for what only the shell knows.
func wordText(word *syntax.Word) (text string, plain bool) {
	plain = true
	var parts func(all []syntax.WordPart)
	var out strings.Builder
	parts = func(all []syntax.WordPart) {
		for _, part := range all {
			switch x := part.(type) {
			case *syntax.Lit:
				out.WriteString(strings.NewReplacer("\\\n", "", "\\ ", " ", `\"`, `"`).Replace(x.Value))
			case *syntax.SglQuoted:
				out.WriteString(x.Value)
			case *syntax.DblQuoted:
				parts(x.Parts)
			case *syntax.ParamExp:
				plain = false
				out.WriteString("$" + x.Param.Value)
			default:
				plain = false
				out.WriteString("$()")
			}
		}
	}
	parts(word.Parts)
	return out.String(), plain
}

// fetches reports whether a word holds what a download prints.
func fetches(word *syntax.Word) bool {
	found := false
	syntax.Walk(word, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok && len(call.Args) > 0 {
			name := call.Args[0].Lit()
			found = found || name == "curl" || name == "wget"
		}
		return true
	})
	return found
}

// bashisms reports what /bin/sh of Debian and Ubuntu, dash, does not know.
func (r *shellReader) bashisms(parsed *syntax.File) {
	syntax.Walk(parsed, func(n syntax.Node) bool {
		what := ""
		switch x := n.(type) {
		case *syntax.TestClause:
			what = "[[ ]]"
		case *syntax.ProcSubst:
			what = "<( ) and >( )"
		case *syntax.ArrayExpr:
			what = "arrays"
		case *syntax.ArithmCmd, *syntax.LetClause:
			what = "(( ))"
		case *syntax.FuncDecl:
			if x.RsrvWord {
				what = "the word function"
			}
		case *syntax.Redirect:
			if x.Op == syntax.RdrAll || x.Op == syntax.AppAll {
				what = "&>"
			} else if x.Op == syntax.WordHdoc {
				what = "<<<"
			}
		case *syntax.BinaryCmd:
			if x.Op == syntax.PipeAll {
				what = "|&"
			}
		case *syntax.CallExpr:
			what = bashCall(x)
		case *syntax.ParamExp:
			what = bashParameter(x)
		case *syntax.SglQuoted:
			if x.Dollar {
				what = "$'...'"
			}
		case *syntax.ForClause:
			if _, c := x.Loop.(*syntax.CStyleLoop); c || x.Select {
				what = "for ((...)) and select"
			}
		case *syntax.Assign:
			if x.Append {
				what = "+="
			}
		case *syntax.DeclClause:
			if x.Variant != nil && (x.Variant.Value == "declare" || x.Variant.Value == "typeset") {
				what = x.Variant.Value
			}
		}
		if what != "" {
			pos := n.Pos()
			r.w.report("cmd-bashism", r.place(int(pos.Line())-1, int(pos.Col())-1, 1), "/bin/sh, which is dash, does not know %s", what)
		}
		return true
	})
}

var braceList = lazy.Regexp(`^[^{}$]*\{(?:[^{}\s]*,[^{}\s]*|[0-9a-z]+\.\.[0-9a-z]+)\}`)

// bashCall is what of bash's a simple command uses.
func bashCall(x *syntax.CallExpr) string {
	if len(x.Args) == 0 {
		return ""
	}
	name := x.Args[0].Lit()
	for _, word := range x.Args[1:] {
		switch text := word.Lit(); {
		case (name == "[" || name == "test") && text == "==":
			return "== in [ ]: it is ="
		case name == "read" && lazy.Regexp(`^-[a-z]*[antsdNu]`).MatchString(text), name == "printf" && text == "-v", name == "trap" && (text == "ERR" || text == "DEBUG"):
			return name + " " + text
		case braceList.MatchString(text) && slices.Contains([]string{"mkdir", "touch", "rm", "cp", "mv", "chmod", "chown", "ls", "echo"}, name):
			return "{a,b}: it is one name"
		}
	}
	switch name {
	case "source", "pushd", "popd", "shopt", "mapfile", "readarray", "disown", "declare", "compgen":
		return name
	}
	return ""
}

// bashParameter is what of bash's the use of a variable is.
func bashParameter(x *syntax.ParamExp) string {
	switch {
	case x.Repl != nil:
		return "${x/a/b}"
	case x.Slice != nil:
		return "${x:1:2}"
	case x.Excl:
		return "${!x}"
	case x.Exp != nil && (x.Exp.Op == syntax.UpperFirst || x.Exp.Op == syntax.UpperAll || x.Exp.Op == syntax.LowerFirst || x.Exp.Op == syntax.LowerAll):
		return "${x^^} and ${x,,}"
	case x.Exp == nil && x.Param != nil && slices.Contains([]string{"RANDOM", "EUID", "UID", "BASH_SOURCE", "PIPESTATUS", "FUNCNAME", "BASHPID", "BASH_VERSION"}, x.Param.Value):
		return "$" + x.Param.Value
	}
	return ""
}

// readWritten takes what cat, tee, echo and printf write for files, too.
func (w *world) readWritten() {
	for i := range w.commands {
		c := &w.commands[i]
		in := c.inner()
		targets, appends := c.writes, c.appends
		text := c.input
		switch {
		case c.inputAt != nil && in.name() == "cat" && len(in.words) == 1:
		case c.inputAt != nil && in.name() == "tee":
			if in.has("-a", "--append") {
				appends = append(slices.Clone(appends), in.args()...)
			} else {
				targets = append(slices.Clone(targets), in.args()...)
			}
		case in.name() == "echo" && len(in.words) == 2:
			text = in.words[1] + "\n"
		case in.name() == "printf" && len(in.words) == 2:
			text = strings.ReplaceAll(in.words[1], `\n`, "\n")
		default:
			continue
		}
		for j, path := range append(slices.Clone(targets), appends...) {
			if strings.HasPrefix(path, "/") && !strings.ContainsAny(path, "$*") && w.file(path) == nil {
				w.files = append(w.files, &file{path: path, mode: -1, owner: "root:root", late: true, append: j >= len(targets), text: text, made: c})
			}
		}
	}
}
