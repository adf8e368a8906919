package artifact

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Draft is a generation in the making: a directory that only this run knows.
type Draft struct {
	dir    string
	host   string
	shared map[string]File // by name, see Share
	notary Notary          // nil: nobody vouches
}

// Begin makes an empty draft beside the generations of a host and removes the
// drafts of runs that died. The caller holds the host's lock.
func Begin(root, host string) (*Draft, error) {
	hostDir, err := makeHostDir(root, host)
	if err != nil {
		return nil, fmt.Errorf("beginning a generation of host %s: %w", host, err)
	}
	if err := sweep(hostDir); err != nil {
		return nil, fmt.Errorf("removing the drafts of earlier runs: %w", err)
	}
	step("begin")
	dir, err := os.MkdirTemp(hostDir, draftPrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("beginning a generation of host %s: %w", host, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("beginning a generation of host %s: %w", host, err)
	}
	step("begun")
	return &Draft{dir: dir, host: host, shared: map[string]File{}}, nil
}

// sweep removes what a killed run leaves: nothing here has a name that anybody
// was told.
func sweep(hostDir string) error {
	entries, err := os.ReadDir(hostDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasPrefix(name, draftPrefix) && !strings.HasPrefix(name, linkPrefix) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(hostDir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Path is where a file of this generation is to be written. Its mode does not
// matter: Commit sets it. The directory is as deep as the generation will be, so
// that a relative path out of it stays right.
func (d *Draft) Path(name string) string { return filepath.Join(d.dir, name) }

// Discard removes the draft. After Commit it does nothing, so it can be
// deferred.
func (d *Draft) Discard() error {
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("discarding a draft: %w", err)
	}
	return nil
}

// Commit hashes and syncs every file of the draft, adds the manifest, gives the
// draft the name m.Generation and makes latest point to it. If that generation
// is there already and whole, it is kept as it is and the draft removed: the
// result, its manifest included, is then the one that was there. If it is
// damaged, or its notary does not vouch for it, the draft takes its place. The caller holds the host's lock.
func (d *Draft) Commit(m Manifest) (Generation, error) {
	g, err := d.commit(m)
	if err != nil {
		return Generation{}, fmt.Errorf("committing generation %s of host %s: %w", m.Generation, d.host, err)
	}
	return g, nil
}

func (d *Draft) commit(m Manifest) (Generation, error) {
	if err := vetGeneration(m.Generation); err != nil {
		return Generation{}, err
	}
	m.Schema, m.Host = schema, d.host
	if err := d.seal(&m); err != nil {
		return Generation{}, err
	}
	hostDir := filepath.Dir(d.dir)
	g := Generation{Dir: filepath.Join(hostDir, m.Generation), Manifest: m}
	if err := d.place(&g); err != nil {
		return Generation{}, err
	}
	step("sync host")
	if err := syncPath(hostDir); err != nil {
		return Generation{}, err
	}
	return g, pointLink(hostDir, latest, m.Generation)
}

// seal brings the draft's files into their final state, fills in what they are
// and writes the manifest.
func (d *Draft) seal(m *Manifest) error {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	m.Files = map[string]File{}
	for _, entry := range entries {
		name := entry.Name()
		if err := vetName("file", name); err != nil {
			return err
		}
		if name == manifestName || name == sealName {
			return fmt.Errorf("the draft has a %s of its own", name)
		}
		step("seal " + name)
		file, isShared := d.shared[name]
		if !isShared {
			if file, err = sealFile(d.Path(name)); err != nil {
				return err
			}
		}
		if !isReport(name) {
			m.Files[name] = file
		}
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	step("manifest")
	if err := os.WriteFile(d.Path(manifestName), data, 0o600); err != nil {
		return err
	}
	if _, err := sealFile(d.Path(manifestName)); err != nil {
		return err
	}
	if err := d.sign(*m, data); err != nil {
		return err
	}
	step("sync draft")
	return syncPath(d.dir)
}

// sealFile makes a regular file 0600, flushes it and says what it is.
func sealFile(path string) (File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return File{}, err
	}
	if !info.Mode().IsRegular() {
		return File{}, fmt.Errorf("%s is not a regular file", path)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return File{}, err
	}
	if err := syncPath(path); err != nil {
		return File{}, err
	}
	return hashFile(context.Background(), path)
}

// place gives the draft its name, or finds that what has the name is as good.
func (d *Draft) place(g *Generation) error {
	if _, err := os.Lstat(g.Dir); errors.Is(err, fs.ErrNotExist) {
		step("rename")
		return os.Rename(d.dir, g.Dir)
	}
	old, err := load(g.Dir)
	if err == nil {
		err = old.verify(context.Background(), d.sameFiles(old))
	}
	stays := false
	if err == nil {
		stays, err = d.vouch(old, g.Manifest)
	}
	var damaged *IntegrityError
	switch {
	case err == nil && !stays:
		return d.replace(g)
	case err == nil:
		step("keep")
		*g = old
		return d.Discard()
	case errors.As(err, &damaged):
		return d.replace(g)
	}
	return err
}

// replace exchanges the draft and a damaged generation, so that there is never
// a moment without one, and removes the damaged one.
func (d *Draft) replace(g *Generation) error {
	if err := d.demote(g); err != nil {
		return err
	}
	step("exchange")
	err := unix.Renameat2(unix.AT_FDCWD, d.dir, unix.AT_FDCWD, g.Dir, unix.RENAME_EXCHANGE)
	if err != nil {
		return fmt.Errorf("%s is damaged and this file system cannot replace it in one step, remove it by hand: %w", g.Dir, err)
	}
	step("remove damaged")
	return d.Discard() // the damaged one has the draft's name now
}

// demote removes the link current if it names the damaged generation and the
// draft is not known to be what passed verification.
func (d *Draft) demote(g *Generation) error {
	hostDir := filepath.Dir(d.dir)
	link := filepath.Join(hostDir, current)
	if target, err := os.Readlink(link); err != nil || target != g.Manifest.Generation {
		return nil
	}
	if old, err := load(g.Dir); err == nil && old.same(g.Manifest) {
		return nil
	}
	step("demote")
	if err := os.Remove(link); err != nil {
		return err
	}
	return syncPath(hostDir)
}
