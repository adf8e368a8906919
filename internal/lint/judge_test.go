package lint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/tool"
)

// judgeBox finds programs that are not on a user's path.
func judgeBox() tool.Box {
	return tool.Box{Getenv: func(key string) string {
		if key == "PATH" {
			return os.Getenv(key) + ":/usr/sbin:/sbin"
		}
		return os.Getenv(key)
	}}
}

// need skips a test whose judge is missing, but not where CI=true.
func need(t *testing.T, program string) {
	t.Helper()
	var missing *tool.MissingError
	if _, err := judgeBox().Run(t.Context(), program, "--version"); errors.As(err, &missing) {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestSudoersByVisudo holds what the rules call syntax against sudo's own parser, over
// every sudo file of both corpora.
func TestSudoersByVisudo(t *testing.T) {
	need(t, "visudo")
	judged := 0
	for _, dir := range []string{"faults", "clean"} {
		for _, f := range readCorpus(t, dir) {
			w := worldOf(t, f.data)
			for _, s := range w.under("/etc/sudoers.d") {
				copied := filepath.Join(t.TempDir(), "sudoers")
				if err := os.WriteFile(copied, []byte(s.text), 0o440); err != nil {
					t.Fatal(err)
				}
				_, err := judgeBox().Run(t.Context(), "visudo", "-csf", copied)
				ours := slices.ContainsFunc(check(t, f), func(x Finding) bool {
					return x.Rule == "sudoers-syntax"
				})
				if refused := err != nil; refused != ours {
					t.Errorf("%s: visudo: %v, we say syntax error: %v", f.name, err, ours)
				}
				judged++
			}
		}
	}
	if judged < 30 {
		t.Errorf("only %d files were judged", judged)
	}
}

// worldOf reads a cloud-config's files; of what is none, nothing.
func worldOf(t *testing.T, data []byte) *world {
	t.Helper()
	w, ok := readWorld("x", data)
	if !ok {
		return &world{}
	}
	return w
}

// TestRulesByIptables holds the rules about iptables' rules against iptables-restore in
// a network of its own.
func TestRulesByIptables(t *testing.T) {
	need(t, "iptables-restore")
	if err := exec.Command("unshare", "-rn", "true").Run(); err != nil {
		t.Skip("no network namespace can be made here")
	}
	judged := 0
	for _, dir := range []string{"faults", "clean"} {
		for _, f := range readCorpus(t, dir) {
			for _, r := range worldOf(t, f.data).files {
				if !strings.HasPrefix(r.path, "/etc/iptables/") && !strings.HasPrefix(r.path, "/etc/ufw/after") {
					continue
				}
				copied := filepath.Join(t.TempDir(), "rules")
				if err := os.WriteFile(copied, []byte(r.text), 0o600); err != nil {
					t.Fatal(err)
				}
				out, err := judgeBox().Run(t.Context(), "unshare", "-rn", "iptables-restore", copied)
				ours := slices.ContainsFunc(check(t, f), func(x Finding) bool { return x.Rule == "rules-syntax" })
				if refused := err != nil; refused != ours {
					t.Errorf("%s: iptables-restore: %v %s, we say syntax error: %v", f.name, err, out, ours)
				}
				judged++
			}
		}
	}
	if judged < 8 {
		t.Errorf("only %d files were judged", judged)
	}
}

// words of a foreign file that writes one.
func wordsOf(path, text string) []byte {
	return []byte("#cloud-config\nwrite_files:\n  - path: " + path + "\n    content: |\n" +
		"      " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n      ") + "\n")
}

// sshdBox finds sshd where it is installed, or else the one that the lab unpacks.
func sshdBox(t *testing.T) tool.Box {
	t.Helper()
	if _, err := judgeBox().Find("sshd"); err == nil {
		return judgeBox()
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	trees := filepath.Join(cache, "bake/lab/sshd-*")
	if ready, _ := filepath.Glob(trees); len(ready) == 0 && os.Getenv("CI") != "true" {
		t.Skip("testdata/lab/sshd --fetch has not been run")
	}
	if out, err := exec.CommandContext(t.Context(), "../../testdata/lab/sshd", "--fetch").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ready, err := filepath.Glob(trees)
	if err != nil || len(ready) == 0 {
		t.Fatalf("%q, %v", ready, err)
	}
	tree := ready[len(ready)-1]
	return standIn(t, "sshd", `export LD_LIBRARY_PATH=$(echo `+tree+`/usr/lib/*-linux-gnu):$(echo `+tree+`/lib/*-linux-gnu); exec `+tree+`/usr/sbin/sshd "$@"`)
}

// standIn finds, under the name of a program, a script.
func standIn(t *testing.T, program, script string) tool.Box {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, program), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return tool.Box{Getenv: func(key string) string {
		if key == "PATH" {
			return dir
		}
		return os.Getenv(key)
	}}
}

// TestJudges: each judge finds what no rule does, on the line it names, and has nothing
// against what is right, nor against what only this machine lacks.
func TestJudges(t *testing.T) {
	need(t, "visudo")
	need(t, "systemd-analyze")
	for name, test := range map[string]struct {
		box         tool.Box
		path        string
		fault, fine string
		line        int // of the fault's text, from 1
		said        string
	}{
		"visudo": {judgeBox(), "/etc/sudoers.d/x", "ops ALL=(root) /bin/true\nops ALL=(root /bin/false\n", "ops ALL=(root) /bin/true\nops ALL=(root) /bin/false\n", 2, "syntax error"},
		"sshd": {sshdBox(t), "/etc/ssh/sshd_config.d/00-x.conf", "X11Forwarding no\nCASignatureAlgorithms foo\n", "X11Forwarding no\nRekeyLimit 1G\nInclude /etc/ssh/more.d/*.conf\n", 2,
			"foo"},
		"systemd-analyze": {judgeBox(), "/etc/systemd/system/x.service", "[Service]\nType=oneshot\nExitType=cgroup\nExecStart=/usr/bin/only-in-the-guest\n",
			"[Unit]\nRequires=only-in-the-guest.service\n[Service]\nExecStart=/usr/bin/only-in-the-guest\n", 1, "ExitType=cgroup"},
		"dockerd": {standIn(t, "dockerd", `[ "$1 $2" = "--validate --config-file" ] || exit 9
read -r line <"$3"
case $line in *max-nonsense*) echo "the following directives don't match any configuration option: max-nonsense in $3" >&2; exit 1 ;; esac
echo configuration OK`), "/etc/docker/daemon.json", "{\"max-nonsense\": 3}\n", "{\"max-concurrent-downloads\": 3}\n", 1, "max-nonsense in /etc/docker/daemon.json"},
	} {
		data := wordsOf(test.path, test.fault)
		found := JudgeFile(t.Context(), test.box, "x.yaml", data)
		if len(found) != 1 || found[0].Rule != "judge" || found[0].Problem.Pos.Line != 4+test.line || !strings.Contains(found[0].Problem.Message, test.said) {
			t.Errorf("%s: not %q on line %d:\n%s", name, test.said, 4+test.line, show(found))
		}
		if ours, err := File("x.yaml", data); err != nil || name != "visudo" && name != "dockerd" && slices.ContainsFunc(ours, func(f Finding) bool { return f.Severity == Error }) {
			t.Errorf("%s: the rules find it, too: %v\n%s", name, err, show(ours))
		}
		if found := JudgeFile(t.Context(), test.box, "x.yaml", wordsOf(test.path, test.fine)); len(found) != 0 {
			t.Errorf("%s:\n%s", name, show(found))
		}
	}
}

// What a judge says of the machine it runs on is no fault of the file's, and one that is
// not there says nothing.
func TestJudgesBeside(t *testing.T) {
	fault := wordsOf("/etc/ssh/sshd_config.d/00-x.conf", "X11Forwarding no\n")
	for script, want := range map[string]int{
		"echo 'sshd: no hostkeys available -- exiting.' >&2; exit 1":                       0,
		"echo 'Missing privilege separation directory: /run/sshd' >&2; exit 255":           0,
		"echo 'Privilege separation user sshd does not exist' >&2; exit 255":               0,
		"echo 'Privilege separation user sshd does not exist; x line 1: no' >&2; exit 255": 1,
		"echo 'x line 1: Bad configuration option: foo' >&2; exit 255":                     1,
		"exit 1": 1,
		"exit 0": 0,
	} {
		if found := JudgeFile(t.Context(), standIn(t, "sshd", script), "x.yaml", fault); len(found) != want {
			t.Errorf("%s:\n%s", script, show(found))
		}
	}
	nobody := tool.Box{Getenv: func(string) string { return "" }}
	if found := JudgeFile(t.Context(), nobody, "x.yaml", fault); len(found) != 0 {
		t.Errorf("%s", show(found))
	}
}

// TestNineByCloudInit: cloud-init's own validator, of Debian 12 and 13, calls the file
// valid in which TestNine finds nine faults; of one with a fault of its kind it does not.
func TestNineByCloudInit(t *testing.T) {
	script, err := filepath.Abs("../../testdata/lab/cloud-init-modules")
	if err != nil {
		t.Fatal(err)
	}
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	if err := os.WriteFile(broken, []byte("#cloud-config\npackages: fail2ban\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, release := range []string{"bookworm", "trixie"} {
		if ready, _ := filepath.Glob(filepath.Join(cache, "bake/lab/cloud-init-"+release+"-*")); len(ready) == 0 && os.Getenv("CI") != "true" {
			t.Skip("testdata/lab/cloud-init-modules --fetch has not been run")
		}
		modules, err := exec.CommandContext(t.Context(), script, release).Output()
		if err != nil {
			t.Fatal(err)
		}
		judge := func(file string) (string, error) {
			cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-m", "cloudinit.cmd.main", "schema", "-c", file)
			cmd.Env = append(os.Environ(), "PYTHONPATH="+strings.TrimSpace(string(modules)), "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		if said, err := judge("testdata/nine.yaml"); err != nil || !strings.HasPrefix(said, "Valid") {
			t.Errorf("%s: %v: %s", release, err, said)
		}
		if said, err := judge(broken); err == nil || !strings.Contains(said, "packages") {
			t.Errorf("%s: %v: %s", release, err, said)
		}
	}
}
