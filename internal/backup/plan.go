package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"bake/internal/diag"
	"bake/internal/secret"
)

// A Plan is where the backups of one host go, with all that it takes to get there.
type Plan struct {
	Restic   *restic // nil: there is no repository
	Tree     *tree   // nil: there is none
	Keep     keep
	MaxAge   time.Duration // 0: backups do not age
	Subset   string        // for Check
	User     string        // who fetches from the machine
	Identity string        // file of the key that does, "" for the keys of whoever runs bake
	Address  string        // of the machine, "" for what else is known
	Time     time.Duration // for one step of a backup, 0: nothing is said of it
	Stall    time.Duration // without a byte
	Size     int64         // that a state may have, 0: nothing is said of it
}

// usual is what holds where backup.yaml says nothing.
var usual = plan{
	keep:   &keep{Daily: 7, Weekly: 4, Monthly: 6, Within: 7 * 24 * time.Hour},
	limits: &limits{}, user: "bake-backup",
}

// Plan finds the secrets of a host's stores, as far as a role needs them. The error is a
// diag.List when the configuration is at fault, among that when it says nothing of this
// host.
func (c Config) Plan(ctx context.Context, host string, as Role, finder secret.Finder) (Plan, error) {
	p := c.hosts[host].over(c.fallback).over(usual)
	var problems diag.List
	missing := func(format string, args ...any) {
		problems.Add(diag.Problem{Pos: diag.Position{File: c.file}, Path: "hosts." + host, Message: fmt.Sprintf(format, args...),
			Hint: "go doc ./internal/backup Config describes the file"})
	}
	if p.repository == "" && p.tree == "" {
		missing("nothing says where backups of %s go: neither repository nor tree", host)
	}
	if p.repository != "" && p.password == nil {
		missing("there is a repository and no password: to it")
	}
	if strings.HasPrefix(p.repository, "s3:") && p.keys[as].key == nil {
		missing("there is a repository on S3 and no %s: with a key of its own", as)
	}
	if err := problems.Err(); err != nil {
		return Plan{}, err
	}
	plan := Plan{Keep: *p.keep, MaxAge: p.maxAge, Subset: p.subset, User: p.user, Identity: p.identity, Address: p.address,
		Time: p.limits.Time, Stall: cmp.Or(p.limits.Stall, defaultStall), Size: p.limits.Size}
	if plan.Identity != "" && !filepath.IsAbs(plan.Identity) {
		plan.Identity = filepath.Join(filepath.Dir(c.file), plan.Identity)
	}
	if p.tree != "" {
		plan.Tree = &tree{Dir: p.tree, Tools: finder.Tools, Time: plan.Time, Size: plan.Size}
	}
	if p.repository == "" {
		return plan, nil
	}
	var err error
	plan.Restic, err = p.restic(ctx, as, finder)
	return plan, err
}

// Drill says how long after a proven restore the next one of a host is rehearsed, and how
// old a proof may be. 0 is never, and for ever.
func (c Config) Drill(host string) (every, alarm time.Duration) {
	if d := c.hosts[host].over(c.fallback).drill; d != nil {
		return d.every, d.alarm
	}
	return 0, 0
}

// over fills in what p does not say from what q does.
func (p plan) over(q plan) plan {
	p.at = cmp.Or(p.at, q.at)
	for _, field := range [][2]*string{{&p.repository, &q.repository}, {&p.tree, &q.tree}, {&p.region, &q.region}, {&p.user, &q.user}, {&p.identity, &q.identity}, {&p.address, &q.address}, {&p.subset, &q.subset}} {
		*field[0] = cmp.Or(*field[0], *field[1])
	}
	if p.password == nil {
		p.password = q.password
	}
	merged := maps.Clone(q.keys)
	if merged == nil {
		merged = map[Role]keyRefs{}
	}
	maps.Copy(merged, p.keys)
	p.keys = merged
	p.keep, p.limits, p.maxAge, p.drill = cmp.Or(p.keep, q.keep), cmp.Or(p.limits, q.limits), cmp.Or(p.maxAge, q.maxAge), cmp.Or(p.drill, q.drill)
	return p
}

func (p plan) restic(ctx context.Context, as Role, finder secret.Finder) (*restic, error) {
	r := &restic{Tools: finder.Tools, Repository: p.repository, Region: p.region, Limits: *p.limits}
	var problems diag.List
	for _, s := range []struct {
		refs []secret.Ref
		to   *secret.Value
	}{{p.password, &r.Password}, {p.keys[as].key, &r.Keys.Access}, {p.keys[as].secret, &r.Keys.Secret}} {
		if len(s.refs) == 0 {
			continue
		}
		values, err := finder.Resolve(ctx, s.refs)
		var list diag.List
		switch {
		case errors.As(err, &list):
			problems.Add(list...)
		case err != nil:
			return nil, err
		default: // a newline at the end is an editor's
			*s.to = secret.New(values[0].Name, []byte(strings.TrimSuffix(string(values[0].Reveal()), "\n")))
		}
	}
	return r, problems.Err()
}

// Stores are those there are, the one to restore from first.
func (p Plan) Stores() (all []Store) {
	if p.Restic != nil {
		all = append(all, p.Restic)
	}
	if p.Tree != nil {
		all = append(all, p.Tree)
	}
	return all
}

// Bucket is the bucket of a repository on S3, as the role of the plan sees it. It is nil
// for other repositories.
func (p Plan) Bucket() (*Bucket, error) {
	if p.Restic == nil {
		return nil, nil
	}
	return p.Restic.bucket()
}

func (r *restic) bucket() (*Bucket, error) {
	address, isS3 := strings.CutPrefix(r.Repository, "s3:")
	if !isS3 {
		return nil, nil
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no address of a bucket", r.Repository)
	}
	name, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if name == "" {
		return nil, fmt.Errorf("%q names no bucket", r.Repository)
	}
	return newBucket(u, name, prefix, r.Region, r.Keys)
}

// HasPruner says whether there is a key that prunes, and so renews locks.
func (c Config) HasPruner(host string) bool {
	return c.hosts[host].over(c.fallback).keys[Pruner].key != nil
}

// Dirs are the directories of this machine that a host's stores are in.
func (c Config) Dirs(host string) (all []string) {
	p := c.hosts[host].over(c.fallback)
	for _, dir := range []string{p.repository, p.tree} {
		if filepath.IsAbs(dir) {
			all = append(all, dir)
		}
	}
	return all
}
