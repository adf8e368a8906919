package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"bake/internal/attest"
)

// fileNames are all the names a seed directory can hold.
var fileNames = []string{attest.Program, attest.Claims, "meta-data", "network-config", "user-data"}

// writeDir makes path a directory of these files. An earlier seed is exchanged
// for the new one in a single step and then removed.
func writeDir(path string, files []file) (err error) {
	path, err = filepath.Abs(path) // "." has no parent and no name of its own
	if err != nil {
		return err
	}
	exists, err := replaceableDir(path)
	if err != nil {
		return err
	}
	draft, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	// After an exchange the draft is the earlier seed, after a rename it is gone.
	defer func() { err = errors.Join(err, removeDir(draft)) }()
	if err := fillDir(draft, files); err != nil {
		return err
	}
	reached("written")
	if err := putInPlace(draft, path, exists); err != nil {
		return fmt.Errorf("moving the new directory into place: %w", err)
	}
	reached("named")
	return syncDir(filepath.Dir(path))
}

// putInPlace gives the draft its path, in the place of an earlier seed if one exists.
// Another run may make or remove that in the meantime.
func putInPlace(draft, path string, exists bool) (err error) {
	for range 100 {
		if exists {
			err = unix.Renameat2(unix.AT_FDCWD, draft, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
		} else {
			err = os.Rename(draft, path)
		}
		if !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if exists, err = replaceableDir(path); err != nil {
			return err
		}
	}
	return errors.New("other runs keep replacing it")
}

// replaceableDir says whether path exists, and refuses anything that is not a
// directory of a seed's files and nothing else.
func replaceableDir(path string) (exists bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !info.IsDir() {
		return true, fmt.Errorf("refusing to replace what is there: it is not a directory (%s)", info.Mode())
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) { // another run has exchanged and removed it
		return false, nil
	}
	if err != nil {
		return true, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !slices.Contains(fileNames, e.Name()) {
			return true, fmt.Errorf("refusing to replace the directory: %q in it is not of a seed", e.Name())
		}
	}
	return true, nil
}

// fillDir writes the files into an empty directory and reads them back.
func fillDir(dir string, files []file) error {
	if err := os.Chmod(dir, 0o700); err != nil { // the umask may have taken bits away
		return err
	}
	for _, f := range files {
		if err := createFile(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	seen, err := readDir(dir)
	if err != nil {
		return err
	}
	if err := compare(files, seen); err != nil {
		return err
	}
	return syncDir(dir)
}

func createFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(writeSynced(f, data), f.Close())
}

func readDir(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []file
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{e.Name(), data})
	}
	return files, nil
}

// removeDir removes a seed directory, if there is one, but never a file that
// someone else put into it.
func removeDir(dir string) error {
	for _, name := range fileNames {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
