package backup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"bake/internal/archive"
	"bake/internal/lazy"
	"bake/internal/tool"
)

// tree is a store in a directory of this machine:
//
//	zap/20261128T030000Z/tree/            the state, under the paths it has in the machine
//	zap/20261128T030000Z/manifest.json    what the machine said is in it
//	zap/20261128T030000Z/backup.json      a Snapshot
//	zap/20261128T030000Z/rest.tar         state.tar without the contents of files, and
//	zap/20261128T030000Z/cuts.json        where they go in
//	zap/latest                            a link to the newest
//
// rsync makes a file that is as it was in the backup before a hard link to that, by its
// content and not by its time, which a machine may make up. Owners, and what else a user
// may not give a file, are in rest.tar: what Fetch returns is state.tar to the byte.
type tree struct {
	Dir   string
	Tools tool.Box
	Time  time.Duration // for one backup, 0 for as long as it takes
	Size  int64         // of a state, 0 for what is usual
}

const (
	treeName   = "tree"
	aboutName  = "backup.json"
	latestName = "latest"
	beginName  = ".bake-backups" // a disk that is not mounted has none
	nameLayout = "20060102T150405Z"
	fineLayout = "20060102T150405.000000Z" // which the one above reads, too
	draftStart = ".new-"
	goneStart  = ".gone-"
)

// String is the directory.
func (t *tree) String() string { return t.Dir }

// Init makes the directory, and marks it: without the mark nothing is stored, as nobody
// would hear that the disk is not mounted whose place it is.
func (t *tree) Init(ctx context.Context) (isNew bool, err error) {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return false, t.fault(ctx, err)
	}
	if err := t.begun(); err == nil {
		return false, nil
	}
	return true, t.fault(ctx, replace(filepath.Join(t.Dir, beginName), []byte("bake backup stores here\n")))
}

// begun says that this is the directory that was begun.
func (t *tree) begun() error {
	_, err := os.Lstat(filepath.Join(t.Dir, beginName))
	if errors.Is(err, fs.ErrNotExist) {
		return &fault{Store: t.String(), Cause: causeAbsent, Said: err.Error(), Hint: "a disk that is not mounted? If there never was one: bake backup init", Err: err}
	}
	return err
}

// Save adds a backup.
func (t *tree) Save(ctx context.Context, j Job) (s Snapshot, err error) {
	s = Snapshot{ID: j.Time.UTC().Format(nameLayout), Host: j.Host, Generation: j.Generation, Time: j.Time.UTC().Truncate(time.Second), Store: t.String()}
	dir := filepath.Join(t.Dir, j.Host)
	ctx, stop := within(ctx, t.String(), t.Time)
	defer stop()
	defer func() {
		if err != nil {
			s, err = Snapshot{}, t.fault(ctx, err)
		}
	}()
	if err := t.begun(); err != nil {
		return s, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if err := t.tidy(dir); err != nil {
		return s, err
	}
	if _, err := os.Lstat(filepath.Join(dir, s.ID)); err == nil && j.Time.Nanosecond() > 0 {
		s.ID = j.Time.UTC().Format(fineLayout) // two in a second
	}
	draft, err := os.MkdirTemp(dir, draftStart+"*") // 0700
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, removeAll(draft)) }() // all that was not given its name
	from, to := filepath.Join(draft, "from"), filepath.Join(draft, s.ID)
	if err := os.Mkdir(to, 0o700); err != nil {
		return s, err
	}
	if _, err := archive.Extract(ctx, j.Dir, from, archive.Options{Limits: archive.Limits{Bytes: t.Size}}); err != nil {
		return s, err
	}
	if s.Added, err = t.link(ctx, dir, from, filepath.Join(to, treeName)); err != nil {
		return s, err
	}
	if s.Bytes, err = cut(ctx, filepath.Join(j.Dir, stateFile), to); err != nil {
		return s, err
	}
	if err := t.describe(j, s, to); err != nil {
		return s, err
	}
	if err := os.Rename(to, filepath.Join(dir, s.ID)); err != nil {
		return s, err
	}
	return s, t.point(dir, s.ID)
}

var transferred = lazy.Regexp(`(?m)^Total transferred file size: ([0-9]+) bytes$`)

// link copies a tree, with links into the newest one that there is, and returns how many
// bytes were no links.
func (t *tree) link(ctx context.Context, dir, from, to string) (added int64, err error) {
	args := []string{"--archive", "--hard-links", "--xattrs", "--sparse", "--checksum", "--fsync", "--stats", "--no-human-readable"}
	if before, err := filepath.EvalSymlinks(filepath.Join(dir, latestName)); err == nil {
		if before, err = filepath.Abs(filepath.Join(before, treeName)); err != nil {
			return 0, err
		}
		args = append(args, "--link-dest="+before)
	}
	out, err := t.Tools.Run(ctx, "rsync", append(args, "--", from+"/", to+"/")...)
	if m := transferred.FindSubmatch(out); m != nil {
		added, _ = strconv.ParseInt(string(m[1]), 10, 64)
	}
	return added, err
}

func (t *tree) describe(j Job, s Snapshot, to string) error {
	manifest, err := os.ReadFile(filepath.Join(j.Dir, manifestFile))
	if err == nil {
		err = replace(filepath.Join(to, manifestFile), manifest)
	}
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(to, aboutName), append(about, '\n'))
}

// point makes latest name a backup, in one step.
func (t *tree) point(dir, id string) error {
	link := filepath.Join(dir, draftStart+latestName)
	if err := os.Symlink(id, link); err != nil {
		return err
	}
	return os.Rename(link, filepath.Join(dir, latestName))
}

// tidy removes what killed runs have left.
func (t *tree) tidy(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), draftStart) || strings.HasPrefix(entry.Name(), goneStart) {
			err = errors.Join(err, removeAll(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}

// removeAll removes also what its owner may not write to.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = os.Chmod(name, 0o700) // RemoveAll says what could not be removed
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// List returns the backups of a host.
func (t *tree) List(ctx context.Context, host string) (found []Snapshot, err error) {
	if err := t.begun(); err != nil {
		return nil, t.fault(ctx, err)
	}
	entries, err := os.ReadDir(filepath.Join(t.Dir, host))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range entries {
		at, err := time.Parse(nameLayout, entry.Name())
		if err != nil || !entry.IsDir() {
			continue
		}
		s, err := readAbout(filepath.Join(t.Dir, host, entry.Name()))
		if err != nil { // it can be restored without, and the others have theirs; Check says so
			s = Snapshot{Time: at.Truncate(time.Second)}
		}
		s.ID, s.Host, s.Store = entry.Name(), host, t.String()
		found = append(found, s)
	}
	slices.SortStableFunc(found, func(a, b Snapshot) int { return cmp.Or(a.Time.Compare(b.Time), named(a).Compare(named(b))) })
	return found, t.fault(ctx, err)
}

// readAbout is what was put down of the backup in a directory.
func readAbout(dir string) (s Snapshot, err error) {
	content, err := os.ReadFile(filepath.Join(dir, aboutName))
	if err != nil {
		return s, lost(dir, err)
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, damaged(dir, "%s: %v", aboutName, err)
	}
	return s, nil
}

// named is the time in a backup's name, which tells two of a second apart.
func named(s Snapshot) time.Time {
	at, _ := time.Parse(nameLayout, s.ID) // List takes no other names
	return at
}

// Fetch makes the two files anew.
func (t *tree) Fetch(ctx context.Context, s Snapshot, dir string) (err error) {
	from := filepath.Join(t.Dir, s.Host, filepath.Base(s.ID))
	file, err := os.OpenFile(filepath.Join(dir, stateFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = join(ctx, from, file)
	if err = errors.Join(err, file.Close()); err != nil {
		return t.fault(ctx, err)
	}
	manifest, err := os.ReadFile(filepath.Join(from, manifestFile))
	if err == nil {
		err = replace(filepath.Join(dir, manifestFile), manifest)
	} else {
		err = lost(from, err)
	}
	return t.fault(ctx, err)
}

// Prune removes backups. What others are linked to stays as long as they do.
func (t *tree) Prune(ctx context.Context, host string, keep keep, dry bool) (removed []Snapshot, err error) {
	all, err := t.List(ctx, host)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(t.Dir, host)
	for _, s := range keep.surplus(all) {
		if !dry {
			gone := filepath.Join(dir, goneStart+s.ID)
			if err := os.Rename(filepath.Join(dir, s.ID), gone); err != nil {
				return removed, t.fault(ctx, err)
			}
			if err := removeAll(gone); err != nil {
				return removed, t.fault(ctx, err)
			}
		}
		removed = append(removed, s)
	}
	return removed, nil
}

// Check puts every backup together and looks whether it is what was stored. It reads all
// of it, however little is asked for.
func (t *tree) Check(ctx context.Context, _ string) error {
	hosts, err := os.ReadDir(t.Dir)
	if err = errors.Join(t.begun(), err); err != nil {
		return t.fault(ctx, err)
	}
	var failed error
	for _, host := range hosts {
		if !host.IsDir() || host.Name() == "lost+found" {
			continue
		}
		all, err := t.List(ctx, host.Name())
		failed = errors.Join(failed, err)
		for _, s := range all {
			failed = errors.Join(failed, t.fault(ctx, judge(ctx, filepath.Join(t.Dir, s.Host, s.ID))))
		}
	}
	return failed
}

// Unlock does nothing: a tree has no locks but those of the host's place, which are the
// kernel's.
func (t *tree) Unlock(context.Context) error { return nil }

// fault says where an error happened, and whose it is where its text shows that.
func (t *tree) fault(ctx context.Context, err error) error {
	var f *fault
	var refused *archive.RefusedError
	var missing *tool.MissingError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &f), errors.As(err, &refused), errors.As(err, &missing):
		return err
	}
	if f = diagnose(t.String(), err.Error(), 0); f.Cause == causeFull {
		f.Err = err
		return f
	}
	return fmt.Errorf("%s: %w", t.Dir, err)
}
