package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	genA = "aaaaaaaaaaaaaaaa"
	genB = "bbbbbbbbbbbbbbbb"
)

func manifest(generation string) Manifest {
	return Manifest{
		Generation: generation, Tool: "1.0.0", InstanceID: "iid-" + generation,
		Base:   Base{Reference: "./base.qcow2", SHA256: strings.Repeat("0", 64), VirtualSize: 1 << 30},
		Layers: []Layer{{Name: "ufw", SHA256: strings.Repeat("1", 64)}, {Name: "ssh", SHA256: strings.Repeat("2", 64)}},
	}
}

// bake commits a generation whose files hold its name.
func bake(root, generation string) (Generation, error) {
	d, err := Begin(root, "zap")
	if err != nil {
		return Generation{}, err
	}
	defer d.Discard()
	d.VouchedBy(stamp{"test"})
	for _, name := range []string{"disk.qcow2", "seed.iso", "domain.xml"} {
		if err := os.WriteFile(d.Path(name), []byte(generation+name), 0o644); err != nil {
			return Generation{}, err
		}
	}
	return d.Commit(manifest(generation))
}

func mustBake(t *testing.T, root, generation string) Generation {
	t.Helper()
	g, err := bake(root, generation)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mustOpen(t *testing.T, root, which string) Generation {
	t.Helper()
	g, err := Open(root, "zap", which)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func spoil(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("spoiled"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantIntegrity(t *testing.T, err error, file string) {
	t.Helper()
	var damaged *IntegrityError
	if !errors.As(err, &damaged) || damaged.File != file || !damaged.Integrity() {
		t.Errorf("error %v, want an IntegrityError for %s", err, file)
	}
}

func TestCommit(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	root := filepath.Join(t.TempDir(), "out")
	g := mustBake(t, root, genA)
	if want := filepath.Join(root, "zap", genA); g.Dir != want {
		t.Errorf("dir %s, want %s", g.Dir, want)
	}
	if got := mustOpen(t, root, "latest"); got.Dir != g.Dir || !got.same(g.Manifest) {
		t.Errorf("latest is %+v, want %+v", got, g)
	}
	if _, err := Open(root, "zap", "current"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("current before Promote: %v", err)
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		want := map[fs.FileMode]fs.FileMode{fs.ModeDir: 0o700, 0: 0o600, fs.ModeSymlink: 0o777}[info.Mode().Type()]
		if info.Mode().Perm() != want {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCommitKeepsWhatIsWhole(t *testing.T) {
	root := t.TempDir()
	g := mustBake(t, root, genA)
	if err := os.WriteFile(g.Path("report.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(g.Path("disk.qcow2"))
	mustBake(t, root, genB)
	if again := mustBake(t, root, genA); !again.same(g.Manifest) {
		t.Errorf("got %+v", again)
	}
	after, err := os.Stat(g.Path("disk.qcow2"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the disk was written again (%v)", err)
	}
	if _, err := os.Stat(g.Path("report.json")); err != nil {
		t.Error(err)
	}
	if got := mustOpen(t, root, "latest"); got.Dir != g.Dir {
		t.Errorf("latest is %s", got.Dir)
	}
	wantClean(t, root)
}

func TestCommitReplacesWhatIsDamaged(t *testing.T) {
	tests := map[string]struct {
		file    string
		current bool // whether current survives
	}{
		"file":     {"seed.iso", true},
		"manifest": {manifestName, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			g := mustBake(t, root, genA)
			if err := g.Promote(); err != nil {
				t.Fatal(err)
			}
			spoil(t, g.Path(test.file))
			mustBake(t, root, genA)
			mustOpen(t, root, "latest")
			if _, err := Open(root, "zap", "current"); (err == nil) != test.current {
				t.Errorf("current: %v", err)
			}
			wantClean(t, root)
		})
	}
}

func TestCommitRefuses(t *testing.T) {
	tests := map[string]struct {
		generation string
		prepare    func(d *Draft) error
		want       string
	}{
		"no generation": {"", nil, "no name of a generation"},
		"slash":         {"../x", nil, "no name of a generation"},
		"hidden":        {".draft-1", nil, "no name of a generation"},
		"link's name":   {"latest", nil, "name of a link"},
		"directory":     {genA, func(d *Draft) error { return os.Mkdir(d.Path("sub"), 0o700) }, "not a regular file"},
		"symbolic link": {genA, func(d *Draft) error { return os.Symlink("/etc/passwd", d.Path("seed.iso")) }, "not a regular file"},
		"hidden file":   {genA, func(d *Draft) error { return os.WriteFile(d.Path(".x"), nil, 0o600) }, "no name of a file"},
		"manifest by hand": {genA, func(d *Draft) error { return os.WriteFile(d.Path(manifestName), nil, 0o600) },
			"manifest.json of its own"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d, err := Begin(root, "zap")
			if err != nil {
				t.Fatal(err)
			}
			if test.prepare != nil {
				if err := test.prepare(d); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := d.Commit(manifest(test.generation)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if err := d.Discard(); err != nil {
				t.Error(err)
			}
			wantClean(t, root)
			if _, err := Open(root, "zap", "latest"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("latest: %v", err)
			}
		})
	}
	for _, host := range []string{"", ".", "..", "a/b", ".base"} {
		if _, err := Begin(t.TempDir(), host); err == nil {
			t.Errorf("host %q was taken", host)
		}
	}
}

func TestVerify(t *testing.T) {
	tests := map[string]struct {
		change func(g Generation) error
		file   string // "" when it must pass
	}{
		"untouched": {func(Generation) error { return nil }, ""},
		"report":    {func(g Generation) error { return os.WriteFile(g.Path("report.html"), nil, 0o600) }, ""},
		"changed":   {func(g Generation) error { return os.WriteFile(g.Path("disk.qcow2"), nil, 0o600) }, "disk.qcow2"},
		"missing":   {func(g Generation) error { return os.Remove(g.Path("seed.iso")) }, "seed.iso"},
		"extra":     {func(g Generation) error { return os.WriteFile(g.Path("reports"), nil, 0o600) }, "reports"},
		"link": {func(g Generation) error {
			return errors.Join(os.Rename(g.Path("seed.iso"), g.Path("report.iso")), os.Symlink("report.iso", g.Path("seed.iso")))
		}, "seed.iso"},
		"no manifest":    {func(g Generation) error { return os.Remove(g.Path(manifestName)) }, manifestName},
		"other manifest": {func(g Generation) error { return edit(g, `"1.0.0"`, `"1.0.1"`) }, manifestName},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := mustBake(t, t.TempDir(), genA)
			if err := test.change(g); err != nil {
				t.Fatal(err)
			}
			err := g.Verify(t.Context())
			if test.file != "" {
				wantIntegrity(t, err, g.Path(test.file))
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mustBake(t, t.TempDir(), genA).Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func edit(g Generation, from, to string) error {
	data, err := os.ReadFile(g.Path(manifestName))
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), from) {
		return errors.New("the manifest lacks " + from)
	}
	return os.WriteFile(g.Path(manifestName), []byte(strings.Replace(string(data), from, to, 1)), 0o600)
}

func TestOpenRefusesManifests(t *testing.T) {
	tests := map[string][2]string{
		"no JSON":           {"{", ""},
		"other schema":      {"bake.manifest/1", "bake.manifest/2"},
		"other host":        {`"zap"`, `"zip"`},
		"other generation":  {`"generation": "` + genA, `"generation": "` + genB},
		"unknown key":       {`"host"`, `"ghost": 1, "host"`},
		"key twice":         {`"host": "zap"`, `"host": "zip", "host": "zap"`},
		"file outside":      {`"seed.iso"`, `"../seed.iso"`},
		"rest after it":     {"\n}\n", "\n}\n{}"},
		"white space":       {"\n}\n", "\n} \n"},
		"wrong type of key": {`"tool": "1.0.0"`, `"tool": 1`},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			g := mustBake(t, root, genA)
			if err := edit(g, change[0], change[1]); err != nil {
				t.Fatal(err)
			}
			_, err := Open(root, "zap", genA)
			wantIntegrity(t, err, g.Path(manifestName))
		})
	}
}

func TestOpenFindsNothing(t *testing.T) {
	root := t.TempDir()
	mustBake(t, root, genA)
	if err := os.Symlink("../../etc", filepath.Join(root, "zap", current)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ host, which, want string }{
		{"zip", "latest", "run bake image --host zip"},
		{"zip", "current", "run bake verify --boot --host zip"},
		{"zap", genB, "has no generation " + genB},
		{"zap", "current", `is damaged: it should be a link to a generation beside it and is one to "../../etc"`},
		{"zap", "", "no name of a generation"},
		{"zap", "../zap/" + genA, "no name of a generation"},
		{"a/b", "latest", "no name of a host"},
	}
	for _, test := range tests {
		if _, err := Open(root, test.host, test.which); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %s: error %v, want one with %q", test.host, test.which, err, test.want)
		}
	}
}

func TestLock(t *testing.T) {
	root := t.TempDir()
	held, err := Lock(t.Context(), root, "zap")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Lock(t.Context(), root, "zap")
	if err == nil || !strings.Contains(err.Error(), filepath.Join(root, "zap", lockName)) ||
		!strings.Contains(err.Error(), "locking host zap: another bake works on it, process ") {
		t.Errorf("a second lock: %v", err)
	}
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := Lock(ctx, root, "zap"); err == nil || !strings.Contains(err.Error(), "another bake") {
		t.Errorf("a second lock with a deadline: %v", err)
	}
	other, err := Lock(t.Context(), root, "zip")
	if err != nil {
		t.Errorf("another host: %v", err)
	}
	defer other.Close()
	if err := held.Close(); err != nil {
		t.Error(err)
	}
	again, err := Lock(t.Context(), root, "zap")
	if err != nil {
		t.Errorf("after Close: %v", err)
	}
	defer again.Close()
}
