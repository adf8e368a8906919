package payload

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Prune removes the disks that no generation has a link to and the package files
// that are not to be kept, by their SHA-256. With dry it only says which. What is
// removed and wanted again is fetched and built again.
func (b Builder) Prune(ctx context.Context, keep map[string]bool, dry bool) (removed []string, freed int64, err error) {
	if _, err := os.Stat(b.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	_, done, err := b.work(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if !dry {
		b.forget()
	}
	for _, sub := range []string{"debs", "disk"} {
		entries, err := os.ReadDir(filepath.Join(b.Dir, sub))
		if err != nil {
			return removed, freed, err
		}
		slices.SortStableFunc(entries, func(x, y fs.DirEntry) int { // notes last: what they are about decides
			return strings.Compare(filepath.Ext(y.Name()), filepath.Ext(x.Name()))
		})
		for _, entry := range entries {
			path := filepath.Join(b.Dir, sub, entry.Name())
			size, isUnused, err := unused(path, keep)
			if err == nil && isUnused && !dry {
				err = os.Remove(path)
			}
			if err != nil {
				return removed, freed, err
			}
			if isUnused && !strings.HasSuffix(path, ".json") {
				removed, freed = append(removed, path), freed+size
			}
		}
	}
	return removed, freed, nil
}

// unused says whether a file of the cache may go.
func unused(path string, keep map[string]bool) (size int64, is bool, err error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return 0, false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	name := filepath.Base(path)
	switch filepath.Ext(name) {
	case ".deb":
		return s.Size, !keep[strings.TrimSuffix(name, ".deb")], nil
	case ".squashfs":
		return s.Size, s.Nlink == 1, nil
	case ".json": // of a disk that is gone; it is read again in any case
		content, err := os.ReadFile(path)
		var n note
		if err != nil || json.Unmarshal(content, &n) != nil {
			return 0, false, err
		}
		_, err = os.Lstat(filepath.Join(filepath.Dir(path), n.SHA256+".squashfs"))
		return 0, errors.Is(err, fs.ErrNotExist), nil
	}
	return 0, false, nil
}
