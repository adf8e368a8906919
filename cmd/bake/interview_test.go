package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/layers"
)

// asked runs bake init with a person at the terminal who types these lines.
func asked(t *testing.T, home, typed string, args ...string) (file, said string, code int) {
	t.Helper()
	config := t.TempDir()
	var stdout, stderr bytes.Buffer
	e := env{Stdin: strings.NewReader(typed), Stdout: &stdout, Stderr: &stderr, Layers: layers.FS, Asks: true,
		Getenv: func(key string) string { return map[string]string{"HOME": home}[key] }}
	code = run(context.Background(), e, append([]string{"bake", "--config", config, "init", "web"}, args...))
	data, err := os.ReadFile(filepath.Join(config, "hosts", "web.yaml"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(data), stderr.String(), code
}

func TestInterview(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	const material = "AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo"
	for name, text := range map[string]string{"a_work.pub": "ssh-ed25519 " + material + " work\n", "b_home.pub": "ssh-ed25519 " + material + " home\n",
		"broken.pub": "ssh-ed25519 AAAA\n", "id_ed25519": "PRIVATE KEY\n"} {
		if err := os.WriteFile(filepath.Join(home, ".ssh", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	// Return eight times: the proposals, which are those of a run without a terminal.
	file, said, code := asked(t, home, strings.Repeat("\n", 8))
	if code != 0 || !strings.Contains(file, "base: ubuntu:24.04") || !strings.Contains(file, " work\n") {
		t.Errorf("exit status %d\n%s\n%s", code, said, file)
	}
	if strings.Contains(said, "broken.pub") || strings.Contains(said, "id_ed25519") {
		t.Errorf("a file that is no public key is offered:\n%s", said)
	}

	// Answers, three of them wrong at first.
	file, said, code = asked(t, home, "desktop\nopenclaw\ndebian:thirteen\ndebian:13\n4\n3\n8GiB\n\nnone\nadm\n3\n2\n")
	for _, want := range []string{"base: debian:13 ", "vcpus: 4\n", "memory: 8GiB\n", "disk: 40GiB ", "# state: 20GiB", "name: adm\n", " home\n", "- openclaw\n"} {
		if !strings.Contains(file, want) {
			t.Errorf("the file lacks %q:\n%s", want, file)
		}
	}
	for _, want := range []string{"want minimal, server, openclaw", "want a size such as", "want a number from 1 to 2", "b_home.pub"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
	if code != 0 {
		t.Errorf("exit status %d", code)
	}

	// What an option says is not asked, and Ctrl-D leaves nothing.
	file, said, code = asked(t, home, "", "--for", "server", "--base", "debian:13")
	if code != 130 || file != "" || strings.Contains(said, "What is it for") || strings.Contains(said, "Which image") {
		t.Errorf("exit status %d\n%s\n%s", code, said, file)
	}
}

// TestInterviewIsStopped by Ctrl-C while it waits for an answer.
func TestInterviewIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	defer write.Close()
	var stdout bytes.Buffer
	e := env{Stdin: read, Stdout: &stdout, Stderr: stopper{cancel}, Layers: layers.FS, Asks: true, Getenv: func(string) string { return "" }}
	dir := t.TempDir()
	if code := run(ctx, e, []string{"bake", "--config", dir, "init", "web"}); code != 130 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Stat(filepath.Join(dir, "hosts")); !os.IsNotExist(err) {
		t.Error("something was written")
	}
}

// stopper interrupts as soon as a question is put.
type stopper struct{ stop func() }

func (s stopper) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "? [") {
		s.stop()
	}
	return len(p), nil
}

// TestNoValueBecomesMore than a value of the file.
func TestNoValueBecomesMore(t *testing.T) {
	for _, arg := range []string{"--base=debian:13\npayload: none", "--memory=2GiB, disk: 1TiB", "--disk=20GiB # ", "--admin=ops, keys: []", "--state=1GiB}"} {
		file, said, code := asked(t, t.TempDir(), strings.Repeat("\n", 9), arg)
		if code != 2 || file != "" {
			t.Errorf("%q: exit status %d\n%s\n%s", arg, code, said, file)
		}
	}
}
