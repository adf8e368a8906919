package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bake/internal/artifact"
	"bake/internal/verify"
)

// TestQuietNight: with nothing new for fifty hosts on two bases, two questions are
// asked for each base and not one byte is written where the artifacts are.
func TestQuietNight(t *testing.T) {
	s := newSleep(t)
	for i := range 49 {
		s.host(fmt.Sprintf("h%02d", i))
	}
	s.write(t, "hosts/h00.yaml", strings.NewReplacer("host: zap", "host: h00", "../base.qcow2", "ubuntu:24.04@"+serialOf(yesterday)).Replace(hostFixture), 0o644)
	if n := s.must(0, nil); len(n.Promoted()) != 50 {
		t.Fatal(n)
	}
	if got := s.times(newestDir+imageName) + s.times(datedDir(yesterday)+imageName); got != 1 {
		t.Errorf("one image was fetched %d times", got)
	}
	s.settle()
	s.must(0, nil)
	before, asked, same := traces(t, filepath.Join(s.dir, "out")), s.total(), s.same
	n := s.must(0, nil)
	if got := s.total() - asked; s.same-same != got {
		t.Errorf("of %d requests %d had the same answer as before, which was not sent", got, s.same-same)
	}
	if got := n.String(); got != "50 unchanged" || len(s.booted) != 50 {
		t.Errorf("%s, %d boots", got, len(s.booted))
	}
	if got := s.total() - asked; got > 4 {
		t.Errorf("%d requests for two bases", got)
	}
	after := traces(t, filepath.Join(s.dir, "out"))
	for path, is := range after {
		if before[path] != is {
			t.Errorf("%s was written: %s, %s", path, before[path], is)
		}
	}
	if len(before) != len(after) {
		t.Errorf("%d files, then %d", len(before), len(after))
	}
}

// underWay starts a night that stays in its boot, and returns it with what it has yet to say.
func (s *sleep) underWay() (*exec.Cmd, io.Reader) {
	s.t.Helper()
	cmd := s.child("nightly")
	cmd.Env = append(cmd.Env, testVerdict+"=hang")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && lines.Text() != "it boots" {
	}
	return cmd, stderr
}

// Two nights at once: the second says whose it is, and disturbs nothing.
func TestTwoNights(t *testing.T) {
	s := newSleep(t)
	cmd, stderr := s.underWay()
	o := s.night()
	if o.code != 4 || o.stdout != "" || !strings.Contains(o.stderr, fmt.Sprintf("another night is under way, process %d", cmd.Process.Pid)) {
		t.Errorf("exit status %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	if o := s.night("status"); o.code != 0 || !strings.Contains(o.stdout, "under way") {
		t.Errorf("%d %s%s", o.code, o.stdout, o.stderr)
	}
	if o := s.night("--dry-run"); o.code != 0 || !strings.Contains(o.stdout, "zap   would build ") {
		t.Errorf("%d %s%s", o.code, o.stdout, o.stderr)
	}

	// Told to stop, the first ends in good order, and says so.
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(stderr)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(string(rest), "interrupted") {
		t.Errorf("exit status %d\n%s", code, rest)
	}
	checkClean(t, filepath.Join(s.dir, "out"))
	o = s.night("status")
	if !strings.Contains(o.stdout, "exit 130") || strings.Contains(o.stdout, "under way") {
		t.Errorf("%s", o.stdout)
	}
	if n := s.must(0, nil); s.verdicts(n) != "zap promoted" {
		t.Error(s.verdicts(n))
	}
}

// A night that was killed is told apart from one that ended.
func TestCutOff(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	cmd := s.child("nightly")
	cmd.Env = append(cmd.Env, testVerdict+"=hang")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && lines.Text() != "it boots" {
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if o := s.night("status"); !strings.Contains(o.stdout, "was cut off") {
		t.Errorf("%s", o.stdout)
	}
	if n := s.must(0, nil); s.verdicts(n) != "zap promoted" || len(n.Moved) != 1 {
		t.Errorf("%s, %q", s.verdicts(n), n.Moved)
	}
}

func TestNightPlaces(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)

	// By another name it is the same place.
	s.tool(t, "ln", "-s", "out", "link")
	s.tool(t, "ln", "-s", ".", "self")
	n := s.must(0, nil, "--out", "link", "--config", "self")
	if s.verdicts(n) != "zap unchanged" || n.Number != 2 {
		t.Errorf("%s, night %d", s.verdicts(n), n.Number)
	}
	s.write(t, "file", "not a directory\n", 0o644)
	if o := s.night("--out", "file"); o.code != 4 || !strings.Contains(o.stderr, "not a directory") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
	s.env["XDG_STATE_HOME"] = filepath.Join(s.dir, "file")
	if o := s.night(); o.code != 4 || !strings.Contains(o.stderr, "not a directory") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
	delete(s.env, "XDG_STATE_HOME")
	if o := s.night(); o.code != 4 || !strings.Contains(o.stderr, "set HOME or XDG_STATE_HOME") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
}

// With a directory of artifacts that cannot be written to a night does not begin.
func TestReadOnlyNight(t *testing.T) {
	s := newSleep(t)
	s.t.Setenv("XDG_STATE_HOME", s.env["XDG_STATE_HOME"])
	o := s.inMount(t, "ro", "out", "nightly")
	if o.code != 4 || !strings.Contains(o.stderr, "the directory of artifacts out cannot be written to: read-only file system") {
		t.Errorf("%d %s%s", o.code, o.stdout, o.stderr)
	}
	if s.total() != 0 {
		t.Error("it has asked for images")
	}
	if reports, _ := filepath.Glob(filepath.Join(s.dir, "state/bake/nightly/*/*.json")); len(reports) != 0 {
		t.Errorf("there is %q", reports)
	}
}

// One host's trouble is not another's.
func TestOneHostsTrouble(t *testing.T) {
	s := newSleep(t)
	s.host("zip", "bad", "busy")
	s.write(t, "hosts/bad.yaml", "host: bad\nbase: 1\n", 0o644)
	s.tool(t, "mkdir", "-p", "out/busy")
	lock := filepath.Join(s.dir, "out/busy/.lock")
	hold := exec.Command("flock", "-x", lock, "sh", "-c", "echo held; exec sleep 100")
	demand(t, "flock")
	out, err := hold.StdoutPipe()
	if err == nil {
		err = hold.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Process.Kill(); _ = hold.Wait() }()
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	s.boot = func(o verify.Options) (verify.Report, error) {
		if o.Plan.Host == "zip" {
			panic("a verifier that breaks down")
		}
		return judged(true)(o)
	}
	n := s.must(3, []string{"hosts/bad.yaml:2:7", "another bake works on it", "a verifier that breaks down"})
	if got := s.verdicts(n); got != "bad could not, busy could not, zap promoted, zip could not" {
		t.Error(got)
	}
	for i, want := range []int{3, 4, 0, 1} {
		if n.Hosts[i].Exit != want {
			t.Errorf("%s: exit %d, want %d", n.Hosts[i].Host, n.Hosts[i].Exit, want)
		}
	}
	if strings.Contains(s.pinned(), "ubuntu") {
		t.Errorf("bake.lock has moved for hosts that are not proven:\n%s", s.pinned())
	}
}

// Everybody is told, in order, and who cannot be told changes no verdict.
func TestNightIsTold(t *testing.T) {
	s := newSleep(t)
	var mutex sync.Mutex
	var got []string
	status := 200
	web := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		mutex.Lock()
		defer mutex.Unlock()
		line, _, _ := strings.Cut(string(body), "\n")
		got = append(got, in.URL.Path+" "+line)
		out.WriteHeader(status)
	}))
	t.Cleanup(web.Close)
	s.write(t, "secrets/ping", web.URL+"/T0KEN\n", 0o600)
	s.write(t, "nightly.yaml", `notify:
  - ping: {url: {file: secrets/ping}}
  - webhook: {url: {env: HOOK}, when: failure, body: {text: "((verdict)): ((summary))"}}
  - textfile: {path: metrics/bake.prom}
`, 0o644)
	s.write(t, "metrics/.keep", "", 0o644)
	s.env["HOOK"] = web.URL + "/hook"
	s.must(0, nil)
	s.boot = failing("zap")
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	s.must(7, nil)
	want := []string{"/T0KEN/start ", "/T0KEN HOST", "/T0KEN/start ", "/T0KEN/fail HOST", `/hook {"text":"red: bake nightly: 1 failed (zap)"}`}
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("told %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(s.dir, "metrics/bake.prom")); err != nil || !strings.Contains(string(text), `bake_nightly_host_ok{host="zap"} 0`) ||
		!strings.Contains(string(text), `bake_nightly_host_last_good_timestamp_seconds{host="zap"} `) || !strings.Contains(string(text), "base_age_seconds") {
		t.Errorf("%v\n%s", err, text)
	}

	status = 404
	s.boot = judged(true)
	n := s.must(6, []string{"notifying notify[0].ping: the server answers 404 Not Found"})
	if got := s.verdicts(n); got != "zap promoted" || len(n.Notes) != 2 || n.Exit != 6 { // at the start and at the end
		t.Errorf("%s, %q", got, n.Notes)
	}
	if all := s.night("status", "--json"); strings.Contains(all.stdout+all.stderr, "T0KEN") || !strings.Contains(all.stdout, "notifying") {
		t.Errorf("%s", all.stdout)
	}

	// What is wrong with the configuration is known before anything is done.
	asked := s.total()
	s.write(t, "nightly.yaml", "notify:\n  - ping: {url: http://example.org/T0KEN}\n", 0o644)
	if o := s.night(); o.code != 3 || !strings.Contains(o.stderr, "nightly.yaml:2:17") || strings.Contains(o.stderr, "T0KEN") || s.total() != asked {
		t.Errorf("%d %s", o.code, o.stderr)
	}
	s.write(t, "nightly.yaml", "notify:\n  - ping: {url: {env: UNSET}}\n", 0o644)
	if o := s.night(); o.code != 3 || !strings.Contains(o.stderr, "UNSET") || s.total() != asked {
		t.Errorf("%d %s", o.code, o.stderr)
	}
}

// Nothing is fetched, built, written or told by a night that only asks.
func TestDryNight(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	s.must(0, nil, "--host", "zap")
	s.settle()
	s.must(0, nil, "--host", "zap")
	s.write(t, "nightly.yaml", "notify: [{ping: {url: {env: PING}}}]\n", 0o644)
	s.env["PING"] = s.url + "/ping"
	look := func() (all map[string]string) {
		all = traces(t, s.dir)
		for path := range all {
			if strings.Contains(path, "/state/bake") || filepath.Base(path) == "state" { // lists that were seen
				delete(all, path)
			}
		}
		return all
	}
	before := look()
	n := s.must(0, nil, "--dry-run")
	if got := s.verdicts(n); got != "zap unchanged, zip would build" || n.Number != 0 {
		t.Errorf("%s, night %d", got, n.Number)
	}
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	if n := s.must(0, []string{serialOf(now)}, "--dry-run"); s.verdicts(n) != "zap would build, zip would build" {
		t.Error(s.verdicts(n))
	}
	for path, is := range look() {
		if before[path] != is {
			t.Errorf("%s was written", path)
		}
	}
	if s.times(datedDir(now)+imageName) != 0 || s.times("/ping/start") != 0 || s.times("/ping") != 0 {
		t.Error("it has fetched or told something")
	}
}

// The options of a night, and what is no option of it.
func TestNightOptions(t *testing.T) {
	s := newSleep(t)
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"instal", 2, `unexpected argument "instal"`},
		{"status now", 2, `unexpected argument "now"`},
		{"--jobs 0", 2, "--jobs 0: want at least 1"},
		{"--boots -1", 2, "--boots -1: want at least 1"},
		{"--keep 0", 2, "--keep 0: want at least 1"},
		{"--locked", 2, "--locked and a night exclude each other"},
		{"--user", 2, "--user goes with bake nightly"},
		{"--nights 3", 2, "--nights goes with bake nightly status"},
		{"status --dry-run", 2, "changes nothing"},
		{"status --nights 0", 2, "--nights 0"},
		{"install --jobs 3", 2, "nightly.yaml has numbers"},
		{"install --at x;y", 2, "--at"},
		{"install --run-as nobody-of-that-name", 2, "there is no such user"},
		{"install --user", 4, "set HOME"},
		{"install --on-failure x", 2, "--on-failure"},
		{"--host absent", 3, "unknown host"},
		{"logs --to s3://x/y", 2, "--to goes with bake nightly and bake nightly status"},
		{"status --to oci://127.0.0.1:1/x", 2, "a registry has no conditional writes"},
		{"status --shard 0/3", 2, "--shard goes with bake nightly"},
		{"status --plain-http", 2, "--plain-http goes with --to"},
		{"status", 0, "there was no night yet"},
	} {
		if o := s.night(strings.Fields(test.args)...); o.code != test.code || !strings.Contains(o.stderr+o.stdout, test.want) {
			t.Errorf("%s: exit status %d, want %d, %q\n%s%s", test.args, o.code, test.code, test.want, o.stdout, o.stderr)
		}
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "hosts")); err != nil {
		t.Fatal(err)
	}
	if o := s.night(); o.code != 2 || !strings.Contains(o.stderr, "there is no host file") {
		t.Errorf("%d %s", o.code, o.stderr)
	}
}

// A red night says what has changed, and so does bake diff.
func TestDiff(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	s.boot = failing("zap")
	s.publish(changedImage(t, map[string]string{"etc/motd": "new"}), now)
	want := "base: " + serialOf(yesterday) + " -> " + serialOf(now) + ", sha256 "
	if o := s.night(); o.code != 7 || !strings.Contains(o.stdout, "\n    "+want) {
		t.Errorf("%d\n%s%s", o.code, o.stdout, o.stderr)
	}
	latest, err := artifact.Open(filepath.Join(s.dir, "out"), "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"latest"}, {"current", "latest"}, {s.current("zap"), latest.Manifest.Generation}} {
		if o := s.run(append([]string{"diff", "--host", "zap"}, args...)...); o.code != 1 || !strings.Contains(o.stderr, " differ\n") || !strings.HasPrefix(o.stdout, want) || strings.Count(o.stdout, "\n") != 1 {
			t.Errorf("%q: %d %s%s", args, o.code, o.stdout, o.stderr)
		}
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"latest", "latest"}, 0, "were made from the same"},
		{[]string{"current", "now"}, 0, "were made from the same"},
		{[]string{"0123456789abcdef"}, 4, "has no generation 0123456789abcdef"},
		{[]string{"../zip"}, 1, "is no name of a generation"},
		{[]string{"a", "b", "c"}, 2, `unexpected argument "c"`},
	} {
		if o := s.run(append([]string{"diff", "--host", "zap"}, test.args...)...); o.code != test.code || o.stdout != "" || !strings.Contains(o.stderr, test.want) {
			t.Errorf("%q: %d %s%s", test.args, o.code, o.stdout, o.stderr)
		}
	}
	file := filepath.Join(s.dir, "hosts", "zap.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, "\ncloud-config: {timezone: Etc/GMT+1}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := s.run("diff", "--host", "zap", "now"); o.code != 1 || !strings.Contains(o.stdout, "words: changed\n") && !strings.Contains(o.stdout, "claims: changed\n") {
		t.Errorf("%d %s%s", o.code, o.stdout, o.stderr)
	}
}

// What failed since it was promoted, or has no proof any more, is not left alone.
func TestLostProof(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	report := filepath.Join(s.dir, "out/zap", s.current("zap"), "report.json")
	for name, spoil := range map[string]func() error{
		"it failed by hand": func() error {
			content, err := os.ReadFile(report)
			if err != nil {
				return err
			}
			return os.WriteFile(report, []byte(strings.Replace(string(content), `"ok": true`, `"ok": false`, 1)), 0o600)
		},
		"its report is gone": func() error { return os.Remove(report) },
		"its report is another's": func() error {
			return os.WriteFile(report, []byte(`{"generation": "x", "results": [{"ok": true}]}`), 0o600)
		},
		"its seed is damaged":        func() error { return os.Truncate(filepath.Join(filepath.Dir(report), "seed.iso"), 10) },
		"its manifest is damaged":    func() error { return os.Truncate(filepath.Join(filepath.Dir(report), "manifest.json"), 10) },
		"its directory is not there": func() error { return os.RemoveAll(filepath.Dir(report)) },
	} {
		before := len(s.booted)
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if n := s.must(0, nil); s.verdicts(n) != "zap promoted" || len(s.booted) != before+1 {
			t.Errorf("%s: %s, %d boots", name, s.verdicts(n), len(s.booted)-before)
		}
		if n := s.must(0, nil); s.verdicts(n) != "zap unchanged" {
			t.Errorf("%s: then %s", name, s.verdicts(n))
		}
	}
}

// A host file that is gone is its host's trouble, whoever still names it.
func TestVanishedHost(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	n := s.must(3, []string{`unknown host "gone"`}, "--host", "gone", "--host", "zap")
	if got := s.verdicts(n); got != "gone could not, zap promoted" || n.Hosts[0].Exit != 3 {
		t.Errorf("%s, %+v", got, n.Hosts[0])
	}
	s.write(t, "nightly.yaml", "deploy: {gone: always}\n", 0o644)
	n = s.must(3, []string{`there is no host file for "gone"`})
	if got := s.verdicts(n); got != "zap unchanged, zip promoted" || n.Exit != 3 || len(n.Notes) != 1 {
		t.Errorf("%s, %+v", got, n.Notes)
	}
	for _, args := range [][]string{{"--dry-run"}, {"install", "--dry-run", "--run-as", "root"}} { // somebody is looking
		if o := s.night(args...); o.code != 3 || !strings.Contains(o.stderr, "nightly.yaml: error: deploy: there is no host file") {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

// The hosts that a selector means are those of a night, and one that cannot be read may be
// one of them.
func TestNightSelector(t *testing.T) {
	s := newSleep(t)
	s.host("zip")
	s.write(t, "hosts/zap.yaml", strings.NewReplacer("../base.qcow2", "ubuntu:24.04", "admin:", "labels: {role: web}\nadmin:").Replace(hostFixture), 0o644)
	if got := s.verdicts(s.must(0, nil, "--selector", "role=web", "--dry-run")); got != "zap would build" {
		t.Error(got)
	}
	s.write(t, "hosts/bad.yaml", "host: bad\nlabels: 1\n", 0o644)
	if got := s.verdicts(s.must(3, nil, "--selector", "role=web")); got != "bad could not, zap promoted" {
		t.Error(got)
	}
	for args, code := range map[string]int{"--selector role=db": 0, "--selector role=((": 2, "--selector role=web --all": 2, "--selector role=web --host zap": 2} {
		if o := s.night(strings.Fields(args + " --dry-run")...); (o.code == 2) != (code == 2) {
			t.Errorf("%s: %d %s", args, o.code, o.stderr)
		}
	}
}

// Whatever a night is kept from beginning by, it is told: who is not told of a night that
// is missing takes it for one on which all was well.
func TestUnbegunIsTold(t *testing.T) {
	s := newSleep(t)
	var mutex sync.Mutex
	var got []string
	web := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		mutex.Lock()
		defer mutex.Unlock()
		got = append(got, in.URL.Path+" "+string(body))
	}))
	t.Cleanup(web.Close)
	s.env["HOOK"] = web.URL
	s.write(t, "nightly.yaml", "notify:\n  - webhook: {url: {env: HOOK}, when: failure, body: {text: \"((verdict)) ((exit)): ((summary))\"}}\n"+
		"  - textfile: {path: bake.prom}\n", 0o644)
	s.must(0, nil)
	s.write(t, "file", "not a directory\n", 0o644)
	for name, test := range map[string]struct {
		do   func() outcome
		code int
		want string
	}{
		"no directory of artifacts": {func() outcome { return s.night("--out", "file") }, 4, "red 4: bake nightly: it did not begin: mkdir file: not a directory"},
		"no place for reports": {func() outcome {
			state := s.env["XDG_STATE_HOME"]
			defer func() { s.env["XDG_STATE_HOME"] = state }()
			s.env["XDG_STATE_HOME"] = filepath.Join(s.dir, "file")
			return s.night()
		}, 4, "red 4: bake nightly: it did not begin: "},
		"a broken backup.yaml": {func() outcome {
			defer os.Remove(filepath.Join(s.dir, "backup.yaml"))
			s.write(t, "backup.yaml", "[", 0o644)
			return s.night()
		}, 3, "red 3: bake nightly: it did not begin: "},
		"no such hosts": {func() outcome { return s.night("--host", "gone") }, 3, `red 3: bake nightly: it did not begin: unknown host \"gone\"`},
		"another one's URL": {func() outcome {
			text, err := os.ReadFile(filepath.Join(s.dir, "nightly.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.write(t, "nightly.yaml", string(text), 0o644)
			s.write(t, "nightly.yaml", string(text)+"  - ping: {url: {file: absent}}\n", 0o644)
			return s.night()
		}, 3, "red 3: bake nightly: it did not begin: "},
	} {
		got = nil
		if o := test.do(); o.code != test.code || len(got) != 1 || !strings.Contains(got[0], test.want) {
			t.Errorf("%s: %d %s%s\ntold %q", name, o.code, o.stdout, o.stderr, got)
		}
		if text, err := os.ReadFile(filepath.Join(s.dir, "bake.prom")); err != nil || !strings.Contains(string(text), fmt.Sprintf("last_exit_status %d\n", test.code)) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	// What is asked by somebody who is looking is not told.
	got = nil
	for _, args := range []string{"--jobs 0", "--host gone --dry-run", "status --nights 0", "install --at x;y"} {
		s.night(strings.Fields(args)...)
	}
	if len(got) != 0 {
		t.Errorf("told %q", got)
	}
}

// Two nights never overlap, though each keeps its reports in a place of its own: a user and
// root, say.
func TestTwoUsersNights(t *testing.T) {
	s := newSleep(t)
	s.underWay()
	s.env["XDG_STATE_HOME"] = filepath.Join(s.dir, "root")
	if o := s.night(); o.code != 4 || !strings.Contains(o.stderr, "another night is under way") {
		t.Errorf("%+v", o)
	}
}

// A link that leads out of the host's directory, or is none, is no generation: it is refused,
// and the next night has one of its own.
func TestStrayCurrent(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	link := filepath.Join(s.dir, "out/zap/current")
	elsewhere := filepath.Join(s.dir, "elsewhere")
	s.tool(t, "cp", "-a", filepath.Join("out/zap", s.current("zap")), "elsewhere")
	for name, spoil := range map[string]func() error{
		"absolute": func() error { return os.Symlink(elsewhere, link) },
		"relative": func() error { return os.Symlink("../../elsewhere", link) },
		"itself":   func() error { return os.Symlink("current", link) },
		"hidden":   func() error { return os.Symlink(".", link) },
		"a file":   func() error { return os.WriteFile(link, []byte("x"), 0o600) },
	} {
		if err := errors.Join(os.Remove(link), spoil()); err != nil {
			t.Fatal(err)
		}
		s.attest(5, "is damaged")
		if err := s.sent("current"); exitCode(err) != 5 {
			t.Errorf("%s: sent: %v", name, err)
		}
		if n := s.must(0, nil); s.verdicts(n) != "zap promoted" {
			t.Errorf("%s: %s", name, s.verdicts(n))
		}
		s.attest(0, "claims held")
	}
}

// What lies where a report should be, and has no end, holds up nobody.
func TestEndlessReport(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	for _, name := range []string{"report.json", verdictReport} {
		path := filepath.Join(s.open("current").Dir, name)
		for what, spoil := range map[string]func() error{
			"a pipe":    func() error { return syscall.Mkfifo(path, 0o600) },
			"a device":  func() error { return os.Symlink("/dev/zero", path) },
			"sparse":    func() error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
			"elsewhere": func() error { return os.Symlink("/proc/kmsg", path) },
		} {
			if err := errors.Join(os.Remove(path), spoil()); err != nil {
				t.Fatal(err)
			}
			if err := s.sent("current"); name == verdictReport && exitCode(err) != 5 {
				t.Errorf("%s %s: sent: %v", what, name, err)
			}
			if n := s.must(0, nil); s.verdicts(n) != "zap promoted" {
				t.Errorf("%s %s: %s", what, name, s.verdicts(n))
			}
		}
	}
}

// TestManyRedNights: builds that come night by night, and of which none becomes a generation, do
// not fill the disk.
func TestManyRedNights(t *testing.T) {
	demand(t, "flock")
	s := newSleep(t)
	s.publish(goodImage(t), now.AddDate(0, 0, -10))
	s.must(0, nil)
	hold := exec.Command("flock", "-x", filepath.Join(s.dir, "out/zap/.lock"), "sh", "-c", "echo held; exec sleep 1000")
	out, err := hold.StdoutPipe()
	if err == nil {
		err = hold.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Process.Kill(); _ = hold.Wait() }()
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.publish(changedImage(t, map[string]string{"etc/motd": fmt.Sprint(i)}), now.AddDate(0, 0, i-9))
		if n := s.must(4, []string{"another bake works on it"}); s.verdicts(n) != "zap could not" {
			t.Errorf("%s", s.verdicts(n))
		}
		for _, dir := range []string{"out/.base", "cache/bake/base"} {
			if images, _ := filepath.Glob(filepath.Join(s.dir, dir, "*.qcow2")); len(images) > 2 { // current's, and the newest
				t.Errorf("night %d: %d images in %s", i, len(images), dir)
			}
		}
	}
}

// What a bake rebuild that was killed has left goes in the next night.
func TestNightSweepsRebuild(t *testing.T) {
	s := newSleep(t)
	s.must(0, nil)
	left := filepath.Join(s.dir, "out/.rebuild/zap/out/zap")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	s.must(0, nil)
	if _, err := os.Stat(filepath.Join(s.dir, "out/.rebuild")); err == nil {
		t.Error("it is still there")
	}
}
