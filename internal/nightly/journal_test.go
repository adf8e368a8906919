package nightly

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustBegin(t *testing.T, j Journal) *Entry {
	t.Helper()
	e, err := j.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestJournal(t *testing.T) {
	j := Journal{Dir: filepath.Join(t.TempDir(), "a", "b"), Keep: 3}
	if nights, err := j.Nights(5); err != nil || len(nights) != 0 || j.IsBusy() {
		t.Errorf("before the first: %v, %v", nights, err)
	}
	when := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	for i := range 5 {
		e := mustBegin(t, j)
		if e.IsAfterBreak() != (i == 4) {
			t.Errorf("night %d comes after a break: %v", i, e.IsAfterBreak())
		}
		n := e.Night(when.AddDate(0, 0, -i)) // a clock that goes backwards
		if err := e.Write(n); err != nil {
			t.Fatal(err)
		}
		if i == 3 { // this one is cut off
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		n.Ended, n.Hosts = when, []Outcome{{Host: "zap", Verdict: Promoted, err: errors.New("not kept")}}
		if err := errors.Join(e.Write(n), e.Close()); err != nil {
			t.Fatal(err)
		}
	}
	nights, err := j.Nights(10)
	if err != nil || len(nights) != 3 || nights[0].Number != 3 || nights[2].Number != 5 || nights[2].Hosts[0].Verdict != Promoted {
		t.Errorf("%+v, %v", nights, err)
	}
	if nights, err := j.Nights(1); err != nil || len(nights) != 1 || nights[0].Number != 5 || !nights[0].Began.Equal(when.AddDate(0, 0, -4)) {
		t.Errorf("%+v, %v", nights, err)
	}
	for path, want := range map[string]os.FileMode{"": 0o700, "000005.json": 0o600, "lock": 0o600} {
		if info, err := os.Stat(filepath.Join(j.Dir, path)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestJournalBusy(t *testing.T) {
	j := Journal{Dir: t.TempDir(), Keep: 3}
	first := mustBegin(t, j)
	_, err := j.Begin()
	var busy *BusyError
	if !errors.As(err, &busy) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || !j.IsBusy() {
		t.Errorf("error %v", err)
	}
	if err := first.Close(); err != nil || j.IsBusy() {
		t.Errorf("it is still busy: %v", err)
	}
	if err := mustBegin(t, j).Close(); err != nil { // the file that is left is no lock
		t.Error(err)
	}
}

// What killed nights and others have left.
func TestJournalLeft(t *testing.T) {
	j := Journal{Dir: t.TempDir(), Keep: 9}
	outside := filepath.Join(t.TempDir(), "outside")
	for name, content := range map[string]string{
		filepath.Join(j.Dir, newPrefix+"1"):   "{",
		filepath.Join(j.Dir, "000002.json"):   "{",
		filepath.Join(j.Dir, "000003.json"):   `{"schema": "another"}`,
		filepath.Join(j.Dir, "000005.json.x"): "",
		filepath.Join(j.Dir, "notes"):         "",
		outside:                               `{"schema": "bake.night/1"}`,
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(j.Dir, "000004.json")); err != nil {
		t.Fatal(err)
	}
	e := mustBegin(t, j)
	if err := errors.Join(e.Write(e.Night(time.Now())), e.Close()); err != nil {
		t.Fatal(err)
	}
	nights, err := j.Nights(9)
	if err != nil || len(nights) != 4 || nights[3].Number != 5 {
		t.Fatalf("%+v, %v", nights, err)
	}
	for _, n := range nights[:3] {
		if len(n.Notes) != 1 || !strings.Contains(n.Notes[0], "cannot be read") {
			t.Errorf("%+v", n)
		}
	}
	if _, err := os.Stat(filepath.Join(j.Dir, newPrefix+"1")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed night left is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(j.Dir, "notes")); err != nil {
		t.Error(err)
	}
	if (Journal{Dir: outside}).IsBusy() {
		t.Error("a file is busy")
	}
	if _, err := (Journal{Dir: outside}).Begin(); err == nil {
		t.Error("a night began in a file")
	}
}
