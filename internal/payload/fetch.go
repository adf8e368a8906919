package payload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

func (d Depot) deb(sha string) string { return filepath.Join(d.Dir, "debs", sha+".deb") }

// Fetch brings the packages of a Set that are not in the cache.
func (d Depot) Fetch(ctx context.Context, w Want, s Set) error {
	if err := os.MkdirAll(filepath.Join(d.Dir, "debs"), 0o700); err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(s.Debs), func(deb Deb) bool {
		_, err := os.Stat(d.deb(deb.SHA256))
		return err == nil
	})
	if len(missing) == 0 {
		return nil
	}
	a, err := d.world(ctx, w)
	if err != nil {
		return err
	}
	if err := d.listed(ctx, a, s, missing); err != nil {
		return err
	}
	size := Set{Debs: missing}.Size()
	d.stage("fetching %d packages, %d MiB", len(missing), (size+1<<20-1)>>20)
	args := []string{"download", "--"}
	for _, deb := range missing {
		args = append(args, a.full(deb))
	}
	into := filepath.Join(a.root, "var/cache/apt/archives/partial/new")
	if err := errors.Join(os.RemoveAll(into), os.MkdirAll(into, 0o700)); err != nil {
		return err
	}
	err = d.download(ctx, a, into, args)
	var gone *NetworkError
	if errors.As(err, &gone) { // perhaps the lists are of yesterday
		if err := errors.Join(d.update(ctx, a), d.listed(ctx, a, s, missing)); err != nil {
			return err
		}
		err = d.download(ctx, a, into, args)
	}
	if err != nil {
		return err
	}
	return d.keep(into, missing)
}

// listed brings apt's lists up to date if they do not know the packages, and makes
// sure that what they offer under these versions has these digests.
func (d Depot) listed(ctx context.Context, a world, s Set, missing []Deb) error {
	var names []string
	for _, deb := range s.Debs {
		names = append(names, a.full(deb))
	}
	offered, err := d.plan(ctx, a, names)
	if err != nil || !offers(offered, missing) {
		if err := d.update(ctx, a); err != nil {
			return err
		}
		offered, err = d.plan(ctx, a, names)
	}
	var unknown *UnknownError
	if err != nil && !errors.As(err, &unknown) {
		return err
	}
	for _, deb := range missing {
		at := slices.IndexFunc(offered, func(o Deb) bool { return o.Name == deb.Name && o.Version == deb.Version && o.Arch == deb.Arch })
		if at < 0 {
			return &NetworkError{fmt.Sprintf("%s %s, which bake.lock names, is no longer offered: bake pull --update, or ask an archive that keeps old packages",
				deb.Name, deb.Version)}
		}
		if offered[at].SHA256 != deb.SHA256 {
			return &IntegrityError{fmt.Sprintf("%s %s has the SHA-256 %s by the archive's index, %s by bake.lock",
				deb.Name, deb.Version, offered[at].SHA256, deb.SHA256)}
		}
	}
	return nil
}

func offers(offered, missing []Deb) bool {
	return !slices.ContainsFunc(missing, func(deb Deb) bool { return !slices.Contains(offered, deb) })
}

// download has apt write files into a directory.
func (d Depot) download(ctx context.Context, a world, into string, args []string) error {
	cmd, err := d.aptCommand(ctx, a, args...)
	if err != nil {
		return err
	}
	cmd.Dir = into
	_, err = a.run(ctx, cmd)
	return err
}

// keep moves files into the cache that are what they must be.
func (d Depot) keep(from string, missing []Deb) error {
	found, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range found {
		deb, err := debOf(entry.Name())
		if err != nil {
			return err
		}
		at := slices.IndexFunc(missing, func(m Deb) bool {
			return m.Name == deb.Name && m.Version == deb.Version && m.Arch == deb.Arch
		})
		if at < 0 {
			return fmt.Errorf("apt fetched %s, which nobody asked for", entry.Name())
		}
		path := filepath.Join(from, entry.Name())
		got, err := digest(path)
		if err != nil {
			return err
		}
		if got != missing[at].SHA256 {
			return &IntegrityError{fmt.Sprintf("%s has the SHA-256 %s, want %s", entry.Name(), got, missing[at].SHA256)}
		}
		if err := errors.Join(os.Chmod(path, 0o644), settle(path)); err != nil { // the mode on the disk
			return err
		}
		if err := os.Rename(path, d.deb(got)); err != nil {
			return err
		}
	}
	for _, deb := range missing {
		if _, err := os.Stat(d.deb(deb.SHA256)); errors.Is(err, fs.ErrNotExist) {
			return &NetworkError{fmt.Sprintf("%s %s did not come", deb.Name, deb.Version)}
		}
	}
	return nil
}

// digest returns the SHA-256 of a file, in hex.
func digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// settle brings a file to the disk, before it gets a name that says it is whole.
func settle(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
