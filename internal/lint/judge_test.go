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

// TestJudges: a judge that is asked condemns on the line it names.
func TestJudges(t *testing.T) {
	need(t, "visudo")
	text := "#cloud-config\nwrite_files:\n  - path: /etc/sudoers.d/x\n    content: |\n      ops ALL=(root) /bin/true\n      ops ALL=(root /bin/false\n"
	found := JudgeFile(t.Context(), judgeBox(), "x.yaml", []byte(text))
	if len(found) != 1 || found[0].Rule != "judge" || found[0].Problem.Pos.Line != 6 {
		t.Errorf("%s", show(found))
	}
	if found := JudgeFile(t.Context(), judgeBox(), "x.yaml", []byte(strings.Replace(text, "(root /", "(root) /", 1))); len(found) != 0 {
		t.Errorf("%s", show(found))
	}
}
