package main

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"bake/layers"
)

// again runs bake rebuild, which must end so, say that, and leave nothing.
func (w workshop) again(t *testing.T, o outcome, code int, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(o.stdout+o.stderr, word) {
			t.Errorf("it does not say %q", word)
		}
	}
	if o.code != code {
		t.Errorf("exit status %d, want %d", o.code, code)
	}
	if t.Failed() {
		t.Logf("%s%s", o.stdout, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "out/.rebuild")); err == nil {
		t.Error("it has left out/.rebuild")
	}
	checkClean(t, filepath.Join(w.dir, "out"))
}

// TestRebuild makes generations again when everything around them has moved on.
func TestRebuild(t *testing.T) {
	p := newPacking(t)
	p.write(t, "layers/motd/layer.yaml", ownLayer, 0o644)
	p.write(t, "layers/motd/files/etc/motd", "hello\n", 0o644)
	p.write(t, "hosts/zap.yaml", "# a comment\n"+strings.Replace(hostFixture, "sysctl", "fail2ban, motd", 1), 0o644)
	for _, form := range [][]string{nil, {"--format", "raw"}, {"--flatten", "--compress"}} {
		p.expect(t, p.command(append([]string{"image", "--host", "zap"}, form...)...), 0)
	}
	all, err := filepath.Glob(filepath.Join(p.dir, "out/zap/????????????????"))
	if err != nil || len(all) != 3 {
		t.Fatalf("%q, %v", all, err)
	}

	// The configuration is another, apt has another version, the pins have moved.
	p.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "sysctl", "fail2ban", 1), 0o644)
	p.tool(t, "rm", "-r", "layers")
	p.offer(t, "2")
	p.expect(t, p.command("pull", "--host", "zap", "--update"), 0)
	for _, dir := range all {
		p.again(t, finish(t, p.command("rebuild", "--host", "zap", "--generation", filepath.Base(dir))), 0, "identical when made again")
	}
	p.again(t, finish(t, p.command("rebuild", "--host", "zap")), 4, "has passed verification")

	// A package that is not here, and that apt does not have any more.
	p.tool(t, "rm", "-r", "cache")
	p.again(t, finish(t, p.command("rebuild", "--host", "zap", "--generation", "latest")), 5, "is not the one of bake.lock")
	p.apt(t, `echo "E: Failed to fetch http://x  404 Not Found" >&2; exit 100`)
	p.again(t, finish(t, p.command("rebuild", "--host", "zap", "--generation", "latest")), 6, "generation ", "does not deliver")

	// What is damaged is not believed.
	latest := p.latest(t)
	forge(t, latest, "inputs.json")
	p.again(t, finish(t, p.command("rebuild", "--host", "zap", "--generation", "latest")), 5, "is refused")
}

const ownLayer = `layer: motd
summary: Say hello.
threat: Silence.
checks:
  inside:
    - claim: The message is there.
      run: wc -c /etc/motd
      has: motd
      falsify: rm /etc/motd
  outside:
    - none: Nobody sees it from outside.
`

// TestRebuildGone: the base image may be fetched again, until nobody has it.
func TestRebuildGone(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	rebuild := func() outcome { return s.run("rebuild", "--host", "zap") }
	s.again(t, rebuild(), 0, "identical when made again")
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)

	stored, err := filepath.Glob(filepath.Join(s.dir, "out/.base/*.qcow2"))
	if err != nil || len(stored) != 1 {
		t.Fatalf("%q, %v", stored, err)
	}
	asked := s.total()
	if err := os.Remove(stored[0]); err != nil {
		t.Fatal(err)
	}
	s.again(t, rebuild(), 0, "identical") // from the cache
	if s.total() != asked {
		t.Error("it has asked for what is in the cache")
	}
	s.tool(t, "rm", "-r", "cache")
	s.again(t, rebuild(), 0, "identical") // from the directory of that day
	s.tool(t, "rm", "-r", "cache")
	s.hook(datedDir(yesterday)+imageName, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(404) })
	s.hook(newestDir+imageName, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(404) })
	s.again(t, rebuild(), 6, "the base image ubuntu:24.04 "+serialOf(yesterday), "is gone", "404")
}

// TestRebuildOther: another bake is an input that is gone, if it makes a difference.
func TestRebuildOther(t *testing.T) {
	w := newWorkshop(t)
	bakeAs := func(tool string, layers fs.FS) error {
		a := &app{env: env{Stderr: &strings.Builder{}, Stdout: &strings.Builder{}, Getenv: os.Getenv, Layers: layers}, config: w.dir, out: filepath.Join(w.dir, "out"), tool: tool}
		a.ui = &ui{env: a.env, quiet: true}
		all, err := a.prepare([]string{"zap"})
		if err == nil {
			_, _, err = a.bake(t.Context(), all[0], imageOptions{})
		}
		return err
	}
	if err := bakeAs("bake 0.1", layers.FS); err != nil {
		t.Fatal(err)
	}
	w.again(t, finish(t, w.command("rebuild", "--host", "zap", "--generation", "latest")), 0, "identical")

	content, err := fs.ReadFile(layers.FS, "sysctl/layer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	other := overlay{layers.FS, fstest.MapFS{"sysctl/layer.yaml": {Data: []byte(strings.Replace(string(content), "threat: ", "threat: Another. ", 1))}}}
	if err := bakeAs("bake 0.2", other); err != nil {
		t.Fatal(err)
	}
	w.again(t, finish(t, w.command("rebuild", "--host", "zap", "--generation", "latest")), 4, "bake 0.2, which baked it, is gone")
}

// overlay has a few files instead of those of another file system.
type overlay struct {
	fs.FS
	over fstest.MapFS
}

func (o overlay) Open(name string) (fs.File, error) {
	if _, ok := o.over[name]; ok {
		return o.over.Open(name)
	}
	return o.FS.Open(name)
}
