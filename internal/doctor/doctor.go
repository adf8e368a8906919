// Package doctor says what this machine can do, and what it lacks for which command.
//
// bake needs little for most of what it does, and says what is missing when it is
// needed. doctor asks the same questions before: how guests run here, by the probe that
// decides it (package vm); which programs, firmware and daemons are there; and whether
// there is room. What is missing comes with the Debian or Ubuntu package that has it.
//
// It promises to change nothing but the memory of the accelerator's probe, which the
// next boot would write, and to need no right that bake itself does not need. It
// refuses to guess: a program is there when it is found where bake would find it, and
// libvirt when it has answered.
//
// # Decisions
//
// 2026-11: findings are tied to commands, and to the kind of host that has the need, if
// not every host has. A machine on which nothing is ever deployed lacks nothing for
// want of libvirt: whoever names commands is told of their needs alone.
//
// 2026-11: software emulation is no lack. It is slow, and everything works.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"bake/internal/tool"
)

// State says what became of a need.
type State string

// The states. What is Slow works.
const (
	OK      State = "ok"
	Slow    State = "slow"
	Missing State = "missing"
)

// A Finding is a need and whether this machine meets it.
type Finding struct {
	Name    string   `json:"name"`
	State   State    `json:"state"`
	Found   string   `json:"found"`             // where it is, or what is wrong
	For     []string `json:"for"`               // commands that need it
	Only    string   `json:"only,omitempty"`    // the hosts that need it, where not all do
	Package string   `json:"package,omitempty"` // that has it, where it is missing
}

// IsLack reports whether commands cannot work for want of it, whatever the host.
func (f Finding) IsLack() bool { return f.State == Missing && f.Only == "" }

// Options are how to look at a machine.
type Options struct {
	Tools    tool.Box
	Commands []string // whose needs count
	// Accelerator, Firmware and Libvirt ask for what no search path knows. Firmware and
	// Libvirt fail with what is missing; Found of the others is what they return.
	Accelerator func(context.Context) (accel, reason string, err error)
	Firmware    func(arch, kind string) (path string, err error)
	Libvirt     func(context.Context) error
	Places      []Place
}

// A Place is a directory that has to have room.
type Place struct {
	Name, Dir string
	Need      int64 // bytes
	For       []string
}

// need is a program and who needs it.
type need struct {
	program string
	paths   []string // where it is, when on no search path
	place   string   // what has such a one, where it is not the same package everywhere
	only    string
	by      []string
}

// What commands do: the names of groups that share their needs.
var (
	bakes   = []string{"image", "nightly", "pull", "bisect", "rebuild"}
	boots   = []string{"verify", "nightly", "bisect"}
	deploys = []string{"up", "deploy", "rollback", "down", "destroy", "list"}
)

const (
	withPackages = "hosts whose layers need packages"
	withGateway  = "hosts with the layer openclaw"
	withTPM      = "hosts with tpm: true"
	withShare    = "hosts with the layer virtiofs, on their hypervisor"
	withTree     = "copies in a directory"
	withSecure   = "hosts with firmware: uefi-secure"
	withARM      = "hosts with machine.arch: arm64"
	farAway      = "a hypervisor over ssh"
)

var needs = []need{
	{program: "qemu-system-x86_64", by: boots},
	{program: "qemu-system-aarch64", only: withARM, by: boots},
	{program: "qemu-img", by: append(bakes[:len(bakes):len(bakes)], "verify")},
	{program: "prlimit", by: bakes},
	{program: "apt-get", only: withPackages, by: bakes},
	{program: "dpkg-deb", only: withPackages, by: bakes},
	{program: "mksquashfs", only: withPackages, by: bakes},
	{program: "npm", only: withGateway, by: bakes},
	{program: "node", only: withGateway, by: bakes},
	{program: "ssh", by: []string{"ssh"}},
	{program: "ssh", only: farAway, by: deploys},
	{program: "swtpm", only: withTPM, by: []string{"up", "deploy"}},
	{program: "virtiofsd", only: withShare, by: []string{"up", "deploy"}, place: "the package virtiofsd, or qemu-system-common before Debian 13 and Ubuntu 24.04",
		paths: []string{"/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"}},
	{program: "ssh", by: []string{"backup"}},
	{program: "rsync", only: withTree, by: []string{"backup"}},
	{program: "restic", by: []string{"backup", "restore", "drill"}},
}

// Look asks every question whose answer matters to the commands, in an order that
// reads well. The error is the context's, or a probe's that could not be made.
func Look(ctx context.Context, o Options) ([]Finding, error) {
	var found []Finding
	add := func(f Finding) {
		if f.For = o.wanted(f.For); len(f.For) > 0 {
			found = append(found, f)
		}
	}
	if len(o.wanted(boots)) > 0 {
		f, err := o.accelerator(ctx)
		if err != nil {
			return nil, err
		}
		add(f)
		add(o.firmware("amd64", "uefi", ""))
		add(o.firmware("amd64", "uefi-secure", withSecure))
		add(o.firmware("arm64", "uefi", withARM))
	}
	for _, n := range needs {
		add(o.program(n))
	}
	if len(o.wanted(deploys)) > 0 {
		add(o.libvirt(ctx))
	}
	for _, p := range o.Places {
		f, err := room(p)
		if err != nil {
			return nil, err
		}
		add(f)
	}
	return found, ctx.Err()
}

// wanted returns those of the commands that count here.
func (o Options) wanted(commands []string) []string {
	var here []string
	for _, command := range commands {
		if slices.Contains(o.Commands, command) {
			here = append(here, command)
		}
	}
	return here
}

func (o Options) accelerator(ctx context.Context) (Finding, error) {
	f := Finding{Name: "accelerator", State: OK, For: boots}
	accel, reason, err := o.Accelerator(ctx)
	if lack := lackOf(err); lack != nil {
		f.State, f.Found, f.Package = Missing, lack.Name+" is not installed", lack.Package
		return f, nil
	}
	f.Found = accel + ": " + reason
	if accel != "kvm" {
		f.State = Slow
	}
	return f, err
}

// lackOf returns what a failure says is missing, nil if it is about something else.
func lackOf(err error) *tool.MissingError {
	var lack *tool.MissingError
	errors.As(err, &lack)
	return lack
}

func (o Options) firmware(arch, kind, only string) Finding {
	f := Finding{Name: kind + map[string]string{"arm64": "-arm64"}[arch], State: OK, For: boots, Only: only}
	path, err := o.Firmware(arch, kind)
	if f.Found = path; err != nil {
		f.State, f.Found = Missing, "not installed"
		if lack := lackOf(err); lack != nil {
			f.Package = lack.Package
		}
	}
	return f
}

func (o Options) program(n need) Finding {
	f := Finding{Name: n.program, State: OK, For: n.by, Only: n.only}
	path, err := o.Tools.Find(n.program)
	for _, usual := range n.paths {
		if info, failed := os.Stat(usual); err != nil && failed == nil && info.Mode()&0o111 != 0 {
			path, err = usual, nil
		}
	}
	if f.Found = path; err != nil {
		f.State, f.Found = Missing, "not installed"
		if n.place != "" {
			f.Found += ": it is in " + n.place
		} else if lack := lackOf(err); lack != nil {
			f.Package = lack.Package
		}
	}
	return f
}

func (o Options) libvirt(ctx context.Context) Finding {
	f := Finding{Name: "libvirt", State: OK, Found: "it answers", For: deploys}
	if err := o.Libvirt(ctx); err != nil {
		f.State, f.Found = Missing, err.Error()
		if errors.Is(err, os.ErrNotExist) {
			f.Package = "libvirt-daemon-system"
		}
	}
	return f
}

// room asks the file system of a directory, or of the nearest one above that exists.
func room(p Place) (Finding, error) {
	f := Finding{Name: p.Name, State: OK, For: p.For}
	var fs syscall.Statfs_t
	dir, err := filepath.Abs(p.Dir)
	if err == nil {
		err = nearest(dir, func(dir string) error { return syscall.Statfs(dir, &fs) })
	}
	if err != nil {
		return f, fmt.Errorf("asking for the room in %s: %w", p.Dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	f.Found = fmt.Sprintf("%s has %.1f GiB free", dir, float64(free)/(1<<30))
	if free < p.Need {
		f.State = Missing
		f.Found += fmt.Sprintf(", %.0f are wanted", float64(p.Need)/(1<<30))
	}
	return f, nil
}

// nearest calls f with a directory, or with the nearest one above that exists.
func nearest(dir string, f func(dir string) error) error {
	for {
		err := f(dir)
		above := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || above == dir {
			return err
		}
		dir = above
	}
}
