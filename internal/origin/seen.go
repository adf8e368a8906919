package origin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	seenName   = "seen.json"
	seenSchema = "bake.seen/1"
	lockName   = ".seen.lock"
	lockRetry  = 50 * time.Millisecond
)

// sighting is a list that was believed.
type sighting struct {
	Signed time.Time `json:"signed"`
	SHA256 string    `json:"sha256"` // of the list itself
	Signer string    `json:"signer"`
}

// memory is the content of seen.json: the newest list of each series.
type memory struct {
	Schema string              `json:"schema"`
	Series map[string]sighting `json:"series"`
}

// admit remembers a list as seen, or refuses it as a replay of an older one. An
// older one that is allowed is not remembered.
func admit(ctx context.Context, dir, series, address string, list sighting, allowOlder bool) error {
	if dir == "" {
		return errors.New("there is no directory to remember the newest list of checksums in")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	held := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	if _, err := held.TryLockContext(ctx, lockRetry); err != nil {
		return fmt.Errorf("waiting for %s: %w", held.Path(), err)
	}
	defer held.Close()
	known, err := recall(filepath.Join(dir, seenName))
	if err != nil {
		return err
	}
	newest := known.Series[series]
	if list.Signed.Before(newest.Signed) {
		if allowOlder || list.SHA256 == newest.SHA256 {
			return nil
		}
		return &IntegrityError{URL: address,
			Err: fmt.Errorf("a replay: this list of %s was signed by %s at %s, but one signed at %s was seen before",
				series, list.Signer, stamp(list.Signed), stamp(newest.Signed)),
			Advice: "use a mirror that is up to date, or allow the older list on purpose (--allow-older)"}
	}
	if list == newest {
		return nil
	}
	known.Series[series] = list
	content, err := json.MarshalIndent(known, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, seenName), append(content, '\n'), 0o600)
}

// recall reads what was seen. A file that is absent is a machine that has seen
// nothing; one that is damaged is an error.
func recall(path string) (memory, error) {
	known := memory{Schema: seenSchema, Series: map[string]sighting{}}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return memory{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(&known)
	switch {
	case err == nil && known.Schema != seenSchema:
		err = fmt.Errorf("its schema is %s, want %s", quote(known.Schema), seenSchema)
	case err == nil && (known.Series == nil || decoder.More()):
		err = errors.New("it is not as it was written")
	}
	for series, s := range known.Series {
		if err == nil && (s.Signed.IsZero() || !isDigest("sha256", s.SHA256)) {
			err = fmt.Errorf("the entry of %s is not as it was written", quote(series))
		}
	}
	if err != nil {
		return memory{}, &IntegrityError{URL: path, Err: fmt.Errorf("what was seen is damaged: %w", err),
			Advice: "remove the file to begin anew: the next list of each series is then believed whatever its age"}
	}
	return known, nil
}

// replace writes a file that is whole at every moment.
func replace(path string, content []byte, mode os.FileMode) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone by then unless something failed
	_, err = temporary.Write(content)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
