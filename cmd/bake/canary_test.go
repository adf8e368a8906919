package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cipher "filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"bake/internal/artifact"
)

// canary is a secret that is recognised wherever it flies to.
type canary struct {
	name, mark, content string
	forms               map[string][]byte
}

// newCanary surrounds a mark with what is before and after it.
func newCanary(name, mark, before, after string) canary {
	c := canary{name: name, mark: mark, content: before + mark + after}
	c.forms = formsOf(c)
	return c
}

// oddities surround a canary's mark: all that a secret could be mistaken for.
var oddities = [][2]string{
	{"", ""}, {"'", "'"}, {`"`, `"`}, {"two\nlines\n", "\n"}, {"key: ", " # comment"}, {"- [a, ", "]"}, {"$(", ")"}, {"`", "`"}, {"; rm -rf ", " && x"},
	{"${", "}"}, {"((", "))"}, {"{{.", "}}"}, {"%s%n", "%"}, {"ü日本語", "🔥"}, {"\\", "\\"}, {"#cloud-config\n", ""}, {"-----BEGIN X-----\n", "\n-----END X-----\n"},
	{"{\"a\": \"", "\"}"}, {"<a>&", "</a>"}, {"!!str ", ""}, {"&a *a ", ""}, {"\t", "\t"}, {" ", " "}, {"END\n", "\nEND\n"}, {"\r\n", "\r\n"},
	{"\x1b[2J", "\x07"}, {"\u202e", "\u2028"}, {"\xff\xfe", "\xff"}, {"a\x00b", "\x00"}, {"\x7fELF", "\x00\x00"},
}

// formsOf has the ways in which a canary could be written, digests among them: of
// a short secret a digest says as much as the secret.
func formsOf(c canary) map[string][]byte {
	found := map[string][]byte{"text": []byte(c.mark), "hex": []byte(hex.EncodeToString([]byte(c.mark)))}
	for shift := range 3 { // base64 of the mark wherever it stands
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + c.mark))
		found[fmt.Sprintf("base64, shifted by %d", shift)] = []byte(text[4*((shift+2)/3) : len(text)-4])
	}
	content := []byte(c.content)
	five, one, two, long := md5.Sum(content), sha1.Sum(content), sha256.Sum256(content), sha512.Sum512(content)
	for name, sum := range map[string][]byte{"md5": five[:], "sha1": one[:], "sha256": two[:], "sha512": long[:]} {
		found[name], found[name+" in bytes"] = []byte(hex.EncodeToString(sum)), sum
	}
	return found
}

// see lists what a text has of the canaries.
func see(all []canary, text []byte) (seen []string) {
	for _, c := range all {
		for form, mark := range c.forms {
			if bytes.Contains(text, mark) {
				seen = append(seen, c.name+" as "+form)
			}
		}
	}
	return seen
}

// search reads every file below the directories and lists those with canaries.
func search(t *testing.T, all []canary, dirs ...string) map[string][]string {
	t.Helper()
	found, files := map[string][]string{}, 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			text := []byte(path)
			if entry.Type().IsRegular() && entry.Name() != "bake" { // the program: large, and not written by it
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				text, files = append(text, content...), files+1
			}
			if seen := see(all, text); seen != nil {
				found[path] = seen
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Error("nothing was searched")
	}
	return found
}

// aviary is a workshop with a host that has thirty secrets, which are in a vault
// elsewhere, by all four kinds of reference.
type aviary struct {
	workshop
	canaries    []canary
	vault       string
	home        string
	references  string // the host file's lines of secrets
	environment []string
}

func newAviary(t *testing.T) aviary {
	t.Helper()
	a := aviary{workshop: newWorkshop(t), vault: t.TempDir(), home: t.TempDir()}
	tmp := filepath.Join(a.home, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := cipher.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity := a.hide(t, "identity", key.String()+"\n")
	a.environment = append(os.Environ(), "HOME="+a.home, "TMPDIR="+tmp, "XDG_CACHE_HOME="+a.home+"/cache", "XDG_STATE_HOME="+a.home+"/state", "BAKE_AGE_IDENTITY="+identity)
	for i, around := range oddities {
		c := newCanary(fmt.Sprintf("c%02d", i), fmt.Sprintf("canary-%02d-%02d-sings", i, i*i%97), around[0], around[1])
		a.canaries = append(a.canaries, c)
		reference, inEnvironment := "", i%4 == 0 && !strings.Contains(c.content, "\x00")
		switch {
		case inEnvironment:
			a.environment = append(a.environment, "CANARY_"+c.name+"="+c.content)
			reference = "{env: CANARY_" + c.name + "}"
		case i%4 == 1:
			reference = "{file: " + a.hide(t, c.name, c.content) + "}"
		case i%4 == 2:
			reference = "{age: " + a.encrypt(t, c.name, c.content, key.Recipient()) + "}"
		default: // a program prints it, and one newline
			reference = "{command: [sh, -c, 'cat \"$0\" && echo', " + a.hide(t, c.name, c.content) + "]}"
		}
		a.references += "  " + c.name + ": " + reference + "\n"
	}
	a.host(t, a.references)
	return a
}

func (a aviary) hide(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(a.vault, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a aviary) encrypt(t *testing.T, name, content string, to cipher.Recipient) string {
	t.Helper()
	var out bytes.Buffer
	w, err := cipher.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte(content))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return a.hide(t, name+".age", out.String())
}

// host writes the host file, whose layers use two of the secrets.
func (a aviary) host(t *testing.T, references string) {
	t.Helper()
	a.write(t, "hosts/zap.yaml", strings.Replace(hostFixture, "layers: [ssh, ufw, sysctl]", "layers: [ssh, ufw, tailscale: {auth_key: c00}, mine: {key: c01}]", 1)+
		"payload: none\nsecrets:\n"+references, 0o644)
	a.write(t, "layers/mine/layer.yaml", "layer: mine\nsummary: s\nthreat: none\nparams: {key: {type: secret, help: h}}\n"+
		"cloud-config:\n  runcmd:\n    - [cat, ((key))]\n    - cat ((key)) >/dev/null\n"+
		"checks: {inside: [{claim: It is at ((key))., run: test -e ((key)), exit: 0, falsify: rm ((key))}]}\n", 0o644)
	a.write(t, "layers/mine/files/etc/mine.tmpl", "{{.key}} {{shell .key}}{{range .host.secrets}} {{.}}{{end}}\n", 0o644)
}

// run runs bake, which must exit so and show no canary.
func (a aviary) run(t *testing.T, code int, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(a.bake, args...)
	cmd.Dir, cmd.Env = a.dir, a.environment
	o := finish(t, cmd)
	if o.code != code {
		t.Errorf("%q: exit status %d, want %d\n%s", args, o.code, code, o.stderr)
	}
	if seen := see(a.canaries, []byte(o.stdout+o.stderr)); seen != nil {
		t.Errorf("%q shows %q", args, seen)
	}
	return o
}

// onlyVolumes demands that the volumes of secrets, which are n, have canaries,
// all of them, and nothing else does.
func (a aviary) onlyVolumes(t *testing.T, n int) {
	t.Helper()
	for path, seen := range search(t, a.canaries, a.dir, a.home) {
		if !strings.HasSuffix(path, secretsName) {
			t.Errorf("%s has %q", path, seen)
			continue
		}
		n--
		image, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range a.canaries {
			if bytes.Count(image, []byte(c.content)) != 1 {
				t.Errorf("%s does not have %s once, as it is", path, c.name)
			}
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if n != 0 {
		t.Errorf("%d volumes of secrets are missing", n)
	}
}

// TestCanaries: what a secret is gets into the volume that carries it and
// nowhere else, whatever bake is told to do and however it fails.
func TestCanaries(t *testing.T) {
	a := newAviary(t)
	for _, args := range [][]string{{"explain"}, {"explain", "--user-data"}, {"explain", "--json"}} {
		a.run(t, 0, append(args, "--host", "zap")...)
	}
	for _, args := range [][]string{{"layers"}, {"layers", "secrets"}, {"layers", "tailscale", "--json"}, {"layers", "mine"}, {"images"}} {
		a.run(t, 0, args...)
	}
	a.onlyVolumes(t, 0)
	a.run(t, 0, "image", "--host", "zap")
	a.run(t, 0, "image", "--host", "zap", "--json")
	a.run(t, 0, "seed", "--host", "zap")
	a.run(t, 0, "seed", "--host", "zap", "--format", "dir", "--json")
	a.run(t, 0, "seed", "--host", "zap", "--format", "vfat")
	a.run(t, 0, "seed", "--host", "zap", "-o", "elsewhere.iso")
	a.run(t, 0, "image", "--host", "zap", "--flatten", "--compress")
	a.onlyVolumes(t, 2)
	g, err := artifact.Open(filepath.Join(a.dir, "out"), "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(context.Background()); err != nil {
		t.Error(err)
	}
	var names []string
	for _, c := range a.canaries {
		names = append(names, c.name)
	}
	if diff := cmp.Diff(names, g.Manifest.Secrets); diff != "" {
		t.Errorf("the manifest's names: %s", diff)
	}
	for path := range g.Manifest.Files {
		if strings.Contains(path, "secret") {
			t.Errorf("%s is part of the generation", path)
		}
	}
	a.failing(t)
	a.onlyVolumes(t, 2)

	a.tool(t, "rm", "out/zap/secrets.iso")
	o := a.run(t, 4, "verify", "--host", "zap", "--boot")
	if !strings.Contains(o.stderr, "bake: out/zap/secrets.iso is gone, with the secrets of host zap (c00, c01, ") || !strings.Contains(o.stderr, "run bake image --host zap again") {
		t.Errorf("verify without the volume: %s", o.stderr)
	}
	a.run(t, 0, "image", "--host", "zap")
	a.onlyVolumes(t, 2)
}

// failing runs bake with each thing wrong that could be, while the volumes are
// there.
func (a aviary) failing(t *testing.T) {
	t.Helper()
	file, sealed := a.hide(t, "c01", a.canaries[1].content), filepath.Join(a.vault, "c02.age")
	open := a.hide(t, "open", a.canaries[1].content)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	large := a.hide(t, "large", strings.Repeat(a.canaries[1].content, 10000))
	notKey := a.hide(t, "notkey", a.canaries[2].content)
	const complaint = "echo no >&2; exit 1"
	for reference, want := range map[string]struct {
		code int
		says string
	}{
		"{file: " + file + ".absent}":                     {3, "no such file"},
		"{file: " + open + "}":                            {3, "lets others than its owner at it"},
		"{file: " + large + "}":                           {3, "more than 64 KiB"},
		"{env: CANARY_ABSENT}":                            {3, "is not set"},
		"{age: " + file + "}":                             {3, "not a file that age wrote"},
		"{age: " + sealed + ", identity: " + notKey + "}": {3, "is not a file that age-keygen wrote"},
		"{command: [sh, -c, 'cat \"$0\"; " + complaint + "', " + file + "]}": {4, "secret last: sh: exit status 1: no"},
		"{command: [sh, -c, 'cat \"$0\"; kill -9 $$', " + file + "]}":        {4, "secret last: sh: signal: killed"},
		"{command: [cat, " + large + "]}":                                    {4, "secret last: cat: it printed more than 64 KiB"},
		"{command: [cat, " + file + ", /nonexistent]}":                       {4, "No such file"},
		"{command: [no-such-program, " + file + "]}":                         {4, "no-such-program is not installed"},
		"{command: [cat, " + file + "], file: " + file + "}":                 {3, "there is file and command"},
	} {
		a.host(t, a.references+"  last: "+reference+"\n")
		for _, command := range []string{"image", "seed"} {
			o := a.run(t, want.code, command, "--host", "zap")
			if !strings.Contains(o.stderr, want.says) || o.stdout != "" {
				t.Errorf("%s with %s: %s%s", command, reference, o.stdout, o.stderr)
			}
		}
	}
	// Written where it must not be, it is in the host file; but nothing repeats it.
	quoted := fmt.Sprintf("%q", a.canaries[1].mark)
	for _, wrong := range []string{quoted, "[" + quoted + "]", "{value: " + quoted + "}", "{env: " + quoted + "}", "{command: " + quoted + "}", "{file: [" + quoted + "]}"} {
		a.host(t, a.references+"  last: "+wrong+"\n")
		for _, command := range []string{"image", "seed", "explain"} {
			a.run(t, 3, command, "--host", "zap")
		}
	}
	a.host(t, a.references)
	literal := strings.NewReplacer("auth_key: c00", "auth_key: "+quoted, "key: c01", "key: "+quoted)
	path := filepath.Join(a.dir, "hosts/zap.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, "hosts/zap.yaml", literal.Replace(string(content)), 0o644)
	a.run(t, 3, "image", "--host", "zap")
	a.host(t, a.references)
	a.run(t, 5, "image", "--host", "zap", "--base", "bake") // no image: the secrets were found before
}

// TestCanarySearch plants canaries where the search must see them.
func TestCanarySearch(t *testing.T) {
	c := newCanary("c", "canary-sings", "<", ">")
	sum := sha256.Sum256([]byte(c.content))
	for name, planted := range map[string]string{
		"text": "x " + c.mark, "base64": base64.StdEncoding.EncodeToString([]byte("a: " + c.content + "\n")), "raw base64": base64.RawURLEncoding.EncodeToString([]byte("ab" + c.content + "abc")),
		"hex": fmt.Sprintf("%x", c.content), "sha256": fmt.Sprintf("sha256:%x", sum), "binary": "\x00\xff" + c.mark + "\x00",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "deep", "report.json")
		if err := errors.Join(os.Mkdir(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(planted), 0o600)); err != nil {
			t.Fatal(err)
		}
		if found := search(t, []canary{c}, dir); len(found) != 1 || len(found[path]) == 0 {
			t.Errorf("%s: %v", name, found)
		}
	}
	dir := t.TempDir()
	for _, name := range []string{"clean", "name-" + c.mark} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("canary"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if found := search(t, []canary{c}, dir); len(found) != 1 || !slices.ContainsFunc(found[filepath.Join(dir, "name-"+c.mark)], func(s string) bool { return s == "c as text" }) {
		t.Errorf("a file's name: %v", found)
	}
}
