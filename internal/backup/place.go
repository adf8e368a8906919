package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Place is where the backups of one host are made ready, for one process at a time:
//
//	lock         held while somebody is in it; has the number of its process
//	stage/       what is being stored or was fetched, 0700; gone when nobody is in
//	record.json  what the last backup came to, and the last good one
type Place struct {
	dir  string
	lock *os.File
}

// A BusyError says that somebody else works on a host's backups.
type BusyError struct {
	Path string
	PID  string // of the process, "" when it is not known
}

func (e *BusyError) Error() string {
	who := ""
	if e.PID != "" {
		who = ", process " + e.PID
	}
	return fmt.Sprintf("another bake works on its backups%s (%s)", who, e.Path)
}

// Lack marks the error as one of this machine, that is over when the other is done.
func (e *BusyError) Lack() bool { return true }

// Enter makes a host's place below root and takes its lock. The lock is the kernel's and
// lasts as long as this process and the programs it was given to (see Restic.Hold of a Plan): a
// killed bake whose restic still runs has not left.
func Enter(root, host string) (*Place, error) {
	dir := filepath.Join(root, host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Place{dir, lock}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		pid, _ := os.ReadFile(path) // for a word in the message
		err = &BusyError{path, strings.TrimSpace(string(pid))}
		return nil, errors.Join(err, lock.Close())
	}
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintf(lock, "%d\n", os.Getpid())
	}
	if err = errors.Join(err, p.clear()); err != nil {
		return nil, fmt.Errorf("entering %s: %w", dir, errors.Join(err, lock.Close()))
	}
	return p, nil
}

// Hold is the lock, for a child process to inherit.
func (p *Place) Hold() *os.File { return p.lock }

func (p *Place) stage() string { return filepath.Join(p.dir, "stage") }

// clear removes what a killed run has left: a machine's state lies nowhere longer than
// it must.
func (p *Place) clear() error { return os.RemoveAll(p.stage()) }

// Stage returns an empty directory for the two files of a backup, on the disk that has
// the place. Leave removes it.
func (p *Place) Stage() (string, error) {
	return p.stage(), errors.Join(p.clear(), os.Mkdir(p.stage(), 0o700))
}

// Leave removes the stage and gives the lock back.
func (p *Place) Leave() error { return errors.Join(p.clear(), p.lock.Close()) }

// A Record is what the last backup of a host came to.
type Record struct {
	Began    time.Time  `json:"began"`
	Ended    time.Time  `json:"ended"`
	Exit     int        `json:"exit"`
	Reason   string     `json:"reason,omitempty"` // in words, if it was not good
	Saved    []Snapshot `json:"saved,omitempty"`  // in each store
	LastGood time.Time  `json:"last_good,omitzero"`
}

// ReadRecord returns the record of a host's place below root, a zero one for a host that
// was never backed up from here.
func ReadRecord(root, host string) (r Record, err error) {
	content, err := os.ReadFile(filepath.Join(root, host, "record.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &r)
	}
	return r, err
}

// Write puts a record down in one step.
func (p *Place) Write(r Record) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(p.dir, "record.json"), append(content, '\n'))
}

// replace writes a file for its owner's eyes, whole or not at all.
func replace(path string, content []byte) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // it is in nobody's way
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
