package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestInstall has systemd judge the units that a user gets: they are right, and what
// runs by them can do little.
func TestInstall(t *testing.T) {
	demand(t, "systemd-analyze")
	s := newSleep(t)
	s.env["HOME"] = filepath.Join(s.dir, "home")
	odd := `odd $HOME %h "quoted" back\slash`
	s.tool(t, "cp", "-a", "hosts", odd+"-hosts")
	if err := os.MkdirAll(filepath.Join(s.dir, odd), 0o755); err != nil {
		t.Fatal(err)
	}
	s.tool(t, "mv", odd+"-hosts", odd+"/hosts")
	for name, test := range map[string]struct {
		args []string
		want []string // lines
	}{
		"system": {[]string{"--run-as", "root"}, []string{"User=root", "OnCalendar=03:00", "Persistent=true", "RandomizedDelaySec=1h", "ProtectSystem=strict"}},
		"user":   {[]string{"--user", "--at", "Mon..Fri 02:30"}, []string{"OnCalendar=Mon..Fri 02:30", "NoNewPrivileges=yes"}},
		"odd": {[]string{"--run-as", "root", "--config", odd, "--host", "zap", "--on-failure", "notify@bake.service"},
			[]string{"OnFailure=notify@bake.service", "WorkingDirectory=" + strings.ReplaceAll(filepath.Join(s.dir, odd), "%", "%%")}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "units")
			dry := s.night(append([]string{"install", "--unit-dir", dir, "--dry-run"}, test.args...)...)
			if _, err := os.Stat(dir); err == nil || dry.code != 0 {
				t.Errorf("exit status %d, and there is a directory\n%s", dry.code, dry.stderr)
			}
			o := s.night(append([]string{"install", "--unit-dir", dir}, test.args...)...)
			if o.code != 0 || o.stdout != dry.stdout {
				t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
			}
			service, timer := filepath.Join(dir, "bake-nightly.service"), filepath.Join(dir, "bake-nightly.timer")
			text := ""
			for _, path := range []string{service, timer} {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(o.stdout, string(content)) {
					t.Errorf("%s was not shown", path)
				}
				text += string(content)
			}
			for _, line := range test.want {
				if !strings.Contains(text, "\n"+line+"\n") {
					t.Errorf("there is no line %q:\n%s", line, text)
				}
			}
			for _, dir := range []string{"out", "state/bake", "cache/bake"} { // which the service cannot make
				if info, err := os.Stat(filepath.Join(s.dir, dir)); err != nil || info.Mode() != fs.ModeDir|0o700 {
					t.Errorf("%s: %v", dir, err)
				}
			}
			// What runs is this program, and it has the options that were given.
			for _, word := range []string{`"nightly"`, `"--config"`, `"--out"`} {
				if !strings.Contains(text, word) {
					t.Errorf("it does not run %s:\n%s", word, text)
				}
			}
			args := []string{"verify", "--man=no", service, timer}
			if name == "user" {
				args = append(args, "--user")
			}
			cmd := exec.Command("systemd-analyze", args...)
			cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
			if output, err := cmd.CombinedOutput(); err != nil || ours(string(output)) != "" {
				t.Errorf("systemd-analyze verify: %v\n%s", err, output)
			}
			if name == "user" {
				return // a user's own manager cannot do most of it, see internal/unit
			}
			output, err := exec.Command("systemd-analyze", "security", "--offline=true", "--json=short", "--threshold=30", service).CombinedOutput()
			if err != nil {
				t.Errorf("the exposure is above 3.0: %v\n%s", err, output)
			}
			var findings []struct{ Name string }
			if err := json.Unmarshal(output, &findings); err != nil || len(findings) == 0 {
				t.Errorf("%v: nothing was judged\n%s", err, output)
			}
		})
	}
	// The judge can say no.
	loose := filepath.Join(s.dir, "loose.service")
	s.write(t, "loose.service", "[Service]\nType=oneshot\nExecStart=/bin/true\nUser=root\n", 0o644)
	if err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=30", loose).Run(); err == nil {
		t.Error("a unit without any protection is found good")
	}
}

// ours is what systemd-analyze says of the units and not of this machine.
func ours(output string) string {
	found := ""
	for line := range strings.Lines(output) {
		if strings.Contains(line, "bake-nightly") {
			found += line
		}
	}
	return found
}

// TestInstallReaches: what a night needs by hand the service has, too: the key that signs,
// the directory of metrics, which is somebody else's and not made, and the hosts that are meant.
func TestInstallReaches(t *testing.T) {
	s := newSleep(t)
	s.env["HOME"], s.env["XDG_DATA_HOME"] = filepath.Join(s.dir, "home"), filepath.Join(s.dir, "data")
	s.write(t, "nightly.yaml", "notify: [{textfile: {path: metrics/bake.prom}}, {textfile: {path: others/bake.prom, job: backup}}]\n", 0o644)
	s.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "admin:", "labels: {role: web}\nadmin:", 1), 0o644)
	s.env["BAKE_AGE_IDENTITY"], s.env["https_proxy"] = "age.txt", "http://user:T0KEN@127.0.0.1:1"
	install := func(args ...string) string {
		t.Helper()
		o := s.bake(append(args, "install", "--run-as", "root", "--unit-dir", "units")...)
		if !strings.Contains(o.stderr, "BAKE_MIRROR_UBUNTU, https_proxy are set here and not for the service: what it needs of them goes into /etc/bake/") || strings.Contains(o.stdout+o.stderr, "T0KEN") {
			t.Errorf("%s%s", o.stdout, o.stderr)
		}
		if o.code != 0 {
			t.Fatalf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
		}
		return o.stdout
	}
	want := func(text string, lines ...string) {
		t.Helper()
		for _, line := range lines {
			if !strings.Contains(text, line) {
				t.Errorf("there is no %s:\n%s", line, text)
			}
		}
	}
	text := install("nightly", "--selector", "role=web")
	want(text, `"nightly" "--selector" "role=web"`, `Environment="`+keyVariable+"="+s.env[keyVariable]+`"`, `Environment="XDG_DATA_HOME=`+s.dir+`/data"`, `Environment="BAKE_AGE_IDENTITY=`+s.dir+`/age.txt"`,
		`ReadWritePaths="-`+s.dir+`/data/bake"`, `ReadWritePaths="-`+s.dir+`/metrics"`)
	if strings.Contains(text, "/others") {
		t.Errorf("it may write another job's metrics:\n%s", text)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "metrics")); err == nil {
		t.Error("the directory of metrics was made, for nobody but the service")
	}
	if info, err := os.Stat(filepath.Join(s.dir, "data/bake")); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the directory of the key: %v", err)
	}
	text = install("--signing-key", "own.key", "nightly")
	want(text, `"--signing-key" "`+s.dir+`/own.key" "nightly"`)
	if strings.Contains(text, keyVariable) {
		t.Errorf("it has two keys:\n%s", text)
	}
	want(install("backup", "--all"), `"backup" "--all"`, `ReadWritePaths="-`+s.dir+`/others"`)
	want(install("backup", "--selector", "role=web"), `"backup" "--wait" "2h" "--selector" "role=web"`)
}

func TestInstallRefuses(t *testing.T) {
	s := newSleep(t)
	if err := os.MkdirAll(filepath.Join(s.dir, "a\nb/hosts"), 0o755); err != nil {
		t.Fatal(err)
	}
	if o := s.night("install", "--dry-run", "--run-as", "root", "--config", "a\nb"); o.code != 2 || !strings.Contains(o.stderr, "a unit cannot have") {
		t.Errorf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	s.write(t, "file", "", 0o644)
	if o := s.night("install", "--run-as", "root", "--unit-dir", "file/units"); o.code != 4 {
		t.Errorf("exit status %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func TestNightLogs(t *testing.T) {
	s := newSleep(t)
	s.write(t, "bin/journalctl", "#!/bin/sh\necho \"$@\"\nexit 5\n", 0o755)
	cmd := s.child("nightly", "logs", "--user", "-f")
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(s.dir, "bin"))
	if o := finish(t, cmd); o.code != 5 || o.stdout != "--user-unit bake-nightly.service --follow\n" {
		t.Errorf("exit status %d, %q, %q", o.code, o.stdout, o.stderr)
	}
	cmd = s.child("nightly", "logs")
	cmd.Env = append(cmd.Env, "PATH=/nowhere")
	if o := finish(t, cmd); o.code != 4 || !strings.Contains(o.stderr, "journalctl is not installed") {
		t.Errorf("exit status %d, %q", o.code, o.stderr)
	}
}

// TestInstallAnother: the units of another configuration are not written over, which would be
// the end of its nights without a word.
func TestInstallAnother(t *testing.T) {
	s := newSleep(t)
	s.env["HOME"] = filepath.Join(s.dir, "home")
	install := func(args ...string) outcome {
		return s.night(append([]string{"install", "--run-as", "root", "--unit-dir", "units"}, args...)...)
	}
	if o := install(); o.code != 0 || !strings.Contains(o.stderr, "which the service does not see") { // the test's directory is in /tmp
		t.Fatalf("%+v", o)
	}
	if o := install("--at", "05:00"); o.code != 0 {
		t.Errorf("the same once more: %+v", o)
	}
	s.tool(t, "cp", "-a", "hosts", "elsewhere")
	s.tool(t, "mkdir", "other")
	s.tool(t, "mv", "elsewhere", "other/hosts")
	before := mustReadFile(t, filepath.Join(s.dir, "units/bake-nightly.service"))
	for _, args := range [][]string{{"--config", "other"}, {"--out", "elsewhere"}} {
		if o := install(args...); o.code != 4 || !strings.Contains(o.stderr, "bake-nightly.service is there, for another configuration") {
			t.Errorf("%q: %+v", args, o)
		}
		if o := install(append(args, "--dry-run")...); o.code != 0 {
			t.Errorf("%q: only shown: %+v", args, o)
		}
	}
	if mustReadFile(t, filepath.Join(s.dir, "units/bake-nightly.service")) != before {
		t.Error("it was written over")
	}
	if o := install("--unit-dir", "others", "--config", "other"); o.code != 0 {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "elsewhere")); err == nil {
		t.Error("a directory was made for a service that there is none of")
	}
}

func mustReadFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
