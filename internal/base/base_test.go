package base

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/diag"
	"bake/internal/download"
	"bake/internal/image"
	"bake/internal/inspect"
	"bake/internal/origin"
)

// fit are findings on which a machine of any link could come up.
func fit() inspect.Findings {
	f := inspect.Findings{Distribution: "ubuntu", Release: "24.04", Codename: "noble", Architecture: "amd64",
		Kernels: []string{"6.8.0"}, CloudInit: inspect.CloudInit{Version: "25.1", Datasources: []string{"NoCloud"}}}
	for _, name := range []string{"cloud-init", "openssh-server", "sudo"} {
		f.Packages = append(f.Packages, inspect.Package{Name: name, Version: "1", Architecture: "amd64"})
	}
	return f
}

// stockedDepot is one whose cache has one image, of which the note says what was
// found, and the link to it. Nothing can be fetched: nobody is at its address.
func stockedDepot(t *testing.T, findings inspect.Findings) (Depot, origin.Ref, image.Blob) {
	t.Helper()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	d := Depot{Cache: filepath.Join(dir, "cache"), Copies: filepath.Join(dir, "copies"), State: filepath.Join(dir, "state"), Config: dir}
	c, err := d.cache()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.img")
	if output, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", path, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	blob, err := c.store.Add(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.write(c.noteFile(blob.SHA256), note{lookSchema, findings}.encode()); err != nil {
		t.Fatal(err)
	}
	ref, err := origin.Parse("https://127.0.0.1:9/x.img#sha256="+blob.SHA256, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	return d, ref, blob
}

// TestObtain: an image of the cache is pinned when it is fit and may be.
func TestObtain(t *testing.T) {
	d, ref, blob := stockedDepot(t, fit())
	var invalid diag.List
	if _, err := d.Obtain(t.Context(), ref, Options{Locked: true}); !errors.As(err, &invalid) {
		t.Errorf("locked without a pin: %v", err)
	}
	stages := []string{}
	d.Stage = func(text string) { stages = append(stages, text) }
	for _, step := range []struct {
		o       Options
		changes int
		pinned  bool
	}{{Options{Transient: true}, 0, false}, {Options{}, 1, true}, {Options{}, 0, true}, {Options{Locked: true}, 0, true}, {Options{Update: true}, 0, true}} {
		found, err := d.Obtain(t.Context(), ref, step.o)
		if err != nil {
			t.Fatalf("%+v: %v", step.o, err)
		}
		if found.Blob != blob || !found.Cached || found.Size != blob.Size || len(found.Changes) != step.changes {
			t.Errorf("%+v: %+v", step.o, found)
		}
		if err := found.Close(); err != nil {
			t.Error(err)
		}
		lock, err := origin.ReadLock(d.lockFile())
		if _, pinned := lock.Pin(ref); err != nil || pinned != step.pinned {
			t.Errorf("%+v: pinned %v, %v", step.o, pinned, err)
		}
		if known := d.Known(ref); known != map[bool]string{true: blob.SHA256}[step.pinned] {
			t.Errorf("%+v: %q is known", step.o, known)
		}
	}
	if !slices.Contains(stages, ref.String()+": checking the cached image") {
		t.Errorf("%q", stages)
	}
}

// TestObtainRefuses: what is wrong keeps an image from being used and pinned,
// and does not keep the cache held.
func TestObtainRefuses(t *testing.T) {
	unfit := fit()
	unfit.Packages = unfit.Packages[:1]
	for name, test := range map[string]struct {
		findings inspect.Findings
		spoil    func(t *testing.T, d *Depot, blob image.Blob)
		word     string
		is       func(err error) bool
	}{
		"nobody could log in": {unfit, func(*testing.T, *Depot, image.Blob) {}, "openssh-server, sudo", isIntegrity},
		"changed in the cache": {fit(), func(t *testing.T, _ *Depot, blob image.Blob) {
			if err := errors.Join(os.Chmod(blob.Path, 0o644), os.WriteFile(blob.Path, []byte("x"), 0o644)); err != nil {
				t.Fatal(err)
			}
		}, "is damaged", isIntegrity},
		"no cache": {fit(), func(_ *testing.T, d *Depot, _ image.Blob) { d.Cache = "" }, "XDG_CACHE_HOME", isDir},
		"no state": {fit(), func(_ *testing.T, d *Depot, _ image.Blob) { d.State = "" }, "XDG_STATE_HOME", isDir},
		"no directory for the lock": {fit(), func(_ *testing.T, d *Depot, _ image.Blob) { d.Config += "/absent" }, "absent",
			func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
	} {
		t.Run(name, func(t *testing.T) {
			d, ref, blob := stockedDepot(t, test.findings)
			dir := d.Cache
			test.spoil(t, &d, blob)
			_, err := d.Obtain(t.Context(), ref, Options{})
			if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.word) {
				t.Errorf("%v", err)
			}
			if _, err := os.Stat(d.lockFile()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("pinned: %v", err)
			}
			d.Cache = dir
			if _, err := d.Prune(t.Context(), nobodyStands, true); err != nil {
				t.Errorf("the cache is still held: %v", err)
			}
		})
	}
}

func isIntegrity(err error) bool {
	var broken interface{ Integrity() bool }
	return errors.As(err, &broken) && broken.Integrity()
}

func isDir(err error) bool {
	var place *DirError
	return errors.As(err, &place)
}

// TestPinnedSize: the pin's size is believed no more than its digest.
func TestPinnedSize(t *testing.T) {
	d, ref, blob := stockedDepot(t, fit())
	target := origin.Target{URL: ref.URL, Algorithm: "sha256", Digest: blob.SHA256, Size: blob.Size + 1}
	c, err := d.cache()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.cached(t.Context(), c, ref, target); err == nil || !isIntegrity(err) {
		t.Errorf("%v", err)
	}
	target.Digest = strings.Repeat("0", 64)
	if _, err := d.cached(t.Context(), c, ref, target); !errors.Is(err, errNotCached) {
		t.Errorf("%v", err)
	}
}

// TestSum: what stands in an alias is a digest or nothing.
func TestSum(t *testing.T) {
	c := cache{image.Store{Dir: t.TempDir()}}
	long := hex.EncodeToString(make([]byte, sha512.Size))
	short := strings.Repeat("ab", 32)
	for content, want := range map[string]string{short + "\n": short, short: short, "": "", "../../etc/passwd\n": "", short[2:]: "", short + "00": ""} {
		if err := c.write(c.aliasFile(long), []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got := c.sum(origin.Target{Algorithm: "sha512", Digest: long}); got != want {
			t.Errorf("%q: %q, want %q", content, got, want)
		}
	}
	if got := c.sum(origin.Target{Algorithm: "sha256", Digest: "d"}); got != "d" {
		t.Error(got)
	}
}

// TestLook: a file that is no image is refused, one that is not there is not.
func TestLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.qcow2")
	if _, err := Look(t.Context(), path); !errors.Is(err, fs.ErrNotExist) || isIntegrity(err) {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(path, []byte("no image"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Look(t.Context(), path); !isIntegrity(err) {
		t.Errorf("%v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := Look(ended, path); err == nil || isIntegrity(err) {
		t.Errorf("%v", err)
	}
}

func TestMoved(t *testing.T) {
	for _, test := range [][4]string{ // address, from, to, want
		{"https://p/a/b", "https://p", "http://m/x/", "http://m/x/a/b"},
		{"https://p/a/b", "https://p/", "http://m", "http://m/a/b"},
		{"https://p.evil/a", "https://p", "http://m", "https://p.evil/a"},
		{"https://q/a", "https://p", "http://m", "https://q/a"},
		{"https://p/a", "https://p", "", "https://p/a"},
		{"/a", "", "http://m", "/a"},
	} {
		if got := moved(test[0], test[1], test[2]); got != test[3] {
			t.Errorf("%q: %q", test, got)
		}
	}
}

// TestOlder: a pin moves back neither by the signature's time nor by the build's
// day, unless it is allowed to.
func TestOlder(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	pinned := origin.Target{Serial: "20261110", Signed: day(10)}
	for name, test := range map[string]struct {
		target  origin.Target
		allowed bool
		back    bool
	}{
		"the same":                 {pinned, false, false},
		"newer":                    {origin.Target{Serial: "20261111", Signed: day(11)}, false, false},
		"second of the day":        {origin.Target{Serial: "20261110.1", Signed: day(10)}, false, false},
		"no serial":                {origin.Target{Signed: day(10)}, false, false},
		"signed before":            {origin.Target{Serial: "20261110", Signed: day(9)}, false, true},
		"an older build":           {origin.Target{Serial: "20261109", Signed: day(11)}, false, true},
		"an older build, allowed":  {origin.Target{Serial: "20261109", Signed: day(9)}, true, false},
		"a serial that is no date": {origin.Target{Serial: "1", Signed: day(11)}, false, true},
	} {
		if err := older(test.target, pinned, test.allowed); (err != nil) != test.back || err != nil && !isIntegrity(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := older(origin.Target{Serial: "20200101"}, origin.Target{}, false); err != nil {
		t.Errorf("nothing is pinned: %v", err)
	}
}

// TestGone: only a build that can be exchanged, and that did not come, gets the
// advice to exchange it.
func TestGone(t *testing.T) {
	down := &download.NetworkError{Err: errors.New("404")}
	release := origin.Ref{Kind: origin.Release, Distro: "ubuntu", Version: "24.04"}
	dated := release
	dated.Serial = "20261110"
	for _, test := range []struct {
		ref     origin.Ref
		err     error
		advised bool
	}{{release, down, true}, {dated, down, false}, {origin.Ref{Kind: origin.Link}, down, false}, {release, errors.New("full"), false}} {
		err := gone(test.ref, test.err)
		if strings.Contains(err.Error(), "--update") != test.advised || !errors.Is(err, test.err) {
			t.Errorf("%+v: %v", test.ref, err)
		}
	}
}

// turns has us fetch what another run on this machine stores meanwhile.
type turns struct {
	store           func()
	offered, passed []string
}

func (s *turns) Find(context.Context, origin.Target) (string, http.RoundTripper, error) {
	s.store()
	return "", nil, nil
}

func (s *turns) Offer(_ context.Context, _ origin.Target, blob image.Blob) error {
	s.offered = append(s.offered, blob.SHA256)
	return nil
}

func (s *turns) Pass(_ context.Context, t origin.Target) error {
	s.passed = append(s.passed, t.Digest)
	return nil
}

// TestSharedTurn: whose turn it is gives the others what another run here has fetched, or lets
// one of them try. They wait for him.
func TestSharedTurn(t *testing.T) {
	for _, isFit := range []bool{true, false} {
		findings := fit()
		if !isFit {
			findings.Packages = nil
		}
		d, ref, blob := stockedDepot(t, findings)
		away := filepath.Join(t.TempDir(), "away")
		if err := os.Rename(blob.Path, away); err != nil {
			t.Fatal(err)
		}
		s := &turns{store: func() {
			if err := os.Rename(away, blob.Path); err != nil {
				t.Error(err)
			}
		}}
		d.Shared = s
		found, err := d.Obtain(t.Context(), ref, Options{})
		if (err == nil) != isFit || len(s.offered)+len(s.passed) != 1 || (len(s.offered) == 1) != isFit {
			t.Errorf("fit %v: %v, offered %q, passed %q", isFit, err, s.offered, s.passed)
		}
		if err == nil {
			err = found.Close()
		}
		if isFit && err != nil {
			t.Error(err)
		}
	}
}
