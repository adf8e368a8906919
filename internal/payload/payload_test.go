package payload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bake/internal/origin"
	"bake/internal/tool"
)

// TestMain makes the test binary a run that is killed: see TestKilled.
func TestMain(m *testing.M) {
	image := os.Getenv("BAKE_PAYLOAD_IMAGE")
	if image == "" {
		os.Exit(m.Run())
	}
	b := Builder{Dir: os.Getenv("BAKE_PAYLOAD_DIR")}
	want := Want{Name: "zap", Image: image, Arch: "amd64", Packages: []Part{{"x", []string{"alpha"}}}}
	debs, err := b.Resolve(context.Background(), want, nil)
	if err == nil {
		_, err = b.Build(context.Background(), want, debs)
	}
	fmt.Println(err)
	os.Exit(1)
}

func bake(t testing.TB, b Builder, want Want) (Disk, []origin.Deb) {
	t.Helper()
	debs, err := b.Resolve(context.Background(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := b.Build(context.Background(), want, debs)
	if err != nil {
		t.Fatal(err)
	}
	return disk, debs
}

func unpack(t testing.TB, disk Disk) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	feed(t, "", "unsquashfs", "-quiet", "-no-progress", "-d", dir, disk.Path)
	return dir
}

func names(debs []origin.Deb) string {
	var all []string
	for _, d := range debs {
		all = append(all, d.Name)
	}
	return strings.Join(all, " ")
}

// The whole way: what is resolved, what is on the disk, what a second run costs.
func TestBuild(t *testing.T) {
	w := newWorld(t, nil)
	disk, debs := bake(t, w.b, w.want("alpha"))
	if names(debs) != "alpha beta" || debs[0].Version != "1:1.0~rc1+x" || debs[0].Arch != "all" {
		t.Fatalf("resolved %+v", debs)
	}
	at := unpack(t, disk)
	entries, err := os.ReadDir(filepath.Join(at, "apt"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %s %d", entry.Name(), info.Mode(), info.ModTime().Unix()))
	}
	want := []string{"Packages -rw-r--r-- 0", "Release -rw-r--r-- 0", "alpha_1.0~rc1+x_all.deb -rw-r--r-- 0", "beta_1.0~rc1+x_all.deb -rw-r--r-- 0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	installable(t, filepath.Join(at, "apt"))

	// Nothing is asked for, nothing is run.
	asked := len(w.asked)
	still := w.b
	still.Tools = box(nil, t.TempDir())
	again, err := still.Build(context.Background(), w.want("alpha"), debs)
	if disk.Built = false; err != nil || again != disk || len(w.asked) != asked {
		t.Errorf("%+v, %v, %d requests", again, err, len(w.asked)-asked)
	}

	// One more package costs one download.
	_, more := bake(t, w.b, w.want("alpha", "gamma"))
	if names(more) != "alpha beta gamma" || w.count(".deb") != 3 {
		t.Errorf("%s, %d downloads", names(more), w.count(".deb"))
	}
	if said := strings.Join(w.said, "\n"); !strings.Contains(said, "of alpha needs alpha: 2 packages") || !strings.Contains(said, "of gamma needs gamma: 1 packages") {
		t.Errorf("said %s", said)
	}
	if _, rest := left(t, w.b.Dir); rest != nil {
		t.Errorf("left behind: %q", rest)
	}
}

// others are machines that work with this one: what they have, and what they are told.
type others struct {
	disk string // that they have, "" for none
	err  error  // of a place that does not answer
	said []string
}

func (o *others) Find(_ context.Context, key, file string) (bool, error) {
	o.said = append(o.said, "find "+key)
	if o.err != nil || o.disk == "" {
		return false, o.err
	}
	content, err := os.ReadFile(o.disk)
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	return err == nil, err
}

func (o *others) Offer(_ context.Context, key string, disk Disk) error {
	o.said, o.disk = append(o.said, "offer "+key), disk.Path
	return o.err
}

func (o *others) Pass(_ context.Context, key string) error {
	o.said = append(o.said, "pass "+key)
	return o.err
}

// TestShared: a disk that another machine has made is not made again, and nothing is fetched for it;
// one that is made here is offered, and one that could not be is for another to try.
func TestShared(t *testing.T) {
	w := newWorld(t, nil)
	o := &others{}
	w.b.Shared = o
	disk, debs := bake(t, w.b, w.want("alpha"))
	key, err := keyOf(debs, nil)
	if err != nil || !disk.Built || fmt.Sprint(o.said) != fmt.Sprintf("[find %[1]s offer %[1]s]", key) {
		t.Fatalf("%+v, %q, %v", disk, o.said, err)
	}
	asked := len(w.asked)
	far := w.b
	far.Dir, far.Tools = filepath.Join(t.TempDir(), "cache"), box(nil, t.TempDir()) // no apt, no mksquashfs
	there, err := far.Build(t.Context(), w.want("alpha"), debs)
	if err != nil || there.Built || there.SHA256 != disk.SHA256 || there.Path == disk.Path || len(w.asked) != asked || len(o.said) != 3 {
		t.Errorf("%+v, %v, %q, %d requests", there, err, o.said, len(w.asked)-asked)
	}
	if _, rest := left(t, far.Dir); rest != nil {
		t.Errorf("left behind: %q", rest)
	}
	o.disk, far.Dir = "", filepath.Join(t.TempDir(), "cache")
	if _, err := far.Build(t.Context(), w.want("alpha"), debs); err == nil || o.said[len(o.said)-1] != "pass "+key {
		t.Errorf("without apt: %v, %q", err, o.said)
	}
	o.err = errors.New("nobody answers")
	w.b.Dir = filepath.Join(t.TempDir(), "cache")
	if here, err := w.b.Build(t.Context(), w.want("alpha"), debs); err != nil || !here.Built || here.SHA256 != disk.SHA256 {
		t.Errorf("with a place that does not answer: %+v, %v", here, err)
	}
}

// installable has apt as the judge of the repository.
func installable(t testing.TB, repository string) {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list := filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("deb [trusted=yes] file:"+repository+" ./\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	options := []string{"-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::State::lists=" + dir + "/lists",
		"-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache=" + dir, "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=true"}
	feed(t, "", "apt-get", append(options, "update")...)
	out := feed(t, "", "apt-get", append(options, "--simulate", "install", "alpha=1:1.0~rc1+x")...)
	if !strings.Contains(out, "Inst beta (1:1.0~rc1+x bake:payload [all])") {
		t.Errorf("apt says %s", out)
	}
}

// What apt must not take, and what becomes of it.
func TestRefused(t *testing.T) {
	var ring bytes.Buffer
	if err := newKey(t).Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	otherRing := ring.String()
	tests := map[string]struct {
		spoil func(w *world)
		image func(tree map[string]string)
		kind  string
		says  string
	}{
		"a package that was changed": {spoil: func(w *world) {
			content := w.get("/debian/pool/beta1.deb")
			content[len(content)-1] ^= 1
			w.put("/debian/pool/beta1.deb", content)
		}, kind: "integrity", says: "Hash Sum mismatch"},
		"an index that was changed": {spoil: func(w *world) {
			const path = "/debian/dists/trixie/main/binary-amd64/Packages"
			w.put(path, []byte(strings.Replace(string(w.get(path)), "Depends: beta", "Depends: gamm", 1)))
		}, kind: "integrity", says: "Hash Sum mismatch"},
		"a release that was changed": {spoil: func(w *world) {
			const path = "/debian/dists/trixie/InRelease"
			w.put(path, []byte(strings.Replace(string(w.get(path)), "Origin: test", "Origin: tset", 1)))
		}, kind: "integrity", says: "apt refuses an archive"},
		"a release signed by somebody else": {spoil: func(w *world) {
			w.publish(string(w.get("/debian/dists/trixie/main/binary-amd64/Packages")), newKey(w.t), "")
		}, kind: "integrity", says: "NO_PUBKEY"},
		"a release that is out of date": {spoil: func(w *world) {
			w.publish(string(w.get("/debian/dists/trixie/main/binary-amd64/Packages")), w.key,
				"Valid-Until: "+time.Now().Add(-time.Minute).UTC().Format(time.RFC1123)+"\n")
		}, kind: "integrity", says: "expired"},
		"a release without a signature": {spoil: func(w *world) {
			w.put("/debian/dists/trixie/Release", w.get("/debian/dists/trixie/InRelease"))
			w.put("/debian/dists/trixie/InRelease", nil)
		}, kind: "integrity", says: "is not signed"},
		"no signature and an image that does not mind": {image: func(tree map[string]string) {
			tree["etc/apt/sources.list.d/archive.sources"] += "Trusted: yes\n"
			tree[trustedKey] = otherRing
		}, kind: "integrity", says: "NO_PUBKEY"},
		"an image without the keyring": {image: func(tree map[string]string) {
			delete(tree, trustedKey)
		}, kind: "integrity", says: "which the image does not have"},
		"no archive":            {spoil: func(w *world) { clear(w.files) }, kind: "network", says: "does not have a Release file"},
		"an archive in trouble": {spoil: func(w *world) { w.status = 503 }, kind: "network", says: "503"},
		"no such file": {spoil: func(w *world) {
			w.put("/debian/pool/beta1.deb", nil)
		}, kind: "network", says: "404"},
		"no such package": {spoil: func(w *world) {
			w.publish("", w.key, "")
		}, kind: "set", says: "cannot provide alpha: "},
		"an image without sources": {image: func(tree map[string]string) {
			tree["etc/apt/sources.list.d/archive.sources"] = "Types: deb\nURIs: cdrom:/x file:/srv\nSuites: x\n"
		}, says: "is no archive on the web"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, test.image)
			if test.spoil != nil {
				test.spoil(w)
			}
			_, err := w.b.Resolve(context.Background(), w.want("alpha"), nil)
			var integrity *IntegrityError
			var network *NetworkError
			var set *SetError
			kind := ""
			switch {
			case errors.As(err, &integrity):
				kind = "integrity"
			case errors.As(err, &network):
				kind = "network"
			case errors.As(err, &set):
				kind = "set"
			}
			if err == nil || kind != test.kind || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q, %v, want %q, %q", kind, err, test.kind, test.says)
			}
			if kept, rest := left(t, w.b.Dir); kept != nil || rest != nil {
				t.Errorf("left behind: %q %q", kept, rest)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	w := newWorld(t, nil)
	w.publish(string(w.get("/debian/dists/trixie/main/binary-amd64/Packages")), w.key,
		"Valid-Until: "+time.Now().Add(-time.Minute).UTC().Format(time.RFC1123)+"\n")
	want := w.want("alpha")
	want.Expired = true
	if _, debs := bake(t, w.b, want); names(debs) != "alpha beta" {
		t.Error(debs)
	}
}

// What bake.lock has counts, whatever the archive says.
func TestPinned(t *testing.T) {
	w := newWorld(t, nil)
	_, debs := bake(t, w.b, w.want("gamma"))
	other := newWorld(t, nil) // another archive and key, another cache
	var index strings.Builder
	other.deb(&index, "gamma", "1:1.0~rc1+x", "Section: other\n")
	other.publish(index.String(), other.key, "")
	_, err := other.b.Build(context.Background(), other.want("gamma"), debs)
	var integrity *IntegrityError
	if !errors.As(err, &integrity) || !strings.Contains(err.Error(), "is not the one of bake.lock") {
		t.Errorf("another content: %v", err)
	}
	var newer strings.Builder
	other.deb(&newer, "gamma", "2", "")
	other.publish(newer.String(), other.key, "")
	_, err = other.b.Build(context.Background(), other.want("gamma"), debs)
	var gone *NetworkError
	if !errors.As(err, &gone) || !strings.Contains(err.Error(), "bake pull --update") {
		t.Errorf("another version: %v", err)
	}
	if kept, _ := left(t, other.b.Dir); kept != nil {
		t.Errorf("kept %q", kept)
	}
	// Versions that are known are taken as long as they are there.
	other.deb(&newer, "gamma", "3", "")
	other.publish(newer.String(), other.key, "")
	got, err := other.b.Resolve(context.Background(), other.want("gamma"), []origin.Deb{{Name: "gamma", Version: "2"}})
	if err != nil || got[0].Version != "2" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Of alternatives the first counts that there is.
func TestAlternatives(t *testing.T) {
	w := newWorld(t, nil)
	for name, want := range map[string]string{"absent|gamma": "gamma", "gamma|beta": "gamma", "absent|none|beta": "beta", "beta|absent": "beta"} {
		if got, err := w.b.Resolve(context.Background(), w.want(name), nil); err != nil || names(got) != want {
			t.Errorf("%s: %s, %v", name, names(got), err)
		}
	}
	_, err := w.b.Resolve(context.Background(), w.want("absent|none"), nil)
	var set *SetError
	if !errors.As(err, &set) {
		t.Error(err)
	}
}

// A damaged cache is found out, and mended.
func TestDamaged(t *testing.T) {
	w := newWorld(t, nil)
	disk, debs := bake(t, w.b, w.want("alpha"))
	for _, path := range []string{disk.Path, w.b.debFile(debs[0].SHA256)} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(content)/2] ^= 1
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Second) // on a file system with coarse times
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
	}
	again, err := w.b.Build(context.Background(), w.want("alpha"), debs)
	if err != nil || again.SHA256 != disk.SHA256 || !again.Built {
		t.Errorf("%+v, %v, want %+v", again, err, disk)
	}
}

// The same bytes for everybody.
func TestReproducible(t *testing.T) {
	w := newWorld(t, nil)
	tree := t.TempDir()
	if err := os.MkdirAll(filepath.Join(tree, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]fs.FileMode{"bin/run": 0o700, "bin/data": 0o600} {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("bin/run", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	want := w.want("alpha")
	want.Trees = []Tree{{Path: "opt/agent", Dir: tree, Digest: "1"}}
	first, _ := bake(t, w.b, want)
	at := unpack(t, first)
	for name, mode := range map[string]fs.FileMode{"opt": fs.ModeDir | 0o755, "opt/agent/bin": fs.ModeDir | 0o755, "opt/agent/bin/run": 0o755, "opt/agent/bin/data": 0o644} {
		if info, err := os.Stat(filepath.Join(at, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(at, "opt/agent/link")); err != nil || target != "bin/run" {
		t.Errorf("%q, %v", target, err)
	}

	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	other := w.b
	other.Dir = filepath.Join(t.TempDir(), "elsewhere")
	other.Tools = box(map[string]string{"TMPDIR": t.TempDir(), "TZ": "Pacific/Auckland", "SOURCE_DATE_EPOCH": "1"})
	later := time.Now().Add(48 * time.Hour)
	if err := os.Chtimes(filepath.Join(tree, "bin/data"), later, later); err != nil {
		t.Fatal(err)
	}
	if second, _ := bake(t, other, want); second.SHA256 != first.SHA256 {
		t.Errorf("%s and %s", first.SHA256, second.SHA256)
	}
	spoilt := errors.New("spoilt")
	want.Trees[0].Digest, want.Trees[0].Check = "3", func() error { return spoilt }
	for range 2 { // nothing is kept of it
		if _, err := w.b.Build(context.Background(), want, nil); !errors.Is(err, spoilt) {
			t.Errorf("a tree that is not what it was: %v", err)
		}
	}
	want.Trees[0].Digest, want.Trees[0].Check = "2", func() error { return nil }
	if third, err := w.b.Build(context.Background(), want, nil); err != nil || !third.Built {
		t.Errorf("another tree: %+v, %v", third, err)
	}
}

func TestTrees(t *testing.T) {
	b := Builder{Dir: filepath.Join(t.TempDir(), "payload")}
	at := func(path, digest string) Tree { return Tree{Path: path, Dir: "x", Digest: digest} }
	for _, trees := range [][]Tree{
		{at("apt", "1")}, {at("apt/x", "1")}, {at("", "1")}, {at("/x", "1")}, {at("../x", "1")}, {at("a b", "1")},
		{at("a", "")}, {at("a", "1"), at("a/b", "1")}, {at("a/b", "1"), at("a", "1")},
	} {
		if _, err := b.Build(context.Background(), Want{Trees: trees}, nil); err == nil || !strings.Contains(err.Error(), "tree") {
			t.Errorf("%v: %v", trees, err)
		}
	}
}

// The image's apt is not to be trusted with this machine.
func TestHostileImage(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	w := newWorld(t, func(tree map[string]string) {
		tree["etc/apt/apt.conf"] = `APT::Update::Pre-Invoke { "touch ` + mark + `"; };` + "\n"
		tree["etc/apt/apt.conf.d/01evil"] = `APT::Update::Post-Invoke { "touch ` + mark + `"; };` + "\n"
		tree["etc/apt/sources.list"] = "deb rsh://`touch " + mark + "`@127.0.0.1/x y z\ndeb [trusted=yes] file:/ ./\n"
		// As Debian's cloud images have it.
		source := tree["etc/apt/sources.list.d/archive.sources"]
		uri := source[strings.Index(source, "http"):strings.Index(source, "\nSuites")]
		tree["etc/apt/sources.list.d/archive.sources"] = strings.Replace(source, uri, "mirror+file:///etc/apt/mirrors/debian.list", 1)
		tree["etc/apt/mirrors/debian.list"] = "# mirrors\n" + uri + "\tpriority:1\n"
	})
	if _, debs := bake(t, w.b, w.want("alpha")); names(debs) != "alpha beta" {
		t.Error(debs)
	}
	if _, err := os.Stat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the image's configuration was run")
	}
	if said := strings.Join(w.said, "\n"); !strings.Contains(said, "file:/ is no archive on the web") {
		t.Errorf("said %q", said)
	}
}

func TestMirror(t *testing.T) {
	w := newWorld(t, func(tree map[string]string) {
		name := "etc/apt/sources.list.d/archive.sources"
		source := tree[name]
		at := strings.Index(source, "http")
		tree[name] = source[:at] + "http://archive.invalid" + source[strings.Index(source, "/debian"):]
	})
	want := w.want("alpha")
	want.Mirror = w.url + "/"
	if _, debs := bake(t, w.b, want); names(debs) != "alpha beta" {
		t.Error(debs)
	}
}

// What a generation has stays, and what bake.lock has.
func TestPrune(t *testing.T) {
	w := newWorld(t, nil)
	used, debs := bake(t, w.b, w.want("gamma"))
	if err := os.Link(used.Path, filepath.Join(t.TempDir(), "payload.squashfs")); err != nil {
		t.Fatal(err)
	}
	idle, _ := bake(t, w.b, w.want("alpha"))
	before, _ := left(t, w.b.Dir)
	keep := map[string]bool{debs[0].SHA256: true}
	dry, size, err := w.b.Prune(t.Context(), keep, true)
	if after, _ := left(t, w.b.Dir); err != nil || !slices.Equal(before, after) || len(dry) != 3 || size < idle.Size {
		t.Errorf("dry: %q, %d, %v, %q", dry, size, err, after)
	}
	removed, _, err := w.b.Prune(t.Context(), keep, false)
	after, rest := left(t, w.b.Dir)
	if err != nil || !slices.Equal(removed, dry) || len(after) != 3 || rest != nil {
		t.Errorf("removed %q, left %q %q, %v", removed, after, rest, err)
	}
	if again, err := w.b.Build(t.Context(), w.want("gamma"), debs); err != nil || again.Built || w.count(".deb") != 3 {
		t.Errorf("%+v, %v", again, err)
	}
	none := Builder{Dir: filepath.Join(t.TempDir(), "none")}
	if removed, _, err := none.Prune(t.Context(), nil, false); err != nil || removed != nil {
		t.Errorf("%q, %v", removed, err)
	}
}

func TestMissingProgram(t *testing.T) {
	w := newWorld(t, nil)
	w.b.Tools = box(nil, t.TempDir())
	_, err := w.b.Resolve(context.Background(), w.want("alpha"), nil)
	var missing *tool.MissingError
	if !errors.As(err, &missing) || missing.Name != "apt-get" || !strings.Contains(err.Error(), "payload: none") {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	for _, name := range []string{"a,b", "a b", `a"b`, "a;b"} {
		b := Builder{Dir: filepath.Join(t.TempDir(), name)}
		_, err := b.Build(context.Background(), Want{}, nil)
		var dir *DirError
		if !errors.As(err, &dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	var dir *DirError
	if _, err := (Builder{Dir: link}).Build(context.Background(), Want{}, nil); !errors.As(err, &dir) {
		t.Error(err)
	}
}

func TestOtherArchitecture(t *testing.T) {
	w := newWorld(t, nil)
	want := w.want("alpha")
	want.Arch = "arm64"
	if _, err := w.b.Resolve(context.Background(), want, nil); err == nil || !strings.Contains(err.Error(), "is an image for amd64 and not for arm64") {
		t.Error(err)
	}
	w = newWorld(t, func(tree map[string]string) {
		tree["var/lib/dpkg/status"] = strings.Replace(tree["var/lib/dpkg/status"], "amd64", "arm64", 1)
	})
	want = w.want("alpha")
	want.Arch = "arm64"
	if _, debs := bake(t, w.b, want); names(debs) != "alpha beta" || w.count("binary-arm64/Packages") == 0 {
		t.Errorf("%+v", debs)
	}
}

// A run that is killed while a program works leaves nothing that counts; the next
// one removes the rest.
func TestKilled(t *testing.T) {
	w := newWorld(t, nil)
	reference, _ := bake(t, w.b, w.want("alpha"))
	for program, at := range map[string]string{
		"apt-get":    `case "$*" in download*) echo half >beta_1_all.deb; kill -9 $PPID ;; *) exec ` + find(t, "apt-get") + ` "$@" ;; esac`,
		"mksquashfs": `echo half >"$2"; kill -9 $PPID`,
	} {
		dir := filepath.Join(t.TempDir(), "payload")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "PATH=") }),
			"PATH="+script(t, program, at)+":"+os.Getenv("PATH"), "BAKE_PAYLOAD_IMAGE="+w.image, "BAKE_PAYLOAD_DIR="+dir)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v %s", program, err, out)
		}
		kept, rest := left(t, dir)
		if slices.ContainsFunc(kept, func(path string) bool { return !strings.HasSuffix(path, ".deb") || program == "apt-get" }) || len(rest) == 0 {
			t.Errorf("%s: kept %q, rest %q", program, kept, rest)
		}
		again := w.b
		again.Dir = dir
		if disk, _ := bake(t, again, w.want("alpha")); disk.SHA256 != reference.SHA256 {
			t.Errorf("%s: afterwards %s, want %s", program, disk.SHA256, reference.SHA256)
		}
		if _, rest := left(t, dir); rest != nil {
			t.Errorf("%s: left behind: %q", program, rest)
		}
	}
}
