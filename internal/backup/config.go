package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/lazy"
	"bake/internal/secret"
)

// FileName is that of the configuration, beside hosts/.
const FileName = "backup.yaml"

// A Config is what backup.yaml says:
//
//	default:                                     for every host, unless it says otherwise
//	  repository: s3:https://s3.example.org/bucket/bake    as restic has it; or sftp:, rest:, a path
//	  password: {file: secrets/restic}           a secret is referred to, as in a host file
//	  writer: {key: {env: KEY}, secret: {file: secrets/s3}}   of S3: puts, and deletes nothing but locks
//	  pruner: {key: {env: PRUNE_KEY}, secret: {file: secrets/s3-prune}}
//	  owner: {key: {env: OWNER_KEY}, secret: {env: OWNER_SECRET}}     who makes the bucket
//	  region: eu-1
//	  tree: /srv/backup                          a second store, or the only one
//	  keep: {daily: 7, weekly: 4, monthly: 6, within: 7d}
//	  limits: {upload: 10MiB, download: 50MiB, time: 2h, stall: 10m, size: 64GiB}
//	  login: {user: backup, identity: secrets/id_backup, address: 192.0.2.7}
//	  max_age: 26h                               older than that is an alarm
//	  drill: {every: 7d, alarm: 30d}             nights rehearse a restore; a proof older than alarm makes them red
//	  check: 5%                                  of what is stored is read by bake backup check
//	hosts:
//	  zap: {repository: /srv/restic/zap}
//
// Only what a command needs of the keys is looked for: those of the pruner and the owner
// can be in the head of somebody who comes by once a month.
//
// What is left out of the state, and what is added to it, is not said here but with the
// parameters of the layer backup: the machine decides what it hands out, and the key that
// fetches it can ask for nothing else.
type Config struct {
	file     string
	fallback plan
	hosts    map[string]plan
}

// plan is one part of it; pointers are nil where it does not say.
type plan struct {
	at                                                *doc.Node
	repository, tree, region, user, identity, address string
	subset                                            string
	password                                          []secret.Ref
	keys                                              map[Role]keyRefs
	keep                                              *keep
	limits                                            *limits
	maxAge                                            time.Duration
	drill                                             *drill
}

// drill is when a restore is rehearsed; 0 is never.
type drill struct{ every, alarm time.Duration }

// A Role is whose key it is that S3 sees.
type Role string

// The roles, as backup.yaml has them.
const (
	Writer Role = "writer"
	Pruner Role = "pruner"
	Owner  Role = "owner"
)

// keyRefs are where a pair of keys is.
type keyRefs struct{ key, secret []secret.Ref }

// Read reads backup.yaml in a directory. One that is absent says nothing; what is wrong
// with it is a diag.List.
func Read(dir string) (Config, error) {
	c := Config{file: filepath.Join(dir, FileName), hosts: map[string]plan{}}
	if _, err := os.Lstat(c.file); errors.Is(err, os.ErrNotExist) {
		return c, nil
	}
	n, err := doc.Read(os.DirFS(dir), FileName, c.file)
	if err != nil {
		return c, err
	}
	var problems diag.List
	get := n.Fields("", &problems, "default", "hosts")
	if d := get("default"); d != nil {
		c.fallback = readPlan(d, "default", &problems)
	}
	if hosts := get("hosts"); hosts != nil && hosts.Kind != doc.Map {
		problems.Add(hosts.Problem("hosts", "write hosts: {zap: {repository: PATH}}", "this is %s, want a map", hosts.Kind))
	} else if hosts != nil {
		for _, pair := range hosts.Pairs {
			c.hosts[pair.Key.Text] = readPlan(pair.Value, "hosts."+pair.Key.Text, &problems)
		}
	}
	return c, problems.Err()
}

func readPlan(n *doc.Node, path string, problems *diag.List) (p plan) {
	get := n.Fields(path, problems, "repository", "password", "writer", "pruner", "owner", "region", "tree", "keep", "limits", "login", "max_age", "drill", "check")
	if n.Kind != doc.Map {
		return p
	}
	at := func(key string) (*doc.Node, string) { return get(key), doc.Join(path, key) }
	p.at = n
	p.repository = readRepository(at, problems)
	p.tree, p.region = line(at, "tree", problems), line(at, "region", problems)
	if p.tree != "" && !filepath.IsAbs(p.tree) {
		problems.Add(get("tree").Problem(doc.Join(path, "tree"), "", "want an absolute path"))
	}
	p.password = reference(get("password"), path, "password", problems)
	p.keys = map[Role]keyRefs{}
	for _, role := range []Role{Writer, Pruner, Owner} {
		if k, where := at(string(role)); k != nil {
			p.keys[role] = readKeys(k, where, problems)
		}
	}
	if k, where := at("keep"); k != nil {
		p.keep = readKeep(k, where, problems)
	}
	if l, where := at("limits"); l != nil {
		p.limits = readLimits(l, where, problems)
	}
	if l, where := at("login"); l != nil {
		of := l.Fields(where, problems, "user", "identity", "address")
		below := func(key string) (*doc.Node, string) { return of(key), doc.Join(where, key) }
		p.user, p.identity, p.address = line(below, "user", problems), line(below, "identity", problems), line(below, "address", problems)
	}
	if m, where := at("max_age"); m != nil {
		p.maxAge = readTime(m, where, problems)
	}
	if d, where := at("drill"); d != nil {
		p.drill = readDrill(d, where, problems)
	}
	if s, where := at("check"); s != nil {
		if p.subset = line(at, "check", problems); p.subset != "" && !IsSubset(p.subset) {
			problems.Add(s.Problem(where, "", "%q is neither a part such as 5%% nor an amount such as 1G", p.subset))
		}
	}
	return p
}

var subset = lazy.Regexp(`^([0-9]{1,3}(\.[0-9]{1,3})?%|[0-9]{1,6}[KMGT]|[0-9]{1,4}/[0-9]{1,4})$`)

// IsSubset says whether a text names a part of a store, as restic's --read-data-subset
// has it.
func IsSubset(text string) bool { return subset.MatchString(text) }

type field func(key string) (*doc.Node, string)

// line reads a line of text, "" where there is none.
func line(at field, key string, problems *diag.List) string {
	n, path := at(key)
	switch {
	case n == nil:
	case n.Kind != doc.String || n.Text == "":
		problems.Add(n.Problem(path, "", "this is %s, want text", n.Kind))
	case strings.ContainsFunc(n.Text, func(c rune) bool { return c < ' ' || c == 0x7f }) || strings.HasPrefix(n.Text, "-"):
		problems.Add(n.Problem(path, "", "the text has control characters, or begins with a dash"))
	default:
		return n.Text
	}
	return ""
}

var withPassword = lazy.Regexp(`^[a-z0-9+:]*://?[^/@]*:[^/@]*@`)

func readRepository(at field, problems *diag.List) string {
	n, path := at("repository")
	text := line(at, "repository", problems)
	kind, _, isKind := strings.Cut(text, ":")
	switch {
	case text == "":
	case withPassword.MatchString(text):
		found := n.Problem(path, "for S3 it goes under writer:, for sftp there are keys", "a password is never written here")
		found.Secret = true
		problems.Add(found)
	case filepath.IsAbs(text) || isKind && (kind == "s3" || kind == "sftp" || kind == "rest"):
		return text
	default:
		problems.Add(n.Problem(path, "write s3:https://HOST/BUCKET/PREFIX, sftp:USER@HOST:PATH, rest:URL or an absolute path", "%q is no repository that bake knows", text))
	}
	return ""
}

// reference reads where one secret is.
func reference(n *doc.Node, path, name string, problems *diag.List) []secret.Ref {
	if n == nil {
		return nil
	}
	one := &doc.Node{Kind: doc.Map, Pairs: []doc.Pair{{Key: &doc.Node{Kind: doc.String, Text: name, Pos: n.Pos}, Value: n}}}
	return secret.Read(one, path, problems)
}

func readKeys(n *doc.Node, path string, problems *diag.List) keyRefs {
	get := n.Fields(path, problems, "key", "secret")
	if n.Kind == doc.Map && (get("key") == nil || get("secret") == nil) {
		problems.Add(n.Problem(path, "write {key: {env: NAME}, secret: {file: PATH}}", "want key and secret"))
	}
	return keyRefs{reference(get("key"), path, "key", problems), reference(get("secret"), path, "secret", problems)}
}

func readKeep(n *doc.Node, path string, problems *diag.List) *keep {
	k := &keep{}
	get := n.Fields(path, problems, "daily", "weekly", "monthly", "within")
	for key, to := range map[string]*int{"daily": &k.Daily, "weekly": &k.Weekly, "monthly": &k.Monthly} {
		v := get(key)
		if v == nil {
			continue
		}
		number, err := strconv.Atoi(v.Text)
		if v.Kind != doc.Int || err != nil || number < 0 || number > 1000 {
			problems.Add(v.Problem(doc.Join(path, key), "", "want a whole number from 0 to 1000"))
		}
		*to = number
	}
	if v := get("within"); v != nil {
		k.Within = readTime(v, doc.Join(path, "within"), problems)
	}
	return k
}

func readLimits(n *doc.Node, path string, problems *diag.List) *limits {
	l := &limits{}
	get := n.Fields(path, problems, "upload", "download", "time", "stall", "size")
	for key, to := range map[string]*int64{"upload": &l.Upload, "download": &l.Download, "size": &l.Size} {
		if v := get(key); v != nil {
			*to = readAmount(v, doc.Join(path, key), problems)
		}
	}
	for key, to := range map[string]*time.Duration{"time": &l.Time, "stall": &l.Stall} {
		if v := get(key); v != nil {
			*to = readTime(v, doc.Join(path, key), problems)
		}
	}
	return l
}

func readDrill(n *doc.Node, path string, problems *diag.List) *drill {
	d := &drill{}
	get := n.Fields(path, problems, "every", "alarm")
	for key, to := range map[string]*time.Duration{"every": &d.every, "alarm": &d.alarm} {
		if v := get(key); v != nil {
			*to = readTime(v, doc.Join(path, key), problems)
		}
	}
	switch {
	case n.Kind == doc.Map && get("every") == nil && get("alarm") == nil:
		problems.Add(n.Problem(path, "write drill: {every: 7d, alarm: 30d}", "want every, alarm or both"))
	case d.every > 0 && d.alarm > 0 && d.alarm <= d.every:
		problems.Add(get("alarm").Problem(doc.Join(path, "alarm"), "a night or two may go wrong before somebody has to look", "want more than every, which is %v", d.every))
	}
	return d
}

var bytesText = lazy.Regexp(`^([1-9][0-9]{0,5})(KiB|MiB|GiB)$`)

// readAmount reads bytes, or bytes a second.
func readAmount(n *doc.Node, path string, problems *diag.List) int64 {
	m := bytesText.FindStringSubmatch(n.Text)
	if m == nil {
		problems.Add(n.Problem(path, "", "want bytes, such as 10MiB"))
		return 0
	}
	number, _ := strconv.ParseInt(m[1], 10, 64)
	return number << map[string]uint{"KiB": 10, "MiB": 20, "GiB": 30}[m[2]]
}

func readTime(n *doc.Node, path string, problems *diag.List) time.Duration {
	if d, err := ParseTime(n.Text); err == nil && n.Kind == doc.String {
		return d
	}
	problems.Add(n.Problem(path, "", "want a time such as 90m, 26h or 7d"))
	return 0
}

// ParseTime reads a time span in days, or as time.ParseDuration does.
func ParseTime(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if number, err := strconv.Atoi(days); err == nil && number > 0 && number < 100_000 {
			return time.Duration(number) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is not more than nothing", text)
	}
	return d, err
}
