package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"path"
	"time"

	"bake/internal/hypervisor"
)

// put brings a generation's files to the hypervisor, as new. What it has in common
// with one that is there, "" for none, is copied over there.
func (d *Deployment) put(ctx context.Context, g Generation, there string) error {
	// A run from another out directory may have been faster: its machine's disk is no room.
	if m, err := d.At.Find(d.Host.Name); err != nil || m != nil && (m.Generation == g.Name || m.Previous == g.Name) {
		return errors.Join(err, d.taken(m))
	}
	if err := d.step("making room for generation "+g.Name, func() error { return d.At.RemoveDir(d.path(g.Name, "")) }); err != nil {
		return err
	}
	if g.Base != nil {
		if err := d.putBase(ctx, *g.Base); err != nil {
			return err
		}
	}
	for _, f := range g.Files {
		if err := d.sendFile(ctx, f, g.Name, there); err != nil {
			return err
		}
	}
	if g.Secrets == "" {
		return nil
	}
	return d.send(ctx, g.Secrets, path.Join(d.Host.Images, d.Host.Name, secrets))
}

// discard deletes what there is of a generation that came to nothing, as failed says: a
// hypervisor that is full is not to stay so. One that cannot be reached keeps it, and the next
// run makes room.
func (d *Deployment) discard(ctx context.Context, generation string, failed error) error {
	m, err := d.At.Find(d.Host.Name)
	if ctx.Err() != nil || hypervisor.IsBusy(failed) || err != nil || m != nil && (m.Generation == generation || m.Previous == generation) {
		return nil
	}
	return d.step("deleting generation "+generation+" again", func() error { return d.At.RemoveDir(d.path(generation, "")) })
}

// sendFile sends a file of a generation, unless the same is there in another one. Who
// can change it there is root on the hypervisor; the guest knows its payload's digest.
func (d *Deployment) sendFile(ctx context.Context, f File, generation, there string) error {
	to := d.path(generation, f.Name)
	if f.SHA256 != "" && there != "" && there != generation {
		var manifest struct {
			Files map[string]struct {
				SHA256 string `json:"sha256"`
			} `json:"files"`
		}
		from := d.path(there, f.Name)
		data, err := d.At.Read(d.path(there, "manifest.json"))
		if err == nil {
			err = json.Unmarshal(data, &manifest)
		}
		if err == nil && manifest.Files[f.Name].SHA256 == f.SHA256 {
			if has, err := d.At.Has(from); err == nil && has {
				err := d.step("copying "+from, func() error { return d.At.Copy(from, to, f.SHA256) })
				if err == nil || ctx.Err() != nil {
					return err
				}
				d.Say(err.Error()) // what is there has suffered
			}
		}
	}
	return d.send(ctx, f.Path, to)
}

// lull is how long a file that is being written may not grow.
var lull = 10 * time.Second

// putBase brings the image under a disk there, if it is not. It is every host's: what
// is not whole and grows is being written by another bake, and is waited for; what
// does not grow was left by one that was killed.
func (d *Deployment) putBase(ctx context.Context, base File) error {
	name := path.Join(d.Host.Images, ".base", base.Name)
	for last := int64(-1); ; {
		if has, err := d.At.Has(name); has || err != nil {
			return err
		}
		written, err := d.At.Written(name)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		case err != nil, written == last, d.DryRun:
			if err := d.send(ctx, base.Path, name); !hypervisor.IsBusy(err) {
				return err
			}
		default:
			d.Say(name + " is not whole: looking whether it grows")
			last = written
		}
		if err := rest(ctx); err != nil {
			return err
		}
	}
}

func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(lull):
		return nil
	}
}

func (d *Deployment) send(ctx context.Context, from, to string) error {
	return d.step("writing "+to, func() error {
		file, size, err := open(from)
		if err != nil {
			return err
		}
		defer file.Close()
		var progress func(int64)
		if d.Progress != nil {
			tell := d.Progress(path.Base(to))
			progress = func(done int64) { tell(done, size) }
		}
		return d.At.Put(ctx, to, file, size, progress)
	})
}
