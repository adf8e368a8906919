// Package deploy brings a host's machine on a hypervisor from what is there to
// what is wanted: up from nothing, another generation in the place of one, the one
// before back again.
//
// A generation is put into a directory of its own, and the domain is defined to
// use it, with a mark that says it has yet to attest and which generation was there
// before. So what is to be done can be read from the hypervisor alone, and a run
// that is killed at any point is finished by the next:
//
//	no domain                     put the generation there, define, start
//	trying, attests               the mark goes
//	trying, does not attest       the generation before is defined and started
//	trying, nothing before        it stays, shut, to be looked at
//	leaving, runs                 it is waited for, and started when it is off
//	not trying, off               it is started
//	not trying, runs              nothing is done
//
// It promises:
//   - A generation whose disk has been used is never used as if it were new, and
//     a root disk that has attested is kept until another generation has.
//   - The state disk is made once. Nothing here deletes it but Destroy with Disks
//     on it named, and there is one domain for it: it goes by the host's UUID.
//   - What can be found out to stand in the way is found out before the machine
//     that runs is touched. If something fails later, that one is started again.
//   - A machine is shut down, with time for its services to finish, and not cut off.
//   - Secrets are on the hypervisor for as long as a machine there has yet to be given
//     them: not after a deploy that has failed.
//
// It refuses to touch a domain that bake has not made.
//
// # Decisions
//
// 2026-11: deploying stops the machine before the new one starts: the two would
// want the same state disk and the same address.
//
// 2026-11: the generation before goes back to its own root disk, not to a new one:
// that has attested, and needs no secrets again. What a newer OpenClaw has done to
// the state stays done: going back further is restoring a backup.
//
// 2026-11: a machine keeps its firmware's variables from one generation to the next, as it
// keeps its TPM, but for one whose firmware is another: libvirt would go on with the file that
// is there, and secure boot without its keys in it is none. That it has yet to be made anew is
// in the mark, until a generation has attested.
//
// 2026-11: what machine.firmware: auto and machine.tpm: auto become is decided each time that
// a generation is defined, also when it is put back. A machine that is up keeps what it has:
// secure boot or a TPM that came with a package of the hypervisor's, or went with it, would
// otherwise be a restart that nobody has asked for.
//
// 2026-11: an entry for the machine's MAC address and name in a network may be somebody's who
// has written it by hand, who sees that address in virsh. So bake up releases only what the
// mark says bake has reserved, or has found while the host file asked for it.
//
// 2026-11: the verdict is what the machine says on its console, as bake status
// reads it. Somebody who is root in it can say anything there; a deploy asks
// whether the machine has become what was baked, not whether it has been taken over.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"bake/internal/domain"
	"bake/internal/hypervisor"
	"bake/internal/lazy"
)

// Place is what is needed of a *hypervisor.Hypervisor.
type Place interface {
	Find(host string) (*hypervisor.Machine, error)
	Check(xml string) error
	Abilities(arch string) (domain.Abilities, error)
	Define(xml string) error
	Start(host string, fresh bool) error
	Kill(host string) error
	Shutdown(ctx context.Context, host string) error
	Undefine(host string) error
	SetMark(host string, m domain.Mark) error
	SetAutostart(host string, on bool) error
	CheckNetwork(name string) error
	CheckFilter(name string) error
	Reserved(hypervisor.Lease) (bool, error)
	Reserve(hypervisor.Lease) error
	Release(hypervisor.Lease) error
	Has(name string) (bool, error)
	Size(name string) (int64, error)
	Written(name string) (int64, error)
	Put(ctx context.Context, name string, from io.Reader, size int64, progress func(done int64)) error
	Copy(from, to, sha256 string) error
	Read(name string) ([]byte, error)
	List(dir string) ([]string, error)
	Remove(name string) error
	RemoveDir(dir string) error
	MakeDisk(name string, size int64) (isNew bool, err error)
}

// Host is what the host file says of the machine's place.
type Host struct {
	Name      string
	Images    string // directory on the hypervisor
	Network   string // of libvirt's, "" where it is a bridge
	Filter    string // of libvirt's, "" for none
	State     int64  // bytes of its state disk, 0 for none
	Autostart bool
	MAC       string            // of its card
	Lease     *hypervisor.Lease // address that its network keeps for it, nil for none
	Emulated  bool              // the hypervisor has no KVM
}

// Generation is what is to run.
type Generation struct {
	Name    string
	XML     []byte
	Files   []File // that go into its directory
	Base    *File  // under its disk, nil where that stands alone
	Secrets string // path of the volume here, "" for none
}

// File is a file of this machine, and its name there.
type File struct {
	Path, Name string
	SHA256     string // of one that may be there already as part of another generation; "" for one that is not looked for
}

// Verdict is what a machine has said of itself.
type Verdict struct {
	OK     bool
	Reason string // why not
}

// Deployment is one host's machine and how to change it.
type Deployment struct {
	Host Host
	At   Place
	// Wait reads the machine's console until it has a verdict about a generation;
	// one that is late is a verdict too. See Console.
	Wait     func(ctx context.Context, generation string) (Verdict, error)
	Say      func(text string)                        // is told each step
	Progress func(file string) func(done, size int64) // of what is written there; may be nil
	Patience time.Duration                            // for a machine to shut down
	DryRun   bool                                     // say the steps, and do none
}

// A FailedError says that a machine is not what was specified.
type FailedError struct {
	Host, Generation string
	Reason           string
	Back             string // generation that runs again and has attested, "" for none
	BackReason       string // why that does not either
}

func (e *FailedError) Error() string {
	text := fmt.Sprintf("%s: generation %s did not attest: %s", e.Host, e.Generation, e.Reason)
	switch {
	case e.Back != "" && e.BackReason == "":
		text += fmt.Sprintf("; generation %s is back and has attested", e.Back)
	case e.Back != "":
		text += fmt.Sprintf("; generation %s is back and does not attest either: %s", e.Back, e.BackReason)
	}
	return text
}

// Outcome is what became of a machine.
type Outcome struct {
	Host       string `json:"host"`
	Generation string `json:"generation"`
	Previous   string `json:"previous,omitempty"`
	Changed    bool   `json:"changed"` // something was done
	Wanted     string `json:"wanted"`  // what the caller named; another generation runs if it differs
}

// Up makes the machine run: the generation if there is none, what is there
// otherwise. The error is a *FailedError when it does not attest.
func (d *Deployment) Up(ctx context.Context, g Generation) (Outcome, error) {
	m, err := d.find()
	if err != nil {
		return Outcome{}, err
	}
	if m == nil {
		return d.first(ctx, g)
	}
	out, err := d.settle(ctx, m)
	var failed *FailedError
	if errors.As(err, &failed) && failed.Back == "" && m.Trying && m.Generation != g.Name {
		d.Say(fmt.Sprintf("generation %s never attested (%s): %s takes its place", m.Generation, failed.Reason, g.Name))
		if err := d.step("switching off "+m.Generation, func() error { return d.At.Kill(d.Host.Name) }); err != nil {
			return out, err
		}
		return d.first(ctx, g)
	}
	out.Wanted = g.Name
	return out, err
}

// Deploy puts a generation in the place of the one that is there, or makes it run
// where there is none. If it does not attest, the one before is put back.
func (d *Deployment) Deploy(ctx context.Context, g Generation) (Outcome, error) {
	m, err := d.find()
	if err != nil || m == nil {
		if err != nil {
			return Outcome{}, err
		}
		return d.first(ctx, g)
	}
	if m.Trying || m.Generation == g.Name {
		out, err := d.settle(ctx, m)
		out.Wanted = g.Name
		var failed *FailedError
		switch {
		case m.Generation == g.Name, err != nil && !errors.As(err, &failed):
			return out, err
		case err != nil:
			d.Say(failed.Error())
		}
		if failed != nil && failed.Back == g.Name && failed.BackReason == "" {
			return out, nil
		}
		again, findErr := d.find()
		if findErr != nil || again == nil {
			return out, errors.Join(findErr, d.gone(again))
		}
		if m = again; m.Generation == g.Name { // it is back: its disk has been used
			return out, err
		}
	}
	if err := d.vet(m, g.Name, g.XML); err != nil {
		return Outcome{}, err
	}
	if g.Name == m.Previous {
		return d.swap(ctx, m, g.Name, g.XML)
	}
	err = d.put(ctx, g, m.Generation)
	if err != nil {
		return Outcome{}, errors.Join(err, d.discard(ctx, g.Name, err))
	}
	return d.swap(ctx, m, g.Name, g.XML)
}

// Rollback puts the generation back that was there before.
func (d *Deployment) Rollback(ctx context.Context) (Outcome, error) {
	m, err := d.find()
	if err != nil || m == nil {
		return Outcome{}, errors.Join(err, d.gone(m))
	}
	if m.Previous == "" {
		return Outcome{}, fmt.Errorf("%s runs generation %s and nothing is known of one before: deploy one by its name (%w)",
			d.Host.Name, m.Generation, fs.ErrNotExist)
	}
	text, err := d.At.Read(d.path(m.Previous, "domain.xml"))
	if err != nil {
		return Outcome{}, err
	}
	needs, err := domain.ReadNeeds(text)
	if err != nil {
		return Outcome{}, err
	}
	d.Host.Network, d.Host.Filter = needs.Network, needs.Filter
	if err := d.vet(m, m.Previous, text); err != nil {
		return Outcome{}, err
	}
	return d.swap(ctx, m, m.Previous, text)
}

// Down shuts the machine down; with force it is cut off if it does not in time.
func (d *Deployment) Down(ctx context.Context, force bool) (Outcome, error) {
	m, err := d.At.Find(d.Host.Name)
	if err != nil || m == nil {
		return Outcome{}, errors.Join(err, d.gone(m))
	}
	out := Outcome{Host: d.Host.Name, Generation: m.Generation, Previous: m.Previous, Wanted: m.Generation, Changed: m.Running}
	if !m.Running {
		return out, nil
	}
	if err = d.awake(m); err == nil {
		err = d.shutdown(ctx, m)
	}
	if err != nil && force && ctx.Err() == nil {
		d.Say(err.Error())
		if err = d.step("switching off "+m.Generation, func() error { return d.At.Kill(d.Host.Name) }); err == nil {
			err = d.stay(m)
		}
	}
	return out, err
}

// Destroy takes the machine and its generations away, and its state disk only with
// state. A machine that runs is cut off.
func (d *Deployment) Destroy(ctx context.Context, state bool) error {
	m, err := d.find()
	if err != nil {
		return err
	}
	if m != nil {
		if err := d.step("switching off "+m.Generation, func() error { return d.At.Kill(d.Host.Name) }); err != nil {
			return err
		}
		if err := d.step("undefining the domain", func() error { return d.At.Undefine(d.Host.Name) }); err != nil {
			return err
		}
	}
	if l := d.Host.Lease; l != nil {
		if err := d.step(fmt.Sprintf("releasing %s on the network %s", l.Address, l.Network), func() error { return d.At.Release(*l) }); err != nil {
			return err
		}
	}
	if m != nil {
		for _, network := range d.unwanted(m.Mark) {
			if err := d.release(network, func() error { return nil }); err != nil {
				return err
			}
		}
	}
	home := path.Join(d.Host.Images, d.Host.Name)
	names, err := d.At.List(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	left := 0
	for _, name := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		file := path.Join(home, name)
		switch {
		case isGeneration.MatchString(name):
			err = d.step("deleting generation "+name, func() error { return d.At.RemoveDir(file) })
		case name == stateDisk && !state:
			d.Say("the state disk stays: " + file)
			left++
			continue
		case name == stateDisk, isOurs.MatchString(name):
			err = d.step("deleting "+file, func() error { return d.At.Remove(file) })
		default:
			left++
			continue
		}
		if err != nil {
			return err
		}
	}
	if left > 0 {
		return nil
	}
	return d.step("deleting "+home, func() error { return d.At.RemoveDir(home) })
}

const (
	stateDisk = "state.qcow2"
	secrets   = "secrets.iso"
	whole     = ".whole"
)

var (
	isGeneration = lazy.Regexp(`^[0-9a-f]{16}$`)
	isOurs       = lazy.Regexp(`^(secrets\.iso(\.whole)?|(console\.log|report\.json)(\.[0-9]+)?)$`)
)

// step is one change on the hypervisor: said, and done unless it is for show.
func (d *Deployment) step(text string, do func() error) error {
	d.Say(text)
	reached(text)
	if d.DryRun {
		return nil
	}
	return do()
}

// reached is called before each change. Tests die there.
var reached = func(string) {}

func (d *Deployment) path(generation, file string) string {
	return path.Join(d.Host.Images, d.Host.Name, generation, file)
}

func (d *Deployment) gone(m *hypervisor.Machine) error {
	if m != nil {
		return nil
	}
	return fmt.Errorf("%s is not there: bake up --host %s (%w)", d.Host.Name, d.Host.Name, fs.ErrNotExist)
}

// open opens a file to be sent.
func open(name string) (*os.File, int64, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}
