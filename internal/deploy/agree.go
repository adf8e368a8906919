package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"bake/internal/hypervisor"
)

// withdraw takes secrets away that no machine is to be given any more.
func (d *Deployment) withdraw() error {
	var err error
	for _, name := range []string{secrets + whole, secrets} {
		file := path.Join(d.Host.Images, d.Host.Name, name)
		if _, missing := d.At.Size(file); errors.Is(missing, fs.ErrNotExist) {
			continue
		}
		err = errors.Join(err, d.step("deleting "+file+", which nobody is given", func() error { return d.At.Remove(file) }))
	}
	return err
}

// reserve has the machine's network keep its address.
func (d *Deployment) reserve() error {
	l := d.Host.Lease
	if l == nil {
		return nil
	}
	if is, err := d.At.Reserved(*l); is || err != nil {
		return err
	}
	return d.step(fmt.Sprintf("reserving %s on the network %s", l.Address, l.Network), func() error { return d.At.Reserve(*l) })
}

// agree brings what the host file says of a machine, and its generation does not, to
// the hypervisor.
func (d *Deployment) agree(m *hypervisor.Machine) (changed bool, err error) {
	if l := d.Host.Lease; l != nil {
		is, err := d.At.Reserved(*l)
		if err == nil && !is {
			changed, err = true, d.reserve()
		}
		if err != nil {
			return changed, err
		}
	}
	if m.Autostart == d.Host.Autostart {
		return changed, nil
	}
	words := map[bool]string{true: "starting the machine with its hypervisor", false: "not starting the machine with its hypervisor"}
	return true, d.step(words[d.Host.Autostart]+" from now on", func() error { return d.At.SetAutostart(d.Host.Name, d.Host.Autostart) })
}

// wake starts a machine that is off, or about to be.
func (d *Deployment) wake(ctx context.Context, m *hypervisor.Machine) error {
	if m.Leaving && m.Running { // whoever has told it to was killed: nobody knows how far it is
		if err := d.shutdown(ctx, m); err != nil {
			return err
		}
		m.Running = false
	}
	if m.Leaving {
		if err := d.stay(m); err != nil {
			return err
		}
	}
	if m.Running {
		return nil
	}
	return d.start(m.Mark)
}

// stay takes back that a machine is about to go off.
func (d *Deployment) stay(m *hypervisor.Machine) error {
	m.Leaving = false
	return d.step("generation "+m.Generation+" may stay", func() error { return d.At.SetMark(d.Host.Name, m.Mark) })
}
