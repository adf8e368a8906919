package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/diag"
	"bake/internal/secret"
)

const whole = `default:
  repository: s3:https://s3.example.org/bucket/bake
  password: {file: restic}
  writer: {key: {env: KEY}, secret: {env: SECRET}}
  pruner: {key: {env: PRUNE_KEY}, secret: {env: PRUNE_SECRET}}
  region: eu-1
  keep: {daily: 3, within: 2d}
  limits: {upload: 10MiB, time: 2h}
  login: {identity: id_backup}
  max_age: 26h
  drill: {every: 7d, alarm: 30d}
hosts:
  zip: {repository: /srv/restic, tree: /srv/tree, keep: {monthly: 1}, check: 5%}
  zop: {tree: /srv/tree, drill: {alarm: 36h}}
`

// configure reads a backup.yaml, with the secrets beside it.
func configure(t *testing.T, text string) (Config, secret.Finder, error) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, FileName), []byte(text))
	put(t, filepath.Join(dir, "restic"), []byte(word+"\n"))
	c, err := Read(dir)
	env := map[string]string{"KEY": "AK", "SECRET": "SK"}
	return c, secret.Finder{Dir: dir, Getenv: func(name string) string { return env[name] }}, err
}

func TestPlan(t *testing.T) {
	t.Parallel()
	c, finder, err := configure(t, whole)
	if err != nil {
		t.Fatal(err)
	}
	zap, err := c.Plan(t.Context(), "zap", Writer, finder)
	if err != nil {
		t.Fatal(err)
	}
	r := zap.Restic
	if string(r.Password.Reveal()) != word || string(r.Keys.Access.Reveal()) != "AK" || string(r.Keys.Secret.Reveal()) != "SK" || r.Region != "eu-1" ||
		r.Limits.Upload != 10<<20 || r.Limits.Time != 2*time.Hour || zap.Keep != (keep{Daily: 3, Within: 48 * time.Hour}) ||
		zap.MaxAge != 26*time.Hour || !filepath.IsAbs(zap.Identity) || zap.User != "bake-backup" || len(zap.Stores()) != 1 {
		t.Errorf("%+v, %+v", zap, r)
	}
	for host, want := range map[string][2]time.Duration{"zap": {7 * 24 * time.Hour, 30 * 24 * time.Hour}, "zop": {0, 36 * time.Hour}} {
		if every, alarm := c.Drill(host); every != want[0] || alarm != want[1] {
			t.Errorf("%s: a drill every %v, alarm after %v", host, every, alarm)
		}
	}
	bucket, err := zap.Bucket()
	if err != nil || bucket.String() != "s3.example.org/bucket" || bucket.folder() != "bake/" {
		t.Errorf("%+v, %v", bucket, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", zap, *r, r); strings.Contains(text, word) || strings.Contains(text, "SK") {
		t.Errorf("a secret is in %s", text)
	}
	var list diag.List
	if _, err := c.Plan(t.Context(), "zap", Pruner, finder); !errors.As(err, &list) || !strings.Contains(err.Error(), "PRUNE_KEY") {
		t.Errorf("the pruner's key is not there: %v", err)
	}
	if _, err := c.Plan(t.Context(), "zap", Owner, finder); !errors.As(err, &list) || !strings.Contains(err.Error(), "no owner") {
		t.Errorf("there is no owner: %v", err)
	}
	zip, err := c.Plan(t.Context(), "zip", Pruner, secret.Finder{Dir: finder.Dir, Getenv: func(string) string { return "x" }})
	if err != nil || len(zip.Stores()) != 2 || zip.Keep != (keep{Monthly: 1}) || zip.Subset != "5%" {
		t.Errorf("%+v, %v", zip, err)
	}
	if bucket, err := zip.Bucket(); bucket != nil || err != nil {
		t.Errorf("a directory has a bucket: %v, %v", bucket, err)
	}
	none, _, err := configure(t, "hosts: {zip: {tree: /srv}}\n")
	if err != nil {
		t.Fatal(err)
	}
	late, _, err := configure(t, "hosts: {zip: {tree: /srv, limits: {time: 1h, stall: 1m, size: 2GiB}}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := late.Plan(t.Context(), "zip", Writer, finder); err != nil || plan.Time != time.Hour || plan.Stall != time.Minute || plan.Size != 2<<30 || plan.Tree.Size != plan.Size || plan.Tree.Time != time.Hour {
		t.Errorf("limits without a repository: %+v, %+v, %v", plan, plan.Tree, err)
	}
	if every, alarm := none.Drill("zip"); every != 0 || alarm != 0 {
		t.Errorf("nothing is said of drills: %v, %v", every, alarm)
	}
	if _, err := none.Plan(t.Context(), "zap", Writer, finder); !errors.As(err, &list) || !strings.Contains(err.Error(), "neither repository nor tree") {
		t.Error(err)
	}
	if plan, err := none.Plan(t.Context(), "zip", Writer, finder); err != nil || plan.Keep.Daily != 7 || plan.Keep.Weekly != 4 || plan.Keep.Monthly != 6 {
		t.Errorf("%+v, %v", plan, err)
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"defaults: {}":                                                    `unknown key "defaults"`,
		"default: {repo: /x}":                                             `unknown key "repo"`,
		"default: {repository: restic}":                                   "no repository that bake knows",
		"default: {repository: --option}":                                 "begins with a dash",
		"default: {repository: rest:https://u:hunter2@h/}":                "a password is never written here",
		"default: {password: hunter2}":                                    "never written here",
		"default: {writer: {key: hunter2, secret: {env: X}}}":             "never written here",
		"default: {writer: {key: {env: X}}}":                              "want key and secret",
		"default: {tree: srv}":                                            "want an absolute path",
		"default: {keep: {daily: -1}}":                                    "want a whole number",
		"default: {keep: {within: soon}}":                                 "want a time",
		"default: {limits: {upload: fast}}":                               "want bytes, such",
		"default: {limits: {time: -3h}}":                                  "want a time",
		"default: {check: most}":                                          "neither a part",
		"default: [x]":                                                    "want a map",
		"hosts: [zap]":                                                    "want a map",
		"hosts: {zap: {max_age: 0s}}":                                     "want a time",
		"default: {drill: 7d}":                                            "want a map",
		"default: {drill: {}}":                                            "want every, alarm or both",
		"default: {drill: {every: weekly}}":                               "want a time",
		"default: {drill: {every: 30d, alarm: 7d}}":                       "want more than every, which is 720h0m0s",
		"default: {drill: {each: 7d}}":                                    `unknown key "each"`,
		"default: {login: {users: x}}":                                    `unknown key "users"`,
		"default: {repository: \"s3:http://x/y\", password: {file: [1]}}": "want text",
	} {
		_, _, err := configure(t, text+"\n")
		var list diag.List
		if !errors.As(err, &list) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if c, err := Read(filepath.Join(os.TempDir(), "is-not-there")); err != nil || len(c.hosts) > 0 {
		t.Error(err)
	}
}
