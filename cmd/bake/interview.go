package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"bake/internal/diag"
	"bake/internal/host"
	"bake/internal/layer"
)

// newHost is what a new host file says.
type newHost struct {
	Name, For, Base, VCPUs, Memory, Disk string
	State                                string // "" for none
	Admin, Key                           string
	Layers                               []string
}

// purposes are what a machine can be for, each with its layers and sizes.
var purposes = []struct {
	name, about, memory, disk, state string
	layers                           []string
}{
	{"minimal", "a closed machine with ssh", "2GiB", "20GiB", "none", []string{"ssh", "ufw: {allow_tcp: [22]}", "sysctl: {swappiness: 10}"}},
	{"server", "with what CIS level 1 and Lynis ask", "2GiB", "20GiB", "none", server},
	{"openclaw", "a server with the OpenClaw gateway", "4GiB", "40GiB", "20GiB", slices.Concat(server, []string{"service-hardening", "openclaw"})},
}

var server = []string{"ssh", "ssh-policy", "ufw: {allow_tcp: [22]}",
	"fail2ban: {ignore: [192.168.122.1]} # not the hypervisor, on libvirt's network default", "unattended-upgrades",
	"sysctl: {swappiness: 10}", "hostname-time", "journald", "audit", "auditd"}

// interview says what a host file is to say: from the options, from a person at a terminal, or with what
// it would propose. What an option says must be right; a person is asked again.
func (a *app) interview(ctx context.Context, name string, given map[string]string) (newHost, error) {
	p := newHost{Name: name}
	ask := asker{app: a, ctx: ctx, lines: bufio.NewReader(a.Stdin), given: given}
	var names []string
	for _, purpose := range purposes {
		names = append(names, purpose.name)
		ask.hint("%-9s %s", purpose.name, purpose.about)
	}
	p.For = ask.text("for", "What is it for?", "minimal", func(text string) error {
		if !slices.Contains(names, text) {
			return fmt.Errorf("want %s", strings.Join(names, ", "))
		}
		return nil
	})
	if ask.err != nil {
		return p, ask.err
	}
	purpose := purposes[slices.Index(names, p.For)]
	p.Layers = purpose.layers
	p.Base = ask.text("base", "Which image?", "ubuntu:24.04", a.tries("base: %s"))
	p.VCPUs = ask.text("vcpus", "How many processors?", fmt.Sprint(min(2, runtime.NumCPU())), a.tries("machine: {vcpus: %s}"))
	p.Memory = ask.text("memory", "How much memory?", fitting(purpose.memory), a.tries("machine: {memory: %s}"))
	p.Disk = ask.text("disk", "How large a root disk?", purpose.disk, a.tries("machine: {disk: %s}"))
	p.State = ask.text("state", "How large a disk that survives rebuilds? (or none)", purpose.state, func(text string) error {
		if text == "none" {
			return nil
		}
		return a.tries("machine: {state: %s}")(text)
	})
	if p.State == "none" {
		p.State = ""
	}
	p.Admin = ask.text("admin", "Who logs in?", "ops", a.tries("admin: {name: %s, keys: ["+someKey+"]}"))
	p.Key = ask.key()
	return p, ask.err
}

// someKey stands in for a key while other answers are tried.
const someKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC5fZc/o+6nL5wffhDwRKx2uFUYmLG4ZcnVAjhhwA3Wo nobody"

// tries has the loader of host files judge an answer, so that there is one set of rules.
func (a *app) tries(form string) func(string) error {
	return func(text string) error {
		if strings.ContainsAny(text, " \t\r\n#{}[],'\"") {
			return errors.New("want one word") // it must not become more than a value of the file
		}
		var content bytes.Buffer
		line, _, _ := strings.Cut(form, ":")
		for _, usual := range []string{"host: x", "base: debian:13", "admin: {name: ops, keys: [" + someKey + "]}", "layers: [ssh]"} {
			if !strings.HasPrefix(usual, line+":") {
				content.WriteString(usual + "\n")
			}
		}
		fmt.Fprintf(&content, form+"\n", text)
		dir, err := os.MkdirTemp("", "bake-init-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := os.Mkdir(filepath.Join(dir, "hosts"), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "hosts", "x.yaml"), content.Bytes(), 0o600); err != nil {
			return err
		}
		_, err = host.Load(dir, "x", layer.Shelf{Builtin: a.Layers, ShowBuiltin: "layers"})
		var list diag.List
		if errors.As(err, &list) {
			return errors.New(list[0].Message)
		}
		return err
	}
}

// fitting is less than was wanted on a machine that has little memory itself.
func fitting(want string) string {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err == nil && want == "4GiB" && uint64(info.Totalram)*uint64(info.Unit) < 7<<30 {
		return "3GiB"
	}
	return want
}

// asker asks one thing after another. The first failure ends it.
type asker struct {
	*app
	ctx   context.Context
	lines *bufio.Reader
	given map[string]string
	hints []string
	err   error
}

// hint is shown before the next question.
func (q *asker) hint(format string, args ...any) {
	q.hints = append(q.hints, fmt.Sprintf(format, args...))
}

// text is the answer to a question: the option's, the person's or the proposal.
func (q *asker) text(option, question, proposal string, check func(string) error) string {
	defer func() { q.hints = nil }()
	if q.err != nil {
		return ""
	}
	if text, ok := q.given[option]; ok {
		if err := check(text); err != nil {
			q.err = usageError{fmt.Errorf("--%s %q: %w", option, text, err)}
		}
		return text
	}
	if !q.Asks {
		return proposal
	}
	for _, hint := range q.hints {
		fmt.Fprintf(q.Stderr, "  %s\n", diag.Printable(hint))
	}
	for {
		fmt.Fprintf(q.Stderr, "%s [%s] ", question, proposal)
		text, err := q.line()
		if err != nil {
			q.err = err
			return ""
		}
		text = cmp.Or(text, proposal)
		if err := check(text); err != nil {
			fmt.Fprintf(q.Stderr, "  %s\n", diag.Printable(err.Error()))
			continue
		}
		return text
	}
}

// line reads one, or stops when the person does: with Ctrl-C, or Ctrl-D.
func (q *asker) line() (string, error) {
	type answer struct {
		text string
		err  error
	}
	came := make(chan answer, 1)
	go func() {
		text, err := q.lines.ReadString('\n')
		came <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case <-q.ctx.Done():
		return "", q.ctx.Err()
	case got := <-came:
		if errors.Is(got.err, io.EOF) && got.text == "" {
			fmt.Fprintln(q.Stderr)
			return "", errInterrupted
		}
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", got.err
		}
		return got.text, nil
	}
}

// key is the admin's public key, "" for none yet.
func (q *asker) key() string {
	if q.err != nil {
		return ""
	}
	if path, ok := q.given["key"]; ok {
		var line string
		line, q.err = q.adminKey(path)
		return line
	}
	found := publicKeys(filepath.Join(q.Getenv("HOME"), ".ssh"))
	if len(found) == 0 {
		return ""
	}
	if len(found) == 1 || !q.Asks {
		return found[0].line
	}
	for i, key := range found {
		q.hint("%d  %s", i+1, key.path)
	}
	number := q.text("", "Whose public key?", "1", func(text string) error {
		if n := 0; len(text) > 2 || !scans(text, &n) || n < 1 || n > len(found) {
			return fmt.Errorf("want a number from 1 to %d", len(found))
		}
		return nil
	})
	n := 0
	if q.err != nil || !scans(number, &n) {
		return ""
	}
	return found[n-1].line
}

func scans(text string, n *int) bool {
	_, err := fmt.Sscanf(text, "%d", n)
	return err == nil
}

// adminKey is the public key in a file, or, if none is named, the first in ~/.ssh; "" if
// there is none either.
func (a *app) adminKey(path string) (string, error) {
	if path == "" {
		for _, key := range publicKeys(filepath.Join(a.Getenv("HOME"), ".ssh")) {
			return key.line, nil
		}
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(data))
	if err := layer.CheckKey(key); err != nil {
		return "", usageError{fmt.Errorf("--key %s: %w", path, err)}
	}
	return key, nil
}

// publicKey is a file that holds one.
type publicKey struct{ path, line string }

// publicKeys finds those of a person that a host file may have, the modern kinds first.
func publicKeys(dir string) []publicKey {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.pub")) // sorted
	var found []publicKey
	for _, path := range paths {
		data, err := os.ReadFile(path)
		line := strings.TrimSpace(string(data))
		if err == nil && layer.CheckKey(line) == nil {
			found = append(found, publicKey{path, line})
		}
	}
	rank := func(key publicKey) int {
		for i, kind := range []string{"ssh-ed25519 ", "sk-ssh-ed25519", "sk-", "ecdsa-"} {
			if strings.HasPrefix(key.line, kind) {
				return i
			}
		}
		return 9
	}
	slices.SortStableFunc(found, func(a, b publicKey) int { return rank(a) - rank(b) })
	return found
}
