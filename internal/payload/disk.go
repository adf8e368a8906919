package payload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// format is part of the key of a disk: another way to lay it out makes another disk.
const format = "bake.payload/1"

// known is what disk/<key>.json says.
type known struct {
	Schema string `json:"schema"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// A Tree is a directory that goes on the disk under its own name, as it is.
type Tree struct {
	Dir    string
	Digest string // of whatever is in it
}

// key names what a disk depends on.
func key(s Set, trees []Tree) string {
	text := format + "\n"
	for _, t := range trees {
		text += filepath.Base(t.Dir) + " " + t.Digest + "\n"
	}
	for _, deb := range s.Debs {
		text += deb.SHA256 + " " + deb.Name + "\n"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Find returns the disk of a Set, and trees, if it is in the cache. Its bytes are not
// looked at: the guest does that before it uses them.
func (d Depot) Find(s Set, trees ...Tree) (Disk, bool) {
	var k known
	data, err := os.ReadFile(d.record(s, trees))
	if err != nil || json.Unmarshal(data, &k) != nil || k.Schema != format {
		return Disk{}, false
	}
	disk := Disk{Path: d.path(k.SHA256), SHA256: k.SHA256, Size: k.Size}
	info, err := os.Stat(disk.Path)
	return disk, err == nil && info.Size() == k.Size
}

func (d Depot) path(sha string) string { return filepath.Join(d.Dir, "disk", sha+".squashfs") }
func (d Depot) record(s Set, trees []Tree) string {
	return filepath.Join(d.Dir, "disk", key(s, trees)+".json")
}

// Build makes the disk of a Set whose packages are in the cache, and of trees.
func (d Depot) Build(ctx context.Context, s Set, trees ...Tree) (disk Disk, err error) {
	if err := os.MkdirAll(filepath.Join(d.Dir, "disk"), 0o700); err != nil {
		return Disk{}, err
	}
	stale, _ := filepath.Glob(filepath.Join(d.Dir, "disk", ".new-*")) // of a run that was killed
	for _, left := range stale {
		if err := os.RemoveAll(left); err != nil {
			return Disk{}, err
		}
	}
	scratch, err := os.MkdirTemp(filepath.Join(d.Dir, "disk"), ".new-*")
	if err != nil {
		return Disk{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	d.stage("making the payload of %d packages, %d MiB", len(s.Debs), s.Size()>>20)
	if err := d.repository(ctx, filepath.Join(scratch, "tree", "apt"), s); err != nil {
		return Disk{}, err
	}
	image := filepath.Join(scratch, "disk")
	args := []string{filepath.Join(scratch, "tree", "apt")}
	for _, t := range trees {
		args = append(args, t.Dir)
	}
	// Times, owners and order are fixed; level 3, because packages are compressed already.
	args = append(args, image, "-quiet", "-no-progress", "-noappend", "-keep-as-directory", "-root-mode", "0755",
		"-comp", "zstd", "-Xcompression-level", "3", "-all-root", "-all-time", "0", "-mkfs-time", "0", "-no-xattrs", "-no-exports")
	if _, err := d.Tools.Run(ctx, "mksquashfs", args...); err != nil {
		return Disk{}, err
	}
	return d.store(image, d.record(s, trees))
}

// store gives a disk its name, and then its record.
func (d Depot) store(image, record string) (Disk, error) {
	sha, err := digest(image)
	if err != nil {
		return Disk{}, err
	}
	info, err := os.Stat(image)
	if err != nil {
		return Disk{}, err
	}
	disk := Disk{Path: d.path(sha), SHA256: sha, Size: info.Size()}
	if err := errors.Join(os.Chmod(image, 0o400), settle(image)); err != nil {
		return Disk{}, err
	}
	if err := os.Rename(image, disk.Path); err != nil {
		return Disk{}, err
	}
	data, err := json.Marshal(known{Schema: format, SHA256: sha, Size: disk.Size})
	if err != nil {
		return Disk{}, err
	}
	draft := image + ".json"
	if err := os.WriteFile(draft, append(data, '\n'), 0o600); err != nil {
		return Disk{}, err
	}
	return disk, os.Rename(draft, record)
}

// repository lays out packages and their index, which apt reads with
// deb [trusted=yes] file:DIR ./
func (d Depot) repository(ctx context.Context, dir string, s Set) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var index bytes.Buffer
	for _, deb := range s.Debs {
		path := d.deb(deb.SHA256)
		if got, err := digest(path); err != nil {
			return err
		} else if got != deb.SHA256 {
			// What is wrong would be found again at each run.
			return errors.Join(&IntegrityError{fmt.Sprintf("%s in the cache has the SHA-256 %s, want %s", deb.Name, got, deb.SHA256)}, os.Remove(path))
		}
		control, err := d.Tools.Run(ctx, "dpkg-deb", "--field", path)
		if err != nil {
			return err
		}
		if err := belongs(string(control), deb); err != nil {
			return err
		}
		name := deb.SHA256 + ".deb"
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", strings.TrimRight(string(control), "\n"), name, deb.Size, deb.SHA256)
		if err := os.Link(path, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	// The date is anything but the day it was made.
	sum := sha256.Sum256(index.Bytes())
	release := fmt.Sprintf("Origin: bake\nLabel: bake\nDate: Tue, 01 Jan 1980 00:00:00 UTC\nSHA256:\n %x %d Packages\n", sum, index.Len())
	for name, content := range map[string][]byte{"Packages": index.Bytes(), "Release": []byte(release)} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, content, 0o644), os.Chmod(path, 0o644)); err != nil {
			return err
		}
	}
	// Whatever the umask is here: apt reads it as a user of its own.
	return errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
}

// belongs says whether a control file is that of the package. A stanza of the index
// has no empty line, or what follows would be another package.
func belongs(control string, deb Deb) error {
	fields := strings.Split(control, "\n")
	for _, want := range []string{"Package: " + deb.Name, "Version: " + deb.Version, "Architecture: " + deb.Arch} {
		if !slices.Contains(fields, want) {
			return &IntegrityError{fmt.Sprintf("the package file of %s %s says other things of itself than the index did", deb.Name, deb.Version)}
		}
	}
	if strings.Contains(strings.TrimRight(control, "\n"), "\n\n") {
		return &IntegrityError{fmt.Sprintf("the control file of %s has an empty line", deb.Name)}
	}
	return nil
}

// Place puts a copy of the disk into a directory, unless it is there, and returns its
// path.
func (disk Disk) Place(dir string) (path string, err error) {
	path = filepath.Join(dir, disk.SHA256+".squashfs")
	if info, err := os.Stat(path); err == nil && info.Size() == disk.Size {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	source, err := os.Open(disk.Path)
	if err != nil {
		return "", err
	}
	defer source.Close()
	draft, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(draft.Name()) }() // gone by its new name if all is well
	if _, err := io.Copy(draft, source); err != nil {
		return "", errors.Join(err, draft.Close())
	}
	if err := errors.Join(draft.Chmod(0o400), draft.Sync(), draft.Close()); err != nil {
		return "", err
	}
	got, err := digest(draft.Name())
	if err != nil {
		return "", err
	}
	if got != disk.SHA256 {
		return "", &IntegrityError{fmt.Sprintf("%s has the SHA-256 %s: remove it", disk.Path, got)}
	}
	return path, os.Rename(draft.Name(), path)
}

// Packages lists what a Set has as NAME=VERSION.
func Packages(s Set) (all []string) {
	for _, deb := range s.Debs {
		all = append(all, deb.Name+"="+deb.Version)
	}
	return all
}
