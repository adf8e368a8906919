package notify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestJobs: a backup is told like a night, with metrics of its own, and not to a service
// that waits for a night.
func TestJobs(t *testing.T) {
	s, textfile := newService(t), filepath.Join(t.TempDir(), "bake.prom")
	config := "notify:\n- ping: {url: {file: url}}\n- ping: {url: {file: url}, job: backup}\n- webhook: {url: {file: url}, when: failure, body: {t: ((summary))}}\n" +
		"- webhook: {url: {file: url}, job: nightly}\n- textfile: {path: " + textfile + "}\n"
	sender, err := sender(t, config, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Job: Backup, Summary: "zap failed", Failed: []string{"zap"}, Began: began, Ended: began, Metrics: func() string { return "bake_backup 1\n" }}
	if err := sender.Start(t.Context(), Backup); err != nil {
		t.Fatal(err)
	}
	if err := sender.Tell(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /start: ", "POST /fail: bake backup: zap failed\n", `POST /: {"t":"bake backup: zap failed"}`}
	if strings.Join(s.got, "\n") != strings.Join(want, "\n") {
		t.Errorf("told %q, want %q", s.got, want)
	}
	content, err := os.ReadFile(filepath.Join(filepath.Dir(textfile), "bake-backup.prom"))
	if err != nil || string(content) != "bake_backup 1\n" {
		t.Errorf("%q, %v", content, err)
	}
	if _, err := os.Stat(textfile); err == nil {
		t.Error("the night's metrics were written over")
	}
}
