package payload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bake/internal/origin"
)

// repository is the directory of the packages on the disk.
const repository = "apt"

func vetTrees(trees []Tree) error {
	taken := []string{repository}
	for _, t := range trees {
		if !fs.ValidPath(t.Path) || t.Path == "." || strings.ContainsAny(t.Path, "\n\t ") || t.Digest == "" {
			return fmt.Errorf("%q is no place for a tree on the payload", t.Path)
		}
		for _, other := range taken {
			if t.Path == other || strings.HasPrefix(t.Path, other+"/") || strings.HasPrefix(other, t.Path+"/") {
				return fmt.Errorf("the payload has two trees at %q and %q", other, t.Path)
			}
		}
		taken = append(taken, t.Path)
	}
	return nil
}

// squash writes a disk with the packages and trees to file, by way of the
// directory stage. Files are linked there where the file system allows it.
func (b Builder) squash(ctx context.Context, stage, file string, debs []origin.Deb, trees []Tree) error {
	if err := os.MkdirAll(filepath.Join(stage, repository), 0o755); err != nil {
		return err
	}
	if err := b.writeRepository(ctx, filepath.Join(stage, repository), debs); err != nil {
		return err
	}
	for _, t := range trees {
		if t.Check != nil {
			if err := t.Check(); err != nil {
				return err
			}
		}
		if err := copyTree(ctx, t.Dir, filepath.Join(stage, t.Path)); err != nil {
			return err
		}
	}
	_, err := b.Tools.Run(ctx, "mksquashfs", stage, file, "-noappend", "-quiet", "-no-progress",
		"-comp", "zstd", "-reproducible", "-mkfs-time", "0", "-all-time", "0", "-all-root", "-no-xattrs",
		"-action", "uncompressed@name(*.deb)", "-action", "chmod(u=rwX,go=rX)@true")
	return err
}

// writeRepository fills a flat repository. Its index is signed by nobody: the
// digest of the disk stands for all of it.
func (b Builder) writeRepository(ctx context.Context, dir string, debs []origin.Deb) error {
	var index strings.Builder
	arch := "all"
	for _, deb := range debs {
		if deb.Arch != "all" {
			arch = deb.Arch
		}
		name := fileName(deb)
		if err := place(ctx, b.debFile(deb.SHA256), filepath.Join(dir, name)); err != nil {
			return err
		}
		control, err := b.Tools.Run(ctx, "dpkg-deb", "--field", filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", strings.TrimRight(string(control), "\n"), name, deb.Size, deb.SHA256)
	}
	packages := []byte(index.String())
	release := fmt.Sprintf("Origin: bake\nLabel: bake\nSuite: payload\nCodename: payload\n"+
		"Date: Thu, 01 Jan 1970 00:00:00 UTC\nArchitectures: %s\nSHA256:\n %x %d Packages\n",
		arch, sha256.Sum256(packages), len(packages))
	return errors.Join(os.WriteFile(filepath.Join(dir, "Packages"), packages, 0o644),
		os.WriteFile(filepath.Join(dir, "Release"), []byte(release), 0o644))
}

// fileName is that of a package in an archive: without the epoch.
func fileName(d origin.Deb) string {
	_, version, found := strings.Cut(d.Version, ":")
	if !found {
		version = d.Version
	}
	return d.Name + "_" + version + "_" + d.Arch + ".deb"
}

// copyTree brings a directory to another place: links stay links, and what is
// neither file, directory nor link is refused.
func copyTree(ctx context.Context, from, to string) error {
	return filepath.WalkDir(from, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, inside)
		switch entry.Type() {
		case fs.ModeDir:
			return os.MkdirAll(target, 0o755)
		case fs.ModeSymlink:
			points, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return os.Symlink(points, target)
		case 0:
			return place(ctx, file, target)
		}
		return fmt.Errorf("%s is neither a file, a directory nor a link: it cannot go onto the payload", path.Clean(file))
	})
}

// place links a file to another name, or copies it where that cannot be.
func place(ctx context.Context, from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, unix.EXDEV) && !errors.Is(err, unix.EMLINK) && !errors.Is(err, unix.EPERM) {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(target, patient{ctx, source})
	return errors.Join(err, target.Close())
}
