package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bake/internal/artifact"
)

// TestKillPull kills bake pull at ten random offsets of the download, one after
// another, and demands that all runs together fetch hardly more than the file:
// every byte that the mirror handed to the kernel counts, whether it arrived or
// not. The mirror is slower than the disk, as mirrors are: it is never more than
// a block and a piece ahead of what the run has written.
func TestKillPull(t *testing.T) {
	const block, piece, kills = 256 << 10, 64 << 10, 10
	m := newMirror(t)
	noise := make([]byte, 160<<20) // of which two percent are more than ten times what is ahead
	_, _ = rand.NewChaCha8([32]byte{9}).Read(noise)
	image := append(noise[:0:0], goodImage(t)...)
	image = append(image, noise...)
	m.publish(image, yesterday)
	source := rand.New(rand.NewPCG(1, 2))
	var marks []int64
	for range kills {
		marks = append(marks, source.Int64N(int64(len(image))))
	}
	slices.Sort(marks)
	var sent atomic.Int64
	var child *exec.Cmd
	m.hook(datedDir(yesterday)+imageName, func(out http.ResponseWriter, in *http.Request) {
		from := int64(0)
		out.Header().Set("ETag", `"e"`)
		if text, ok := strings.CutPrefix(in.Header.Get("Range"), "bytes="); ok {
			from, _ = strconv.ParseInt(strings.TrimSuffix(text, "-"), 10, 64)
			out.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(image)-1, len(image)))
			out.Header().Set("Content-Length", fmt.Sprint(int64(len(image))-from))
			out.WriteHeader(http.StatusPartialContent)
		}
		for at := from; at < int64(len(image)); at += piece {
			if !m.waitFor(in.Context(), at-block) {
				return
			}
			n, err := out.Write(image[at:min(at+piece, int64(len(image)))])
			if sent.Add(int64(n)); err != nil {
				return
			}
			out.(http.Flusher).Flush()
			if len(marks) > 0 && sent.Load() >= marks[0] {
				marks = marks[1:]
				_ = child.Process.Kill()
				return
			}
		}
	})
	killed := 0
	for len(marks) > 0 {
		child = m.child("pull", "--quiet")
		if o := finish(t, child); o.code != -1 {
			t.Fatalf("not killed: %d\n%s", o.code, o.stderr)
		}
		killed++
		if m.pinned() != "" {
			t.Fatal("pinned before it was there")
		}
	}
	m.check(finish(t, m.child("pull")), 0, []string{"downloaded "}, nil)
	t.Logf("%d kills: sent %d bytes for a file of %d: %.4f", killed, sent.Load(), len(image), float64(sent.Load())/float64(len(image)))
	if killed != kills || sent.Load()*100 > int64(len(image))*102 {
		t.Error("more than 1.02 of the file was fetched")
	}
	m.must(0, []string{"1 images, all as"}, "images", "--verify")
	if left, err := filepath.Glob(filepath.Join(m.dir, "cache/bake/base/download/*")); err != nil || left != nil {
		t.Errorf("%q, %v", left, err)
	}
}

// waitFor returns when the partial file has that many bytes, and false when
// nobody is there any more to write them.
func (m *mirror) waitFor(ctx context.Context, size int64) bool {
	for size > 0 && ctx.Err() == nil {
		found, _ := filepath.Glob(filepath.Join(m.dir, "cache/bake/base/download/*.part"))
		if len(found) == 1 {
			if info, err := os.Stat(found[0]); err == nil && info.Size() >= size {
				break
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	return ctx.Err() == nil
}

// TestInterruptPull: Ctrl-C ends with 130 and loses nothing.
func TestInterruptPull(t *testing.T) {
	m := newMirror(t)
	image := goodImage(t)
	half := len(image) / 2
	var child *exec.Cmd
	path := datedDir(yesterday) + imageName
	m.hook(path, func(out http.ResponseWriter, in *http.Request) {
		out.Header().Set("ETag", `"`+hexDigest(image)[:16]+`"`)
		out.Header().Set("Content-Length", fmt.Sprint(len(image)))
		_, _ = out.Write(image[:half])
		out.(http.Flusher).Flush()
		m.waitFor(in.Context(), int64(half)-256<<10)
		_ = child.Process.Signal(syscall.SIGINT)
		<-in.Context().Done()
	})
	child = m.child("image", "--host", "zap")
	m.check(finish(t, child), 130, []string{"bake: interrupted"}, nil)
	if m.pinned() != "" {
		t.Errorf("%s", m.pinned())
	}
	ranges := ""
	m.hook(path, func(out http.ResponseWriter, in *http.Request) {
		ranges = in.Header.Get("Range")
		m.hook(path, nil)
		m.ServeHTTP(out, in)
	})
	m.check(finish(t, m.child("image", "--host", "zap")), 0, nil, nil)
	if !strings.HasPrefix(ranges, "bytes=") || ranges == "bytes=0-" {
		t.Errorf("the next run asked for %q", ranges)
	}
	m.checkWhole(t, "latest")
}

// TestTenHosts bakes ten hosts at once on one base that nobody has yet. One of
// them has found nothing in the cache, and is held back until the other nine
// have put the image there and have forgotten the download.
func TestTenHosts(t *testing.T) {
	m := newMirror(t)
	var commands []*exec.Cmd
	for i := range 10 {
		name := fmt.Sprintf("h%d", i)
		m.write(t, "hosts/"+name+".yaml", strings.NewReplacer("zap", name, "../base.qcow2", "ubuntu:24.04").Replace(hostFixture), 0o644)
		commands = append(commands, m.child("image", "--host", name))
	}
	outcomes := make([]outcome, len(commands))
	resume := m.holdBeforeFetch(commands[0])
	var others sync.WaitGroup
	for i, cmd := range commands[1:] {
		others.Go(func() { outcomes[1+i] = finish(t, cmd) })
	}
	others.Wait()
	if left, err := filepath.Glob(filepath.Join(m.dir, "cache/bake/base/download/*")); err != nil || left != nil {
		t.Errorf("the download is not forgotten: %q, %v", left, err)
	}
	outcomes[0] = resume()
	for i, o := range outcomes {
		m.check(o, 0, nil, commands[i].Args[1:])
		if _, err := os.Stat(filepath.Join(m.dir, fmt.Sprintf("out/h%d/latest/disk.qcow2", i))); err != nil {
			t.Error(err)
		}
	}
	if n := m.times(datedDir(yesterday) + imageName); n != 1 {
		t.Errorf("one image was fetched %d times", n)
	}
	if n := strings.Count(m.pinned(), `"reference"`); n != 1 {
		t.Errorf("%d pins", n)
	}
	if kept := m.kept(); len(kept) != 4 { // in the cache with its note and its schemas, beside the generations
		t.Errorf("%q", kept)
	}
}

// holdBeforeFetch starts bake, and stops it when it has looked for the image in
// the cache and is about to fetch it. Two things hold it there until the signal
// does: a download that seems stale and whose lock, a FIFO, does not open before
// somebody is at its other end, and the lock on its own download.
func (m *mirror) holdBeforeFetch(cmd *exec.Cmd) (resume func() outcome) {
	m.t.Helper()
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	dir, long := filepath.Join(m.dir, "cache/bake/base/download"), time.Now().AddDate(0, -1, 0)
	must(os.MkdirAll(dir, 0o700))
	gate := filepath.Join(dir, "sha256-"+strings.Repeat("0", 64)+".users")
	must(unix.Mkfifo(gate, 0o600))
	must(os.Chtimes(gate, long, long))
	lock, err := os.Create(filepath.Join(dir, "sha256-"+hexDigest(goodImage(m.t))+".users"))
	must(err)
	defer lock.Close()
	must(unix.Flock(int(lock.Fd()), unix.LOCK_EX))

	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	poll := func(happened func() bool) {
		for !happened() {
			select {
			case <-ended:
				m.t.Fatalf("it was not to be held: exit status %d\n%s", cmd.ProcessState.ExitCode(), stderr.String())
			case <-time.After(time.Millisecond):
			}
		}
	}
	poll(func() bool {
		door, err := os.OpenFile(gate, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil && !errors.Is(err, unix.ENXIO) { // nobody is at the other end yet
			m.t.Fatal(err)
		}
		return err == nil && door.Close() == nil
	})
	must(cmd.Process.Signal(unix.SIGSTOP))
	poll(func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err == nil && bytes.Contains(stat, []byte(") T "))
	})
	if err := os.Remove(gate); !errors.Is(err, fs.ErrNotExist) {
		must(err)
	}
	must(os.Remove(lock.Name()))
	return func() outcome {
		must(cmd.Process.Signal(unix.SIGCONT))
		<-ended
		return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
}

// TestPinsAtOnce: runs that pin different references at one time lose none.
func TestPinsAtOnce(t *testing.T) {
	m := newMirror(t)
	days := map[string]bool{}
	var commands []*exec.Cmd
	for back := range 8 {
		day := yesterday.AddDate(0, 0, -back)
		m.list(listOf(imageName, goodImage(t), serialOf(day)), day, m.key)
		m.put(datedDir(day)+imageName, goodImage(t))
		days["ubuntu:24.04@"+serialOf(day)] = true
	}
	for reference := range maps.Keys(days) {
		commands = append(commands, m.child("pull", reference))
	}
	var group sync.WaitGroup
	for _, cmd := range commands {
		group.Go(func() { m.check(finish(t, cmd), 0, nil, cmd.Args[1:]) })
	}
	group.Wait()
	for reference := range days {
		if !strings.Contains(m.pinned(), `"`+reference+`"`) {
			t.Errorf("%s is not pinned", reference)
		}
	}
}

// TestKillPullEverywhere kills bake pull immediately before each change of a
// name that it makes: whatever is found then, the next run succeeds, pins and
// leaves an image that is whole and nothing else.
func TestKillPullEverywhere(t *testing.T) {
	m := newMirror(t)
	points := 0
	for !t.Failed() {
		m.tool(t, "rm", "-rf", "cache", "state", "bake.lock")
		killed, at := killBefore(t, m.child("pull"), points+1)
		if !killed {
			break
		}
		points++
		if lock := m.pinned(); lock != "" && !strings.HasSuffix(lock, "}\n") {
			t.Errorf("bake.lock is cut off: %q", lock)
		}
		asked := m.times(datedDir(yesterday) + imageName)
		m.check(finish(t, m.child("pull")), 0, nil, nil)
		if again := m.times(datedDir(yesterday)+imageName) - asked; again > 1 {
			t.Errorf("the next run asked %d times for the image", again)
		}
		m.check(finish(t, m.child("images", "--verify")), 0, []string{"1 images, all as they should be"}, nil)
		m.check(finish(t, m.child("image", "--host", "zap", "--locked")), 0, nil, nil)
		m.check(finish(t, m.child("images", "--prune")), 0, []string{"removed 0 images"}, nil)
		for _, name := range m.kept() {
			if ext := filepath.Ext(name); ext != ".qcow2" && ext != ".json" && ext != ".lock" && ext != ".users" {
				t.Errorf("%s is left behind", name)
			}
		}
		checkClean(t, filepath.Join(m.dir, "out"))
		if t.Failed() {
			t.Errorf("killed before change %d, %s", points, at)
		}
	}
	t.Logf("killed at %d points", points)
	if points < 8 {
		t.Errorf("only %d points: bake changes more than that", points)
	}
}

// TestFirstPinCounts: while one run fetches a build, a newer one appears and
// another run pins that. Both end up with what is pinned.
func TestFirstPinCounts(t *testing.T) {
	m := newMirror(t)
	second := changedImage(t, map[string]string{"etc/new": "x"})
	m.publish(goodImage(t), earlier)
	path := datedDir(earlier) + imageName
	m.hook(path, func(out http.ResponseWriter, in *http.Request) {
		m.hook(path, nil)
		m.publish(second, yesterday)
		m.check(finish(t, m.child("pull")), 0, nil, []string{"the other pull"})
		m.ServeHTTP(out, in)
	})
	m.check(finish(t, m.child("image", "--host", "zap")), 0, []string{serialOf(yesterday)}, nil)
	g, err := artifact.Open(filepath.Join(m.dir, "out"), "zap", "latest")
	if err != nil || g.Manifest.Base.SHA256 != hexDigest(second) {
		t.Errorf("%+v, %v", g.Manifest.Base, err)
	}
	if lock := m.pinned(); strings.Count(lock, `"reference"`) != 1 || !strings.Contains(lock, hexDigest(second)) {
		t.Errorf("%s", lock)
	}
}
