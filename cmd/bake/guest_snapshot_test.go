package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bake/internal/archive"
)

// snapshotLab is the layer backup's side of a machine without the machine: its programs, with
// their directories below one of the test's, and a service that systemctl stands in for
// with SIGSTOP.
type snapshotLab struct {
	dir   string // <dir>/lib the programs, bin what they call, state what is saved
	state string
}

// systemctl knows one service: the process in pid. hit kills the program that calls it,
// where a test wants that.
const fakeSystemctl = `#!/bin/sh
dir=%[1]s
pid=$(cat $dir/pid 2> /dev/null) || pid=
hit() { [ "$(cat $dir/hit 2> /dev/null)" != "$1" ] || kill -9 $(cat $dir/victim); }
case "$*" in
"show -P ActiveState "*) if [ -e $dir/active ]; then cat $dir/active; elif [ "$pid" ]; then echo active; else echo inactive; fi ;;
"show --property="*" openclaw.service") printf 'ActiveState=failed\nExecMainStatus=78\n' ;;
"show -P FreezerState "*) cat $dir/freezer 2> /dev/null || echo running; hit copied ;;
freeze*)
    hit before
    rm -f $dir/thawed
    kill -STOP $pid
    until grep -q '^State:.T' /proc/$pid/status; do
        [ ! -e $dir/thawed ] || exit 1 # the guard's time was over before it stood still
        sleep 0.01
    done
    echo frozen > $dir/freezer; echo "$*" >> $dir/freezes
    hit frozen ;;
thaw*) hit thaw; touch $dir/thawed; kill -CONT $pid; echo running > $dir/freezer ;;
"stop bake-backup-thaw.service") # it has ended when this returns, and may only just have begun
    guard=$(cat $dir/guard 2> /dev/null) || exit 0
    while kill -0 $guard 2> /dev/null && ! grep -qs '^State:.Z' /proc/$guard/status; do kill -- -$guard 2> /dev/null || sleep 0.01; done
    rm -f $dir/guard ;;
stop*) echo stopped >> $dir/orders; [ ! -e $dir/stays ] ;;
reset-failed*) echo reset >> $dir/orders; rm -f $dir/active ;;
start*) echo started >> $dir/orders ;;
esac
`

const fakeSystemdRun = `#!/bin/sh
while case $1 in --*) true ;; *) false ;; esac; do shift; done
setsid "$@" > /dev/null 2>&1 < /dev/null &
echo $! > %[1]s/guard
`

func newSnapshotLab(t *testing.T) *snapshotLab {
	t.Helper()
	for _, name := range []string{"python3", "tar", "cp", "setsid"} {
		if _, err := exec.LookPath(name); err != nil && os.Getenv("CI") == "" {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	l := &snapshotLab{dir: dir, state: filepath.Join(dir, "state")}
	for _, sub := range []string{"lib", "bin", "run/bake", "var", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(l.state, 0o700); err != nil { // as every directory of state
		t.Fatal(err)
	}
	replace := strings.NewReplacer(`"/run/bake`, `"`+dir+`/run/bake`, `"/var/lib/bake`, `"`+dir+`/var`,
		`PATH="`, `PATH="`+dir+`/bin:`, `"/etc/openclaw`, `"`+dir+`/etc`, `"/usr/local/lib/bake/`, `"`+dir+`/lib/`, "GIVEN_UP = 120", "GIVEN_UP = 1", "time.sleep(3)", "time.sleep(0.1)")
	for _, name := range []string{"backup", "restore", "snapshot.py"} {
		content, err := os.ReadFile("../../layers/backup/files/usr/local/lib/bake/" + name)
		if err != nil {
			t.Fatal(err)
		}
		l.write(t, "lib/"+name, replace.Replace(string(content)))
	}
	l.write(t, "bin/systemctl", fmt.Sprintf(fakeSystemctl, dir))
	l.write(t, "bin/systemd-run", fmt.Sprintf(fakeSystemdRun, dir))
	l.write(t, "lib/backup.json", fmt.Sprintf(`{"host": "zap", "roots": ["%[1]s/state:%[2]d", "%[1]s/none"], "exclude": ["%[1]s/state/tmp"], "units": ["openclaw.service"], "freeze": 30}`,
		dir, os.Getuid()))
	return l
}

func (l *snapshotLab) write(t *testing.T, name, content string) {
	t.Helper()
	name = filepath.Join(l.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// backup starts the program; its process is who a hit is for.
func (l *snapshotLab) backup(t *testing.T, out io.Writer) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("python3", "-I", filepath.Join(l.dir, "lib/backup"))
	said := &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.write(t, "victim", strconv.Itoa(cmd.Process.Pid))
	return cmd, said
}

// receive takes a snapshot as the host does.
func (l *snapshotLab) receive(t *testing.T) (string, archive.Manifest) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd, said := l.backup(t, write)
	write.Close()
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	m, err := archive.Receive(t.Context(), read, snapshot, archive.Limits{})
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return snapshot, m
}

// python runs a program that is written here and returns what it prints.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command("python3", append([]string{"-c", program}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// fullState is a state with all that a snapshot must keep.
const fullState = `
import os, sqlite3, sys
os.chdir(sys.argv[1])
os.umask(0o077)
for name in ["agents/main/agent", "state", "tmp", "empty", "workspace/.git"]:
    os.makedirs(name)
os.chmod("workspace", 0o2750)
open("tmp/left out", "w").write("x")
open(b"workspace/odd \n\xff \xc3\xbc % name", "w").write("odd")
open("workspace/-rf", "w").write("dash")
open("workspace/a", "w").write("linked")
os.link("workspace/a", "workspace/b")
os.link("workspace/a", "agents/first")
os.symlink("/etc/passwd", "workspace/passwd")
os.symlink("nowhere\n", "workspace/dangling")
os.mkfifo("workspace/pipe")
with open("workspace/sparse", "wb") as f:
    f.write(b"begin")
    f.seek(30 << 20)
    f.write(b"end")
    f.truncate(40 << 20)
open("workspace/program", "w").write("#!/bin/sh\n")
os.chmod("workspace/program", 0o4755)
try:
    os.setxattr("workspace/a", "user.note=%", b"a\0b")
    os.setxattr("workspace", "user.dir", b"d")
    import struct
    os.setxattr("workspace/program", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in
        [(1, 7, 0xffffffff), (2, 4, 782), (4, 5, 0xffffffff), (16, 5, 0xffffffff), (32, 5, 0xffffffff)]))
except OSError as error:
    print(error)
db = sqlite3.connect("state/openclaw.sqlite")
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
db.executemany("INSERT INTO t (x) VALUES (?)", [(os.urandom(500),) for _ in range(500)])
db.commit()
sqlite3.connect("agents/main/agent/openclaw-agent.sqlite").executescript("CREATE TABLE t (n); INSERT INTO t VALUES (1);")
open("state/only-looks.sqlite", "wb").write(b"SQLite format 3\0" + b"not at all" * 100)
open("state/only-looks.sqlite-wal", "wb").write(b"nor this")
for where, _, names in os.walk(b"."):
    for name in names:
        os.utime(os.path.join(where, name), ns=(1700000000123456789, 1700000000123456789), follow_symlinks=False)
os._exit(0)  # and the journal stays
`

// TestSnapshotKeepsAll sends a state and puts it back, by the guest's programs and the
// host's.
func TestSnapshotKeepsAll(t *testing.T) {
	l := newSnapshotLab(t)
	t.Log(python(t, fullState, l.state))
	snapshot, m := l.receive(t)
	sums := map[string]string{}
	for _, d := range m.Databases {
		sums[filepath.Base(string(d.Path))] = d.Integrity
	}
	if len(sums) != 3 || sums["openclaw.sqlite"] != "ok" || sums["openclaw-agent.sqlite"] != "ok" || sums["only-looks.sqlite"] != "file is not a database" {
		t.Errorf("%v", sums)
	}
	prefix := strings.TrimPrefix(l.state, "/") + "/"
	var names []string
	for _, e := range m.Entries {
		if name, ok := strings.CutPrefix(string(e.Path), prefix); ok {
			names = append(names, name)
		}
	}
	for _, name := range []string{"workspace/odd \n\xff ü % name", "workspace/-rf", "empty", "state/only-looks.sqlite-wal"} {
		if !slices.Contains(names, name) {
			t.Errorf("%q is missing", name)
		}
	}
	for _, name := range []string{"tmp", "workspace/pipe", "state/openclaw.sqlite-wal", "state/openclaw.sqlite-shm"} {
		if slices.Contains(names, name) {
			t.Errorf("%q has come along", name)
		}
	}
	if m.Method != "stopped" || len(m.Skipped) != 1 || m.Host != "zap" {
		t.Errorf("%s, %v, %s", m.Method, m.Skipped, m.Host)
	}
	info, err := os.Stat(filepath.Join(snapshot, archive.StateFile))
	if err != nil || info.Size() > 2<<20 {
		t.Errorf("holes were sent: %v, %v", info, err)
	}

	// And in the place of another state.
	if err := errors.Join(os.RemoveAll(l.state), os.MkdirAll(l.state+"/state", 0o700), os.WriteFile(l.state+"/state/openclaw.sqlite-wal", []byte("stale"), 0o600)); err != nil {
		t.Fatal(err)
	}
	answer := l.restore(t, snapshot)
	aside := answer["aside"].([]any)
	if len(aside) != 1 || !strings.HasPrefix(aside[0].(string), l.state+".before-") {
		t.Fatalf("%v", answer)
	}
	if stale, err := os.ReadFile(aside[0].(string) + "/state/openclaw.sqlite-wal"); string(stale) != "stale" {
		t.Errorf("the old state: %v", err)
	}
	_, again := l.receive(t)
	if diff := differences(m, again, prefix); diff != "" {
		t.Error(diff)
	}
	got := python(t, `import sqlite3, sys; print(sqlite3.connect(sys.argv[1] + "/state/openclaw.sqlite").execute("SELECT count(*) FROM t").fetchone()[0])`, l.state)
	if got != "500" {
		t.Errorf("%s rows of 500", got)
	}
	demandGone(t, filepath.Join(l.dir, "var/backup"))
}

// TestSnapshotOfAnyTime: a file, a link, a directory or a database whose time no count of
// nanoseconds has keeps nobody from saving the state.
func TestSnapshotOfAnyTime(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	python(t, `
import os, sys
os.chdir(sys.argv[1])
for name in "workspace/a", "workspace/passwd", "empty", "state/openclaw.sqlite":
    os.utime(name, ns=(13569465600 * 10**9,) * 2, follow_symlinks=False)  # 2400
if os.stat("empty").st_mtime_ns < 2**63:
    print("this file system has no such times")
`, l.state)
	snapshot, m := l.receive(t)
	l.restore(t, snapshot)
	_, again := l.receive(t)
	if diff := differences(m, again, strings.TrimPrefix(l.state, "/")+"/"); diff != "" {
		t.Error(diff)
	}
}

// TestSnapshotOfDepth: directories as deep as a path may be keep nobody from saving the state,
// nor from restoring it, with as few open files as a login has.
func TestSnapshotOfDepth(t *testing.T) {
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1024, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was) }() // the test's own
	l := newSnapshotLab(t)
	python(t, `
import os, sys
os.chdir(sys.argv[1])
for _ in range(1900):
    os.mkdir("d")
    os.chdir("d")
`, l.state)
	snapshot, m := l.receive(t)
	l.restore(t, snapshot)
	_, again := l.receive(t)
	if diff := differences(m, again, strings.TrimPrefix(l.state, "/")+"/"); diff != "" || m.Count < 1900 {
		t.Errorf("%d members, %.500s", m.Count, diff)
	}
}

// differences of the entries below a path.
func differences(a, b archive.Manifest, prefix string) string {
	lines := func(m archive.Manifest) map[string]string {
		all := map[string]string{}
		for _, e := range m.Entries {
			if strings.HasPrefix(string(e.Path), prefix) {
				all[string(e.Path)] = fmt.Sprintf("%+v", e)
			}
		}
		return all
	}
	x, y := lines(a), lines(b)
	var out []string
	for name, line := range x {
		if y[name] != line {
			out = append(out, "- "+line+"\n+ "+y[name])
		}
	}
	for name, line := range y {
		if _, ok := x[name]; !ok {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

func (l *snapshotLab) restore(t *testing.T, snapshot string, args ...string) map[string]any {
	t.Helper()
	out, err := l.tryRestore(t, filepath.Join(snapshot, archive.StateFile), args...)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func (l *snapshotLab) tryRestore(t *testing.T, tarball string, args ...string) ([]byte, error) {
	t.Helper()
	file, err := os.Open(tarball)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("python3", append([]string{"-I", filepath.Join(l.dir, "lib/restore")}, args...)...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = file, &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said.String())
	}
	return out, err
}

func demandGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", path, err)
	}
}

// TestRestoreBesideFailed: what had failed runs after a restore, with all its tries, and
// not before; what was to stop and did not runs on; a gateway that does not come is told of.
func TestRestoreBesideFailed(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	snapshot, _ := l.receive(t)
	l.write(t, "active", "failed\n")
	l.write(t, "run/bake/openclaw.tries", "\n\n\n\n\n\n")
	l.restore(t, snapshot)
	if got, err := os.ReadFile(filepath.Join(l.dir, "orders")); err != nil || string(got) != "stopped\nreset\nstarted\n" {
		t.Errorf("%q, %v", got, err)
	}
	demandGone(t, filepath.Join(l.dir, "run/bake/openclaw.tries"))

	l.write(t, "active", "active\n")
	l.write(t, "stays", "") // one of them does not stop
	if out, err := l.tryRestore(t, filepath.Join(snapshot, archive.StateFile)); err == nil {
		t.Errorf("beside a service that runs: %s", out)
	}
	if got, err := os.ReadFile(filepath.Join(l.dir, "orders")); err != nil || string(got) != "stopped\nreset\nstarted\nstopped\nstarted\n" {
		t.Errorf("%q, %v", got, err)
	}

	l.write(t, "etc/openclaw.json", `{"gateway": {"port": 1}}`)
	for _, c := range []struct{ state, seconds, want string }{
		{"active", "1", "after 1 s: "},
		{"failed", "600", "and will not be: openclaw.service has failed: "},
	} {
		l.write(t, "active", c.state+"\n")
		out, err := exec.Command("python3", "-I", filepath.Join(l.dir, "lib/restore"), "ready", c.seconds).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "the gateway is not ready "+c.want) ||
			!strings.Contains(string(out), "refused; openclaw.service: ActiveState=failed, ExecMainStatus=78; journalctl -u openclaw.service") {
			t.Errorf("%s: %v: %s", c.state, err, out)
		}
	}
}

// TestRestoreOwner: on a machine where the state's user has another number, and no account, as
// one of a container, all of it becomes that user's.
func TestRestoreOwner(t *testing.T) {
	const number = 231854
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	snapshot, _ := l.receive(t)
	if err := os.Lchown(l.state, number, number); err != nil {
		t.Fatal(err)
	}
	l.restore(t, snapshot)
	files := 0
	err := filepath.WalkDir(l.state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if is := info.Sys().(*syscall.Stat_t); is.Uid != number || is.Gid != number {
			t.Errorf("%s is of %d:%d", path, is.Uid, is.Gid)
		}
		files++
		return nil
	})
	if err != nil || files < 10 {
		t.Errorf("%d files looked at: %v", files, err)
	}
}

// TestRestoreReady: a restore waits for whatever gateway the machine has, in a container too.
func TestRestoreReady(t *testing.T) {
	answers := make(chan int, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		status := http.StatusServiceUnavailable
		select {
		case status = <-answers:
		default:
		}
		w.WriteHeader(status)
		if status != http.StatusOK {
			fmt.Fprint(w, "{\"ready\":false,\n\x1b[2J \"failing\":[\"tele\u00ffgram\"]}"+strings.Repeat("x", 1000))
		}
	}))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l := newSnapshotLab(t)
	ready := func(seconds, want string) {
		t.Helper()
		out, err := exec.Command("python3", "-I", filepath.Join(l.dir, "lib/restore"), "ready", seconds).CombinedOutput()
		if !strings.Contains(string(out), want) || (err == nil) != strings.HasPrefix(want, "{") || len(out) > 800 {
			t.Errorf("%v: %s, want %s", err, out, want)
		}
	}
	ready("600", `{"gateway": "none"}`)
	l.write(t, "lib/openclaw-container", "#!/bin/sh\n[ $1 = port ] && echo "+port+"\n")
	answers <- http.StatusServiceUnavailable
	answers <- http.StatusOK
	ready("600", `{"gateway": "ready"}`)
	if len(answers) > 0 {
		t.Error("ready before it said so")
	}
	// Both, and one of them is not there.
	l.write(t, "etc/openclaw.json", `{"gateway": {"port": `+port+`}}`)
	l.write(t, "lib/openclaw-container", "#!/bin/sh\necho 1\n")
	answers <- http.StatusOK
	ready("5", "refused; openclaw-container.service: ")
	// What it says itself is told, and is no more than words.
	ready("1", `after 1 s: 503 {"ready":false, [2J "failing":["tele\xc3\xbfgram"]}xx`)
}

// TestRestoreRefuses: a snapshot that is not what its manifest says changes nothing.
func TestRestoreRefuses(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	snapshot, _ := l.receive(t)
	good, err := os.ReadFile(filepath.Join(snapshot, archive.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.ReadFile(filepath.Join(l.linked(t), archive.StateFile))
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{"a link": "is a link in the snapshot", "truncated": "Unexpected EOF"}
	for name, data := range map[string][]byte{
		"a link": link, "changed": bytes.Replace(good, []byte("linked"), []byte("lonked"), 1), "truncated": good[:len(good)/2], "empty": nil,
	} {
		bad := filepath.Join(t.TempDir(), "bad.tar")
		if err := os.WriteFile(bad, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := l.tryRestore(t, bad); err == nil {
			t.Errorf("%s: %s", name, out)
		} else if !strings.Contains(err.Error(), says[name]) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(l.state + "/workspace/a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	demandGone(t, filepath.Join(l.dir, "orders"))
	demandGone(t, filepath.Join(l.dir, "var/backup"))
}

// linked is a snapshot in which the directory of state is a link, as whoever is root in a
// machine can send it: where it is mounted it would be what it leads to.
func (l *snapshotLab) linked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	python(t, `
import json, os, subprocess, sys
sys.path.insert(0, sys.argv[1])
import snapshot
os.chdir(sys.argv[2])
state = sys.argv[3][1:]
os.makedirs("tree/" + os.path.dirname(state))
os.symlink("/etc", "tree/" + state)
top = state.split("/")[0]
entries = snapshot.listing("tree", [top.encode()])
manifest = {"format": 1, "host": "zap", "roots": [snapshot.quote(state)], "databases": [], "digest": snapshot.digest_of(entries), "entries": list(snapshot.written(entries))}
os.mkdir("tree/.bake")
json.dump(manifest, open("tree/.bake/manifest.json", "w"))
subprocess.run(["tar", "-cf", "state.tar", "--format=pax", "-C", "tree", top, ".bake/manifest.json"], check=True)
`, filepath.Join(l.dir, "lib"), dir, l.state)
	return dir
}

// TestRestoreTames: rights that files had where they come from are none here, whoever gave
// them, but for those of the state's own user.
func TestRestoreTames(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	python(t, `
import os, sys
os.chdir(sys.argv[1])
os.chown(".", 782, 782)
for name, owner in ("own", 782), ("roots", 0), ("ops", 1000), ("able", 782):
    open(name, "w").write("#!/bin/sh")
    os.chown(name, owner, owner)
    os.chmod(name, 0o755 if name == "able" else 0o6755)
os.setxattr("able", "security.capability", bytes.fromhex("0100000280000000000000000000000000000000"))
`, l.state)
	snapshot, _ := l.receive(t)
	answer := l.restore(t, snapshot)
	tamed := fmt.Sprint(answer["tamed"])
	for _, name := range []string{"roots", "ops", "able", "workspace/program"} {
		if !strings.Contains(tamed, "/"+name) {
			t.Errorf("%s is not among %s", name, tamed)
		}
	}
	got := python(t, `
import os, sys
os.chdir(sys.argv[1])
print(*(f"{name} {os.stat(name).st_mode & 0o7777:o} {os.listxattr(name)}" for name in ("own", "roots", "ops", "able", "workspace", "workspace/program")))`, l.state)
	if want := "own 6755 [] roots 755 [] ops 755 [] able 755 [] workspace 2750 ['user.dir'] workspace/program 755"; !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	// Where nobody but root gets to them, nothing is changed.
	if err := errors.Join(os.Lchown(l.state, 0, 0), os.Chmod(l.state, 0o700), os.Chmod(l.state+"/roots", os.ModeSetuid|0o755)); err != nil {
		t.Fatal(err)
	}
	snapshot, _ = l.receive(t)
	if answer := l.restore(t, snapshot); len(answer["tamed"].([]any)) > 0 {
		t.Errorf("%v", answer["tamed"])
	}
}

// TestRestoreChosen: whose the directory was where it comes from, which whoever was root
// there could choose, is no right here: the group is this machine's, though the user's number
// is the same; where this machine knows of no owner, or it is root, nobody has any; and what
// only root got to there somebody else gets to here.
func TestRestoreChosen(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files away")
	}
	for name, test := range map[string]struct {
		there int    // whose the directory was
		dirs  string // what this machine knows, "" where it has no disk for state
		want  string
	}{
		"state":          {782, "%s:782\n", ". 700 782:782 own 6755 782:782 others 755 1000:782"},
		"another's path": {782, "%s/elsewhere:782\n", ". 700 782:42 own 755 782:42 others 755 1000:42"},
		"root's here":    {782, "", ". 700 0:0 own 755 0:0 others 755 1000:0"},
		"root's state":   {782, "%s:0\n", ". 700 0:0 own 755 0:0 others 755 1000:0"},
		"root's there":   {0, "%s:782\n", ". 700 782:782 own 2755 782:782 others 755 1000:782"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newSnapshotLab(t)
			python(t, fmt.Sprintf(`
import os, sys
os.chdir(sys.argv[1])
there = %d
os.chown(".", there, 42)
for name, owner, mode in ("own", there, 0o6755), ("others", 1000, 0o4755):
    open(name, "w").write("#!/bin/sh")
    os.chown(name, owner, 42)
    os.chmod(name, mode)
`, test.there), l.state)
			snapshot, _ := l.receive(t)
			if test.dirs != "" {
				l.write(t, "lib/state.dirs", fmt.Sprintf(test.dirs, l.state))
			} else if err := os.Chown(l.state, 0, 0); err != nil {
				t.Fatal(err)
			}
			l.restore(t, snapshot)
			got := python(t, `
import os, sys
os.chdir(sys.argv[1])
all = ((name, os.stat(name)) for name in (".", "own", "others"))
print(*(f"{name} {is_.st_mode & 0o7777:o} {is_.st_uid}:{is_.st_gid}" for name, is_ in all))`, l.state)
			if got != test.want {
				t.Errorf("%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// TestSnapshotOfContainer: it is the container that stands still, and not the client of the
// engine alone, which is all that its service has.
func TestSnapshotOfContainer(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	service := l.serve(t, "print('ready', flush=True)\nwhile True: pass")
	l.write(t, "pid", strconv.Itoa(service.Process.Pid))
	config, err := os.ReadFile(filepath.Join(l.dir, "lib/backup.json"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "lib/backup.json", strings.Replace(string(config), "openclaw.service", "openclaw-container.service", 1))
	for scope, want := range map[string]string{"docker-0123.scope": "freeze openclaw-container.service docker-0123.scope\n", "": "freeze openclaw-container.service\n"} {
		l.write(t, "lib/openclaw-container", "#!/bin/sh\n[ $1 = scope ] && echo "+scope+"\n")
		l.write(t, "freezes", "")
		if _, m := l.receive(t); m.Method != "frozen" {
			t.Errorf("%s: %s", scope, m.Method)
		}
		if got, err := os.ReadFile(filepath.Join(l.dir, "freezes")); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", scope, got, err)
		}
	}
	l.write(t, "lib/openclaw-container", "#!/bin/sh\necho 0123456789ab\n") // an engine that does without systemd
	cmd, said := l.backup(t, io.Discard)
	if err := cmd.Wait(); err == nil || !strings.Contains(said.String(), "its processes are in no unit of systemd's but in 0123456789ab") {
		t.Errorf("%v: %s", err, said)
	}
	if alive(service.Process.Pid) == "T" {
		t.Error("the service is frozen")
	}
}

// TestRestoreSessions: what was said comes back, what an agent obeys does not, among that
// the database of what it does by the clock and whom it lets do what.
func TestRestoreSessions(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	l.write(t, "state/openclaw.json", "{}")
	l.write(t, "state/agents/main/agent/AGENTS.md", "obey")
	l.write(t, "state/workspace/skills/evil/SKILL.md", "obey")
	l.write(t, "state/credentials/whatsapp/main/creds.json", "{}")
	l.write(t, "state/agents/main/sessions/cold/0123.jsonl.zst", "said")
	l.write(t, "state/agents/main/sessions/cold/deeper/x", "no")
	l.write(t, "hook", "obey") // a file of its own beside it
	config, err := os.ReadFile(filepath.Join(l.dir, "lib/backup.json"))
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, "lib/backup.json", strings.Replace(string(config), `"roots": [`, `"roots": ["`+l.dir+`/hook", `, 1))
	snapshot, _ := l.receive(t)
	l.write(t, "hook", "mine")
	l.restore(t, snapshot, "--sessions")
	if hook, err := os.ReadFile(filepath.Join(l.dir, "hook")); string(hook) != "mine" {
		t.Errorf("a file that something may run came back: %q, %v", hook, err)
	}
	var left []string
	err = filepath.WalkDir(l.state, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			left = append(left, strings.TrimPrefix(name, l.state+"/"))
		}
		return err
	})
	if want := []string{"agents/main/agent/openclaw-agent.sqlite", "agents/main/sessions/cold/0123.jsonl.zst", "credentials/whatsapp/main/creds.json", "openclaw.json"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("%q, %v", left, err)
	}
}

// alive reports whether a process runs, as opposed to being stopped or gone.
func alive(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "gone"
	}
	_, rest, _ := strings.Cut(string(status), "State:\t")
	return rest[:1]
}

// serve starts what a service does, and has systemctl know it.
func (l *snapshotLab) serve(t *testing.T, program string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("python3", "-c", program, l.dir)
	cmd.Stderr = os.Stderr
	ready, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := io.ReadFull(ready, make([]byte, 5)); err != nil { // it says ready
		t.Fatal(err)
	}
	return cmd
}

// TestAlwaysThawed kills the snapshot where it hurts, and lets it fail.
func TestAlwaysThawed(t *testing.T) {
	l := newSnapshotLab(t)
	python(t, fullState, l.state)
	service := l.serve(t, "print('ready', flush=True)\nwhile True: pass")
	l.write(t, "pid", strconv.Itoa(service.Process.Pid))
	demandRuns := func(where string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for alive(service.Process.Pid) != "R" && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
		}
		if state := alive(service.Process.Pid); state != "R" {
			t.Errorf("%s: the service is %s", where, state)
		}
	}
	for _, where := range []string{"before", "frozen", "copied", "thaw"} {
		l.write(t, "hit", where)
		cmd, said := l.backup(t, io.Discard)
		if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("%s: %v\n%s", where, err, said)
		}
		demandRuns(where)
	}
	l.write(t, "hit", "")
	for name, cmd := range map[string][]string{
		"disk full":    {"prlimit", "--fsize=100000", "python3", "-I", filepath.Join(l.dir, "lib/backup")},
		"nobody reads": {"sh", "-c", "exec python3 -I " + filepath.Join(l.dir, "lib/backup") + " | head -c 1000 > /dev/null; exit 1"},
	} {
		out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput()
		t.Logf("%s: %v: %s", name, err, out)
		if err == nil {
			t.Errorf("%s: exit 0", name)
		}
		demandRuns(name)
		demandGone(t, filepath.Join(l.dir, "var/backup"))
	}
	if _, m := l.receive(t); m.Method != "frozen" { // and the next one works
		t.Errorf("%s", m.Method)
	}
	demandRuns("the end")
}

// TestSnapshotOnStateDisk is the layer's programs where a machine has them: as root, on a disk for
// state, with a state of somebody else who lays links where SQLite looks for journals.
func TestSnapshotOnStateDisk(t *testing.T) {
	script, errScript := filepath.Abs("testdata/backup/state-disk")
	layer, errLayer := filepath.Abs("../../layers/backup/files/usr/local/lib/bake")
	if err := errors.Join(errScript, errLayer); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if out, err := exec.Command("unshare", "--mount", "/bin/sh", "-c", "truncate -s 1M "+work+"/try && mke2fs -q -F "+work+"/try && mount -o loop "+work+"/try "+work).CombinedOutput(); err != nil {
		t.Skipf("it takes root and a loop device: %v: %s", err, out)
	}
	out, err := exec.Command("unshare", "--mount", "--propagation", "private", script, work, layer).CombinedOutput()
	const want = `secret: hunter2, root 600, in it 0
databases: integrity: unable to open database file, path: srv/keeper/trap.sqlite
integrity: ok, path: srv/keeper/x.sqlite
left: dirs lost+found ssh, /run/bake: backup.lock /run/bake-backup:
host keys: not asked for
host keys: back
now: evil.sqlite trap.sqlite x.sqlite, 783 700, /dirs/srv/keeper
aside: 1
rows: 1000
busy: evil.sqlite stays trap.sqlite x.sqlite, /dirs/srv/keeper
full:  there is no room for a copy of the state
no room: could not be unpacked: No space left on device, evil.sqlite large larger stays trap.sqlite x.sqlite
left: before dirs lost+found ssh
`
	lines := strings.SplitAfter(string(out), "\n")
	got := strings.Join(slices.DeleteFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "backup: ") || strings.HasPrefix(line, "restore: ")
	}), "")
	if err != nil || got != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
