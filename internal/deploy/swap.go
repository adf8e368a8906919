package deploy

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"bake/internal/domain"
	"bake/internal/hypervisor"
)

// first makes a machine of a generation where none has attested.
func (d *Deployment) first(ctx context.Context, g Generation) (Outcome, error) {
	if err := d.vet(nil, g.Name, g.XML); err != nil {
		return Outcome{}, err
	}
	mark := domain.Mark{Host: d.Host.Name, Generation: g.Name, Trying: true}
	err := d.put(ctx, g, "")
	if err == nil {
		err = d.disk()
	}
	if err == nil {
		err = d.reserve()
	}
	if err == nil {
		mark, err = d.define(g.XML, mark)
	}
	if err == nil {
		if err = d.start(mark); err != nil { // a machine that cannot start is none
			err = errors.Join(err, d.forget(mark))
		}
	}
	if err != nil {
		return Outcome{}, errors.Join(err, d.withdraw(), d.discard(ctx, g.Name, err))
	}
	return d.judge(ctx, mark)
}

// forget undefines a machine that did not start, unless it is another run's, which has started
// it.
func (d *Deployment) forget(mark domain.Mark) error {
	m, err := d.At.Find(d.Host.Name)
	if err != nil || m == nil || m.Running || m.Mark != mark {
		return errors.Join(err, d.taken(m))
	}
	return d.step("undefining the domain", func() error { return d.At.Undefine(d.Host.Name) })
}

// swap stops the machine that is there and starts another generation, whose files
// are there.
func (d *Deployment) swap(ctx context.Context, m *hypervisor.Machine, to string, text []byte) (Outcome, error) {
	mark := domain.Mark{Host: d.Host.Name, Generation: to, Previous: m.Generation, Trying: true}
	if m.Trying { // it has never attested: there is nothing to go back to
		mark.Previous = m.Previous
	}
	if mark.Previous == to {
		mark.Previous = ""
	}
	if _, err := d.still(m.Mark, Verdict{}); err != nil {
		return Outcome{}, err
	}
	if m.Running {
		err := d.shutdown(ctx, m)
		if err != nil && m.Trying && ctx.Err() == nil { // it may never have come so far as to hear the button
			d.Say(err.Error())
			err = d.step("switching off "+m.Generation, func() error { return d.At.Kill(d.Host.Name) })
		}
		if err != nil {
			failed := err
			if !m.Trying {
				err = errors.Join(err, d.withdraw())
			}
			return Outcome{}, errors.Join(err, d.discard(ctx, to, failed))
		}
	}
	err := d.disk()
	if err == nil {
		err = d.reserve()
	}
	if err == nil {
		mark, err = d.define(text, mark)
	}
	if err == nil {
		err = d.start(mark)
	}
	if err != nil { // not the machine's fault: what was there goes on
		d.Say(err.Error())
		return Outcome{}, errors.Join(err, d.restore(m, mark.Fresh), d.discard(ctx, to, err))
	}
	return d.judge(ctx, mark)
}

// restore defines and starts a machine as it was found. With fresh the one that was to take
// its place may have left another firmware's variables.
func (d *Deployment) restore(m *hypervisor.Machine, fresh bool) error {
	err := d.step("defining generation "+m.Generation+" again", func() error { return d.At.Define(m.XML) })
	m.Fresh = m.Fresh || fresh
	if err == nil && (m.Leaving || m.Fresh) {
		err = d.stay(m)
	}
	if err == nil && m.Running {
		err = d.start(m.Mark)
	}
	if !m.Trying { // it has its secrets
		err = errors.Join(err, d.withdraw())
	}
	return err
}

// settle brings a machine that is there to its verdict.
func (d *Deployment) settle(ctx context.Context, m *hypervisor.Machine) (Outcome, error) {
	if err := d.awake(m); err != nil {
		return Outcome{}, err
	}
	changed := !m.Running || m.Leaving
	if !m.Trying { // one that is agrees when it has attested
		agreed, err := d.agree(m)
		if err != nil {
			return Outcome{}, err
		}
		changed = changed || agreed
	}
	if err := d.wake(ctx, m); err != nil {
		return Outcome{}, err
	}
	out, err := d.judge(ctx, m.Mark)
	out.Changed = out.Changed || changed
	return out, err
}

// judge waits for the verdict about the generation that a mark names, and does
// what follows from it.
func (d *Deployment) judge(ctx context.Context, mark domain.Mark) (Outcome, error) {
	out := Outcome{Host: d.Host.Name, Generation: mark.Generation, Previous: mark.Previous, Wanted: mark.Generation, Changed: mark.Trying}
	if d.DryRun {
		return out, nil
	}
	verdict, err := d.Wait(ctx, mark.Generation)
	if err != nil {
		return out, err
	}
	if verdict, err = d.still(mark, verdict); err != nil {
		return out, err
	}
	failed := &FailedError{Host: d.Host.Name, Generation: mark.Generation, Reason: verdict.Reason}
	switch {
	case verdict.OK:
		return out, d.accept(mark)
	case !mark.Trying || mark.Previous == "":
		return out, failed
	}
	out.Generation, out.Previous = mark.Previous, ""
	return out, d.back(ctx, mark, failed)
}

// accept takes note that a generation has attested.
func (d *Deployment) accept(mark domain.Mark) error {
	if mark.Trying || mark.Fresh {
		m, err := d.At.Find(d.Host.Name)
		if err == nil && m != nil {
			_, err = d.agree(m)
			mark.Reserved = m.Reserved
		}
		if err != nil {
			return err
		}
		mark.Trying, mark.Fresh = false, false
		if err := d.step("generation "+mark.Generation+" has attested", func() error { return d.At.SetMark(d.Host.Name, mark) }); err != nil {
			return err
		}
	}
	return d.tidy(mark)
}

// back puts the generation before in the place of one that has failed. The error is
// failed, with what came of it.
func (d *Deployment) back(ctx context.Context, mark domain.Mark, failed *FailedError) error {
	d.Say(failed.Error())
	text, err := d.At.Read(d.path(mark.Previous, "domain.xml"))
	if err == nil {
		err = d.withdraw() // the one before has attested, and has its own
	}
	if err == nil {
		err = d.step("switching off "+mark.Generation, func() error { return d.At.Kill(d.Host.Name) })
	}
	before := domain.Mark{Host: d.Host.Name, Generation: mark.Previous}
	if err == nil {
		before, err = d.define(text, before)
	}
	if err == nil {
		err = d.start(before)
	}
	if err != nil {
		return errors.Join(failed, fmt.Errorf("going back to generation %s: %w", mark.Previous, err))
	}
	verdict, err := d.Wait(ctx, before.Generation)
	if err == nil {
		verdict, err = d.still(before, verdict)
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	failed.Back = before.Generation
	if !verdict.OK {
		failed.BackReason = verdict.Reason
		return failed
	}
	if err := d.accept(before); err != nil {
		return errors.Join(failed, err)
	}
	return failed
}

// disk makes the state disk, or makes it larger. The machine is off.
func (d *Deployment) disk() error {
	if d.Host.State == 0 {
		return nil
	}
	name := path.Join(d.Host.Images, d.Host.Name, stateDisk)
	if size, err := d.At.Size(name); err == nil && size == d.Host.State {
		return nil
	}
	return d.step(fmt.Sprintf("the state disk %s shall have %d MiB", name, d.Host.State>>20), func() error {
		_, err := d.At.MakeDisk(name, d.Host.State)
		return err
	})
}

// define defines a generation with a mark, and returns that as it became: libvirt keeps
// the firmware's variables of a domain, and those of another firmware, without the keys of
// secure boot, would silently do.
func (d *Deployment) define(text []byte, mark domain.Mark) (domain.Mark, error) {
	m, err := d.At.Find(d.Host.Name)
	if err != nil {
		return mark, err
	}
	if m != nil {
		mark.Reserved = m.Reserved
	}
	mark.Reserved = d.reserving(mark)
	fit, mark, err := d.fit(text, mark)
	if err == nil && m != nil {
		fit, mark, err = freshened(fit, mark, m)
	}
	if err == nil {
		err = d.sayChoice(text, mark)
	}
	if err == nil && d.DryRun {
		err = d.sayChanges(m, fit)
	}
	if err != nil {
		return mark, err
	}
	return mark, d.step("defining generation "+mark.Generation, func() error { return d.At.Define(fit) })
}

// freshened has a mark, and the XML that it is in, say whether the machine that is there has
// other firmware. What counts is what was made of the two, and not what was baked.
func freshened(fit string, mark domain.Mark, m *hypervisor.Machine) (string, domain.Mark, error) {
	same, err := domain.SameFirmware(fit, m.XML)
	if err != nil {
		return fit, mark, err
	}
	mark.Fresh = m.Fresh || !same
	fit, err = domain.Remark(fit, mark)
	return fit, mark, err
}

// sayChanges says what XML would change of the domain that is there, nil for none.
func (d *Deployment) sayChanges(m *hypervisor.Machine, text string) error {
	if m == nil {
		d.Say("    the domain is new")
		return nil
	}
	changes, err := domain.Diff(text, m.XML)
	for _, c := range changes {
		d.Say(fmt.Sprintf("    %s: %s instead of %s", c.Element, c.Wanted, c.Found))
	}
	return err
}

func (d *Deployment) start(mark domain.Mark) error {
	return d.step("starting generation "+mark.Generation, func() error { return d.At.Start(d.Host.Name, mark.Fresh) })
}

func (d *Deployment) shutdown(ctx context.Context, m *hypervisor.Machine) error {
	late := fmt.Errorf("it has not shut down within %s, and runs on; it may yet do so", d.Patience)
	waiting, cancel := context.WithTimeoutCause(ctx, d.Patience, late)
	defer cancel()
	return d.step("shutting down generation "+m.Generation, func() error {
		// A run that is killed now leaves a machine that goes off on its own.
		leaving := m.Mark
		leaving.Leaving = true
		err := d.At.SetMark(d.Host.Name, leaving)
		if err == nil {
			err = d.At.Shutdown(waiting, d.Host.Name)
		}
		if err != nil {
			return err
		}
		leaving.Leaving = false // whoever starts it starts it to stay
		return d.At.SetMark(d.Host.Name, leaving)
	})
}

// tidy deletes what a machine that has attested has no more use for: secrets that
// it has, and generations that are neither it nor the one before.
func (d *Deployment) tidy(mark domain.Mark) error {
	home := path.Join(d.Host.Images, d.Host.Name)
	names, err := d.At.List(home)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		file := path.Join(home, name)
		switch {
		case name == secrets, name == secrets+whole:
			err = d.step("deleting "+file+", which has been delivered", func() error { return d.At.Remove(file) })
		case isGeneration.MatchString(name) && name != mark.Generation && name != mark.Previous:
			err = d.step("deleting generation "+name, func() error { return d.At.RemoveDir(file) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}
