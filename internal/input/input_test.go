package input

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"bake/internal/artifact"
	"bake/internal/doc"
	"bake/internal/origin"
)

const wasHost = `# as it was
host: zap
base: ubuntu:24.04
machine: {vcpus: 2, memory: 2GiB}
network: auto
admin: {name: ops, keys: [a, b]}
layers:
  - ssh
  - ufw: {allow_tcp: [22], logging: low}
  - own
  - sysctl
cloud-config:
  write_files: [{path: /a}]
  a.b: {c: 1}
`

const isHost = `host: zap
base: ubuntu:24.04
machine: {vcpus: 4, memory: 2GiB, tpm: true}
network: {mac: "52:54:00:00:00:01"}
admin: {name: ops, keys: [a]}
layers:
  - docker
  - ssh
  - ufw: {allow_tcp: [22, 80]}
  - fail2ban: {max_retry: 3}
  - own
cloud-config:
  write_files: [{path: /b}]
  a.b: {c: 2}
`

func pair() (was, is Inputs) {
	deb := func(name, version string) origin.Deb {
		return origin.Deb{Name: name, Version: version, Arch: "all", SHA256: strings.Repeat("a", 64), Size: 1}
	}
	was = Inputs{Host: "zap", Base: artifact.Base{Reference: "ubuntu:24.04", Serial: "20260101", SHA256: strings.Repeat("1", 64)},
		Debs: []origin.Deb{deb("curl", "1"), deb("same", "1"), deb("ufw", "1")}, Files: map[string]Text{"hosts/zap.yaml": Text(wasHost),
			"layers/own/layer.yaml": Text("layer: own\n"), "layers/own/files/x": Text("\xff\x00"), "layers/gone/layer.yaml": Text("gone\n")}}
	is = Inputs{Host: "zap", Disk: "flat", Base: artifact.Base{Reference: "ubuntu:24.04", Serial: "20260202", SHA256: strings.Repeat("2", 64)},
		Image: &origin.Target{Reference: "ubuntu:24.04"}, Debs: []origin.Deb{deb("docker", "1"), deb("same", "1"), deb("ufw", "2")},
		Files: map[string]Text{"hosts/zap.yaml": Text(isHost), "layers/own/layer.yaml": Text("layer: own\n"), "layers/own/files/x": Text("other"),
			"openclaw-lock.json": Text("{}")}}
	return was, is
}

func names(changes []Change) (all []string) {
	for _, c := range changes {
		all = append(all, c.Name)
	}
	return all
}

func mustChanges(t *testing.T, a, b Inputs) []Change {
	t.Helper()
	changes, err := a.Changes(b)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestChanges(t *testing.T) {
	was, is := pair()
	if got := mustChanges(t, was, was); got != nil {
		t.Errorf("a thing differs from itself in %v", got)
	}
	var lines []string
	for _, c := range mustChanges(t, was, is) {
		lines = append(lines, c.String())
	}
	want := []string{
		"base: 20260101 (sha256 111111111111...) -> 20260202 (sha256 222222222222...)",
		"disk: absent -> flat",
		"package curl: 1 -> absent", "package docker: absent -> 1", "package ufw: 1 -> 2",
		"file openclaw-lock.json: absent -> sha256 ", "layer gone: sha256 ", "layer own: sha256 ",
		"host machine.vcpus: 2 -> 4", "host network: auto -> absent", `host admin.keys: - "a" - "b" -> - "a"`,
		"host layers.ufw.allow_tcp: - 22 -> - 22 - 80", "host layers.ufw.logging: low -> absent", "host layers.sysctl: there -> absent",
		`host cloud-config.write_files: - path: "/a" -> - path: "/b"`, "host cloud-config.a.b.c: 1 -> 2",
		"host machine.tpm: absent -> true", "host network.mac: absent -> 52:54:00:00:00:01", "host layers.docker: absent -> there",
		"host layers.fail2ban: absent -> there", "host layers.fail2ban.max_retry: absent -> 3",
	}
	if !slices.EqualFunc(lines, want, strings.HasPrefix) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestMix: nothing taken is what was, everything is what is, and each change taken by
// itself makes just that change.
func TestMix(t *testing.T) {
	was, is := pair()
	all := names(mustChanges(t, was, is))
	mix := func(names ...string) Inputs {
		t.Helper()
		mixed, err := was.Mix(is, names)
		if err != nil {
			t.Fatal(err)
		}
		return mixed
	}
	if got := mustChanges(t, mix(), was); got != nil {
		t.Errorf("nothing taken differs in %v", got)
	}
	full := mix(all...)
	if got := mustChanges(t, full, is); got != nil {
		t.Errorf("everything taken differs in %v", got)
	}
	order := func(in Inputs) []string {
		n, err := in.hostFile()
		if err != nil {
			t.Fatal(err)
		}
		return flatten(n).layers
	}
	if got, want := order(full), order(is); !slices.Equal(got, want) {
		t.Errorf("layers %q, want %q", got, want)
	}
	if full.Image != is.Image || full.Base != is.Base || full.Files["layers/own/files/x"] == nil {
		t.Errorf("%+v", full)
	}
	for _, name := range all {
		one := mustChanges(t, was, mix(name))
		alone := slices.Contains([]string{"host network.mac", "host layers.fail2ban.max_retry"}, name) // there is no map without the other half
		if got := names(one); !slices.Equal(got, []string{name}) && !alone {
			t.Errorf("%s taken alone changes %q", name, got)
		}
	}
	if again, _ := pair(); len(mustChanges(t, was, again)) != 0 {
		t.Error("mixing has changed what was mixed")
	}

	// An order that moved is a change of its own.
	moved := was
	moved.Files = map[string]Text{"hosts/zap.yaml": Text("host: zap\nlayers: [b, a, new]\n")}
	was.Files = map[string]Text{"hosts/zap.yaml": Text("host: zap\nlayers: [a, old, b]\n")}
	if got := names(mustChanges(t, was, moved)); !slices.Equal(got, []string{"host layers.old", "host layers.new", "host " + orderKey}) {
		t.Errorf("%q", got)
	}
	for want, take := range map[string][]string{"a old b": nil, "a old b new": {"host layers.new"}, "b a old": {"host " + orderKey},
		"b a new": {"host " + orderKey, "host layers.new", "host layers.old"}} {
		mixed, err := was.Mix(moved, take)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(order(mixed), " "); !sameWords(got, want) {
			t.Errorf("%q: layers %q, want %q", take, got, want)
		}
	}
}

// sameWords allows for where what is new may stand beside what is gone.
func sameWords(got, want string) bool {
	return got == want || want == "a old b new" && got == "a new old b"
}

func TestEncode(t *testing.T) {
	for _, in := range func() []Inputs { a, b := pair(); return []Inputs{a, b} }() {
		content, err := in.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(content)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := got.Encode(); err != nil || !bytes.Equal(again, content) {
			t.Errorf("%v\n%s", err, again)
		}
		for _, bad := range []string{"", "{}", string(content) + " ", strings.Replace(string(content), "inputs/1", "inputs/2", 1),
			strings.Replace(string(content), `"host"`, `"guest"`, 1)} {
			if _, err := Decode([]byte(bad)); err == nil {
				t.Errorf("accepted: %s", bad)
			}
		}
	}
}

func TestCollectRestore(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"hosts/zap.yaml": wasHost, "hosts/zip.yaml": "x", "hosts/_defaults.yaml": "machine: {vcpus: 4}", "hosts/_other.yaml": "x", "bake.lock": "{}", "secrets/x": "secret", "openclaw-lock.json": "{}"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	layers := fstest.MapFS{"own/layer.yaml": {Data: []byte("own")}, "own/files/etc/x": {Data: []byte{0xff, 0}}, "other/layer.yaml": {Data: []byte("other")}}
	files, err := Collect(dir, "zap", []string{"_defaults.yaml"}, layers, []string{"own"})
	if err != nil || len(files) != 5 || files["hosts/_defaults.yaml"] == nil || string(files["layers/own/files/etc/x"]) != "\xff\x00" {
		t.Fatalf("%v, %v", files, err)
	}
	to := t.TempDir()
	if err := (Inputs{Host: "zap", Files: files}).Restore(to); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"../x", "/etc/x", "a/../../x", "", "a//b", "x\x00"} {
		if err := (Inputs{Files: map[string]Text{name: nil}}).Restore(filepath.Join(to, "deep")); err == nil {
			t.Errorf("%q was written", name)
		}
	}
	if _, err := Collect(dir, "absent", nil, nil, nil); err == nil {
		t.Error("a host without a file has inputs")
	}
	if _, err := Collect(dir, "zip", nil, fstest.MapFS{"big/x": {Data: make([]byte, most+1)}}, []string{"big"}); err == nil {
		t.Error("a layer without end was collected")
	}
}

// FuzzMix: whatever two host files are, nothing taken is the one and all is the other.
func FuzzMix(f *testing.F) {
	f.Add([]byte(wasHost), []byte(isHost))
	f.Add([]byte("layers: [a, {b: {}}, {c: }]\n"), []byte("layers: {a: b}\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		make := func(text []byte) (in Inputs, ok bool) {
			n, err := doc.Parse("x", text)
			return Inputs{Host: "zap", Files: map[string]Text{"hosts/zap.yaml": text}}, err == nil && n.Kind == doc.Map
		}
		was, ok := make(a)
		is, fine := make(b)
		if !ok || !fine {
			return
		}
		changes, err := was.Changes(is)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := was.Mix(is, names(changes)); err != nil {
			t.Errorf("%v: %q and %q", err, a, b)
		}
	})
}
