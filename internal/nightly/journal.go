package nightly

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"bake/internal/lazy"
)

const (
	schema    = "bake.night/1"
	lockName  = "lock"
	pageName  = "index.html"
	newPrefix = ".new-" // of what is not finished
	maxReport = 16 << 20
)

// A Journal is a directory of nights, 0700, that is there when the first has begun.
type Journal struct {
	Dir  string
	Keep int // nights, the newest
}

// A BusyError says that there is a night under way.
type BusyError struct {
	Path string // of the lock
	PID  string // of the process, "" when it is not known
}

func (e *BusyError) Error() string {
	who := ""
	if e.PID != "" {
		who = ", process " + e.PID
	}
	return fmt.Sprintf("another night is under way%s (%s)", who, e.Path)
}

// An Entry is a night that is under way, and the right to have one.
type Entry struct {
	journal Journal
	number  int
	held    *flock.Flock
}

// Begin begins a night, of which there is one at a time until it is closed or its
// process ends, however it ends. The error is a *BusyError when there is one.
func (j Journal) Begin() (*Entry, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Chmod(j.Dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(j.Dir, lockName)
	held := flock.New(path, flock.SetPermissions(0o600))
	got, err := held.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w", path, err)
	case !got:
		pid, _ := os.ReadFile(path) // for a word in the message
		return nil, &BusyError{path, strings.TrimSpace(string(pid))}
	}
	number, err := j.prepare(path)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return &Entry{j, number, held}, nil
}

// prepare says whose lock it is, removes what killed nights left, and finds the
// number of this one.
func (j Journal) prepare(path string) (number int, err error) {
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(j.Dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), newPrefix) {
			if err := os.Remove(filepath.Join(j.Dir, entry.Name())); err != nil {
				return 0, err
			}
		}
		if n, ok := numberOf(entry.Name()); ok {
			number = max(number, n)
		}
	}
	return number + 1, nil
}

var reportName = lazy.Regexp(`^([0-9]{6,9})\.json$`)

func numberOf(name string) (int, bool) {
	m := reportName.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

func (j Journal) file(number int) string {
	return filepath.Join(j.Dir, fmt.Sprintf("%06d.json", number))
}

// IsAfterBreak says whether the night before this one was cut off.
func (e *Entry) IsAfterBreak() bool {
	last, err := read(e.journal.file(e.number - 1))
	return err != nil && e.number > 1 || err == nil && last.Ended.IsZero()
}

// Night is one that has just begun.
func (e *Entry) Night(began time.Time) Night {
	return Night{Schema: schema, Number: e.number, Began: began.UTC().Truncate(time.Second)}
}

// Write puts down how far the night is, in one step.
func (e *Entry) Write(n Night) error {
	content, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	if err := replace(e.journal.file(e.number), append(content, '\n')); err != nil {
		return fmt.Errorf("writing the night's report: %w", err)
	}
	return nil
}

func replace(path string, content []byte) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), newPrefix+"*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name()) // or the next night does
		}
	}()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}

// Page is where the page about the nights is, "" when there is none yet.
func (j Journal) Page() string {
	path := filepath.Join(j.Dir, pageName)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// WritePage puts a page about the nights beside them, index.html, in one step.
func (j Journal) WritePage(content []byte) error {
	if err := replace(filepath.Join(j.Dir, pageName), content); err != nil {
		return fmt.Errorf("writing the page of the nights: %w", err)
	}
	return nil
}

// Close ends the night and removes those that are no longer kept.
func (e *Entry) Close() error {
	numbers, err := e.journal.numbers()
	if err == nil {
		for _, number := range numbers[:max(0, len(numbers)-max(e.journal.Keep, 1))] {
			err = errors.Join(err, os.Remove(e.journal.file(number)))
		}
	}
	return errors.Join(err, e.held.Close())
}

// numbers are those of the nights that are kept, in order.
func (j Journal) numbers() ([]int, error) {
	entries, err := os.ReadDir(j.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []int
	for _, entry := range entries {
		if n, ok := numberOf(entry.Name()); ok {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, nil
}

// Nights returns the last so many nights, the newest last. One whose report cannot be
// read is there with a note and nothing else.
func (j Journal) Nights(most int) ([]Night, error) {
	numbers, err := j.numbers()
	if err != nil {
		return nil, err
	}
	var nights []Night
	for _, number := range numbers[max(0, len(numbers)-most):] {
		n, err := read(j.file(number))
		if err != nil {
			n = Night{Notes: []string{fmt.Sprintf("its report cannot be read: %v", err)}}
		}
		n.Number = number
		nights = append(nights, n)
	}
	return nights, nil
}

func read(path string) (n Night, err error) {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return n, err
	case !info.Mode().IsRegular() || info.Size() > maxReport:
		return n, errors.New("it is not a regular file, or a large one")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(content, &n); err != nil {
		return n, err
	}
	if n.Schema != schema {
		return Night{}, fmt.Errorf("its schema is %q, want %q", n.Schema, schema)
	}
	return n, nil
}

// IsBusy says whether a night is under way.
func (j Journal) IsBusy() bool {
	path := filepath.Join(j.Dir, lockName)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	held := flock.New(path, flock.SetFlag(os.O_RDONLY))
	got, err := held.TryRLock()
	_ = held.Close()
	return err == nil && !got
}
