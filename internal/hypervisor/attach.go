package hypervisor

import (
	"context"
	"io"
	"strings"

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
		err := h.virt.DomainOpenConsoleBidirectional(d, nil, typed(ctx, in), out, uint32(flags))
		if is(err, libvirt.ErrOperationFailed) && strings.Contains(err.Error(), "Active console session") { // it has no number of its own
			err = &LackError{"somebody is at it: --force throws them out"}
		}
		return err
	})
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
