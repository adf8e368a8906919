package artifact

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	seenSchema = "bake.seen/1"
	seenFor    = 7 * 24 * time.Hour // until a file is hashed again, as disks forget, too
	settled    = 2 * time.Second    // between the last change of a file and a hash that may be remembered
)

// Seen remembers in which state the files of generations were hashed: device, inode,
// size, and the times of the last change, of which nobody but root can set the last one.
// It may be used by several goroutines. The zero value has seen nothing.
type Seen struct {
	mutex   sync.Mutex
	files   map[string]sighting // by path
	changed bool
	clock   func() time.Time // nil: time.Now
}

// state tells one state of one file from any other.
type state struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime"` // nanoseconds since 1970
	Ctime  int64  `json:"ctime"`
}

// sighting is a file that was hashed.
type sighting struct {
	state
	SHA256 string    `json:"sha256"`
	At     time.Time `json:"at"`
}

type seenFile struct {
	Schema string              `json:"schema"`
	Files  map[string]sighting `json:"files"`
}

// ReadSeen reads what Write has written. A file that is missing or makes no sense is the
// same as having seen nothing.
func ReadSeen(path string) *Seen {
	s := &Seen{files: map[string]sighting{}}
	var f seenFile
	data, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(data, &f) == nil && f.Schema == seenSchema && f.Files != nil {
		s.files = f.Files
	}
	return s
}

// Write puts down what was seen, 0600, if that is news. Nothing is synced: losing the file
// costs some hashes. One run at a time does it.
func (s *Seen) Write(path string) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.changed {
		return nil
	}
	now := s.now()
	for path, seen := range s.files {
		if !seen.isFresh(now) {
			delete(s.files, path)
		}
	}
	data, err := json.Marshal(seenFile{seenSchema, s.files})
	if err != nil {
		return err
	}
	draft := path + ".new"
	if err := os.WriteFile(draft, append(data, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	s.changed = false
	return nil
}

func (s *Seen) now() time.Time {
	if s.clock != nil {
		return s.clock()
	}
	return time.Now()
}

// isFresh says whether a hash still counts. One that is yet to come was made by a clock
// that was wrong.
func (s sighting) isFresh(now time.Time) bool {
	age := now.Sub(s.At)
	return age >= 0 && age < seenFor
}

// VerifySeen is Verify, but does not hash a file that is in the very state in which it was
// hashed in the last week. It is for who looks every night: what is about to be used is
// verified by Verify.
func (g Generation) VerifySeen(ctx context.Context, s *Seen) error {
	known, states := map[string]bool{}, map[string]state{}
	start := s.now()
	for name, want := range g.Manifest.Files {
		is, err := stateOf(g.Path(name))
		if err != nil {
			continue // Verify says what is wrong
		}
		if states[name] = is; s.has(g.Path(name), is, want, start) {
			known[name] = true
		}
	}
	if err := g.verify(ctx, known); err != nil {
		return fmt.Errorf("verifying generation %s of host %s: %w", g.Manifest.Generation, g.Manifest.Host, err)
	}
	for name, was := range states {
		// A change after start must show in the ctime, however coarse the file system's clock is.
		if is, err := stateOf(g.Path(name)); err == nil && is == was && !known[name] && start.Sub(time.Unix(0, is.Ctime)) > settled {
			s.note(g.Path(name), sighting{is, g.Manifest.Files[name].SHA256, start.UTC().Round(0)})
		}
	}
	return nil
}

func (s *Seen) has(path string, is state, want File, now time.Time) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	seen, ok := s.files[path]
	return ok && seen.state == is && seen.SHA256 == want.SHA256 && is.Size == want.Size && seen.isFresh(now)
}

func (s *Seen) note(path string, seen sighting) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.files == nil {
		s.files = map[string]sighting{}
	}
	s.files[path], s.changed = seen, true
}

// stateOf looks at a regular file.
func stateOf(path string) (state, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return state{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return state{}, fmt.Errorf("%s is not a regular file", path)
	}
	return state{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}
