package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bake/internal/archive"
	"bake/internal/backup"
)

// TestSnapshotThatStays: a machine's state that cannot be removed again is told of.
func TestSnapshotThatStays(t *testing.T) {
	demand(t, "rsync")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "backup.yaml"), fmt.Appendf(nil, "default: {tree: %s/tree}\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	e := envTo(io.Discard, func(name string) string {
		return map[string]string{"XDG_STATE_HOME": dir, "PATH": os.Getenv("PATH")}[name]
	})
	a := &app{env: e, ui: &ui{env: e, quiet: true}, config: dir}
	config, err := backup.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := a.backupPlan(t.Context(), backupOptions{config: config}, "zap", backup.Writer)
	if err != nil {
		t.Fatal(err)
	}
	now, stage := time.Now(), filepath.Join(dir, "stage")
	stream, err := stateOf("zap", now, map[string][]byte{"x": []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Receive(t.Context(), bytes.NewReader(stream), stage, archive.Limits{}); err != nil {
		t.Fatal(err)
	}
	_, err = plan.Tree.Init(t.Context())
	if err == nil {
		_, err = plan.Tree.Save(t.Context(), backup.Job{Dir: stage, Host: "zap", Time: now})
	}
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(dir, "bake/backup/zap")
	err = a.withSnapshot(t.Context(), config, "zap", pick{}, func(string, archive.Manifest) error {
		return errors.Join(os.Rename(place, place+".away"), os.WriteFile(place, nil, 0o600)) // in the way of what removes it
	})
	if err == nil || !strings.Contains(err.Error(), place) {
		t.Errorf("the state is still there, and nobody hears of it: %v", err)
	}
}
