package backup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSheet does what the sheet says, with restic and tar and without bake.
func TestSheet(t *testing.T) {
	t.Parallel()
	needs(t, "restic")
	r := repository(t)
	j := received(t, first, files())
	saved := save(t, r, j)
	c, _, err := configure(t, "default: {repository: \""+r.Repository+"\", tree: /srv/tree, password: {command: [pass, show, restic]}}\n")
	if err != nil {
		t.Fatal(err)
	}
	text := c.Sheet(Sheet{Host: "zap", Printed: first, Bake: "v1", Versions: map[string]string{"restic": "restic 0.14.0"}, Newest: []Snapshot{saved}})
	for _, want := range []string{"RECOVERY SHEET of the machine zap, printed 2026-11-01 03:00 UTC by bake v1", r.Repository, "restic 0.14.0",
		"what pass show restic prints", "/srv/tree/zap", saved.ID + ", the state of 2026-11-01 03:00:00 UTC"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "state")
	script := "set -e\n"
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			command, _, _ = strings.Cut(command, "        (")
			if strings.HasPrefix(command, "tar ") { // as whoever tests
				command = strings.TrimSpace(command) + " --no-same-owner"
			}
			script += command + "\n"
		}
	}
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(word+"\n")
	cmd.Env = append(os.Environ(), "HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, script)
	}
	got, err := os.ReadFile(filepath.Join(root, "var/lib/o/big.sqlite"))
	if err != nil || string(got) != files()["var/lib/o/big.sqlite"] {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if target, err := os.Readlink(filepath.Join(root, "var/lib/o/link")); target != "/etc/shadow" || err != nil {
		t.Errorf("%q, %v", target, err)
	}
	if _, err := os.Stat(filepath.Join(root, ".bake")); err == nil {
		t.Error("the manifest is among the state")
	}
	s3, _, err := configure(t, whole)
	if err != nil {
		t.Fatal(err)
	}
	if text := s3.Sheet(Sheet{Host: "zap", Printed: first}); !strings.Contains(text, "AWS_DEFAULT_REGION='eu-1'") || !strings.Contains(text, "(the variable SECRET)") {
		t.Error(text)
	}
}

// TestDiagnose is what restic and servers say that cannot be had from them here.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]cause{
		"Fatal: unable to save snapshot: client.PutObject: We encountered an internal error, please try again.": causeUnreachable,
		"Save(<data/0>) returned error, retrying after 1s: client.PutObject: Please reduce your request rate.":  causeUnreachable,
		"Fatal: unable to open config file: Stat: 503 Service Unavailable\nIs there a repository":               causeUnreachable,
		"Fatal: client.GetObject: Access Denied.":                                                               causeRefused,
		"subprocess ssh: Permission denied (publickey).\nFatal: unable to open repository":                      causeRefused,
		"subprocess ssh: ssh: connect to host x port 22: Connection timed out\nFatal: unable to start":          causeUnreachable,
		"The difference between the request time and the current time is too large.":                            causeRefused,
		"Fatal: repository 1234 contains errors":                                                                causeDamaged,
		"write /srv/x: no space left on device":                                                                 causeFull,
		"something else":                                                                                        causeFailed,
		"":                                                                                                      causeFailed,
	} {
		if got := diagnose("store", said, 1); got.Cause != want {
			t.Errorf("%q is %q, want %q", said, got.Cause, want)
		}
	}
	for status, want := range map[int]cause{3: causePartial, 10: causeAbsent, 11: causeLocked, 12: causePassword, 1: causeFailed} {
		if got := diagnose("store", "in another tongue", status); got.Cause != want {
			t.Errorf("status %d is %q, want %q", status, got.Cause, want)
		}
	}
	said := essence("Load(<key/1>) returned error, retrying after 3s: x\nSave(<data/2>) returned error, retrying after 3s: y\nSave(<data/2>) returned error, retrying after 9s: y\nFatal: z\nIs there a repository at the following location?\n/srv\n")
	if said != "y; z" {
		t.Errorf("what is worth repeating: %q", said)
	}
}
