package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What people do to bake.lock, to the cache and to their environment, and what
// a network does that is not the Internet.

// TestLockEdited: a lock that was changed by hand is refused where it cannot be
// what bake has written, and otherwise no other image than the one it names is
// used.
func TestLockEdited(t *testing.T) {
	other := strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		change func(lock string) string
		code   int
		words  []string
	}{
		"another digest": {func(lock string) string { return strings.Replace(lock, hexDigest(goodImage(t)), other, 1) },
			5, []string{"ubuntu:24.04: ", "expected " + other}},
		"a path out of the mirror": {func(lock string) string { return strings.Replace(lock, "/release-", "/../../../release-", 1) },
			3, []string{"bake.lock:4:", "leads out of its directory"}},
		"a path into the cache": {func(lock string) string { return strings.ReplaceAll(lock, imageName, "../../x.img") },
			3, []string{"bake.lock:4:"}},
		"a file": {func(lock string) string {
			return strings.Replace(lock, "https://cloud-images.ubuntu.com", "file:///etc", 1)
		}, 3, []string{"the url"}},
		"a terminal's words": {func(lock string) string { return strings.Replace(lock, `"trust": "`, `"trust": "\u001b[2J`, 1) }, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMirror(t)
			m.must(0, nil, "pull")
			lock := m.pinned()
			edited := test.change(lock)
			if edited == lock {
				t.Fatal("nothing is changed")
			}
			m.write(t, "bake.lock", edited, 0o644)
			kept := m.kept()
			o := m.must(test.code, test.words, "image", "--host", "zap")
			if !plain(o.stderr) || m.pinned() != edited {
				t.Errorf("%q\n%s", o.stderr, m.pinned())
			}
			if now := m.kept(); test.code != 0 && fmt.Sprint(now) != fmt.Sprint(kept) {
				t.Errorf("keeps %q, kept %q", now, kept)
			}
			m.write(t, "bake.lock", lock, 0o644)
			m.must(0, nil, "image", "--host", "zap")
		})
	}
}

const m9 = "http://127.0.0.1:9" // nobody is there

// TestOffline: with a pin and the image no network is needed; with a pin alone
// bake says what it tries and leaves everything as it is.
func TestOffline(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "pull")
	before := m.pinned()
	m.env["BAKE_MIRROR_UBUNTU"] = m9
	m.must(0, nil, "image", "--host", "zap")
	m.tool(t, "rm", "-r", "cache", "out")
	child := m.child("image", "--host", "zap")
	stderr, err := child.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	said, err := lines.ReadString('\n') // before the first of five pauses
	if err != nil || !strings.Contains(said, "127.0.0.1:9: connect: connection refused; trying again in ") {
		t.Errorf("%q, %v", said, err)
	}
	if err := child.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(lines)
	if err := errors.Join(err, child.Wait()); child.ProcessState.ExitCode() != 130 {
		t.Errorf("%v\n%s", err, rest)
	}
	if m.kept() != nil || m.pinned() != before {
		t.Errorf("%q, %q", m.kept(), m.pinned())
	}
}

// TestPinnedBuildGone: publishers remove builds. The pin does not move by
// itself, and the message says what would move it.
func TestPinnedBuildGone(t *testing.T) {
	m := newMirror(t)
	m.publish(goodImage(t), earlier)
	m.must(0, nil, "pull")
	before := m.pinned()
	m.tool(t, "rm", "-r", "cache")
	m.put(datedDir(earlier)+imageName, nil)
	m.publish(goodImage(t), yesterday)
	m.must(6, []string{"ubuntu:24.04: ", datedDir(earlier) + imageName, "404", "bake pull --update"}, "image", "--host", "zap")
	if m.kept() != nil || m.pinned() != before {
		t.Errorf("%q, %q", m.kept(), m.pinned())
	}
	dated := "ubuntu:24.04@" + serialOf(yesterday)
	m.must(0, nil, "pull", dated)
	m.tool(t, "rm", "-r", "cache")
	m.put(datedDir(yesterday)+imageName, nil)
	if o := m.must(6, []string{"404"}, "pull", dated); strings.Contains(o.stderr, "--update") {
		t.Errorf("--update cannot move a date: %s", o.stderr)
	}
	m.publish(goodImage(t), yesterday)
	m.must(0, nil, "pull", "--update")
	m.must(0, nil, "image", "--host", "zap")
}

// TestLoginPage: a network answers everything with a page to log in on.
func TestLoginPage(t *testing.T) {
	const page = "<!DOCTYPE html><title>Welcome to our guest network</title>"
	for _, kind := range []string{"text/html; charset=utf-8", "application/octet-stream", ""} {
		t.Run(kind, func(t *testing.T) {
			m := newMirror(t)
			m.must(0, nil, "pull")
			before := m.pinned()
			server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
				out.Header().Set("Content-Type", kind)
				fmt.Fprint(out, page)
			}))
			defer server.Close()
			m.env["BAKE_MIRROR_UBUNTU"], m.env["BAKE_MIRROR_DEBIAN"] = server.URL, server.URL
			m.must(0, nil, "image", "--host", "zap") // the image is there
			m.tool(t, "rm", "-r", "cache", "out")
			for _, args := range [][]string{{"image", "--host", "zap"}, {"pull"}, {"pull", "--update"}, {"pull", "debian:13"}, {"pull", "ubuntu:22.04"}} {
				if o := m.must(5, nil, args...); o.stdout != "" || m.kept() != nil || m.pinned() != before {
					t.Errorf("%q: %q, %q, %q", args, o.stdout, m.kept(), m.pinned())
				}
			}
			m.must(5, []string{"HTML page"}, "pull", "--update")
		})
	}
}

// TestCacheDir: a cache that others could change, or that is not bake's to
// change, is not used.
func TestCacheDir(t *testing.T) {
	demandRoot(t)
	m := newMirror(t)
	delete(m.env, "XDG_CACHE_HOME")
	m.env["HOME"] = filepath.Join(m.dir, "home")
	base := filepath.Join(m.dir, "home/.cache/bake/base")
	m.write(t, "target/download/sha256-mine", "precious", 0o644)
	m.tool(t, "mkdir", "-p", filepath.Dir(base))
	for name, test := range map[string]struct {
		script string
		words  []string
	}{
		"a link to a directory": {"ln -s $PWD/target $1", []string{"is a symbolic link", "XDG_CACHE_HOME"}},
		"a link to nothing":     {"ln -s $PWD/nowhere $1", []string{"is a symbolic link"}},
		"a file":                {"echo > $1", []string{"is not a directory"}},
		"another's":             {"mkdir $1; chown 65534 $1", []string{"belongs to the user 65534"}},
	} {
		m.tool(t, "rm", "-rf", base)
		m.tool(t, "sh", "-c", test.script, "sh", base)
		for _, args := range [][]string{{"pull"}, {"image", "--host", "zap"}, {"inspect", "ubuntu:24.04"}, {"images", "--prune"}} {
			o := m.must(4, append(test.words, base), args...)
			if o.stdout != "" || m.pinned() != "" {
				t.Errorf("%s: %s%s", name, o.stdout, m.pinned())
			}
		}
	}
	info, err := os.Stat(filepath.Join(m.dir, "target"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the link's target was changed: %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "target/download/sha256-mine")); err != nil {
		t.Error(err)
	}

	// One that only stands open is closed.
	m.tool(t, "rm", "-rf", base)
	m.tool(t, "mkdir", "-m", "0777", base)
	m.must(0, nil, "pull")
	if info, err := os.Stat(base); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// TestNoHome: without a place of its own bake makes none in the current
// directory.
func TestNoHome(t *testing.T) {
	m := newMirror(t)
	for _, home := range []string{"", "home", "."} {
		for _, lacks := range []string{"XDG_CACHE_HOME", "XDG_STATE_HOME"} {
			was := m.env[lacks]
			m.env["HOME"], m.env[lacks] = home, ""
			m.must(4, []string{"set HOME or " + lacks}, "pull")
			m.env[lacks] = was
		}
	}
	for _, name := range []string{".cache", ".local", "home/.cache", "home/.local"} {
		if _, err := os.Lstat(filepath.Join(m.dir, name)); err == nil {
			t.Errorf("%s was made", name)
		}
	}
}

// TestClosedCache: somebody may not read what is in the cache.
func TestClosedCache(t *testing.T) {
	demandRoot(t)
	m := newMirror(t)
	m.tool(t, "chmod", "0711", ".")
	m.tool(t, "mkdir", "-p", "home/config")
	m.tool(t, "cp", "-r", "hosts", "home/config")
	for _, args := range [][]string{{"pull"}, {"images"}, {"images", "--prune"}, {"image", "--host", "zap"}} {
		m.tool(t, "sh", "-c", "mkdir -p home/cache/bake/base home/state; chown -R 65534 home; chmod 0 home/cache/bake")
		cmd := m.child(append([]string{"--config", "home/config", "--out", "home/out"}, args...)...)
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+filepath.Join(m.dir, "home/cache"), "XDG_STATE_HOME="+filepath.Join(m.dir, "home/state"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		m.check(finish(t, cmd), 4, []string{"permission denied"}, args)
	}
}

// TestFullCache: no room for the cache, at any moment. What is there afterwards
// is whole, or a part that the next run goes on with.
func TestFullCache(t *testing.T) {
	m := newMirror(t)
	for name, value := range m.env {
		t.Setenv(name, value)
	}
	size, full, fits := len(goodImage(t))>>10, 0, 0
	for _, kib := range []int{16, 64, size / 2, size - 64, size + 16, size + 64, size * 3 / 2, 2*size - 32, 2 * size, 2*size + 16, 2*size + 64, 3 * size} {
		m.tool(t, "rm", "-rf", "bake.lock", "state")
		o := m.inMount(t, fmt.Sprintf("size=%dk", kib), "cache", "pull")
		switch {
		case o.code == 0:
			fits++
		case o.code != 4 || !strings.Contains(o.stderr, "no space left on device") || m.pinned() != "":
			t.Errorf("%d KiB: exit status %d\n%s%s", kib, o.code, o.stderr, m.pinned())
		default:
			full++
		}
		for path := range strings.Lines(o.stdout) {
			if name := filepath.Base(strings.TrimSpace(path)); strings.HasPrefix(name, ".new-") || strings.HasPrefix(name, ".note-") {
				t.Errorf("%d KiB: %s is left behind", kib, name)
			}
		}
	}
	if full == 0 || fits == 0 {
		t.Errorf("%d sizes too small, %d large enough: nothing was tried", full, fits)
	}
}

// TestPruneMeanwhile: somebody prunes while an image is on its way.
func TestPruneMeanwhile(t *testing.T) {
	m := newMirror(t)
	path := datedDir(yesterday) + imageName
	m.hook(path, func(out http.ResponseWriter, in *http.Request) {
		m.hook(path, nil)
		m.check(finish(t, m.child("images", "--prune")), 4, []string{"another bake uses the images"}, []string{"images", "--prune"})
		m.ServeHTTP(out, in)
	})
	m.check(finish(t, m.child("image", "--host", "zap")), 0, nil, nil)
	m.checkWhole(t, "latest")
	m.must(0, []string{"removed 0 images"}, "images", "--prune")
}

// TestLockSwapped: the lock names a good image of another release, which is in
// the cache.
func TestLockSwapped(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "pull")
	jammy := changedImage(t, map[string]string{"etc/os-release": "ID=ubuntu\nVERSION_ID=22.04\nVERSION_CODENAME=jammy\n"})
	name := strings.Replace(imageName, "24.04", "22.04", 1)
	sums := listOf(name, jammy, serialOf(yesterday))
	for _, dir := range []string{newestDir, datedDir(yesterday)} {
		dir = strings.Replace(dir, "noble", "jammy", 1)
		m.put(dir+name, jammy)
		m.put(dir+"SHA256SUMS", sums)
		m.put(dir+"SHA256SUMS.gpg", signList(t, sums, yesterday, m.key))
	}
	m.must(0, nil, "pull", "ubuntu:22.04")
	lock := strings.NewReplacer(hexDigest(goodImage(t)), hexDigest(jammy), fmt.Sprintf(`"size": %d`, len(goodImage(t))), fmt.Sprintf(`"size": %d`, len(jammy)))
	m.write(t, "bake.lock", lock.Replace(m.pinned()), 0o644)
	for _, args := range [][]string{{"image", "--host", "zap"}, {"pull"}, {"inspect", "ubuntu:24.04"}} {
		m.must(5, []string{"the image is ubuntu 22.04, not ubuntu 24.04"}, args...)
	}
}

// TestForgedMemory: another image under the digest's name, and a memory which
// says that it was hashed. The copy beside the generations is hashed anyway.
func TestForgedMemory(t *testing.T) {
	m := newMirror(t)
	m.must(0, nil, "pull")
	sum := hexDigest(goodImage(t))
	path := filepath.Join(m.dir, "cache/bake/base", sum+".qcow2")
	m.tool(t, "rm", path)
	evil := changedImage(t, map[string]string{"etc/evil": "x"})
	evil = append(evil, make([]byte, max(len(goodImage(t))-len(evil), 0))...)
	m.write(t, strings.TrimPrefix(path, m.dir), string(evil), 0o444)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	m.write(t, "cache/bake/base/.known.json", fmt.Sprintf(`{"schema":"bake.known/1","stored":{%q:{"device":%d,"inode":%d,"size":%d,"mtime":%d,"ctime":%d,"sha256":%q,"virtual_size":%d}}}`,
		sum, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano(), sum, 11<<20), 0o600)
	if len(evil) != len(goodImage(t)) {
		t.Fatalf("%d bytes for an image of %d", len(evil), len(goodImage(t)))
	}
	m.must(5, []string{path + " is damaged"}, "image", "--host", "zap")
	if left, err := filepath.Glob(filepath.Join(m.dir, "out/zap/[^.]*")); err != nil || left != nil {
		t.Errorf("%q is left behind (%v)", left, err)
	}
}
