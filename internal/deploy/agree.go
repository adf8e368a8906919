package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"bake/internal/domain"
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
	changed, err = d.keep(m)
	if err != nil {
		return changed, err
	}
	if m.Autostart == d.Host.Autostart {
		return changed, nil
	}
	words := map[bool]string{true: "starting the machine with its hypervisor", false: "not starting the machine with its hypervisor"}
	return true, d.step(words[d.Host.Autostart]+" from now on", func() error { return d.At.SetAutostart(d.Host.Name, d.Host.Autostart) })
}

// keep has the machine's network keep its address, and others give back what bake had them
// keep: the mark says which those are, for an entry may be of somebody who wrote one by hand.
func (d *Deployment) keep(m *hypervisor.Machine) (changed bool, err error) {
	if l := d.Host.Lease; l != nil {
		is, err := d.At.Reserved(*l)
		if noted := d.reserving(m.Mark); err == nil && noted != m.Reserved { // before it is: a run may die
			m.Reserved = noted
			err = d.step("the network "+l.Network+" is to keep an address for it", func() error { return d.At.SetMark(d.Host.Name, m.Mark) })
			changed = true
		}
		if err == nil && !is {
			changed, err = true, d.reserve()
		}
		if err != nil {
			return changed, err
		}
	}
	for _, network := range d.unwanted(m.Mark) {
		changed = true
		m.Reserved = without(m.Reserved, network)
		if err := d.release(network, func() error { return d.At.SetMark(d.Host.Name, m.Mark) }); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// reserving is what a mark is to say of networks when the machine's keeps its address, too.
func (d *Deployment) reserving(mark domain.Mark) string {
	l := d.Host.Lease
	if l == nil || slices.Contains(strings.Fields(mark.Reserved), l.Network) {
		return mark.Reserved
	}
	return strings.TrimSpace(mark.Reserved + " " + l.Network)
}

// unwanted are the networks that keep an address which the host file does not ask for any
// more.
func (d *Deployment) unwanted(mark domain.Mark) []string {
	return slices.DeleteFunc(strings.Fields(mark.Reserved), func(network string) bool {
		return d.Host.Lease != nil && d.Host.Lease.Network == network
	})
}

func without(networks, network string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(networks), func(n string) bool { return n == network }), " ")
}

// release has a network give back the machine's address, and notes that it has.
func (d *Deployment) release(network string, note func() error) error {
	return d.step("releasing its address on the network "+network+", which the host file does not ask for any more", func() error {
		err := d.At.Release(hypervisor.Lease{Network: network, MAC: d.Host.MAC, Host: d.Host.Name})
		if err != nil {
			return err
		}
		return note()
	})
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
