package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"bake/internal/console"
	"bake/internal/deploy"
	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/hypervisor"
	"bake/internal/status"
)

// watched is a machine whose console is read.
type watched struct {
	name  string
	host  *host.Host // nil without a host file
	plans []string   // digests of the claims that the host file makes now, with a payload and without
	log   *status.Log
	begun time.Time
	at    *hypervisor.Hypervisor // nil where the log is a file here
	close []func() error
}

// Close lets go of the log and of what it took to get at it.
func (w *watched) Close() error {
	err := w.log.Close()
	for i := len(w.close) - 1; i >= 0; i-- {
		err = errors.Join(err, w.close[i]())
	}
	return err
}

// watch finds out where a machine's console is. A host file is not needed where
// that is known.
func (a *app) watch(ctx context.Context, name string, o statusOptions) (*watched, error) {
	log := o.console
	w := &watched{name: name, begun: time.Now()}
	h, err := host.Load(a.config, name, a.shelf())
	var unknown *host.UnknownError
	switch {
	case err == nil:
		w.host = h
		for _, h := range []*host.Host{h, h.FromNetwork()} {
			if words, err := a.words(h, nil); err == nil && len(words.Claims) > 0 {
				w.plans = append(w.plans, fmt.Sprintf("%x", sha256.Sum256(words.Claims)))
			}
		}
	case errors.As(err, &unknown) && log != "" && host.IsName(name):
	case errors.As(err, &unknown) && host.IsName(name):
		return nil, fmt.Errorf("%w; without a host file name the log with --console", err)
	default:
		return nil, err
	}
	if uri := cmp.Or(o.uri, domainURI(h)); log == "" && uri != "" {
		return w, a.askLibvirt(ctx, w, uri)
	}
	if log == "" {
		log = filepath.Join(h.Machine.ImagesPath, name, "console.log")
	}
	w.log = &status.Log{Path: log}
	return w, nil
}

func domainURI(h *host.Host) string {
	if h == nil {
		return ""
	}
	return h.Domain.URI
}

// askDomain is what libvirt says of a host's machine, when that is all that is wanted.
func (a *app) askDomain(ctx context.Context, h *host.Host, uri string) (*domainView, error) {
	w := &watched{name: h.Name, host: h}
	if err := a.askLibvirt(ctx, w, uri); err != nil {
		return nil, err
	}
	d, err := w.domainOf()
	return d, errors.Join(err, w.Close())
}

// askLibvirt has libvirt say what a file here would.
func (a *app) askLibvirt(ctx context.Context, w *watched, uri string) error {
	dir, err := os.MkdirTemp("", "bake-console-")
	if err != nil {
		return err
	}
	w.close = append(w.close, func() error { return os.RemoveAll(dir) })
	if w.at, err = hypervisor.Connect(ctx, uri, a.Tools); err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	w.close = append(w.close, w.at.Close)
	at := &deploy.Console{At: w.at, Host: deploy.Host{Name: w.name, Images: w.host.Machine.ImagesPath}, Dir: dir}
	w.log = at.Log()
	return nil
}

// domainOf is what libvirt says of a machine, nil where nobody has asked.
func (w *watched) domainOf() (*domainView, error) {
	if w.at == nil {
		return nil, nil
	}
	m, err := w.at.Find(w.name)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return &domainView{Hypervisor: w.at.URI, listView: listView{Host: w.name, State: "none", Addresses: []string{}}}, nil
	}
	v := &domainView{Hypervisor: w.at.URI, listView: viewOf(*m)}
	if m.Running {
		v.Addresses, err = addressesOf(w.at, w.name)
	}
	return v, errors.Join(err, w.compare(m, v))
}

// compare finds out whether what runs, what is defined and what was baked are the same,
// and takes what the guest has reported of its last boot.
func (w *watched) compare(m *hypervisor.Machine, v *domainView) error {
	home := path.Join(w.host.Machine.ImagesPath, w.name)
	if port, err := w.at.Read(path.Join(home, "report.json")); err == nil { // which a guest may have broken
		v.Report = status.LastReport(port)
	}
	if m.Running {
		live, err := w.at.Live(w.name)
		if err == nil {
			v.Drift, err = domain.Diff(m.XML, live)
		}
		if err != nil {
			return err
		}
	}
	text, err := w.at.Read(path.Join(home, m.Generation, "domain.xml"))
	if errors.Is(err, fs.ErrNotExist) { // which the machine does not need
		return nil
	}
	if err == nil {
		v.Edited, err = domain.Edited(text, m.Mark, m.XML)
	}
	return err
}

// follow looks at the logs once, or until all machines have a verdict; late says
// that the time was not enough for that.
func (a *app) follow(ctx context.Context, all []*watched, o statusOptions) (late, err error) {
	var logs []*status.Log
	for _, w := range all {
		if err := w.log.Look(); err != nil {
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w (libvirt writes it for root: use sudo, or name a copy with --console)", err)
			}
			return nil, err
		}
		logs = append(logs, w.log)
		if o.follow {
			a.tellStage("%s: %s", w.name, status.Of(w.name, w.log))
			w.log.Reached = func(s console.Stage) {
				a.tellStage("%s: %s after %d s", w.name, s.Words, int(time.Since(w.begun).Seconds()))
			}
		}
	}
	if !o.follow {
		return nil, nil
	}
	late = fmt.Errorf("no verdict within %s", o.deadline)
	waiting, cancel := context.WithTimeoutCause(ctx, o.deadline, late)
	defer cancel()
	err = status.Follow(waiting, logs...)
	a.stage("")
	if errors.Is(err, late) {
		return late, nil
	}
	return nil, err
}

// tellStage shows where a boot is: on a terminal in the line that changes.
func (a *app) tellStage(format string, args ...any) {
	if a.Terminal {
		a.stage(format, args...)
	} else {
		a.say(format, args...)
	}
}
