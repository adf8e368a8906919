package hypervisor

import (
	"context"
	"fmt"
	"sync"

	"github.com/digitalocean/go-libvirt"
)

// watchers are those who want to know what becomes of domains. libvirt tells a connection
// once, whoever is behind it.
type watchers struct {
	sync.Mutex
	asked bool
	ended bool
	err   error
	of    map[chan struct{}]string // host
}

// Changes tells, by libvirt's events, that something has become of a host's domain: it was
// started, stopped, defined or taken away. What happens while nobody listens is told once.
// The channel is closed with the connection; nothing comes any more after the end of ctx.
func (h *Hypervisor) Changes(ctx context.Context, host string) (<-chan struct{}, error) {
	w := &h.watchers
	w.Lock()
	defer w.Unlock()
	if !w.asked {
		w.asked, w.of = true, map[chan struct{}]string{}
		// Not ctx: the library goes on until the connection ends, and takes every event.
		events, err := h.virt.LifecycleEvents(context.WithoutCancel(ctx))
		if w.err = err; err == nil {
			go w.tell(events)
		}
	}
	if w.err != nil {
		return nil, fmt.Errorf("asking %s for its events: %w", h.URI, w.err)
	}
	changed := make(chan struct{}, 1)
	if w.ended {
		close(changed)
		return changed, nil
	}
	w.of[changed] = host
	context.AfterFunc(ctx, func() {
		w.Lock()
		defer w.Unlock()
		delete(w.of, changed)
	})
	return changed, nil
}

// tell hands events on until there are no more.
func (w *watchers) tell(events <-chan libvirt.DomainEventLifecycleMsg) {
	for event := range events {
		w.Lock()
		for changed, host := range w.of {
			if host != event.Dom.Name {
				continue
			}
			select {
			case changed <- struct{}{}:
			default: // that there was one is known already
			}
		}
		w.Unlock()
	}
	w.Lock()
	defer w.Unlock()
	w.ended = true
	for changed := range w.of {
		close(changed)
	}
	clear(w.of)
}
