package backup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var first = time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)

func files() map[string]string {
	return map[string]string{
		"var/lib/o/big.sqlite": strings.Repeat("0123456789abcdef", 64<<10), "var/lib/o/a b\xff\n": "odd", "var/lib/o/empty": "",
		"var/lib/o/link@": "/etc/shadow", "var/lib/o/z#": "var/lib/o/big.sqlite", "var/lib/o/state/x": "x",
	}
}

// begun is a store of this kind.
func begun(t *testing.T) *tree {
	t.Helper()
	s := &tree{Dir: filepath.Join(t.TempDir(), "store")}
	if isNew, err := s.Init(t.Context()); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	return s
}

// TestTreeSecond: of two backups in a second the later one is the newest, and stays.
func TestTreeSecond(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	one := save(t, s, received(t, first.Add(100*time.Millisecond), files()))
	two := save(t, s, received(t, first.Add(700*time.Millisecond), files()))
	if all, err := s.List(t.Context(), "zap"); err != nil || len(all) != 2 || all[0] != one || all[1] != two {
		t.Fatalf("%+v, %v", all, err)
	}
	if gone, err := s.Prune(t.Context(), "zap", keep{Daily: 1}, false); err != nil || len(gone) != 1 || gone[0] != one {
		t.Errorf("%+v is gone, %v", gone, err)
	}
}

// TestTreeNotMounted: the place of a disk that is not there is no store, though it is a
// directory, and nothing is put into it.
func TestTreeNotMounted(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	j := received(t, first, files())
	one := save(t, s, j)
	away := s.Dir + ".away"
	for _, is := range []string{"no directory", "an empty one"} {
		if is == "no directory" {
			if err := os.Rename(s.Dir, away); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Mkdir(s.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, err := s.Save(t.Context(), j)
		if f := caused(t, err, causeAbsent); !strings.Contains(f.Hint, "a disk that is not mounted?") {
			t.Errorf("%s: %v", is, err)
		}
		_, err = s.List(t.Context(), "zap")
		caused(t, err, causeAbsent)
		_, err = s.Prune(t.Context(), "zap", keep{}, false)
		caused(t, err, causeAbsent)
		caused(t, s.Check(t.Context(), ""), causeAbsent)
	}
	if left, err := os.ReadDir(s.Dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v, %v", left, err)
	}
	if err := errors.Join(os.Remove(s.Dir), os.Rename(away, s.Dir), os.Mkdir(filepath.Join(s.Dir, "lost+found"), 0)); err != nil {
		t.Fatal(err)
	}
	if isNew, err := s.Init(t.Context()); isNew || err != nil {
		t.Errorf("begun again: %v, %v", isNew, err)
	}
	isWhole(t, s, one, j)
	if err := s.Check(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

// TestTreeLate: a backup that is not done in time is none.
func TestTreeLate(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	s.Time = time.Nanosecond
	_, err := s.Save(t.Context(), received(t, first, files()))
	if f := caused(t, err, causeStalled); !f.Network() {
		t.Error(err)
	}
	if list, err := s.List(t.Context(), "zap"); err != nil || len(list) > 0 {
		t.Errorf("there is %v, %v", list, err)
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	j := received(t, first, files())
	one := save(t, s, j)
	isWhole(t, s, one, j)

	changed := files()
	changed["var/lib/o/state/x"] = "y" // as large and as old as before
	next := received(t, first.Add(24*time.Hour), changed)
	// What was linked to must not be what somebody has changed since.
	two := save(t, s, next)
	isWhole(t, s, one, j)
	isWhole(t, s, two, next)
	if one.Added < 1<<20 || two.Added != 1 {
		t.Errorf("added %d, then %d", one.Added, two.Added)
	}
	inode := func(snapshot Snapshot, name string) uint64 {
		info, err := os.Lstat(filepath.Join(s.Dir, "zap", snapshot.ID, treeName, "var/lib/o", name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	if inode(one, "big.sqlite") != inode(two, "big.sqlite") || inode(two, "big.sqlite") != inode(two, "z") {
		t.Error("a file that did not change is stored twice")
	}
	if inode(one, "state/x") == inode(two, "state/x") {
		t.Error("a file that changed is a link to what it was")
	}
	if latest, err := os.Readlink(filepath.Join(s.Dir, "zap", latestName)); latest != two.ID || err != nil {
		t.Errorf("latest is %q, %v", latest, err)
	}
	list, err := s.List(t.Context(), "zap")
	if err != nil || len(list) != 2 || list[0].ID != one.ID || list[1].Generation != "0123456789abcdef" || list[1].Bytes == 0 {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := s.Check(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if _, err := s.Save(t.Context(), next); err == nil {
		t.Error("the same moment twice")
	}
	isWhole(t, s, two, next)
	soon := next
	soon.Time = next.Time.Add(time.Millisecond)
	if three := save(t, s, soon); three.ID == two.ID {
		t.Error("two backups in a second have one name")
	}
	if list, err := s.List(t.Context(), "zap"); err != nil || len(list) != 3 {
		t.Errorf("list %v, %v", list, err)
	}
}

func TestTreeFaults(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	j := received(t, first, files())
	one := save(t, s, j)
	for _, left := range []string{".new-123/from/var", ".gone-20261001T030000Z/tree"} {
		if err := os.MkdirAll(filepath.Join(s.Dir, "zap", left), 0o500); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.List(t.Context(), "zap"); err != nil || len(list) != 1 {
		t.Errorf("what killed runs left is listed: %v, %v", list, err)
	}
	big := filepath.Join(s.Dir, "zap", one.ID, treeName, "var/lib/o/big.sqlite")
	content, err := os.ReadFile(big)
	if err != nil {
		t.Fatal(err)
	}
	content[77]++
	put(t, big, content)
	caused(t, s.Check(t.Context(), ""), causeDamaged)
	caused(t, s.Fetch(t.Context(), one, t.TempDir()), causeDamaged)

	next := received(t, first.Add(time.Hour), files())
	isWhole(t, s, save(t, s, next), next) // not linked to what is damaged
	entries, err := os.ReadDir(filepath.Join(s.Dir, "zap"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"20261101T030000Z", "20261101T040000Z", "latest"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("there is %v, %v", names, err)
	}
	put(t, filepath.Join(next.Dir, stateFile), []byte("no tar"))
	if _, err := s.Save(t.Context(), Job{Dir: next.Dir, Host: "zap", Time: first.Add(2 * time.Hour)}); err == nil {
		t.Error("what is no state was stored")
	}
	if list, err := s.List(t.Context(), "zap"); err != nil || len(list) != 2 {
		t.Errorf("list %v, %v", list, err)
	}
}

// TestTreeLost: a backup that no restore takes does not pass for sound: neither its manifest
// nor anything else of it may be another, or missing.
func TestTreeLost(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	dir := filepath.Join(s.Dir, "zap", save(t, s, received(t, first, files())).ID)
	manifest, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, manifestFile), manifest[:len(manifest)/2])
	caused(t, s.Check(t.Context(), ""), causeDamaged)
	put(t, filepath.Join(dir, manifestFile), manifest)
	if err := s.Check(t.Context(), ""); err != nil {
		t.Error(err)
	}
	for _, name := range []string{aboutName, manifestFile, restName, cutsName, treeName} {
		away := filepath.Join(s.Dir, "away")
		if err := os.Rename(filepath.Join(dir, name), away); err != nil {
			t.Fatal(err)
		}
		caused(t, s.Check(t.Context(), ""), causeDamaged)
		if err := os.Rename(away, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTreeAbout: a backup of which nothing is put down any more is there and can be had, and
// so can those beside it.
func TestTreeAbout(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	older := received(t, first, files())
	id := save(t, s, older).ID
	newer := save(t, s, received(t, first.Add(time.Hour), files()))
	for _, text := range []string{"", "[]", "{\"time\""} {
		put(t, filepath.Join(s.Dir, "zap", id, aboutName), []byte(text))
		list, err := s.List(t.Context(), "zap")
		if err != nil || len(list) != 2 || list[0].ID != id || !list[0].Time.Equal(first) || list[0].Generation != "" || list[1] != newer {
			t.Fatalf("%q: %+v, %v", text, list, err)
		}
		caused(t, s.Check(t.Context(), ""), causeDamaged)
		isWhole(t, s, list[0], older)
	}
}

func TestTreePrune(t *testing.T) {
	t.Parallel()
	needs(t, "rsync")
	s := begun(t)
	var last Job
	for day := range 4 {
		last = received(t, first.Add(time.Duration(day)*24*time.Hour), files())
		save(t, s, last)
	}
	for _, dry := range []bool{true, false} {
		if removed, err := s.Prune(t.Context(), "zap", keep{Daily: 2}, dry); err != nil || len(removed) != 2 || removed[0].ID != "20261101T030000Z" {
			t.Fatalf("removed %v, %v", removed, err)
		}
	}
	list, err := s.List(t.Context(), "zap")
	if err != nil || len(list) != 2 {
		t.Fatalf("list %v, %v", list, err)
	}
	isWhole(t, s, list[1], last)
}

// TestKeep holds the rules against numbers that were counted by hand.
func TestKeep(t *testing.T) {
	t.Parallel()
	var all []Snapshot
	for i := range 400 { // twice a day, the seventh month with holes
		at := first.Add(time.Duration(i) * 12 * time.Hour)
		if at.Month() == 4 && at.Day()%3 == 0 {
			continue
		}
		all = append(all, Snapshot{ID: at.Format(nameLayout), Time: at})
	}
	kept := func(k keep) (ids []string) {
		gone := map[string]bool{}
		for _, s := range k.surplus(all) {
			gone[s.ID] = true
		}
		for _, s := range all {
			if !gone[s.ID] {
				ids = append(ids, s.ID[:8])
			}
		}
		return ids
	}
	for _, test := range []struct {
		keep keep
		want int
	}{{keep{}, 1}, {keep{Daily: 7}, 7}, {keep{Daily: 7, Weekly: 4}, 9}, {keep{Monthly: 100}, 7}, {keep{Within: 48 * time.Hour}, 4}, {keep{Daily: 500}, 190}} {
		if got := kept(test.keep); len(got) != test.want {
			t.Errorf("%+v keeps %d and not %d: %v", test.keep, len(got), test.want, got)
		}
	}
	if (keep{}).surplus(nil) != nil {
		t.Error("of nothing something is surplus")
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p, err := Enter(root, "zap")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Enter(root, "zap")
	if busy := (*BusyError)(nil); !errors.As(err, &busy) || busy.PID != fmt.Sprint(os.Getpid()) {
		t.Errorf("entered twice: %v", err)
	}
	other, err := Enter(root, "zip")
	if err != nil {
		t.Fatal(err)
	}
	stage, err := p.Stage()
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(stage, stateFile), []byte("x"))
	if err := errors.Join(p.lock.Close(), other.Leave()); err != nil { // as if it was killed
		t.Fatal(err)
	}
	if p, err = Enter(root, "zap"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stage); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed run staged is still there: %v", err)
	}
	want := Record{Began: first, Exit: 6, Reason: "x", LastGood: first}
	if err := errors.Join(p.Write(want), p.Leave()); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRecord(root, "zap")
	if err != nil || got.Exit != 6 || !got.LastGood.Equal(first) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ReadRecord(root, "never"); err != nil || !got.Began.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}
