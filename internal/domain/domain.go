// Package domain renders the libvirt XML of a host.
//
// The XML is the outer half of the hardening: what the machine does not have
// cannot be attacked. No graphics, USB, audio, video, CD-ROM or sound card, no
// way from one guest to its neighbours on the bridge, no memory that the guest
// has freed and the hypervisor still holds.
//
// It promises:
//   - The same host and generation give the same bytes, on any machine: paths
//     are those on the hypervisor (<images>/<host>/<generation>/...), there is
//     no clock and no randomness, and the UUID comes from the name.
//   - libvirt's own schema (9.0 and later) accepts what it writes.
//   - QEMU never guesses a disk's format: it is in the XML, and for the base
//     image in the overlay.
//
// It refuses a host that the schema would accept and libvirt misread: names with
// a slash, relative paths, a card with no place to go or with two.
//
// The UUID is RFC 9562 version 5 (SHA-1) in the URL namespace of
// "urn:bake:host:<name>"; anybody can recompute it:
//
//	uuidgen --sha1 --namespace @url --name urn:bake:host:zap
//
// What is not in the XML because libvirt has it elsewhere: autostart
// (virsh autostart), and the path of the NVRAM file, which libvirt chooses.
//
// # Decisions
//
// 2026-11: the seed is a second virtio-blk disk, read-only, and not a CD-ROM:
// on Ubuntu 26.04 a SATA CD-ROM appears after cloud-init has looked for its
// seed, and the machine comes up unhardened without an error. <readonly/> makes
// QEMU open the file read-only, the guest see a read-only disk, and libvirt take
// a shared lock on it; <shareable/> is left out, as it would switch off that
// lock and the label of its own which SELinux hosts give a disk. Would change if
// an image in scope could not read ISO 9660 from a disk.
//
// 2026-11: the seed and the secrets, <images>/<host>/secrets.iso, are optional at
// start (startupPolicy, for hard disks since libvirt 1.1.2): both have done their
// work after the first boot, and deleting a file must not keep a machine from
// starting. A first boot without them has nobody who can log in, or secrets that
// are missing, which a claim says.
//
// 2026-11: the payload is optional at start as well. Where it only brought
// packages it has done its work after the first boot; where more is on it, the
// machine stays shut without it and says so, which tells more than one that does
// not start.
//
// 2026-11: the state disk, <images>/<host>/state.qcow2, is not optional at start. A
// machine without it would come up shut; one that does not start says so at once, and
// has not made itself a second identity.
//
// 2026-11: cache=none io=native for root and state disk, not io=io_uring: hardened
// hypervisors switch io_uring off (kernel.io_uring_disabled, SELinux, seccomp)
// and QEMU then does not start at all. The XML is rendered without seeing the
// hypervisor, so it takes what runs on all of them; that io_uring is forbidden there
// its domain capabilities do not say, which Fit goes by. Both need O_DIRECT, which
// an images directory on an old tmpfs does not have.
//
// 2026-11: what machine.firmware: auto and machine.tpm: auto leave to the hypervisor is in
// the rendered XML as a wish in the mark, and that XML is the plain machine: it is valid and
// can be used by hand, and the same host file gives the same bytes. Fit grants the wish, for
// it is where bake sees the hypervisor, and writes what it has granted into the mark: that a
// TPM has been taken away since would otherwise look as if there had never been one.
//
// 2026-11: the console log is truncated at each start (append=off): a verdict
// line in it is then from this boot, not from an earlier and better one.
//
// 2026-11: the guest's report goes to a file, <images>/<host>/report.json, through the port
// that it writes to anyway: a socket would hold it only for somebody who listens in that
// moment. It is begun anew at each start, as the log is, and virtlogd bounds both.
//
// 2026-11: features are named both ways (secure-boot and enrolled-keys, yes or
// no), as libvirt otherwise picks whatever firmware build comes first.
//
// 2026-11: no vsock device unless machine.vsock asks for one. systemd 256 and later
// binds sshd to it without being asked, past the firewall and fail2ban. No nwfilter
// unless network.filter names one: clean-traffic drops IPv6, and no-mac-spoofing needs a
// package the hypervisor may lack. No graphics also means no VNC port on the hypervisor.
//
// 2026-11: no watchdog unless machine.watchdog asks for one: it begins to count when the
// guest opens it, which is systemd's RuntimeWatchdogSec in the guest. It is the i6300esb,
// a PCI card, which x86 and ARM both have.
//
// 2026-11: disks that a host file lists are never of a guessed format, not optional at
// start, and go by a serial of the person's own. bake neither makes nor deletes them, and
// none may be where it does that.
//
// 2026-11: arm64 is QEMU's virt: without the timers, the APIC, SMM and the sleep states of
// a PC, and with a TPM that sits elsewhere. libvirt's schema accepts it; none was booted.
//
// 2026-11: memory backing (memfd, shared) only where a layer shares a directory
// by virtiofs, whose daemon maps the guest's memory. <readonly/> is written for a
// read-only share although libvirt before 11.0 does not start such a machine: a
// read-only mount in the guest binds nobody who is root there, and no machine is
// better than one that can write to the hypervisor. On such a hypervisor share a
// read-only bind mount and say readonly: false. No idmap: libvirt before 10.0 does
// not know it.
//
// 2026-11: <port isolated='yes'/> needs a Linux bridge behind the network. A
// network of another kind (macvtap, Open vSwitch) makes libvirt refuse to start
// the machine, which is better than a guest that is not isolated; so does a kernel
// without it. network.isolated: false is for those who know.
//
// 2026-11: a guest agent channel, though the agent is a root shell for whoever
// controls the hypervisor: so is the disk. What the agent answers is decided in the
// guest (allow-rpcs and block-rpcs of qemu-ga.conf), as libvirt hands on everything;
// machine.agent: false is for those who want no such door.
package domain

import (
	"errors"
	"fmt"
	"net"
	"path"
	"strings"

	"bake/internal/host"
	"bake/internal/lazy"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"
)

// XML returns the domain of one generation of a host, indented, with a newline
// at the end. The error names the value that cannot be rendered.
func XML(h *host.Host, generation string) ([]byte, error) {
	if err := vet(h, generation); err != nil {
		return nil, fmt.Errorf("rendering the libvirt XML of host %q: %w", h.Name, err)
	}
	devices := devicesOf(h, generation)
	d := libvirtxml.Domain{
		Type:          "kvm",
		Name:          h.Name,
		UUID:          uuidOf(h.Name),
		Title:         h.Name + " " + generation,
		Description:   "Host " + h.Name + ", generation " + generation + ", made by bake.",
		Metadata:      metadataOf(Mark{Host: h.Name, Generation: generation, Secure: wanted(h.Machine.Firmware == host.FirmwareAuto), TPM: wanted(h.Machine.TPM == host.TPMAuto)}),
		Memory:        &libvirtxml.DomainMemory{Value: uint(h.Machine.Memory), Unit: "b"},
		VCPU:          &libvirtxml.DomainVCPU{Placement: "static", Value: uint(h.Machine.VCPUs)},
		IOThreads:     rootThread,
		OS:            osOf(h.Machine),
		Features:      featuresOf(h.Machine),
		CPU:           cpuOf(h.Machine),
		Clock:         clockOf(h.Machine),
		OnPoweroff:    "destroy",
		OnReboot:      "restart",
		OnCrash:       "destroy",
		PM:            pmOf(h.Machine),
		MemoryBacking: backingOf(h.Machine, devices),
		Devices:       devices,
	}
	text, err := d.Marshal()
	if err != nil {
		return nil, fmt.Errorf("rendering the libvirt XML of host %q: %w", h.Name, err)
	}
	return []byte(text + "\n"), nil
}

// vet refuses what the types allow and libvirt would take for something else.
func vet(h *host.Host, generation string) error {
	mac, macErr := net.ParseMAC(h.Network.MAC)
	attach := h.Network.Attach
	switch {
	case !isName(h.Name):
		return errors.New("its name is no name")
	case !isName(generation):
		return fmt.Errorf("generation %q is no name", generation)
	case h.Machine.VCPUs < 1:
		return fmt.Errorf("%d virtual processors", h.Machine.VCPUs)
	case h.Machine.Memory < 1<<20:
		return fmt.Errorf("%d bytes of memory", h.Machine.Memory)
	case h.Machine.Firmware != host.FirmwareAuto && h.Machine.Firmware != host.UEFI && h.Machine.Firmware != host.UEFISecure:
		return fmt.Errorf("firmware %q is none of %q, %q and %q", h.Machine.Firmware, host.FirmwareAuto, host.UEFI, host.UEFISecure)
	case h.Machine.TPM != host.TPMAuto && h.Machine.TPM != host.TPMOn && h.Machine.TPM != host.TPMOff:
		return fmt.Errorf("TPM %q is none of %q, %q and %q", h.Machine.TPM, host.TPMAuto, host.TPMOn, host.TPMOff)
	case !path.IsAbs(h.Machine.ImagesPath) || path.Clean(h.Machine.ImagesPath) != h.Machine.ImagesPath:
		return fmt.Errorf("images directory %q is not a clean absolute path", h.Machine.ImagesPath)
	case strings.ContainsFunc(h.Machine.ImagesPath, isControl):
		return fmt.Errorf("images directory %q has control characters", h.Machine.ImagesPath)
	case macErr != nil || len(mac) != 6 || mac.String() != h.Network.MAC:
		return fmt.Errorf("MAC address %q is not of the form 52:54:00:12:34:56", h.Network.MAC)
	case mac[0]&1 != 0:
		return fmt.Errorf("MAC address %s is a multicast address", mac)
	case (attach.Network == "") == (attach.Bridge == ""):
		return fmt.Errorf("the network card goes to network %q and bridge %q: exactly one of the two is needed",
			attach.Network, attach.Bridge)
	case strings.ContainsFunc(attach.Network+attach.Bridge, isControl):
		return fmt.Errorf("network %q or bridge %q has control characters", attach.Network, attach.Bridge)
	}
	if err := vetHardware(h.Machine); err != nil {
		return err
	}
	return vetShares(h)
}

func vetHardware(m host.Machine) error {
	if m.Arch != host.AMD64 && m.Arch != host.ARM64 {
		return fmt.Errorf("architecture %q is neither %q nor %q", m.Arch, host.AMD64, host.ARM64)
	}
	if len(m.Disks) > maxDisks {
		return fmt.Errorf("%d disks are more than there are letters", len(m.Disks))
	}
	for _, d := range m.Disks {
		switch {
		case !isName(d.Name) || strings.HasPrefix(d.Name, "bake-"):
			return fmt.Errorf("the disk %q has no name of its own", d.Name)
		case !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path || strings.ContainsFunc(d.Path, isControl):
			return fmt.Errorf("the disk %s is at %q, which is not a clean absolute path", d.Name, d.Path)
		case d.Format != "raw" && d.Format != "qcow2":
			return fmt.Errorf("the disk %s has the format %q", d.Name, d.Format)
		}
	}
	for _, d := range m.Devices {
		if (d.PCI == "") == (d.Mdev == "") || d.PCI != "" && !pciAddress.MatchString(d.PCI) {
			return fmt.Errorf("the device with the address %q and the UUID %q is none", d.PCI, d.Mdev)
		}
	}
	return nil
}

// maxDisks is how many letters bake's own disks leave.
const maxDisks = 'z' - 'f' + 1

var pciAddress = lazy.Regexp(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)

func vetShares(h *host.Host) error {
	owner := map[string]string{}
	for _, l := range h.Layers {
		for _, s := range l.Shares {
			switch other, twice := owner[s.Tag]; {
			case twice:
				return fmt.Errorf("the layers %s and %s both share a directory under the tag %q", other, l.Name, s.Tag)
			case !isName(s.Tag):
				return fmt.Errorf("the tag %q of layer %s is no name", s.Tag, l.Name)
			case !path.IsAbs(s.Dir) || path.Clean(s.Dir) != s.Dir || strings.ContainsFunc(s.Dir, isControl):
				return fmt.Errorf("layer %s shares %q, which is not a clean absolute path", l.Name, s.Dir)
			}
			owner[s.Tag] = l.Name
		}
	}
	return nil
}

// isName reports whether a string can be a domain's name and a path element.
func isName(s string) bool {
	return s != "" && s[0] != '.' && s[0] != '-' && !strings.Contains(s, "/") && !strings.ContainsFunc(s, isControl)
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }

// uuidOf derives the UUID from the host's name: a rebuilt machine is the same
// domain to libvirt. See the package comment for the derivation.
func uuidOf(name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("urn:bake:host:"+name)).String()
}
