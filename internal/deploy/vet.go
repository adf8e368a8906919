package deploy

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"bake/internal/domain"
	"bake/internal/hypervisor"
)

// find looks for the machine to change. One whose disks are not where the host file
// has them would be given others: a second state disk, and no way back.
func (d *Deployment) find() (*hypervisor.Machine, error) {
	m, err := d.At.Find(d.Host.Name)
	if err != nil || m == nil {
		return nil, err
	}
	needs, err := domain.ReadNeeds([]byte(m.XML))
	if err != nil {
		return nil, err
	}
	home := path.Join(d.Host.Images, d.Host.Name)
	for file, at := range map[string]string{needs.Disk: path.Dir(path.Dir(needs.Disk)), needs.State: path.Dir(needs.State)} {
		if file != "" && at != home {
			return nil, &hypervisor.LackError{Text: fmt.Sprintf("a disk of %s is %s, and machine.images is %s now: set it back; a machine is moved "+
				"by bake destroy, moving its state disk, and bake up", d.Host.Name, file, d.Host.Images)}
		}
	}
	if needs.State != "" && path.Base(needs.State) != stateDisk { // a snapshot's: what was written since is in there
		return nil, &hypervisor.LackError{Text: fmt.Sprintf("the state of %s is in %s, which is not what bake has made, and would be left behind: "+
			"merge it (virsh blockcommit %s vde --pivot)", d.Host.Name, needs.State, d.Host.Name)}
	}
	return m, nil
}

// awake says no to a machine that would not hear the power button, or would go on from
// its memory and not boot: libvirt starts that with the disks of then, whatever has been
// defined since.
func (d *Deployment) awake(m *hypervisor.Machine) error {
	switch {
	case m.Undefined:
		return &hypervisor.LackError{Text: fmt.Sprintf("%s runs and is not defined any more, so that it would be gone when it is off: "+
			"virsh dumpxml --inactive %s > %s.xml, and virsh define %s.xml", d.Host.Name, d.Host.Name, d.Host.Name, d.Host.Name)}
	case m.Stuck:
		return &hypervisor.LackError{Text: fmt.Sprintf("%s is paused, for its hypervisor could not write to one of its disks: make room, and virsh resume %s", d.Host.Name, d.Host.Name)}
	case m.Paused:
		return &hypervisor.LackError{Text: fmt.Sprintf("%s is paused: virsh resume %s", d.Host.Name, d.Host.Name)}
	case m.Saved:
		return &hypervisor.LackError{Text: fmt.Sprintf("%s is suspended to a file of its hypervisor: virsh start %s goes on from it, "+
			"virsh managedsave-remove %s is a power cut", d.Host.Name, d.Host.Name, d.Host.Name)}
	}
	return nil
}

// vet finds out what would stand in the way of a generation, before anything is changed. The
// machine is the one that is there, nil for none.
func (d *Deployment) vet(m *hypervisor.Machine, generation string, text []byte) error {
	if m != nil {
		if err := d.awake(m); err != nil {
			return err
		}
	}
	fit, _, err := d.fit(text, domain.Mark{Host: d.Host.Name, Generation: generation})
	if err == nil {
		err = d.At.Check(fit)
	}
	if err != nil {
		return err
	}
	if d.Host.Network != "" {
		if err := d.At.CheckNetwork(d.Host.Network); err != nil {
			return err
		}
	}
	if d.Host.Filter != "" {
		if err := d.At.CheckFilter(d.Host.Filter); err != nil {
			return err
		}
	}
	if d.Host.Lease != nil {
		if _, err := d.At.Reserved(*d.Host.Lease); err != nil {
			return err
		}
	}
	if m != nil && d.Host.State == 0 {
		if needs, err := domain.ReadNeeds([]byte(m.XML)); err != nil || needs.State != "" {
			return errors.Join(err, &hypervisor.LackError{Text: fmt.Sprintf("%s has its state on %s, and machine.state is not in its host file any more: "+
				"set it back; who means it begins anew with bake destroy", d.Host.Name, needs.State)})
		}
	}
	size, err := d.At.Size(path.Join(d.Host.Images, d.Host.Name, stateDisk))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case m == nil && d.Host.State == 0:
		return &hypervisor.LackError{Text: fmt.Sprintf("there is a state disk of %s on its hypervisor, and no machine.state in its host file: set it; or "+
			"bake destroy --host %s --yes %s --destroy-state %s", d.Host.Name, d.Host.Name, d.Host.Name, d.Host.Name)}
	case size > d.Host.State && d.Host.State > 0:
		return &hypervisor.LackError{Text: fmt.Sprintf("the state disk of %s has %d MiB, machine.state asks for %d: it can grow, not shrink", d.Host.Name, size>>20, d.Host.State>>20)}
	}
	return nil
}

// taken says that somebody else has changed the machine, which is left to them.
func (d *Deployment) taken(m *hypervisor.Machine) error {
	if m == nil {
		return nil
	}
	return fmt.Errorf("somebody else has changed %s meanwhile: it has generation %s now, and is left to them", d.Host.Name, m.Generation)
}

// still sees to it that a verdict is about the machine that is there. There is a lock
// for the runs of one out directory; one from another may have changed it since.
func (d *Deployment) still(mark domain.Mark, v Verdict) (Verdict, error) {
	m, err := d.At.Find(d.Host.Name)
	switch {
	case err != nil:
		return v, err
	case m == nil:
		return v, d.gone(m)
	case m.Mark != mark:
		return v, d.taken(m)
	case v.OK && !m.Running:
		return Verdict{Reason: "it has attested, and is off since"}, nil
	}
	return v, nil
}
