// Package backup keeps the state of machines in stores from which it comes back.
//
// A backup is two files in a directory, as package archive makes them: state.tar, the
// state of one machine at one moment, and manifest.json, what is in it. This package
// knows where such pairs are put and how they are had again; it does not look into
// them, and it never speaks to a machine.
//
// There are two kinds of [Store]:
//
//   - restic: a restic repository, on S3, over sftp, on a rest server or in a local
//     directory. One snapshot is the two files, tagged bake and generation=G, under the
//     name of its host. Encrypted before it leaves, and stored once however often it
//     comes.
//   - tree: a directory with the files of each backup as they were, those that did not
//     change as hard links to the backup before. To look into with ls. It lies there
//     unencrypted.
//
// backup.yaml, beside hosts/, says what goes where; see [Config]. [Bucket] sees to it
// that a bucket keeps what it was given: versions, object lock, a time for which nothing
// can be deleted, and a writer's key that cannot shorten it.
//
// It promises:
//   - No password and no key is in the arguments of a program, in a file or in an error.
//     A program gets them in its own environment and no other secret of bake's.
//   - What a store could not do is an error that says whose the fault is, in words, and what
//     to do about it. What the program said is in it too.
//   - A store that has vanished is not begun anew: beginning one is a command of its
//     own. A backup that silently goes to a new, empty place has lost all that was.
//   - A dead process's lock stops nothing. That of a live one does, and is named.
//   - When bake is killed, however, its restic ends too, and until it has, nobody else
//     works on that host.
//
// # Decisions
//
// 2026-11: restic is run, not linked and not written anew: its format is documented,
// every distribution has it, and a repository can be restored with restic and tar alone
// when there is no bake any more ([Sheet] says how).
//
// 2026-11: what restic says is read from its JSON where it has some, and its errors from
// their text: exit statuses for a missing repository, a lock and a wrong password came
// with 0.17, and Debian 12 has 0.14. Both are understood.
//
// 2026-11: listing and fetching take no lock. They must work with keys that can only
// read, which is what is left on the day after; what was fetched is verified by its
// manifest anyway.
//
// 2026-11: restic does not renew object lock, and what it uploaded once and still needs
// would be unlocked after the retention. So [Bucket.Renew] does, after each prune, with
// the key that prunes.
package backup

import (
	"context"
	"time"
)

// The files of a backup, in its directory.
const (
	stateFile    = "state.tar"
	manifestFile = "manifest.json"
)

// A Job is a backup to be stored.
type Job struct {
	Dir        string // with state.tar and manifest.json, and nobody else writing to it
	Host       string
	Generation string    // that the machine ran, "" when nobody knows
	Time       time.Time // of the state
}

// A Snapshot is a backup in a store.
type Snapshot struct {
	ID         string    `json:"id"`
	Host       string    `json:"host"`
	Generation string    `json:"generation,omitempty"`
	Time       time.Time `json:"time"`
	Store      string    `json:"store"`           // where it is, without secrets
	Bytes      int64     `json:"bytes,omitempty"` // of the state, where the store says
	Added      int64     `json:"added,omitempty"` // to the store, when it has just been saved
}

// keep says which backups of a host stay. The newest always does.
type keep struct {
	Within                 time.Duration // all that are younger, whatever the numbers say
	Daily, Weekly, Monthly int
}

// oldest is how old a backup may get.
func (k keep) oldest() time.Duration {
	const day = 24 * time.Hour
	return max(k.Within, time.Duration(k.Daily)*day, time.Duration(k.Weekly)*7*day, time.Duration(k.Monthly)*31*day)
}

// A Store keeps backups. Every method's error may be a *fault, and every one ends when
// its context does.
type Store interface {
	// String says where it is, without secrets.
	String() string
	// Init begins the store where there is none, and says whether it has. One that is there
	// stays as it is.
	Init(ctx context.Context) (isNew bool, err error)
	// Save stores a backup, whole or not at all.
	Save(ctx context.Context, j Job) (Snapshot, error)
	// List returns what there is of a host, the oldest first.
	List(ctx context.Context, host string) ([]Snapshot, error)
	// Fetch puts the two files of a backup into a directory that exists.
	Fetch(ctx context.Context, s Snapshot, dir string) error
	// Prune removes what need not stay, and returns it. Dry only says what that is.
	Prune(ctx context.Context, host string, keep keep, dry bool) ([]Snapshot, error)
	// Check reads the store through: its structure, and of what it holds as much as
	// subset says, such as 5% or 1G, "" for none.
	Check(ctx context.Context, subset string) error
	// Unlock removes the locks of others, dead or not.
	Unlock(ctx context.Context) error
}

// progress is told how many bytes of how many are stored.
type progress func(done, total int64)
