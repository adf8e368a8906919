package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bake/internal/artifact"
	"bake/internal/nightly"
	"bake/internal/notify"
	"bake/internal/tool"
	"bake/internal/verify"
	"bake/layers"

	"github.com/urfave/cli/v2"
)

// sleep is a mirror with a machine that is what boot says: no guest is booted in
// these tests, the verdicts are written down. TestFullNightly boots.
type sleep struct {
	*mirror
	boot func(verify.Options) (verify.Report, error)

	mutex  sync.Mutex
	booted []string // host and generation
}

func newSleep(t *testing.T) *sleep {
	return &sleep{mirror: newMirror(t), boot: judged(true)}
}

// night runs bake nightly in this process.
func (s *sleep) night(args ...string) outcome {
	s.t.Helper()
	return s.bake(append([]string{"nightly"}, args...)...)
}

// bake runs bake in this process, with these machines.
func (s *sleep) bake(args ...string) outcome {
	s.t.Helper()
	s.t.Chdir(s.dir)
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return s.env[name] }
	e := env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Layers: layers.FS, Getenv: getenv, Tools: tool.Box{Getenv: getenv}}
	e.Boot = func(_ context.Context, o verify.Options) (verify.Report, error) {
		s.mutex.Lock()
		s.booted = append(s.booted, o.Plan.Host+" "+o.Generation)
		s.mutex.Unlock()
		return s.boot(o)
	}
	code := run(context.Background(), e, append([]string{"bake"}, args...))
	return outcome{code, stdout.String(), stderr.String()}
}

// must runs a night that must end so, with these words in its table or on stderr.
func (s *sleep) must(code int, words []string, args ...string) nightly.Night {
	s.t.Helper()
	o := s.night(append([]string{"--json"}, args...)...)
	if o.code != code {
		s.t.Errorf("exit status %d, want %d\n%s%s", o.code, code, o.stdout, o.stderr)
	}
	for _, word := range words {
		if !strings.Contains(o.stdout+o.stderr, word) {
			s.t.Errorf("it does not say %q:\n%s%s", word, o.stdout, o.stderr)
		}
	}
	return nightOf(s.t, o)
}

// nightOf reads what --json printed.
func nightOf(t *testing.T, o outcome) (n nightly.Night) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), &n); err != nil {
		t.Fatalf("%v\n%d %s%s", err, o.code, o.stdout, o.stderr)
	}
	return n
}

func (s *sleep) verdicts(n nightly.Night) string {
	var words []string
	for _, o := range n.Hosts {
		words = append(words, o.Host+" "+string(o.Verdict))
	}
	return strings.Join(words, ", ")
}

// current is the generation of a host that was proven last, "" for none.
func (s *sleep) current(name string) string {
	g, err := artifact.Open(filepath.Join(s.dir, "out"), name, "current")
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err == nil {
		err = g.Verify(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return g.Manifest.Generation
}

// host adds a host that is like zap.
func (s *sleep) host(names ...string) {
	for _, name := range names {
		s.write(s.t, "hosts/"+name+".yaml", strings.Replace(strings.Replace(hostFixture, "host: zap", "host: "+name, 1), "../base.qcow2", "ubuntu:24.04", 1), 0o644)
	}
}

// failing are the verdicts of machines of which those named are not what was specified.
func failing(names ...string) func(verify.Options) (verify.Report, error) {
	return func(o verify.Options) (verify.Report, error) {
		return judged(!slices.Contains(names, o.Plan.Host))(o)
	}
}

// traces lists a directory: what every file is, how large, and when it was written.
func traces(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			found[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestNightly(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	first := s.must(0, nil)
	if got := s.verdicts(first); got != "zap promoted, zip promoted" || len(first.Moved) != 1 || !strings.Contains(s.pinned(), serialOf(yesterday)) {
		t.Errorf("%s, moved %q", got, first.Moved)
	}
	if s.current("zap") != first.Hosts[0].Generation || first.Hosts[0].Base.Serial != serialOf(yesterday) || first.Hosts[0].Claims != 1 {
		t.Errorf("%+v", first.Hosts[0])
	}
	if s.times(newestDir+imageName)+s.times(datedDir(yesterday)+imageName) != 1 {
		t.Error("two hosts on one base fetched it twice")
	}

	s.settle()
	s.must(0, nil) // remembers what it has hashed

	// Nothing is new: nothing is written, two questions are asked.
	before, lock, asked := traces(t, filepath.Join(s.dir, "out")), s.pinned(), s.total()
	second := s.must(0, nil)
	if got := s.verdicts(second); got != "zap unchanged, zip unchanged" || second.Number != first.Number+2 || len(second.Moved) != 0 {
		t.Errorf("%s, %d, %q", got, second.Number, second.Moved)
	}
	for path, is := range traces(t, filepath.Join(s.dir, "out")) {
		if before[path] != is {
			t.Errorf("%s was written: %s, %s", path, before[path], is)
		}
	}
	if got := s.total() - asked; got != 2 || s.pinned() != lock || len(s.booted) != 2 {
		t.Errorf("%d requests, %d boots", got, len(s.booted))
	}

	// A new build that one of the two does not come up on: the pin stays, and it is
	// tried again until it is right.
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	s.boot = failing("zip")
	zap, zip := s.current("zap"), s.current("zip")
	for range 2 {
		red := s.must(7, []string{"zip is not what was specified"})
		if got := s.verdicts(red); !strings.HasSuffix(got, "zip failed") || s.pinned() != lock || s.current("zip") != zip || s.current("zap") == zap {
			t.Errorf("%s, pins %s", got, s.pinned())
		}
		if red.Exit != 7 || red.Hosts[1].Failed != 1 || red.Hosts[1].Current != zip || red.Hosts[1].Generation == zip {
			t.Errorf("%+v", red.Hosts[1])
		}
	}
	s.boot = judged(true)
	green := s.must(0, nil)
	if got := s.verdicts(green); got != "zap unchanged, zip promoted" || !strings.Contains(s.pinned(), serialOf(now)) || len(green.Moved) != 1 {
		t.Errorf("%s, moved %q", got, green.Moved)
	}
}

// settle waits until the base images are so old that bake remembers what it hashes:
// before, a file could still change without its times telling.
func (s *sleep) settle() {
	s.t.Helper()
	images, err := filepath.Glob(filepath.Join(s.dir, "out/.base/*.qcow2"))
	if err != nil || len(images) == 0 {
		s.t.Fatalf("%q, %v", images, err)
	}
	for _, path := range images {
		info, err := os.Stat(path)
		if err != nil {
			s.t.Fatal(err)
		}
		changed := time.Unix(info.Sys().(*syscall.Stat_t).Ctim.Unix())
		for time.Since(changed) < 2100*time.Millisecond {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// total is how many requests there were.
func (m *mirror) total() (all int) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, n := range m.asked {
		all += n
	}
	return all
}

// TestNightDeadline: what a boot may take is what nightly.yaml says, unless who calls says it.
func TestNightDeadline(t *testing.T) {
	for _, test := range []struct {
		file time.Duration
		args []string
		want time.Duration
	}{
		{0, nil, 20 * time.Minute},
		{45 * time.Minute, nil, 45 * time.Minute},
		{45 * time.Minute, []string{"--deadline", "30m"}, 30 * time.Minute},
	} {
		var got time.Duration
		program := &cli.App{Flags: append(bootFlags(), nightFlags()...), Action: func(c *cli.Context) (err error) {
			o := nightOptions{config: notify.Config{Deadline: test.file}}
			if o.boot, err = readBootFlags(c); err != nil {
				return err
			}
			err = o.readNumbers(c)
			got = o.boot.deadline
			return err
		}}
		if err := program.Run(append([]string{"bake"}, test.args...)); err != nil || got != test.want {
			t.Errorf("%v: %s, want %s: %v", test, got, test.want, err)
		}
	}
}
