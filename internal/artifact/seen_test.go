package artifact

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// later is a clock by which what was written now has settled.
func later(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(time.Hour + by) }
}

func TestSeen(t *testing.T) {
	g := mustBake(t, t.TempDir(), genA)
	path := filepath.Join(t.TempDir(), "seen.json")
	first := ReadSeen(path)
	if err := first.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("nothing was seen, and it is written")
	}
	if err := g.VerifySeen(t.Context(), first); err != nil || len(first.files) > 0 {
		t.Errorf("%v: what was written a moment ago is remembered: %v", err, first.files)
	}
	first.clock = later(0)
	if err := g.VerifySeen(t.Context(), first); err != nil || len(first.files) != 3 {
		t.Fatalf("%v, %v", err, first.files)
	}
	if err := first.Write(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	s := ReadSeen(path)
	s.clock = later(time.Minute)
	if err := g.VerifySeen(t.Context(), s); err != nil || s.changed || !maps.Equal(s.files, first.files) {
		t.Errorf("%v: it was hashed again: %v", err, s.files)
	}

	// A file that is changed is hashed, whatever was seen.
	disk := g.Path("disk.qcow2")
	was, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	other := append([]byte{'x'}, was[1:]...)
	if err := os.WriteFile(disk, other, 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *IntegrityError
	if err := g.VerifySeen(t.Context(), s); !errors.As(err, &damaged) || damaged.File != disk {
		t.Errorf("%v", err)
	}

	// That it is not hashed shows where the memory lies: for a week, and only of the same
	// content.
	is, err := stateOf(disk)
	if err != nil {
		t.Fatal(err)
	}
	lie := s.files[disk]
	lie.state = is
	for name, test := range map[string]struct {
		change   func(*sighting)
		believed bool
	}{
		"as it is":           {func(*sighting) {}, true},
		"six days old":       {func(l *sighting) { l.At = l.At.Add(-6 * 24 * time.Hour) }, true},
		"a week old":         {func(l *sighting) { l.At = l.At.Add(-7 * 24 * time.Hour) }, false},
		"of tomorrow":        {func(l *sighting) { l.At = l.At.Add(24 * time.Hour) }, false},
		"of another content": {func(l *sighting) { l.SHA256 = "00" }, false},
		"of another inode":   {func(l *sighting) { l.Inode++ }, false},
		"of another size":    {func(l *sighting) { l.Size++ }, false},
		"of another time":    {func(l *sighting) { l.Ctime++ }, false},
		"touched since":      {func(l *sighting) { l.Mtime++ }, false},
	} {
		one := lie
		test.change(&one)
		s.files[disk] = one
		if err := g.VerifySeen(t.Context(), s); (err == nil) != test.believed {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.files[disk] = lie
	if err := g.Verify(t.Context()); !errors.As(err, &damaged) {
		t.Errorf("Verify believes what was seen: %v", err)
	}
	for name, spoil := range map[string]func() error{
		"a link": func() error { return errors.Join(os.Remove(disk), os.Symlink("seed.iso", disk)) },
		"gone":   func() error { return os.Remove(disk) },
		"one too many": func() error {
			return errors.Join(os.WriteFile(disk, was, 0o600), os.WriteFile(g.Path("more"), nil, 0o600))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if err := g.VerifySeen(t.Context(), s); !errors.As(err, &damaged) {
			t.Errorf("%s: %v", name, err)
		}
		_ = os.Remove(g.Path("more"))
		_ = os.WriteFile(disk, was, 0o600)
	}
}

// What is no memory is none, and what is old is not written again.
func TestSeenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seen.json")
	for _, text := range []string{"", "{", `{"schema": "another", "files": {"x": {}}}`, `{"schema": "bake.seen/1"}`, "[]"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s := ReadSeen(path); s.files == nil || len(s.files) > 0 {
			t.Errorf("%q: %v", text, s.files)
		}
	}
	var s Seen
	s.note("new", sighting{At: time.Now()})
	s.note("old", sighting{At: time.Now().Add(-8 * 24 * time.Hour)})
	if err := s.Write(path); err != nil {
		t.Fatal(err)
	}
	if again := ReadSeen(path); len(again.files) != 1 || again.files["new"].At.IsZero() {
		t.Errorf("%v", again.files)
	}
	s.note("new", sighting{At: time.Now()})
	if err := s.Write(filepath.Join(path, "below")); err == nil {
		t.Error("it was written below a file")
	}
}
