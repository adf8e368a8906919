package secret

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/google/go-cmp/cmp"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/tool"
)

// vault is a host file's directory with an environment.
type vault struct {
	Finder
	env map[string]string
}

func newVault(t *testing.T) vault {
	t.Helper()
	v := vault{env: map[string]string{"PATH": os.Getenv("PATH"), "HOME": t.TempDir()}}
	v.Finder = Finder{Dir: t.TempDir(), Getenv: func(key string) string { return v.env[key] }}
	v.Tools = tool.Box{Getenv: v.Getenv}
	return v
}

func (v vault) write(t *testing.T, name string, content []byte, mode os.FileMode) string {
	t.Helper()
	path := v.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// refs reads the secrets of a host file, which must be in order.
func refs(t *testing.T, text string) []Ref {
	t.Helper()
	n, err := doc.Parse("hosts/zap.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var problems diag.List
	all := Read(n.Get("secrets"), "secrets", &problems)
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// encrypt returns what age makes of a text, and the identity that reads it.
func encrypt(t *testing.T, plain []byte, armored bool) (cipher []byte, identity string) {
	t.Helper()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var into io.WriteCloser = closing{&out}
	if armored {
		into = armor.NewWriter(&out)
	}
	w, err := age.Encrypt(into, key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(plain)
	if err := errors.Join(err, w.Close(), into.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), "# made by a test\n" + key.String() + "\n"
}

// closing is a writer that nobody has to close.
type closing struct{ io.Writer }

func (closing) Close() error { return nil }

func TestResolve(t *testing.T) {
	v := newVault(t)
	odd := []byte("two\nlines 'and \"quotes\" $(id) \x00\xff\n")
	v.write(t, "secrets/odd", odd, 0o600)
	v.write(t, "~/own", []byte("at home"), 0o400)
	if err := os.Symlink("odd", v.path("secrets/link")); err != nil {
		t.Fatal(err)
	}
	cipher, identity := encrypt(t, []byte("by identity\n"), false)
	v.write(t, "a.age", cipher, 0o644)
	v.write(t, "key.txt", []byte(identity), 0o600)
	cipher, identity = encrypt(t, []byte("by the usual place"), true)
	v.write(t, "b.age", cipher, 0o644)
	v.write(t, "~/.config/bake/age.txt", []byte(identity), 0o600)
	v.write(t, "largest", bytes.Repeat([]byte{'x'}, maxSize), 0o600)
	v.write(t, "tool", []byte("#!/bin/sh\nprintf '%s' \"$*\" && pwd && cat\n"), 0o755)
	v.env["TOKEN"] = " from the environment\n"
	all := refs(t, `secrets:
  odd: {file: secrets/odd}
  link: {file: secrets/link}
  own: {file: ~/own}
  largest: {file: largest}
  env: {env: TOKEN}
  a: {age: a.age, identity: key.txt}
  b: {age: b.age}
  command: {command: [printf, '%s\n\n', "$(id) *"]}
  here: {command: [./tool, a b, c]}
  most: {command: [cat, largest]}
`)
	values, err := v.Resolve(context.Background(), all)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, value := range values {
		got[value.Name] = string(value.Reveal())
	}
	dir, err := filepath.EvalSymlinks(v.Dir)
	if err != nil {
		t.Fatal(err)
	}
	largest := strings.Repeat("x", maxSize)
	want := map[string]string{"odd": string(odd), "link": string(odd), "own": "at home", "largest": largest,
		"env": " from the environment\n", "a": "by identity\n", "b": "by the usual place", "command": "$(id) *\n",
		"here": "a b c" + dir, "most": largest}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if names := strings.Join(Names(all), " "); names != "a b command env here largest link most odd own" {
		t.Errorf("order: %s", names)
	}
}

// What can be known without a program is all reported at once, with its place,
// and before any program runs.
func TestRefusesWhatIsThere(t *testing.T) {
	v := newVault(t)
	cipher, identity := encrypt(t, []byte(canary), false)
	_, other := encrypt(t, []byte("x"), false)
	v.write(t, "open", []byte(canary), 0o640)
	v.write(t, "wide", []byte(canary), 0o604)
	v.write(t, "empty", nil, 0o600)
	v.write(t, "large", bytes.Repeat([]byte("canary hunter2"), 5000), 0o600)
	v.write(t, "good.age", cipher, 0o644)
	v.write(t, "cut.age", cipher[:len(cipher)-8], 0o644)
	v.write(t, "plain.age", []byte(canary), 0o644)
	v.write(t, "key", []byte(identity), 0o600)
	v.write(t, "other", []byte(other), 0o600)
	v.write(t, "openkey", []byte(identity), 0o644)
	v.write(t, "nokey", []byte(identity[:20]+" "+canary), 0o600)
	if err := errors.Join(os.Mkdir(v.path("dir"), 0o700), syscall.Mkfifo(v.path("fifo"), 0o600), os.Symlink("open", v.path("link"))); err != nil {
		t.Fatal(err)
	}
	v.env["EMPTY"] = ""
	tests := []struct{ form, path, words string }{
		{"{file: absent}", "file", "absent: no such file or directory"},
		{"{file: open/x}", "file", "not a directory"},
		{"{file: open}", "file", "its mode 0640 lets others than its owner at it\n"},
		{"{file: wide}", "file", "its mode 0604 lets others"},
		{"{file: link}", "file", "its mode 0640 lets others"},
		{"{file: dir}", "file", "not a regular file"},
		{"{file: fifo}", "file", "not a regular file"},
		{"{file: /dev/zero}", "file", "not a regular file"},
		{"{file: empty}", "file", "the secret is empty"},
		{"{file: large}", "file", "more than 64 KiB"},
		{"{env: NOT_THERE}", "env", "the variable NOT_THERE is not set"},
		{"{env: EMPTY}", "env", "not set, or empty"},
		{"{age: absent.age, identity: key}", "age", "absent.age: no such file"},
		{"{age: good.age, identity: absent}", "identity", "absent: no such file or directory\nname one with identity"},
		{"{age: good.age, identity: openkey}", "identity", "its mode 0644 lets others than its owner at it\nchmod 600"},
		{"{age: good.age, identity: nokey}", "identity", "is not a file that age-keygen wrote"},
		{"{age: good.age, identity: other}", "age", "encrypted for others than this identity"},
		{"{age: good.age}", "age", "the identity " + v.env["HOME"] + "/.config/bake/age.txt: no such file"},
		{"{age: cut.age, identity: key}", "age", "it is damaged"},
		{"{age: plain.age, identity: key}", "age", "not a file that age wrote"},
	}
	text := "secrets:\n  aaa: {command: [touch, ran]}\n"
	for i, test := range tests {
		text += "  s" + string(rune('a'+i)) + ": " + test.form + "\n"
	}
	_, err := v.Resolve(context.Background(), refs(t, text))
	var list diag.List
	if !errors.As(err, &list) || len(list) != len(tests) {
		t.Fatalf("%d problems, want %d: %v", len(list), len(tests), err)
	}
	for i, test := range tests {
		p := list[i]
		if p.Pos.Line != i+3 || p.Path != "secrets.s"+string(rune('a'+i))+"."+test.path || !strings.Contains(p.Message+"\n"+p.Hint, test.words) {
			t.Errorf("%s: %s: %s: %s: %s", test.form, p.Pos, p.Path, p.Message, p.Hint)
		}
	}
	if shows(err.Error()) || strings.Contains(err.Error(), identity[20:40]) {
		t.Error(err)
	}
	if _, err := os.Lstat(v.path("ran")); err == nil {
		t.Error("a program ran although there were problems")
	}
}

// The identity of the environment counts before the usual place.
func TestIdentityFromEnvironment(t *testing.T) {
	v := newVault(t)
	cipher, identity := encrypt(t, []byte(canary), false)
	v.write(t, "a.age", cipher, 0o644)
	v.env["BAKE_AGE_IDENTITY"] = v.write(t, "key", []byte(identity), 0o600)
	values, err := v.Resolve(context.Background(), refs(t, "secrets: {a: {age: a.age}}"))
	if err != nil || string(values[0].Reveal()) != canary {
		t.Errorf("%v", err)
	}
}

func TestCommandFails(t *testing.T) {
	v := newVault(t)
	v.write(t, "closed", []byte("#!/bin/sh\n"), 0o644)
	for command, want := range map[string]string{
		"sh, -c, 'echo canary hunter2; echo one >&2; echo two >&2; exit 3'": "secret db: sh: exit status 3: one; two",
		"'false'":                        "secret db: false: exit status 1",
		"'true'":                         "secret db: true: it printed nothing",
		"sh, -c, 'echo; echo why >&2'":   "secret db: sh: it printed nothing: why",
		"cat, /dev/zero":                 "secret db: cat: it printed more than 64 KiB",
		"head, -c, '65537', /dev/zero":   "secret db: head: it printed more than 64 KiB",
		"no-such-program, canary":        "secret db: no-such-program is not installed",
		"./no-such-program":              "secret db: ./no-such-program is not installed",
		"./closed":                       "permission denied",
		"sh, -c, 'kill -9 $$'":           "secret db: sh: signal: killed",
		"sh, -c, 'printf canary; cat -'": "",
	} {
		values, err := v.Resolve(context.Background(), refs(t, "secrets: {db: {command: ["+command+"]}}"))
		if want == "" {
			if err != nil || string(values[0].Reveal()) != "canary" {
				t.Errorf("%s: %v, %v", command, values, err)
			}
			continue
		}
		if err == nil || !strings.HasSuffix(err.Error(), want) || shows(err.Error()) {
			t.Errorf("%s: %v, want %s", command, err, want)
		}
		var missing *tool.MissingError
		var failed *CommandError
		if !errors.As(err, &missing) && !errors.As(err, &failed) {
			t.Errorf("%s: %T", command, err)
		}
	}
}

func TestCommandEndsWithContext(t *testing.T) {
	v := newVault(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := v.Resolve(ctx, refs(t, "secrets: {db: {command: [sleep, '1000']}}"))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
