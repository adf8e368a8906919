package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Share puts a large file that others use, too, into the draft: as a link to it
// or, on another file system, to the one of the latest generation, else as a copy.
// The caller knows what the file is and that nobody changes it: it is not hashed
// again before somebody verifies the generation.
func (d *Draft) Share(ctx context.Context, name, path string, is File) error {
	if err := d.share(ctx, name, path, is); err != nil {
		return fmt.Errorf("putting %s into a generation of host %s: %w", path, d.host, err)
	}
	d.shared[name] = is
	return nil
}

func (d *Draft) share(ctx context.Context, name, path string, is File) error {
	if err := vetName("file", name); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err != nil {
		return err
	} else if !info.Mode().IsRegular() || info.Mode().Perm() != 0o600 || info.Size() != is.Size {
		return fmt.Errorf("it is no regular file of %d bytes with mode 0600", is.Size)
	}
	step("share " + name)
	err := os.Link(path, d.Path(name))
	if err == nil || !cannotLink(err) {
		return err
	}
	if g, err := Open(filepath.Dir(filepath.Dir(d.dir)), d.host, latest); err == nil && g.Manifest.Files[name] == is {
		if verifyFile(ctx, g.Path(name), is) == nil && os.Link(g.Path(name), d.Path(name)) == nil {
			return nil
		}
	}
	return copyFile(ctx, path, d.Path(name), is)
}

func cannotLink(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP)
}

func copyFile(ctx context.Context, from, to string, is File) error {
	source, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(target, hash), patient{ctx, source})
	if err := errors.Join(err, target.Chmod(0o600), target.Sync(), target.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != is.SHA256 {
		return &IntegrityError{File: from, Want: is.SHA256, Got: got}
	}
	return nil
}

// sameFiles are the shared files that a generation has, too: the very same ones.
func (d *Draft) sameFiles(g Generation) map[string]bool {
	same := map[string]bool{}
	for name, is := range d.shared {
		mine, err := os.Lstat(d.Path(name))
		theirs, otherErr := os.Lstat(g.Path(name))
		same[name] = err == nil && otherErr == nil && os.SameFile(mine, theirs) && g.Manifest.Files[name] == is
	}
	return same
}
