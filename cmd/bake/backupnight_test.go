package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBackupInterrupted: of hosts that an interrupted run did not come to nobody says that their
// backup failed.
func TestBackupInterrupted(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"hosts/a.yaml": strings.Replace(hostFixture, "host: zap", "host: a", 1), "hosts/b.yaml": strings.Replace(hostFixture, "host: zap", "host: b", 1),
		"backup.yaml": "default: {tree: " + dir + "/tree}\n", "out/a/known_hosts": "a key\n", "out/b/known_hosts": "b key\n",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	var stderr strings.Builder
	e := envTo(&stderr, func(name string) string {
		return map[string]string{"XDG_STATE_HOME": filepath.Join(dir, "state"), "PATH": os.Getenv("PATH")}[name]
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	code := run(ctx, e, []string{"bake", "--config", dir, "--out", filepath.Join(dir, "out"), "backup", "--all"})
	tried := func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, "state/bake/backup", name, "record.json"))
		return err == nil
	}
	if code != 130 || !tried("a") || tried("b") {
		t.Errorf("exit %d, a has a record: %v, and b: %v\n%s", code, tried("a"), tried("b"), stderr.String())
	}
}
