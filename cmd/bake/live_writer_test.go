package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bake/internal/archive"
)

// writer is a service that never rests. It commits a row, and only then says in one
// file after the other how far it is: whoever sees the files sees the row. The
// journal is folded into the database every few rows. It keeps the newest rows only, so
// that a slow machine does not have the more to copy the slower it is.
const writer = `
import os, sqlite3, sys
os.chdir(sys.argv[1] + "/state")
os.nice(15)
db = sqlite3.connect("openclaw.sqlite", isolation_level=None)
for words in ["journal_mode=WAL", "synchronous=OFF", "wal_autocheckpoint=7", "page_size=1024"]:
    db.execute("PRAGMA " + words)
db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
db.execute("CREATE TABLE pad (x BLOB)")
db.executemany("INSERT INTO pad VALUES (?)", [(os.urandom(4000),) for _ in range(500)])
n = 0
while True:
    n += 1
    db.execute("BEGIN")
    db.execute("INSERT INTO t VALUES (?, ?)", (n, os.urandom(300)))
    db.execute("DELETE FROM t WHERE n = ?", (n - 2000,))
    db.execute("UPDATE pad SET x = ? WHERE rowid = ?", (os.urandom(4000), 1 + n * 7919 % 500))
    db.execute("COMMIT")
    for name in "first", "second":
        with open(name + ".new", "w") as f:
            f.write(str(n))
        os.rename(name + ".new", name)
    if n == 20:
        print("ready", flush=True)
`

// bystander writes too and is not the service: nobody freezes it.
const bystander = `
import os, sqlite3, sys
os.chdir(sys.argv[1] + "/state")
os.nice(15)
db = sqlite3.connect("other.sqlite", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA wal_autocheckpoint=7")
db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
n = 0
while True:
    n += 1
    db.execute("INSERT INTO t VALUES (?, ?)", (n, os.urandom(300)))
    db.execute("DELETE FROM t WHERE n = ?", (n - 2000,))
    if n == 20:
        print("ready", flush=True)
`

// judge says what is wrong with a copy of what they write: how far the files and the
// rows are, when the copy was asked for (rows that were acknowledged then) and now.
const judge = `
import os, sqlite3, sys
os.chdir(sys.argv[1])
asked, frozen = int(sys.argv[2]), sys.argv[3] == "frozen"
def rows(name):
    db = sqlite3.connect(name)
    if (said := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise sqlite3.DatabaseError(said)
    count, oldest, last = db.execute("SELECT count(*), min(n), max(n) FROM t").fetchone()
    if count != last - oldest + 1:
        raise sqlite3.DatabaseError("rows are missing in the middle")
    return last
try:
    last, other = rows("openclaw.sqlite"), rows("other.sqlite")
    first, second = int(open("first").read()), int(open("second").read())
    if last < asked:
        print(f"{asked} rows were acknowledged, {last} are there")
    elif not second <= first <= second + 1 or not first <= last <= first + 1:
        print(f"files of different moments: rows {last}, first {first}, second {second}")
except (OSError, ValueError, sqlite3.Error) as error:
    print(error)
`

// TestLiveWriter takes twenty snapshots of a state that is written to without a pause,
// and as many copies in the old way.
func TestLiveWriter(t *testing.T) {
	l := newSnapshotLab(t)
	service := l.serve(t, writer)
	l.serve(t, bystander)
	l.write(t, "pid", strconv.Itoa(service.Process.Pid))
	acknowledged := func() string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(l.state, "second"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const times = 20
	for i := range times {
		asked := acknowledged()
		snapshot, m := l.receive(t)
		for _, d := range m.Databases {
			if d.Integrity != "ok" {
				t.Errorf("%d: %s: %s", i, d.Path, d.Integrity)
			}
		}
		to := filepath.Join(t.TempDir(), "look")
		if _, err := archive.Extract(t.Context(), snapshot, to, archive.Options{}); err != nil {
			t.Fatal(err)
		}
		if wrong := python(t, judge, filepath.Join(to, l.state), asked, "frozen"); wrong != "" || m.Method != "frozen" || len(m.Databases) != 2 {
			t.Errorf("%d: %s, %s, %v", i, wrong, m.Method, m.Databases)
		}
		if i == times-1 { // and the judge can find fault with it
			python(t, `import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute("DELETE FROM t WHERE n = (SELECT max(n) - 1 FROM t)"); db.commit()`,
				filepath.Join(to, l.state, "openclaw.sqlite"))
			if wrong := python(t, judge, filepath.Join(to, l.state), asked, "frozen"); wrong != "rows are missing in the middle" {
				t.Errorf("a row less: %q", wrong)
			}
		}
		if i == 0 || i == times-1 {
			t.Logf("snapshot %d: rows until %s, still for %s", i, asked, m.Thawed.Sub(m.Frozen))
		}
	}
	// What cp and rsync say of a file that was not what they had seen before.
	moved := []string{"vanished", "No such file", "was replaced while being copied"}
	for _, way := range [][]string{{"cp", "-a"}, {"rsync", "-a"}} {
		if _, err := exec.LookPath(way[0]); err != nil {
			continue
		}
		broken := map[string]int{}
		n := 0
		for range times {
			to := filepath.Join(t.TempDir(), "copy")
			asked := acknowledged()
			out, err := exec.Command(way[0], way[1], l.state+"/.", to).CombinedOutput()
			if err != nil && !slices.ContainsFunc(moved, func(words string) bool { return strings.Contains(string(out), words) }) {
				t.Fatalf("%v: %s", err, out)
			}
			if wrong := python(t, judge, to, asked, "naive"); wrong != "" {
				n++
				broken[strings.Join(strings.FieldsFunc(wrong, func(r rune) bool { return '0' <= r && r <= '9' }), "N")]++
			}
		}
		t.Logf("%s %s: %d of %d copies are broken: %v", way[0], way[1], n, times, broken)
	}
	if alive(service.Process.Pid) == "T" {
		t.Error("the service is frozen")
	}
}
