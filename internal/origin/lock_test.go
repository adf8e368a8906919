package origin

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/diag"
	"github.com/google/go-cmp/cmp"
)

func target(reference, arch, serial, digest string) Target {
	return Target{Reference: reference, Arch: arch, URL: "https://m.example/" + serial + "/x.img?a=b&c", Name: "x.img", Size: 4096, Algorithm: "sha256",
		Digest: strings.Repeat(digest, 32), Serial: serial, Signer: ubuntuKeys[0], Trust: "signed list of checksums", Signed: signed}
}

func pinned(t testing.TB, targets ...Target) Lock {
	t.Helper()
	var lock Lock
	for _, target := range targets {
		if err := lock.Set(target); err != nil {
			t.Fatal(err)
		}
	}
	return lock
}

func TestLock(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bake.lock")
	empty, err := ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	noble, _ := Parse("ubuntu:noble", "amd64")
	if got, ok := empty.Pin(noble); ok {
		t.Errorf("a file that does not exist pins %+v", got)
	}
	a, b, c := target("ubuntu:24.04", "amd64", "20260722", "ab"), target("ubuntu:24.04", "arm64", "20260722", "cd"), target("debian:13", "amd64", "", "ef")
	c.Algorithm, c.Digest, c.Signer, c.Signed = "sha512", strings.Repeat("ef", 64), "", time.Time{}
	if err := pinned(t, a, b, c).Write(file); err != nil {
		t.Fatal(err)
	}
	first, _ := os.ReadFile(file)
	if err := pinned(t, c, b, a, b).Write(file); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(file); string(first) != string(second) {
		t.Errorf("the order of pinning shows:\n%s", cmp.Diff(string(first), string(second)))
	}
	if !strings.HasPrefix(string(first), "{\n  \"schema\": \"bake.lock/1\",\n  \"images\": [\n    {\n      \"reference\": \"debian:13\",\n") ||
		!strings.Contains(string(first), "?a=b&c") || strings.Count(string(first), `"signed"`) != 2 {
		t.Errorf("%s", first)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	read, err := ReadLock(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := read.Pin(noble); !ok || got != a {
		t.Errorf("%+v, %v, want %+v", got, ok, a)
	}
	if got := read.Pins(); !slices.Equal(got, []Target{c, a, b}) {
		t.Errorf("pins %+v", got)
	}
	if got := empty.Pins(); len(got) > 0 {
		t.Errorf("a file that does not exist has the pins %+v", got)
	}
	if debian, _ := Parse("debian:13", "arm64"); true {
		if got, ok := read.Pin(debian); ok {
			t.Errorf("the other architecture is pinned to %+v", got)
		}
	}
	if changes := read.Changes(pinned(t, a, b, c)); len(changes) > 0 {
		t.Errorf("reading what was written changes %q", changes)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("%v is left", left)
	}
	if err := read.Write(filepath.Join(file, "below")); err == nil {
		t.Error("a file was written below a file")
	}
	if _, err := ReadLock(filepath.Dir(file)); err == nil || errors.As(err, new(diag.List)) {
		t.Errorf("a directory: %v", err)
	}
}

func TestLockMalformed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bake.lock")
	if err := pinned(t, target("ubuntu:24.04", "amd64", "20260722", "ab"), target("ubuntu:24.04", "arm64", "20260722", "cd")).Write(file); err != nil {
		t.Fatal(err)
	}
	content, _ := os.ReadFile(file)
	good := string(content)
	change := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for name, test := range map[string]struct {
		content string
		line    int
		want    string
	}{
		"empty":              {"", 1, "ends in the middle"},
		"cut off":            {good[:len(good)-30], 28, "ends in the middle"},
		"conflict":           {change("  \"images\"", "<<<<<<< HEAD\n  \"images\""), 3, "invalid character '<'"},
		"no comma":           {change("\"amd64\",", "\"amd64\""), 7, "invalid character"},
		"two documents":      {good + "{}", 32, "behind the end"},
		"not an object":      {"[]\n", 1, "array"},
		"a number":           {"3\n", 1, "number"},
		"other schema":       {change("bake.lock/1", "bake.lock/9"), 1, `the schema is "bake.lock/9"`},
		"unknown key":        {change("  \"images\"", "  \"extra\": 1,\n  \"images\""), 1, "unknown field \"extra\""},
		"unknown key inside": {change("\"size\"", "\"length\""), 4, "unknown field \"length\""},
		"key twice":          {change("\"arch\"", "\"digest\": \"\",\n      \"Digest\""), 7, `the key "Digest" is there a second time`},
		"a number as text":   {change("4096", "\"4096\""), 9, "size is string here"},
		"nested":             {"{\"schema\":" + strings.Repeat("[", 100), 1, "too deeply"},
		"pinned twice":       {change("\"arm64\"", "\"amd64\""), 17, "is pinned a second time"},
		"unknown reference":  {change("ubuntu:24.04", "ubuntu:24.05"), 4, "unknown release"},
		"other spelling":     {change("ubuntu:24.04", "ubuntu:noble"), 4, "is spelled ubuntu:24.04 here"},
		"a file":             {change("ubuntu:24.04", "./x"), 4, "is a local file"},
		"architecture":       {change("\"amd64\"", "\"riscv64\""), 4, "unknown architecture"},
		"short digest":       {change("abab", "ab"), 4, "is no \"sha256\""},
		"other algorithm":    {change("\"sha256\"", "\"sha512\""), 4, "is no \"sha512\""},
		"a path as a name":   {change("\"x.img\"", "\"../x.img\""), 4, "the name"},
		"another name":       {change("\"x.img\"", "\"y.img\""), 4, "the name"},
		"a file as a url":    {change("https://m.example", "file:///etc"), 4, "the url"},
		"leads elsewhere":    {change("20260722/x.img", "../x.img"), 4, "leads out of its directory"},
		"and says it in hex": {change("20260722/x.img", "%2e%2E/x.img"), 4, "leads out of its directory"},
		"credentials":        {change("https://", "https://u:p@"), 4, "the url"},
		"negative":           {change("4096", "-1"), 4, "is negative"},
		"signer":             {change(ubuntuKeys[0], "7DB87C81"), 4, "is no fingerprint"},
		"time":               {change("2026-07-22T", "yesterday"), 4, "time"},
	} {
		if test.content == good {
			t.Fatalf("%s changes nothing", name)
		}
		if err := os.WriteFile(file, []byte(test.content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadLock(file)
		var list diag.List
		if !errors.As(err, &list) || len(list) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p := list[0]
		if p.Pos.File != file || p.Pos.Line != test.line || p.Pos.Col < 1 || !strings.Contains(p.Message, test.want) || p.Hint == "" {
			t.Errorf("%s: %v, want line %d and %q", name, err, test.line, test.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	link := target("https://m.example/20260722/x.img?a=b&c#sha256="+someDigest, "amd64", "20260722", "ab")
	if err := new(Lock).Set(link); err != nil {
		t.Fatal(err)
	}
	link.Digest = strings.Repeat("cd", 32)
	if err := new(Lock).Set(link); err == nil || !strings.Contains(err.Error(), "not that of the reference") {
		t.Errorf("a link with another digest: %v", err)
	}
	if err := new(Lock).Set(Target{}); err == nil {
		t.Error("nothing is pinned")
	}
}

func TestChanges(t *testing.T) {
	old, new := target("ubuntu:24.04", "amd64", "20260701", "ab"), target("ubuntu:24.04", "amd64", "20260722", "cd")
	with := func(t Target, change func(*Target)) Target { change(&t); return t }
	for name, test := range map[string]struct {
		before, after []Target
		want          []string
	}{
		"nothing": {[]Target{old}, []Target{old}, nil},
		"moved": {[]Target{old}, []Target{new}, []string{
			"ubuntu:24.04 amd64: 20260701 -> 20260722, sha256 abababababab... -> cdcdcdcdcdcd..., url https://m.example/20260701/x.img?a=b&c -> https://m.example/20260722/x.img?a=b&c"}},
		"new and gone": {[]Target{old}, []Target{with(new, func(t *Target) { t.Reference = "debian:13"; t.Serial = "" })}, []string{
			"debian:13 amd64: new, sha256 cdcdcdcdcdcd...",
			"ubuntu:24.04 amd64: no longer pinned, was 20260701, sha256 abababababab..."}},
		"other signer": {[]Target{old}, []Target{with(old, func(t *Target) { t.Signer = ubuntuKeys[1] })}, []string{
			"ubuntu:24.04 amd64: the same image, signer " + ubuntuKeys[0] + " -> " + ubuntuKeys[1]}},
		"no signer any more": {[]Target{old}, []Target{with(old, func(t *Target) { t.Signer = "" })}, []string{
			"ubuntu:24.04 amd64: the same image, signer " + ubuntuKeys[0] + " -> none"}},
		"other algorithm": {[]Target{old}, []Target{with(old, func(t *Target) { t.Algorithm, t.Digest = "sha512", strings.Repeat("0f", 64) })}, []string{
			"ubuntu:24.04 amd64: sha256 abababababab... -> sha512 0f0f0f0f0f0f..."}},
		"size": {[]Target{old}, []Target{with(old, func(t *Target) { t.Size = 5 })}, []string{
			"ubuntu:24.04 amd64: the same image, size, trust or time of signature differ"}},
	} {
		got := pinned(t, test.after...).Changes(pinned(t, test.before...))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	before := pinned(t, old)
	after := before
	if err := after.Set(new); err != nil {
		t.Fatal(err)
	}
	if len(after.Changes(before)) != 1 {
		t.Error("setting a pin of a copy has changed the original")
	}
}

// A lock that is read is written and read again as the same one.
func FuzzLock(f *testing.F) {
	file := filepath.Join(f.TempDir(), "bake.lock")
	if err := pinned(f, target("ubuntu:24.04", "amd64", "20260722", "ab")).Write(file); err != nil {
		f.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	f.Add([]byte(`{"schema":"bake.lock/1","images":[{}]}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		lock, at, err := parseLock(content)
		if err != nil {
			if p := position("bake.lock", content, at, err); p.Pos.Line < 1 || p.Pos.Col < 1 || p.Message == "" {
				t.Errorf("%+v", p)
			}
			return
		}
		path := filepath.Join(t.TempDir(), "bake.lock")
		if err := lock.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := ReadLock(path)
		if err != nil {
			t.Fatalf("%q: %v", content, err)
		}
		if changes := again.Changes(lock); len(changes) > 0 {
			t.Errorf("%q: %q", content, changes)
		}
	})
}
