package download

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An errand is what the test binary does, instead of testing, when
// BAKE_DOWNLOAD has one as JSON.
type errand struct {
	Want   Want
	Dir    string
	KillAt int    // before the n-th change to the disk, if not 0
	Tell   bool   // print "claim" when interest was declared
	Hold   bool   // until standard input ends, before forgetting
	Forget bool   // the file
	Limit  uint64 // bytes a file may have, if not 0
	Narrow bool   // a small window, so that little is under way
	Serve  string // a directory to serve, instead of downloading
}

func TestMain(m *testing.M) {
	text := os.Getenv("BAKE_DOWNLOAD")
	if text == "" {
		os.Exit(m.Run())
	}
	var e errand
	err := json.Unmarshal([]byte(text), &e)
	if err == nil && e.Serve != "" {
		err = serveDir(e.Serve)
	} else if err == nil {
		err = e.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (e errand) run() error {
	at, isWritten := e.KillAt, false
	step = func(name string) {
		// How many writes there are is the network's choice: the first counts.
		if name == "write" && isWritten {
			return
		}
		isWritten = isWritten || name == "write"
		if e.Tell && name == "claim" {
			fmt.Println("claim")
		}
		if at--; at == 0 {
			fmt.Println(name)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if e.Limit > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: e.Limit, Max: e.Limit}); err != nil {
			return err
		}
	}
	var f Fetcher
	if e.Narrow {
		dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
			failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10)
			})
			return errors.Join(failed, err)
		}}
		f.Transport = &http.Transport{DialContext: dialer.DialContext}
	}
	file, err := f.Fetch(context.Background(), e.Want, e.Dir)
	if err != nil {
		return err
	}
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcome{file.Path, file.SHA256, file.Received, peak}); err != nil {
		return err
	}
	if e.Hold {
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
	}
	if e.Forget {
		return file.Forget()
	}
	return nil
}

// An outcome is what a downloader prints.
type outcome struct {
	Path, SHA256 string
	Received     int64
	Peak         string // VmHWM, as the kernel writes it
}

func peakMemory() (string, error) {
	data, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(rest), nil
		}
	}
	return "", err
}

// serveDir prints its address and serves until it is killed.
func serveDir(dir string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + listener.Addr().String())
	return http.Serve(listener, http.FileServer(http.Dir(dir)))
}

// command prepares a process for an errand.
func (e errand) command(t *testing.T) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BAKE_DOWNLOAD="+string(text))
	return cmd
}

func wasKilled(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// A guillotine is a server which kills its client with SIGKILL when so many
// bytes were sent, in all answers together, as each of its marks says.
type guillotine struct {
	version
	marks  []int
	sent   atomic.Int64
	client *exec.Cmd
}

func (g *guillotine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.serve(guillotineWriter{w, g}, r)
}

type guillotineWriter struct {
	http.ResponseWriter
	*guillotine
}

// Write gets pieces of at most 32 KiB: the writer hides from io.Copy that the
// connection could take everything at once.
func (w guillotineWriter) Write(p []byte) (int, error) {
	sent := w.sent.Add(int64(len(p)))
	n, err := w.ResponseWriter.Write(p)
	if len(w.marks) > 0 && sent >= int64(w.marks[0]) {
		w.marks = nil // the next run gets the rest of them
		_ = w.client.Process.Kill()
		return n, errors.New("the client is dead")
	}
	return n, err
}

// TestKill kills a downloader at ten offsets, and demands that all runs together
// fetch hardly more than the file: every byte that the server handed to the
// kernel counts, whether it arrived or not.
func TestKill(t *testing.T) {
	const size = 64 * mib
	good := &guillotine{version: version{noise(7, size), `"one"`}}
	random := rand.New(rand.NewPCG(2026, 11))
	for range 10 {
		good.marks = append(good.marks, random.IntN(size))
	}
	slices.Sort(good.marks)
	server := httptest.NewUnstartedServer(good)
	server.Config.ConnState = func(c net.Conn, s http.ConnState) {
		if s == http.StateNew {
			_ = c.(*net.TCPConn).SetWriteBuffer(16 << 10)
		}
	}
	server.Start()
	defer server.Close()
	want := wantOf(server.URL+"/image", good.data)
	dir := t.TempDir()
	marks, kills := good.marks, 0
	var out bytes.Buffer
	for {
		good.client = errand{Want: want, Dir: dir, Narrow: true}.command(t)
		good.marks = marks[kills:]
		out.Reset()
		good.client.Stdout, good.client.Stderr = &out, os.Stderr
		err := good.client.Run()
		server.CloseClientConnections()
		if err == nil {
			break
		}
		if !wasKilled(err) {
			t.Fatal(err)
		}
		kills++
		if slices.Contains(list(t, dir), want.name()) {
			t.Fatal("it has a name before it is whole")
		}
	}
	if kills != 10 {
		t.Errorf("killed %d times", kills)
	}
	sent := good.sent.Load()
	t.Logf("%d kills: sent %d bytes for a file of %d: %.4f", kills, sent, size, float64(sent)/size)
	if sent > size/100*102 {
		t.Error("more than 1.02 of the file was fetched")
	}
	file, err := Fetcher{}.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	if file.Received != 0 || !strings.Contains(out.String(), file.SHA256) {
		t.Errorf("%+v after %s", file, out.String())
	}
	checkFile(t, file, good.data)
}

// TestKillSteps kills a downloader before each change that it makes to the disk.
// Whatever it leaves, the next run has the file, and leaves nothing.
func TestKillSteps(t *testing.T) {
	good := version{noise(1, 300<<10), `"one"`}
	seen := map[string]bool{}
	for at := 1; at < 1000; at++ {
		// The second answer is another version: that has the most steps.
		o := newOrigin(t, version{noise(2, 300<<10), `"old"`}.cut(1000), good.serve)
		want := wantOf(o.URL+"/image", good.data)
		dir := t.TempDir()
		f, _ := patient()
		ctx, cancel := context.WithCancel(t.Context())
		f.Retrying = func(error, time.Duration) { cancel() }
		if _, err := f.Fetch(ctx, want, dir); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		output, err := errand{Want: want, Dir: dir, KillAt: at, Forget: true}.command(t).Output()
		if err == nil {
			break
		}
		if !wasKilled(err) {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(output)), "\n")
		where := lines[len(lines)-1]
		seen[where] = true
		f, _ = patient()
		file, err := f.Fetch(t.Context(), want, dir)
		if err != nil {
			t.Fatalf("after a kill before step %d, %s: %v", at, where, err)
		}
		checkFile(t, file, good.data)
		if t.Failed() {
			t.Fatalf("killed before step %d, %s", at, where)
		}
	}
	for _, name := range []string{"claim", "open the partial", "empty the partial", "write the state", "rename the state",
		"write", "sync", "rename the result", "remove the state", "remove", "remove lock"} {
		if !seen[name] {
			t.Errorf("never killed before: %s", name)
		}
	}
}

// TestProcesses starts ten downloaders of one file, and serves nothing before
// all of them have declared their interest.
func TestProcesses(t *testing.T) {
	good := version{noise(1, mib), `"one"`}
	ready := make(chan struct{})
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request) {
		<-ready
		good.serve(w, r)
	})
	want := wantOf(o.URL+"/image", good.data)
	dir := t.TempDir()
	type run struct {
		cmd *exec.Cmd
		in  io.Closer
		out *bufio.Reader
	}
	var runs []run
	for range 10 {
		cmd := errand{Want: want, Dir: dir, Tell: true, Hold: true, Forget: true}.command(t)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		runs = append(runs, run{cmd, in, bufio.NewReader(out)})
	}
	for _, r := range runs {
		if line, err := r.out.ReadString('\n'); line != "claim\n" {
			t.Errorf("said %q (%v)", line, err)
		}
	}
	close(ready)
	for _, r := range runs { // each has the file before any forgets it
		line, err := r.out.ReadString('{')
		if err != nil {
			t.Errorf("said %q (%v)", line, err)
		}
	}
	if left := list(t, dir); !slices.Contains(left, want.name()) {
		t.Errorf("there is %q", left)
	}
	for _, r := range runs {
		r.in.Close()
		if _, err := io.Copy(io.Discard, r.out); err != nil {
			t.Error(err)
		}
		if err := r.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if n := len(o.requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	checkEmpty(t, dir)
}

// TestFileLimit has a disk that ends in the middle of the file.
func TestFileLimit(t *testing.T) {
	good := version{noise(1, 4*mib), `"one"`}
	o := newOrigin(t, good.serve)
	want := wantOf(o.URL+"/image", good.data)
	dir := t.TempDir()
	cmd := errand{Want: want, Dir: dir, Limit: mib}.command(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil || !strings.Contains(stderr.String(), syscall.EFBIG.Error()) || !strings.Contains(stderr.String(), want.URL) {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if left := list(t, dir); slices.Contains(left, want.name()) || !slices.Contains(left, want.name()+".part") {
		t.Errorf("left %q", left)
	}
	file, err := Fetcher{}.Fetch(t.Context(), want, dir)
	if err != nil {
		t.Fatal(err)
	}
	if file.Received > 3*mib+blockSize {
		t.Errorf("received %d bytes again", file.Received)
	}
	checkFile(t, file, good.data)
}

// TestFullDisk has a disk that has no room for the file: with a known size that
// is said before anything is written.
func TestFullDisk(t *testing.T) {
	good := version{noise(1, 4*mib), `"one"`}
	for _, size := range []int64{4 * mib, 0} {
		o := newOrigin(t, good.serve)
		want := wantOf(o.URL+"/image", good.data)
		want.Size = size
		dir := filepath.Join(t.TempDir(), "small")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); errors.Is(err, unix.EPERM) {
			t.Skip("only root can mount")
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		f, pauses := patient()
		_, err := f.Fetch(t.Context(), want, dir)
		var network *NetworkError
		var wrong *IntegrityError
		if !errors.Is(err, syscall.ENOSPC) || errors.As(err, &network) || errors.As(err, &wrong) || len(*pauses) > 0 {
			t.Errorf("%v after pauses %v", err, *pauses)
		}
		left := list(t, dir)
		if size > 0 && len(left) > 0 || slices.Contains(left, want.name()) {
			t.Errorf("size %d: left %q", size, left)
		}
		t.Log(err)
	}
}
