package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"bake/internal/tool"
)

// Names that the monitor's commands use as well.
const (
	netdev    = "net0"
	cardWire  = "card" // of the first card, where this process is between it and its network
	rootDisk  = "root"
	varsDisk  = "vars"
	stateDisk = "state"
)

// Descriptors that QEMU inherits, in this order. The first tap has tapFD, the
// first port follows the last tap.
const (
	monitorFD = 3
	consoleFD = 4
	tapFD     = 5
)

// sandbox confines QEMU by seccomp: no new programs, no privileges.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// command builds the arguments of QEMU. Paths go into JSON or are escaped: a
// comma in one starts no option.
func (s Spec) command(firm firmware, disks []disk, credentials []string, lan lan) []string {
	args := append(processor(s.Arch, s.Accel), "-no-user-config", "-nodefaults", "-display", "none")
	args = append(args, s.mainboard(firm)...)
	args = append(args,
		"-smp", fmt.Sprint(s.VCPUs), "-m", fmt.Sprintf("%dM", s.Memory>>20),
		"-rtc", "base=utc",
		"-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", monitorFD),
		"-mon", "chardev=monitor,mode=control",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD),
		"-serial", "chardev:console")
	args = append(args, s.firstCard(lan)...)
	args = append(args, "-device", "virtio-rng-pci")
	args = append(args, s.cards()...)
	for _, d := range disks {
		args = append(args, "-blockdev", d.node())
		if d.device != "" {
			args = append(args, "-device", "virtio-blk-pci,drive="+d.name+d.device)
		}
	}
	args = append(args, s.ports()...)
	args = append(args, s.wires()...)
	for _, file := range credentials {
		args = append(args, "-smbios", "type=11,path="+escape(file))
	}
	return args
}

// firstCard adds the user-mode network and the card on it.
func (s Spec) firstCard(lan lan) []string {
	if s.NoCard {
		return []string{"-nic", "none"}
	}
	return []string{"-netdev", "user,id=" + netdev + lan.options,
		"-device", "virtio-net-pci,romfile=,netdev=" + s.plug() + s.mac()}
}

// cards adds what is on the taps. All packets pass through QEMU: vhost would
// need another device of the host's.
func (s Spec) cards() []string {
	var args []string
	for i := range s.Cards {
		id := fmt.Sprintf("card%d", i)
		args = append(args, "-netdev", fmt.Sprintf("tap,id=%s,vhost=off,fd=%d", id, tapFD+i),
			"-device", "virtio-net-pci,romfile=,netdev="+id)
	}
	return args
}

// ports adds the virtio-serial ports, after all else: on the PCI bus nothing
// that the artifact knows moves.
func (s Spec) ports() []string {
	var args []string
	for i, name := range s.Ports {
		if i == 0 {
			args = append(args, "-device", "virtio-serial-pci")
		}
		id := fmt.Sprintf("port%d", i)
		args = append(args, "-chardev", fmt.Sprintf("socket,id=%s,fd=%d", id, tapFD+len(s.Cards)+i),
			"-device", "virtserialport,chardev="+id+",name="+escape(name))
	}
	return args
}

// plug is what the first card is plugged into.
func (s Spec) plug() string {
	if s.Wire {
		return cardWire
	}
	return netdev
}

// wires joins card and user-mode network by the last two descriptors, whose other
// ends are ours: see Wire. A network of QEMU's has a card or a hub on its other
// side, hence the hub.
func (s Spec) wires() []string {
	if !s.Wire {
		return nil
	}
	fd := tapFD + len(s.Cards) + len(s.Ports)
	return []string{
		"-netdev", fmt.Sprintf("socket,id=%s,fd=%d", cardWire, fd),
		"-netdev", fmt.Sprintf("socket,id=uplink,fd=%d", fd+1),
		"-netdev", "hubport,id=hub0,hubid=0,netdev=" + netdev,
		"-netdev", "hubport,id=hub1,hubid=0,netdev=uplink",
	}
}

func (s Spec) mac() string {
	if address, err := net.ParseMAC(s.MAC); err == nil {
		return ",mac=" + address.String()
	}
	return ""
}

// disk is one image that QEMU opens.
type disk struct {
	name, path, format string
	readOnly           bool
	device             string // more options of a virtio disk, "" for none: flash
}

// node describes the disk as -blockdev wants it. Flushes are dropped: nothing
// that is written here outlives the machine.
func (d disk) node() string {
	text, _ := json.Marshal(map[string]any{
		"node-name": d.name, "driver": d.format, "read-only": d.readOnly,
		"cache": map[string]bool{"no-flush": true},
		"file":  map[string]any{"driver": "file", "filename": d.path, "read-only": d.readOnly},
	}) // strings and booleans always marshal
	return string(text)
}

// prepare creates the throwaway images and lists all that QEMU opens.
func (s Spec) prepare(ctx context.Context, tools tool.Box, firm firmware, at *scratch) ([]disk, error) {
	root, err := filepath.Abs(s.Disk)
	if err != nil {
		return nil, err
	}
	overlay, vars := at.path("root.qcow2"), at.path("vars.qcow2")
	if _, err := tools.Run(ctx, "qemu-img", "create", "-q", "-f", "qcow2",
		"-F", "qcow2", "-b", root, overlay); err != nil {
		return nil, err
	}
	// qcow2, so that a snapshot of the machine can include it.
	if _, err := tools.Run(ctx, "qemu-img", "convert", "-f", firm.Vars.Format,
		"-O", "qcow2", firm.Vars.Filename, vars); err != nil {
		return nil, err
	}
	disks := []disk{
		{name: "code", path: firm.Code.Filename, format: firm.Code.Format, readOnly: true},
		{name: varsDisk, path: vars, format: "qcow2"},
		{name: rootDisk, path: overlay, format: "qcow2", device: ",bootindex=1"},
	}
	for _, once := range []struct{ name, path, serial string }{
		{"seed", s.Seed, "bake-seed"}, {"secrets", s.Secrets, "bake-secrets"}, {"payload", s.Payload, "bake-payload"},
	} {
		if once.path == "" {
			continue
		}
		path, err := filepath.Abs(once.path)
		if err != nil {
			return nil, err
		}
		disks = append(disks, disk{name: once.name, path: path, format: "raw", readOnly: true, device: ",serial=" + once.serial})
	}
	state, err := s.prepareState(ctx, tools, at)
	if err != nil || state == "" {
		return disks, err
	}
	return append(disks, disk{name: stateDisk, path: state, format: "qcow2", device: ",serial=bake-state"}), nil
}

// prepareState returns the state disk, "" for none: the caller's, or an empty one of
// its own that goes away with the machine.
func (s Spec) prepareState(ctx context.Context, tools tool.Box, at *scratch) (string, error) {
	if s.StateDisk != "" {
		return filepath.Abs(s.StateDisk)
	}
	if s.State == 0 {
		return "", nil
	}
	path := at.path("state.qcow2")
	_, err := tools.Run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", path, fmt.Sprint(s.State))
	return path, err
}

// escape makes a path safe inside a list of options.
func escape(path string) string { return strings.ReplaceAll(path, ",", ",,") }
