// Package notify tells people and programs what a night came to.
//
// Who is told is in nightly.yaml, beside hosts/:
//
//	keep: 3                                   proven generations of each host, beside latest and current
//	jobs: 2                                   hosts that are built at once
//	boots: 1                                  machines that are booted at once
//	deploy: [zap]                             hosts whose machine at work gets what is proven; or never
//	deploy: {zap: always, zip: "Sat,Sun 02:00-05:00", web: [Mon..Fri 22:00-01:00, Sun 03:00-06:00]}
//	notify:
//	  - webhook: {url: {file: secrets/hook}, when: failure, body: {text: "((summary))"}}
//	  - ping: {url: {env: PING_URL}}          URL/start, then URL or URL/fail
//	  - email: {to: [ops@example.org], from: bake@example.org, when: change}
//	  - textfile: {path: /var/lib/node-exporter/bake.prom}
//
// What backups came to is told in the same way, to all but pings: a service that waits
// for a night must not take a backup for one. With job: nightly or job: backup an entry is
// for that alone, a ping, too.
//
// A URL is a secret: whoever has it can speak in your name. So it is referred to as
// secrets of a host file are, by file, env, age or command, relative to nightly.yaml,
// and is never written there. When is always (the default), change (something was
// promoted or is red) or failure.
//
// A webhook is sent the night as JSON, as `bake nightly --json` prints it. With body
// it is sent that, as JSON, and ((word)) in its texts is replaced: summary, table,
// verdict (green or red), failed (the hosts that somebody should look at), exit, began and ended. Texts are
// replaced in the tree and not in what it is written as, so that nothing that a
// machine says can become more than text.
//
// It promises:
//   - Nothing that it is given to keep is in an error: not a URL, not a line that
//     names one, not what a server answers.
//   - No notification holds up another, and none takes longer than Sender.Patience.
//   - The text file is whole at every moment, and readable for others.
//
// It refuses redirects (a secret would travel on), URLs that are not http or https,
// addresses that are more than an address, and keys that nobody knows.
//
// # Decisions
//
// 2026-11: mail goes through the sendmail interface, which every mail system has,
// instead of speaking SMTP: who may send and how is configured there already.
//
// 2026-11: metrics are a text file for node_exporter and nothing that listens: bake
// does not run when it is asked.
//
// 2026-11: what a body can say is a list of words, not a language: the night as JSON
// is there for whoever needs more. Would change if a service wanted a list of hosts.
package notify

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/nightly"
	"bake/internal/secret"
	"bake/internal/tool"
)

// FileName is that of the configuration, beside hosts/.
const FileName = "nightly.yaml"

// A Config is what nightly.yaml says. Numbers that it does not have are 0.
type Config struct {
	Keep, Jobs, Boots int
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
	get := n.Fields("", &problems, "keep", "jobs", "boots", "deploy", "notify")
	c.Keep = number(get("keep"), "keep", &problems)
	c.Jobs = number(get("jobs"), "jobs", &problems)
	c.Boots = number(get("boots"), "boots", &problems)
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

// A Sender tells what is to be told.
type Sender struct {
	Config
	Dir      string // of nightly.yaml
	Getenv   func(string) string
	Tools    tool.Box
	Patience time.Duration // for one notification; 20 s when 0
	Table    func(nightly.Night) string
	History  func() []nightly.Night // for the text file, the newest last, without this one

	urls   map[string]*url.URL // by target
	broken map[string]error    // those of which no URL could be had
}

// Prepare finds the URLs. It is for the beginning of a night: what is wrong with the
// configuration, a diag.List, is known before anything is done. A command that does not
// give its secret is told later, in the place of its notification: a night does not
// depend on a vault.
func (s *Sender) Prepare(ctx context.Context) error {
	s.urls, s.broken = map[string]*url.URL{}, map[string]error{}
	finder := secret.Finder{Dir: s.Dir, Getenv: s.Getenv, Tools: s.Tools}
	var problems diag.List
	for _, t := range s.targets {
		if t.url == nil {
			continue
		}
		values, err := finder.Resolve(ctx, t.url)
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			s.broken[t.at] = err
			continue
		}
		u, err := url.Parse(strings.TrimSpace(string(values[0].Reveal())))
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" {
			problems.Add(diag.Problem{Pos: diag.Position{File: filepath.Join(s.Dir, FileName)}, Path: t.at + ".url",
				Message: "what it refers to is not one http or https URL", Secret: true})
			continue
		}
		s.urls[t.at] = u
	}
	return problems.Err()
}

// An Error says which notification failed. It is about a remote service, whatever the
// cause: the night itself is what it is.
type Error struct {
	At  string
	Err error
}

func (e *Error) Error() string { return "notifying " + e.At + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Network marks the error as one of the network or of a remote service.
func (e *Error) Network() bool { return true }

// Start tells that a job begins.
func (s *Sender) Start(ctx context.Context, job string) error { return s.each(ctx, job, nil) }

// Send tells what a night came to. The errors are *Error, joined, one for each
// notification that failed.
func (s *Sender) Send(ctx context.Context, n nightly.Night) error {
	return s.Tell(ctx, s.message(n))
}

// Tell tells what a job came to, as Send does.
func (s *Sender) Tell(ctx context.Context, m Message) error { return s.each(ctx, m.Job, &m) }

// each does one notification after another; m is nil at the beginning.
func (s *Sender) each(ctx context.Context, job string, m *Message) error {
	patience := s.Patience
	if patience == 0 {
		patience = 20 * time.Second
	}
	var failed error
	for _, t := range s.targets {
		if t.job != "" && t.job != job || m == nil && t.kind != "ping" || m != nil && !t.wants(*m) {
			continue
		}
		limited, stop := context.WithTimeout(ctx, patience)
		err := s.broken[t.at]
		if err == nil {
			err = s.one(limited, t, m)
		}
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer within %v", patience)
		}
		stop()
		if err != nil {
			failed = errors.Join(failed, &Error{t.at, err})
		}
	}
	return failed
}

func (t target) wants(m Message) bool {
	switch t.when {
	case "failure":
		return m.isRed()
	case "change":
		return m.isRed() || m.Changed
	}
	return true
}

func (s *Sender) one(ctx context.Context, t target, m *Message) error {
	switch t.kind {
	case "webhook":
		return s.webhook(ctx, t, *m)
	case "ping":
		return s.ping(ctx, t, m)
	case "email":
		return s.email(ctx, t, *m)
	}
	return writeMetrics(m.file(t.path), m.Metrics())
}

func (s *Sender) history() []nightly.Night {
	if s.History == nil {
		return nil
	}
	return s.History()
}
