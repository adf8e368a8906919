package hypervisor

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Attach joins the console of a machine that runs: what the machine prints goes to
// out, what is read from in is typed. It ends with in, with ctx or with the machine,
// none of which is an error. Only one can be at a console: the error is a *LackError
// when somebody is, unless force throws them out, which is an error for them.
func (h *Hypervisor) Attach(ctx context.Context, host string, in io.Reader, out io.Writer, force bool) error {
	var flags libvirt.DomainConsoleFlags
	if force {
		flags = libvirt.DomainConsoleForce
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	return h.with("joining the console of", host, func(d libvirt.Domain) error {
		go h.outlive(ctx, d, done)
		err := h.virt.DomainOpenConsoleBidirectional(d, nil, typed(ctx, in), out, uint32(flags))
		if is(err, libvirt.ErrOperationFailed) && strings.Contains(err.Error(), "Active console session") { // it has no number of its own
			err = &LackError{"somebody is at it: --force throws them out"}
		}
		return err
	})
}

// outlive calls done when the machine that d is of runs no more. libvirt ends its stream
// then, but not always when the domain is started again at once.
func (h *Hypervisor) outlive(ctx context.Context, d libvirt.Domain, done func()) {
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		if h.isAnother(d) {
			done()
		}
	}
}

// isAnother says whether what runs of a domain, if anything does, was started since d.
// Each start gives a number; -1 is that of one that is off.
func (h *Hypervisor) isAnother(d libvirt.Domain) bool {
	now, err := h.virt.DomainLookupByName(d.Name)
	return err == nil && now.ID != d.ID
}

// typed is what is read from somebody who may never say anything more: it ends with
// ctx, too.
func typed(ctx context.Context, in io.Reader) io.Reader {
	k := &keyboard{ctx: ctx, keys: make(chan []byte), err: make(chan error, 1)}
	go func() {
		for {
			keys := make([]byte, 4096)
			n, err := in.Read(keys)
			if n > 0 {
				select {
				case k.keys <- keys[:n]:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				k.err <- err
				return
			}
		}
	}()
	return k
}

type keyboard struct {
	ctx  context.Context
	keys chan []byte
	err  chan error
	rest []byte
}

func (k *keyboard) Read(p []byte) (int, error) {
	if len(k.rest) == 0 {
		select {
		case k.rest = <-k.keys:
		case err := <-k.err:
			return 0, err
		case <-k.ctx.Done():
			return 0, io.EOF
		}
	}
	n := copy(p, k.rest)
	k.rest = k.rest[n:]
	return n, nil
}
