package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/artifact"
	"bake/internal/base"
)

// TestBaseImage bakes from a mirror, and again from the lock with the mirror
// gone.
func TestBaseImage(t *testing.T) {
	m := newMirror(t)
	image := goodImage(t)
	o := m.must(0, []string{"ubuntu:24.04: downloading ", "ubuntu:24.04: downloaded ", serialOf(yesterday) + ", signed list of checksums, by "}, "image", "--host", "zap")
	if !strings.HasPrefix(o.stdout, "out/zap/") {
		t.Errorf("%q", o.stdout)
	}
	g, err := artifact.Open(filepath.Join(m.dir, "out"), "zap", "latest")
	if err != nil {
		t.Fatal(err)
	}
	want := artifact.Base{Reference: "ubuntu:24.04", Serial: serialOf(yesterday), SHA256: hexDigest(image), VirtualSize: 11 << 20,
		Signer: g.Manifest.Base.Signer, URL: "https://cloud-images.ubuntu.com" + datedDir(yesterday) + imageName}
	if g.Manifest.Base != want || len(want.Signer) != 40 {
		t.Errorf("%+v\nwant %+v", g.Manifest.Base, want)
	}
	if lock := m.pinned(); strings.Contains(lock, m.url) || !strings.Contains(lock, `"digest": "`+want.SHA256) {
		t.Errorf("%s", lock)
	}
	m.tool(t, "qemu-img", "check", "-q", "out/zap/latest/disk.qcow2")

	m.env["BAKE_MIRROR_UBUNTU"] = "http://127.0.0.1:9" // nobody is there
	if err := os.RemoveAll(filepath.Join(m.dir, "out")); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--quiet", "--locked"} {
		m.must(0, nil, "image", "--host", "zap", flag)
	}
	if again, err := artifact.Open(filepath.Join(m.dir, "out"), "zap", "latest"); err != nil || again.Manifest.Generation != g.Manifest.Generation {
		t.Errorf("%v, %v", again.Manifest.Generation, err)
	}
}

// TestBaseImageFromAnywhere: which mirror, cache and day of the run it was does
// not show in what is baked.
func TestBaseImageFromAnywhere(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "image", "--host", "zap")
	once := digests(t, filepath.Join(m.dir, "out"))
	m.tool(t, "rm", "-r", "cache", "state", "bake.lock")
	delete(m.env, "BAKE_MIRROR_UBUNTU")
	m.must(0, nil, "image", "--host", "zap", "--out", "home/again", "--mirror", "ubuntu="+m.url+"/")
	if again := digests(t, filepath.Join(m.dir, "home/again")); !maps.Equal(once, again) {
		t.Errorf("%v\nwant %v", again, once)
	}
}

func TestLocked(t *testing.T) {
	m := newMirror(t)
	for _, command := range [][]string{{"image", "--host", "zap"}, {"pull"}, {"inspect", "ubuntu:24.04"}} {
		m.must(3, []string{"bake.lock: error: ubuntu:24.04 for amd64 is not pinned", "run bake pull"}, append(command, "--locked")...)
	}
	if kept := m.kept(); kept != nil || m.pinned() != "" || m.times(newestDir+"SHA256SUMS") != 0 {
		t.Errorf("%q, %q", kept, m.pinned())
	}
	m.must(2, []string{"exclude each other"}, "pull", "--locked", "--update")
	m.must(0, nil, "inspect", "ubuntu:24.04") // looks and pins nothing
	if m.pinned() != "" {
		t.Error("inspect pins")
	}
	m.must(0, []string{"from the cache"}, "pull")
	before := m.pinned()
	m.must(0, nil, "image", "--host", "zap", "--locked")
	if m.pinned() != before {
		t.Error("--locked changed bake.lock")
	}
}

// TestUpdate moves a pin when told so, and only then.
func TestUpdate(t *testing.T) {
	m := newMirror(t)
	first := goodImage(t)
	m.publish(first, earlier)
	o := m.must(0, nil, "pull")
	if want := "ubuntu:24.04 amd64: new, " + serialOf(earlier) + ", sha256 " + hexDigest(first)[:12] + "...\n"; o.stdout != want {
		t.Errorf("%q, want %q", o.stdout, want)
	}
	second := changedImage(t, map[string]string{"etc/new": "x"})
	m.publish(second, yesterday)
	before := m.pinned()
	if o := m.must(0, nil, "pull"); o.stdout != "" || m.pinned() != before {
		t.Errorf("the pin moved: %s", o.stdout)
	}
	o = m.must(0, nil, "pull", "--update", "--json")
	var view pullView
	if err := json.Unmarshal([]byte(o.stdout), &view); err != nil || len(view.Images) != 1 || len(view.Changes) != 1 {
		t.Fatalf("%v\n%s", err, o.stdout)
	}
	want := "ubuntu:24.04 amd64: " + serialOf(earlier) + " -> " + serialOf(yesterday) + ", sha256 " + hexDigest(first)[:12] + "... -> " + hexDigest(second)[:12] + "..."
	if got := view.Changes[0]; !strings.HasPrefix(got, want) || !view.Images[0].Fetched || view.Images[0].SHA256 != hexDigest(second) {
		t.Errorf("%s\n%+v", got, view.Images[0])
	}
	if o := m.must(0, nil, "pull", "--update"); o.stdout != "" {
		t.Errorf("nothing is newer, yet: %s", o.stdout)
	}

	// Back again, by a machine that remembers nothing but has bake.lock.
	m.publish(first, earlier)
	before = m.pinned()
	for _, forget := range []bool{false, true} {
		if forget {
			m.tool(t, "rm", "-r", "state")
		}
		m.must(5, []string{"a replay", "--allow-older"}, "pull", "--update")
		if m.pinned() != before {
			t.Error("the pin moved back")
		}
	}
	m.must(0, nil, "pull", "--update", "--allow-older")
	if m.pinned() == before {
		t.Error("--allow-older does not move the pin")
	}
}

// TestMirrors: the command line goes before the environment, that before the
// host file, that before the publisher. Nothing else asks the publisher.
func TestMirrors(t *testing.T) {
	m := newMirror(t)
	const nobody = "http://127.0.0.1:9"
	good := m.url + "/"
	hostFile := func(address string) {
		text := strings.Replace(hostFixture, "../base.qcow2", "ubuntu:24.04", 1)
		if address != "" {
			text = strings.Replace(text, "machine:", "mirrors: {ubuntu: \""+address+"\"}\nmachine:", 1)
		}
		m.write(t, "hosts/zap.yaml", text, 0o644)
	}
	for _, test := range []struct {
		file, environment, flag string
		code                    int
	}{
		{good, "", "", 0}, {nobody, good, "", 0}, {nobody, nobody, good, 0}, {"", "", good, 0},
		{good, nobody, "", 6}, {good, good, nobody, 6},
	} {
		m.tool(t, "rm", "-rf", "cache", "bake.lock")
		hostFile(test.file)
		m.env["BAKE_MIRROR_UBUNTU"] = test.environment
		args := []string{"pull", "--host", "zap"}
		if test.flag != "" {
			args = append(args, "--mirror", "ubuntu="+test.flag)
		}
		m.must(test.code, nil, args...)
	}

	// What is pinned comes from the mirror, too.
	m.env["BAKE_MIRROR_UBUNTU"] = m.url
	m.must(0, nil, "pull", "--host", "zap")
	m.tool(t, "rm", "-rf", "cache")
	asked := m.times(datedDir(yesterday) + imageName)
	m.must(0, nil, "pull", "--host", "zap")
	if m.times(datedDir(yesterday)+imageName) != asked+1 {
		t.Error("the pinned image was not fetched from the mirror")
	}
	m.must(2, []string{"want ubuntu=URL"}, "pull", "--mirror", m.url)
	m.must(2, []string{"unknown distribution"}, "pull", "--mirror", "fedora="+m.url)
	m.must(2, []string{"credentials"}, "pull", "--mirror", "ubuntu=https://u:p@example.org")
	m.env["BAKE_MIRROR_UBUNTU"] = "nonsense"
	m.must(2, []string{"BAKE_MIRROR_UBUNTU: this is not the URL"}, "pull")
}

func TestPullCommandLine(t *testing.T) {
	m := newMirror(t)
	m.must(3, []string{"unknown release"}, "pull", "ubuntu:99.04")
	m.must(3, []string{"unknown architecture"}, "pull", "--arch", "mips", "ubuntu:24.04")
	m.must(2, []string{"names a local file"}, "pull", "./base.qcow2")
	m.must(2, []string{"not both"}, "pull", "--host", "zap", "ubuntu:24.04")
	m.must(2, []string{"goes with a reference"}, "pull", "--arch", "arm64")
	m.must(6, []string{"404"}, "pull", "ubuntu:22.04")
	m.must(5, []string{"no file of the name"}, "pull", "--arch", "arm64", "ubuntu:24.04")
	m.must(0, nil, "pull", "ubuntu:noble")
	m.must(0, []string{"from the cache"}, "pull", "ubuntu:24.04@"+serialOf(yesterday))
	if n := m.times(datedDir(yesterday) + imageName); n != 1 {
		t.Errorf("one image was fetched %d times", n)
	}
	m.write(t, "hosts/zap.yaml", hostFixture, 0o644)
	m.must(0, []string{"no host has a base image that is fetched"}, "pull")
}

// TestImages lists, verifies and prunes.
func TestImages(t *testing.T) {
	m := newMirror(t)
	m.must(0, []string{"no base images here"}, "images")
	m.must(0, nil, "image", "--host", "zap")
	o := m.must(0, nil, "images", "--json")
	var all []stockedView
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v\n%s", err, o.stdout)
	}
	if s := all[0]; s.SHA256 != hexDigest(goodImage(t)) || len(s.References) != 1 || len(s.Generations) != 1 || len(s.Paths) != 2 {
		t.Errorf("%+v", s)
	}
	o = m.must(0, nil, "images")
	if !strings.Contains(o.stdout, "ubuntu:24.04") || !strings.Contains(o.stdout, serialOf(yesterday)) || !strings.Contains(o.stdout, " zap/") {
		t.Errorf("%s", o.stdout)
	}
	m.must(0, []string{"removed 0 images"}, "images", "--prune")
	m.must(0, []string{"1 images, all as they should be"}, "images", "--verify")
	m.must(2, nil, "images", "--verify", "--prune")
	m.must(2, nil, "images", "--dry-run")

	// Without the lock the generation keeps it; without both it goes.
	m.tool(t, "rm", "bake.lock")
	m.must(0, []string{"removed 0 images"}, "images", "--prune")
	m.tool(t, "mv", "out/zap", "zap")
	m.must(0, []string{"would remove 1 images"}, "images", "--prune", "--dry-run")
	if len(m.kept()) != 4 {
		t.Errorf("%q", m.kept())
	}
	m.must(0, []string{"removed 1 images"}, "images", "--prune")
	if kept := m.kept(); kept != nil {
		t.Errorf("%q", kept)
	}

	// A generation that does not tell what it stands on stops pruning.
	m.must(0, nil, "image", "--host", "zap")
	m.tool(t, "sh", "-c", "rm bake.lock; echo >> out/zap/latest/manifest.json")
	m.must(5, []string{"manifest.json is damaged"}, "images", "--prune")
	m.tool(t, "rm", "-r", "out/zap")

	stored := filepath.Join(m.dir, "cache/bake/base", hexDigest(goodImage(t))+".qcow2")
	if err := os.Chmod(stored, 0o644); err != nil {
		t.Fatal(err)
	}
	m.tool(t, "sh", "-c", "echo >> "+stored)
	if o := m.must(5, []string{"is damaged"}, "images", "--verify"); !strings.Contains(o.stdout, "DAMAGED") {
		t.Errorf("%s", o.stdout)
	}
}

// TestPruneWaitsForNobody: an image that somebody is about to use stays.
func TestPruneWaitsForNobody(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "pull")
	m.tool(t, "rm", "bake.lock")
	hold, err := base.Hold(t.Context(), filepath.Join(m.dir, "cache/bake/base")) // as bake image does
	if err != nil {
		t.Fatal(err)
	}
	m.must(4, []string{"another bake uses the images"}, "images", "--prune")
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	m.must(0, []string{"removed 1 images"}, "images", "--prune")
}

func TestInspect(t *testing.T) {
	m := newMirror(t)
	m.write(t, "local.qcow2", string(goodImage(t)), 0o644)
	var outputs []string
	for _, args := range [][]string{{"local.qcow2"}, {"ubuntu:24.04"}, {"--host", "zap"}} {
		o := m.must(0, nil, append([]string{"inspect"}, args...)...)
		outputs = append(outputs, o.stdout)
		for _, want := range []string{"system         Ubuntu 24.04.9 LTS\n", "kernel         6.8.0-90-generic\n", "cloud-init     25.1-0ubuntu1, NoCloud yes, default user ubuntu\n", "packages       5 "} {
			if !strings.Contains(o.stdout, want) {
				t.Errorf("%q lacks %q:\n%s", args, want, o.stdout)
			}
		}
	}
	if outputs[0] != outputs[1] || outputs[1] != outputs[2] {
		t.Error("one image, different findings")
	}
	for flag, want := range map[string]string{"--json": `"default_user": "ubuntu"`, "--sbom": `"bomFormat"`} {
		if o := m.must(0, nil, "inspect", "local.qcow2", flag); !json.Valid([]byte(o.stdout)) || !strings.Contains(o.stdout, want) {
			t.Errorf("%s: %s", flag, o.stdout)
		}
	}
	m.must(5, []string{"base.qcow2"}, "inspect", "base.qcow2") // empty
	m.must(4, nil, "inspect", "./absent.qcow2")
	m.must(3, []string{"unknown"}, "inspect", "nonsense")
	m.must(2, nil, "inspect")
	m.must(2, nil, "inspect", "a", "b")

	// What was found is believed as long as it is in the form it was written in.
	path := filepath.Join(m.dir, "cache/bake/base", hexDigest(goodImage(t))+".json")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", "{}", string(content[:len(content)/2]), strings.Replace(string(content), "look/1", "look/0", 1)} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if o := m.must(0, nil, "inspect", "ubuntu:24.04"); o.stdout != outputs[0] {
			t.Errorf("%q: %s", damaged, o.stdout)
		}
		if again, err := os.ReadFile(path); err != nil || string(again) != string(content) {
			t.Errorf("%q is not mended: %v", damaged, err)
		}
	}
}

// TestFlatten: disks that stand alone have the base's content and always the
// same bytes.
func TestFlatten(t *testing.T) {
	m := newMirror(t)
	m.must(2, []string{"--compress goes with --flatten"}, "image", "--host", "zap", "--compress")
	m.must(2, []string{"want qcow2 or raw"}, "image", "--host", "zap", "--format", "vmdk")
	seen := map[string]bool{}
	for _, args := range [][]string{{}, {"--flatten"}, {"--flatten", "--compress"}, {"--format", "raw"}} {
		args = append([]string{"image", "--host", "zap"}, args...)
		m.must(0, nil, args...)
		once := digests(t, filepath.Join(m.dir, "out"))
		if once["disk.raw"] == "" { // the same conversion, and a GiB to hash
			m.must(0, nil, append(args, "--out", "again")...)
			if again := digests(t, filepath.Join(m.dir, "again")); !maps.Equal(again, once) {
				t.Errorf("%q: different bytes", args)
			}
			m.tool(t, "rm", "-r", "again")
		}
		if seen[once["generation"]] {
			t.Errorf("%q: the generation of another form", args)
		}
		seen[once["generation"]] = true
		if len(args) > 3 {
			m.tool(t, "sh", "-c", "mv out/.base gone; qemu-img check -q out/zap/latest/disk.qcow2; code=$?; mv gone out/.base; exit $code")
		}
		if once["disk.raw"] != "" {
			m.tool(t, "qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", "out/zap/latest/disk.qcow2", "out/zap/latest/disk.raw")
			if info, err := os.Stat(filepath.Join(m.dir, "out/zap/latest/disk.raw")); err != nil || info.Size() != 1<<30 {
				t.Errorf("%v, %v", info.Size(), err)
			}
		}
	}
}
