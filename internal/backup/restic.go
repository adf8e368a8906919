package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"bake/internal/secret"
	"bake/internal/tool"
)

// tag marks what bake has stored in a repository that others may use too.
const tag = "bake"

// keys are how an S3 server knows somebody. Empty for other stores.
type keys struct {
	Access, Secret secret.Value
}

func (k keys) isSet() bool { return len(k.Access.Reveal()) > 0 }

// limits keep a store from taking all there is. Zero values are no limits, but for
// Stall.
type limits struct {
	Upload, Download int64         // bytes a second
	Time             time.Duration // for one backup
	Stall            time.Duration // without a byte; 10 minutes when 0
	Size             int64         // bytes of a state
}

// restic is a repository.
type restic struct {
	Tools      tool.Box
	Repository string // as restic's -r has it, without a password in it
	Password   secret.Value
	Keys       keys // of S3
	Region     string
	Limits     limits
	Cache      string // a directory of restic's own, "" for none
	Progress   progress
	Hold       *os.File // a lock that is to last as long as restic does; nil: none
}

// String is the repository.
func (r *restic) String() string { return r.Repository }

// Init begins a repository where there is none. In a bucket that is absent it does not:
// restic would make one that keeps no versions.
func (r *restic) Init(ctx context.Context) (isNew bool, err error) {
	if b, err := r.bucket(); err != nil || b != nil {
		if err == nil {
			err = b.isThere(ctx)
		}
		if err != nil {
			return false, err
		}
	}
	_, err = r.run(ctx, call{args: []string{"init"}})
	if f := (*fault)(nil); errors.As(err, &f) && strings.Contains(f.Said, "already exists") {
		_, err = r.run(ctx, call{args: []string{"cat", "config", "--no-lock"}}) // with this password?
		return false, err
	}
	return err == nil, err
}

// Save stores a backup as a snapshot.
func (r *restic) Save(ctx context.Context, j Job) (Snapshot, error) {
	saved := Snapshot{Host: j.Host, Generation: j.Generation, Time: j.Time.UTC().Truncate(time.Second), Store: r.String()}
	args := []string{"backup", "--json", "--host", j.Host, "--tag", tag, "--time", saved.Time.Format(time.DateTime)}
	if j.Generation != "" {
		args = append(args, "--tag", "generation="+j.Generation)
	}
	ctx, stop := within(ctx, r.String(), r.Limits.Time)
	defer stop()
	files := 0
	err := r.locking(ctx, func() error {
		_, err := r.run(ctx, call{args: append(args, "--", stateFile, manifestFile), dir: j.Dir, line: func(line []byte) (moved bool) {
			files, moved = r.read(line, &saved)
			return moved
		}})
		if err == nil && files != 2 && saved.ID != "" { // restic skips what is not there, and is content
			err = &fault{Store: r.String(), Cause: causePartial, Said: fmt.Sprintf("%d of 2 files", files)}
		}
		return err
	})
	if partial := (*fault)(nil); errors.As(err, &partial) && partial.Cause == causePartial && saved.ID != "" {
		err = errors.Join(err, r.forget(ctx, saved.ID)) // half a backup is none
	}
	if err == nil && saved.ID == "" {
		err = &fault{Store: r.String(), Cause: causeFailed, Said: "restic ended well and named no snapshot"}
	}
	if err != nil {
		return Snapshot{}, err
	}
	return saved, nil
}

// within is a context for a step that may take so long, 0 for as long as it does.
func within(ctx context.Context, store string, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, limit, &fault{Store: store, Cause: causeStalled, Said: fmt.Sprintf("it was not done within %v", limit)})
}

// read takes in what restic says while it stores: how many files there were when it is
// at the end, and whether it got on.
func (r *restic) read(line []byte, saved *Snapshot) (files int, moved bool) {
	var said struct {
		Type  string `json:"message_type"`
		Done  int64  `json:"bytes_done"`
		Total int64  `json:"total_bytes"`
		ID    string `json:"snapshot_id"`
		Added int64  `json:"data_added"`
		Bytes int64  `json:"total_bytes_processed"`
		Files int    `json:"total_files_processed"`
	}
	if json.Unmarshal(line, &said) != nil {
		return 0, false
	}
	switch said.Type {
	case "status":
		moved = said.Done != saved.Bytes
		saved.Bytes = said.Done
		if r.Progress != nil && said.Total > 0 {
			r.Progress(said.Done, said.Total)
		}
	case "summary":
		saved.ID, saved.Added, saved.Bytes, moved = said.ID, said.Added, said.Bytes, true
		if len(saved.ID) > 8 { // 0.14 says the short one, as later ones list it
			saved.ID = saved.ID[:8]
		}
		if r.Progress != nil {
			r.Progress(said.Bytes, said.Bytes)
		}
	}
	return said.Files, moved
}

// listed is a snapshot in restic's words.
type listed struct {
	ID    string    `json:"short_id"`
	Host  string    `json:"hostname"`
	Time  time.Time `json:"time"`
	Tags  []string  `json:"tags"`
	Paths []string  `json:"paths"`
}

func (r *restic) snapshot(l listed) Snapshot {
	s := Snapshot{ID: l.ID, Host: l.Host, Time: l.Time.UTC(), Store: r.String()}
	for _, t := range l.Tags {
		if generation, ok := strings.CutPrefix(t, "generation="); ok {
			s.Generation = generation
		}
	}
	return s
}

// List returns the snapshots of a host.
func (r *restic) List(ctx context.Context, host string) ([]Snapshot, error) {
	out, err := r.run(ctx, call{args: []string{"snapshots", "--json", "--no-lock", "--tag", tag, "--host", host}})
	if err != nil {
		return nil, err
	}
	var all []listed
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("reading restic's list of snapshots: %w", err)
	}
	var found []Snapshot
	for _, l := range all {
		found = append(found, r.snapshot(l))
	}
	slices.SortStableFunc(found, func(a, b Snapshot) int { return a.Time.Compare(b.Time) })
	return found, nil
}

// Fetch restores a snapshot's two files.
func (r *restic) Fetch(ctx context.Context, s Snapshot, dir string) error {
	_, err := r.run(ctx, call{args: []string{"restore", s.ID, "--no-lock", "--target", dir}, grows: dir})
	return err
}

// Prune forgets and removes, with the key that may.
func (r *restic) Prune(ctx context.Context, host string, keep keep, dry bool) (removed []Snapshot, err error) {
	args := []string{"forget", "--json", "--tag", tag, "--host", host, "--group-by", "host", "--keep-last", "1"}
	for _, rule := range []struct {
		flag   string
		number int
	}{{"--keep-daily", keep.Daily}, {"--keep-weekly", keep.Weekly}, {"--keep-monthly", keep.Monthly}} {
		if rule.number > 0 {
			args = append(args, rule.flag, fmt.Sprint(rule.number))
		}
	}
	if keep.Within > 0 { // in whole hours: rather one backup too many
		args = append(args, "--keep-within", fmt.Sprintf("%dh", int64((keep.Within+time.Hour-1)/time.Hour)))
	}
	if dry {
		args = append(args, "--dry-run", "--no-lock")
	}
	var out []byte
	err = r.locking(ctx, func() error {
		out, err = r.run(ctx, call{args: args})
		return err
	})
	if err != nil {
		return nil, err
	}
	removed, err = r.forgotten(out)
	if err != nil || dry {
		return removed, err
	}
	return removed, r.locking(ctx, func() error { // even if nothing was forgotten: what killed backups left
		_, err := r.run(ctx, call{args: []string{"prune"}, patient: true})
		return err
	})
}

// forgotten reads what restic forgets. It says nothing at all where there is no
// snapshot.
func (r *restic) forgotten(out []byte) (removed []Snapshot, err error) {
	if len(strings.TrimSpace(string(out))) == 0 {
		return nil, nil
	}
	var groups []struct {
		Remove []listed `json:"remove"`
	}
	if err := json.Unmarshal(out, &groups); err != nil {
		return nil, fmt.Errorf("reading what restic forgets: %w", err)
	}
	for _, g := range groups {
		for _, l := range g.Remove {
			removed = append(removed, r.snapshot(l))
		}
	}
	return removed, nil
}

func (r *restic) forget(ctx context.Context, id string) error {
	_, err := r.run(context.WithoutCancel(ctx), call{args: []string{"forget", id}})
	return err
}

// Check has restic check itself, and read some of what it stores.
func (r *restic) Check(ctx context.Context, subset string) error {
	args := []string{"check"}
	if subset != "" {
		args = append(args, "--read-data-subset", subset)
	}
	return r.locking(ctx, func() error {
		_, err := r.run(ctx, call{args: args, patient: true, checks: true})
		return err
	})
}

// Unlock removes all locks.
func (r *restic) Unlock(ctx context.Context) error {
	_, err := r.run(ctx, call{args: []string{"unlock", "--remove-all"}})
	return err
}

// locking does what needs a lock, once more when the one in its way was dead.
func (r *restic) locking(ctx context.Context, do func() error) error {
	err := do()
	if fault := (*fault)(nil); !errors.As(err, &fault) || fault.Cause != causeLocked {
		return err
	}
	if _, failed := r.run(ctx, call{args: []string{"unlock"}}); failed != nil { // stale ones only
		return errors.Join(err, failed)
	}
	return do()
}
