package notify

import (
	"errors"
	"fmt"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/nightly"
	"bake/internal/secret"
)

// FileName is that of the configuration, beside hosts/.
const FileName = "nightly.yaml"

// A Config is what nightly.yaml says. Numbers that it does not have are 0.
type Config struct {
	Keep, Jobs, Boots int
	Deadline          time.Duration             // of one boot, as --deadline
	Deploy            map[string]nightly.Policy // by host, but for never; names that nobody has looked at
	targets           []target
}

// target is one entry of notify.
type target struct {
	kind string // webhook, ping, email or textfile
	at   string // where it stands, for messages: notify[0].webhook
	when string
	job  string // nightly or backup, "" for both

	url  []secret.Ref // of webhook and ping: one
	body *doc.Node    // of webhook, nil for the night itself

	to       []string // of email
	from     string
	sendmail string

	path string // of textfile
}

// Read reads nightly.yaml in a directory. One that is absent says nothing; what is
// wrong with it is a diag.List.
func Read(dir string) (Config, error) {
	var c Config
	file := filepath.Join(dir, FileName)
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	n, err := doc.Read(os.DirFS(dir), FileName, file)
	if err != nil {
		return c, err
	}
	var problems diag.List
	get := n.Fields("", &problems, "keep", "jobs", "boots", "deadline", "deploy", "notify")
	c.Keep = number(get("keep"), "keep", &problems)
	c.Jobs = number(get("jobs"), "jobs", &problems)
	c.Boots = number(get("boots"), "boots", &problems)
	c.Deadline = deadline(get("deadline"), &problems)
	c.readDeploy(get("deploy"), &problems)
	var below diag.List
	c.read(get("notify"), dir, &below)
	for i := range below { // whoever has put a URL there has put it on some line
		below[i].Secret = true
	}
	problems.Add(below...)
	return c, problems.Err()
}

func (c *Config) readDeploy(n *doc.Node, problems *diag.List) {
	if n == nil || n.Kind == doc.String && n.Text == "never" {
		return
	}
	if n.Scalar() {
		problems.Add(n.Problem("deploy", "write deploy: [zap], or deploy: never", "%q is neither never nor a list of hosts", n.Text))
		return
	}
	c.Deploy = map[string]nightly.Policy{}
	for i, item := range n.Items {
		if item.Kind != doc.String || item.Text == "" {
			problems.Add(item.Problem(fmt.Sprintf("deploy[%d]", i), "", "this is %s, want a host's name", item.Kind))
			continue
		}
		c.Deploy[item.Text] = nightly.Policy{Always: true}
	}
	for _, pair := range n.Pairs {
		policy, err := nightly.ReadPolicy(texts(pair.Value)...)
		switch path := "deploy." + pair.Key.Text; {
		case err == nil && (pair.Value.Kind == doc.Map || pair.Value.Kind == doc.List && len(pair.Value.Items) == 0):
			problems.Add(pair.Value.Problem(path, "", "this is %s, want always, never or windows", pair.Value.Kind))
		case err != nil:
			problems.Add(pair.Value.Problem(path, "write always, never, Sat,Sun 02:00-05:00 or a list of such windows", "%v", err))
		case policy.String() != "never":
			c.Deploy[pair.Key.Text] = policy
		}
	}
}

// Dirs are the directories of the text files that a job writes, each once.
func (c Config) Dirs(job string) (dirs []string) {
	for _, t := range c.targets {
		if dir := filepath.Dir(t.path); t.kind == "textfile" && (t.job == "" || t.job == job) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// texts are those of a scalar or a list.
func texts(n *doc.Node) []string {
	if n.Kind == doc.List {
		var all []string
		for _, item := range n.Items {
			all = append(all, item.Text)
		}
		return all
	}
	if n.Scalar() {
		return []string{n.Text}
	}
	return nil
}

func number(n *doc.Node, path string, problems *diag.List) int {
	if n == nil {
		return 0
	}
	var value int
	if _, err := fmt.Sscanf(n.Text, "%d", &value); n.Kind != doc.Int || err != nil || value < 1 || value > 1000 {
		problems.Add(n.Problem(path, "", "want a whole number from 1 to 1000"))
		return 0
	}
	return value
}

func deadline(n *doc.Node, problems *diag.List) time.Duration {
	if n == nil {
		return 0
	}
	d, err := time.ParseDuration(n.Text)
	if n.Kind != doc.String || err != nil || d < time.Minute || d > 24*time.Hour {
		problems.Add(n.Problem("deadline", "", "%q is no time such as 45m or 2h, from 1m to 24h", n.Text))
		return 0
	}
	return d
}

var kinds = []string{"webhook", "ping", "email", "textfile"}

func (c *Config) read(n *doc.Node, dir string, problems *diag.List) {
	if n == nil {
		return
	}
	if n.Kind != doc.List {
		problems.Add(n.Problem("notify", "write - webhook: {url: {file: PATH}}", "this is %s, want a list", n.Kind))
		return
	}
	for i, item := range n.Items {
		path := fmt.Sprintf("notify[%d]", i)
		get := item.Fields(path, problems, kinds...)
		if item.Kind != doc.Map {
			continue
		}
		if len(item.Pairs) != 1 {
			problems.Add(item.Problem(path, "begin each with a dash", "want one of %s", strings.Join(kinds, ", ")))
			continue
		}
		for _, kind := range kinds {
			if value := get(kind); value != nil {
				t := target{kind: kind, at: path + "." + kind}
				t.read(value, dir, problems)
				c.targets = append(c.targets, t)
			}
		}
	}
}

// read fills in a target.
func (t *target) read(n *doc.Node, dir string, problems *diag.List) {
	known := map[string][]string{"webhook": {"url", "when", "body", "job"}, "ping": {"url", "job"},
		"email": {"to", "from", "when", "sendmail", "job"}, "textfile": {"path", "job"}}[t.kind]
	get := n.Fields(t.at, problems, known...)
	if n.Kind != doc.Map {
		return
	}
	t.when = choice(get("when"), t.at+".when", moments, problems)
	if job := get("job"); job != nil {
		t.job = choice(job, t.at+".job", []string{Nightly, Backup}, problems)
	} else if t.kind == "ping" {
		t.job = Nightly
	}
	switch t.kind {
	case "webhook", "ping":
		t.readURL(n, get("url"), problems)
		if t.body = get("body"); t.body != nil {
			checkBody(t.body, t.at+".body", problems)
		}
	case "email":
		t.readMail(n, get, problems)
	case "textfile":
		if t.path = text(n, get("path"), t.at, "path", problems); t.path != "" && !filepath.IsAbs(t.path) {
			t.path = filepath.Join(dir, t.path)
		}
	}
}

// readURL reads where a URL is. Text in its place is refused by secret, without
// showing the line.
func (t *target) readURL(parent, n *doc.Node, problems *diag.List) {
	if n == nil {
		problems.Add(parent.Problem(t.at+".url", "write url: {file: PATH}", "the key \"url\" is missing"))
		return
	}
	refs := &doc.Node{Kind: doc.Map, Pairs: []doc.Pair{{Key: &doc.Node{Kind: doc.String, Text: "url", Pos: n.Pos}, Value: n}}}
	t.url = secret.Read(refs, t.at, problems)
}

func (t *target) readMail(n *doc.Node, get func(string) *doc.Node, problems *diag.List) {
	t.from = text(n, get("from"), t.at, "from", problems)
	address(get("from"), t.at+".from", t.from, problems)
	to := get("to")
	if to == nil || to.Kind != doc.List || len(to.Items) == 0 {
		problems.Add(n.Problem(t.at+".to", "write to: [ops@example.org]", "want a list of addresses"))
		return
	}
	for i, item := range to.Items {
		path := fmt.Sprintf("%s.to[%d]", t.at, i)
		if item.Kind != doc.String {
			problems.Add(item.Problem(path, "", "this is %s, want an address", item.Kind))
			continue
		}
		address(item, path, item.Text, problems)
		t.to = append(t.to, item.Text)
	}
	if program := get("sendmail"); program != nil {
		if t.sendmail = text(n, program, t.at, "sendmail", problems); t.sendmail != "" && !filepath.IsAbs(t.sendmail) {
			problems.Add(program.Problem(t.at+".sendmail", "", "want an absolute path"))
		}
	}
}

// address refuses what is not one bare address: it goes into a header.
func address(n *doc.Node, path, value string, problems *diag.List) {
	if value == "" {
		return
	}
	parsed, err := mail.ParseAddress(value)
	if err != nil || parsed.Address != value || strings.HasPrefix(value, "-") || strings.ContainsAny(value, " \r\n\"<>,;") {
		problems.Add(n.Problem(path, "write it without a name: ops@example.org", "%q is no address", value))
	}
}

func text(parent, n *doc.Node, path, key string, problems *diag.List) string {
	at := doc.Join(path, key)
	switch {
	case n == nil:
		problems.Add(parent.Problem(at, "", "the key %q is missing", key))
	case n.Kind != doc.String || n.Text == "":
		problems.Add(n.Problem(at, "", "this is %s, want text", n.Kind))
	case strings.ContainsFunc(n.Text, func(c rune) bool { return c < ' ' }):
		problems.Add(n.Problem(at, "", "the text has control characters"))
	default:
		return n.Text
	}
	return ""
}

var moments = []string{"always", "change", "failure"}

// choice reads one of some words, the first where there is none.
func choice(n *doc.Node, path string, of []string, problems *diag.List) string {
	if n == nil {
		return of[0]
	}
	if n.Kind == doc.String && slices.Contains(of, n.Text) {
		return n.Text
	}
	last := len(of) - 1
	problems.Add(n.Problem(path, "", "want %s or %s", strings.Join(of[:last], ", "), of[last]))
	return ""
}
