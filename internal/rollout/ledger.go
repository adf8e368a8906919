package rollout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/lazy"
)

// A Ledger keeps one document that several machines change.
type Ledger interface {
	// Read returns the document and its version, nil and "" when there is none.
	Read(ctx context.Context) (content []byte, version string, err error)
	// Write replaces the document if it is still that version, and returns the new one.
	// The error is ErrMoved when it is not.
	Write(ctx context.Context, content []byte, version string) (string, error)
	String() string
}

// ErrMoved says that a document is not what it was when it was read.
var ErrMoved = errors.New("somebody else has written meanwhile")

const (
	newPrefix   = ".new-"
	keptRecords = 3
	abandoned   = time.Hour
	maxRecord   = 64 << 20
)

// Dir is a ledger in a directory, which may be one of a network file system:
//
//	0000000042.json   the 42nd version of the document; the highest number counts
//
// A version is written beside and linked to its number, which fails where the number is
// taken; there is no lock that a crash could leave.
type Dir string

func (d Dir) String() string { return string(d) }

var versionName = lazy.Regexp(`^([0-9]{10})\.json$`)

func (d Dir) path(number int64) string {
	return filepath.Join(string(d), fmt.Sprintf("%010d.json", number))
}

// numbers are those of the versions that are there, in order.
func (d Dir) numbers() (all []int64, err error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		if m := versionName.FindStringSubmatch(entry.Name()); m != nil {
			n, _ := strconv.ParseInt(m[1], 10, 64) // ten digits
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, err
}

func (d Dir) newest() (int64, error) {
	all, err := d.numbers()
	if err != nil || len(all) == 0 {
		return 0, err
	}
	return all[len(all)-1], nil
}

// Read implements Ledger.
func (d Dir) Read(ctx context.Context) ([]byte, string, error) {
	for {
		if ctx.Err() != nil {
			return nil, "", context.Cause(ctx)
		}
		number, err := d.newest()
		if err != nil || number == 0 {
			return nil, "", err
		}
		info, err := os.Lstat(d.path(number))
		if err == nil && (!info.Mode().IsRegular() || info.Size() > maxRecord) {
			return nil, "", fmt.Errorf("%s is no record of a rollout", d.path(number))
		}
		content, err := os.ReadFile(d.path(number))
		if errors.Is(err, fs.ErrNotExist) { // others have written several meanwhile
			continue
		}
		return content, strconv.FormatInt(number, 10), err
	}
}

// Write implements Ledger.
func (d Dir) Write(_ context.Context, content []byte, version string) (_ string, err error) {
	if err := os.MkdirAll(string(d), 0o770); err != nil {
		return "", err
	}
	was, _ := strconv.ParseInt("0"+version, 10, 64)
	newest, err := d.newest()
	if err != nil {
		return "", err
	}
	if newest != was {
		return "", ErrMoved
	}
	file, err := os.CreateTemp(string(d), newPrefix+"*")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(0o660) // for all who may drive
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	linked("linking")
	mine := was + 1
	if err := os.Link(file.Name(), d.path(mine)); errors.Is(err, fs.ErrExist) {
		return "", ErrMoved
	} else if err != nil {
		return "", err
	}
	all, err := d.numbers()
	if err != nil {
		return "", err
	}
	if all[len(all)-1] != mine { // the number was free because others have gone past it
		return "", errors.Join(ErrMoved, os.Remove(d.path(mine)))
	}
	for _, old := range all[:max(0, len(all)-keptRecords)] {
		if err := os.Remove(d.path(old)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return strconv.FormatInt(mine, 10), errors.Join(d.sync(), d.tidy())
}

// linked is called before a version gets its number. Tests go past it there.
var linked = func(string) {}

func (d Dir) sync() error {
	dir, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// tidy removes what killed runs have left.
func (d Dir) tidy() error {
	entries, err := os.ReadDir(string(d))
	for _, entry := range entries {
		info, gone := entry.Info()
		if strings.HasPrefix(entry.Name(), newPrefix) && gone == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(filepath.Join(string(d), entry.Name())) // or the next does
		}
	}
	return err
}
