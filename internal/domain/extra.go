package domain

import (
	"strconv"
	"strings"

	"bake/internal/host"

	"libvirt.org/go/libvirtxml"
)

// addExtras adds what a host file can ask for, or do without.
func addExtras(d *libvirtxml.DomainDeviceList, m host.Machine) {
	if m.Agent {
		d.Channels = append(d.Channels, libvirtxml.DomainChannel{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
			},
		})
	}
	if m.TPM == host.TPMOn {
		d.TPMs = tpmOf(m.Arch == host.ARM64)
	}
	if m.Watchdog != "" {
		d.Watchdogs = []libvirtxml.DomainWatchdog{{Model: "i6300esb", Action: m.Watchdog}}
	}
	if m.Vsock {
		d.VSock = &libvirtxml.DomainVSock{Model: "virtio", CID: &libvirtxml.DomainVSockCID{Auto: yes}}
	}
	for _, device := range m.Devices {
		d.Hostdevs = append(d.Hostdevs, hostDevice(device))
	}
}

func tpmOf(isARM bool) []libvirtxml.DomainTPM {
	return []libvirtxml.DomainTPM{{
		Model: TPMModel(isARM),
		Backend: &libvirtxml.DomainTPMBackend{
			Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: TPMVersion},
		},
	}}
}

// TPMVersion is that of a machine's TPM, which is an emulator's.
const TPMVersion = "2.0"

// TPMModel is what QEMU calls a machine's TPM.
func TPMModel(isARM bool) string {
	if isARM { // QEMU has no other there
		return "tpm-tis"
	}
	return "tpm-crb"
}

// balloonOf gives memory back of itself: nobody has to blow it up.
func balloonOf(m host.Machine) *libvirtxml.DomainMemBalloon {
	if !m.Balloon {
		return &libvirtxml.DomainMemBalloon{Model: "none"}
	}
	return &libvirtxml.DomainMemBalloon{Model: "virtio", AutoDeflate: on, FreePageReporting: on}
}

// hostDevice is taken from the hypervisor's own drivers for as long as the machine runs.
func hostDevice(d host.Device) libvirtxml.DomainHostdev {
	if d.Mdev != "" {
		return libvirtxml.DomainHostdev{SubsysMDev: &libvirtxml.DomainHostdevSubsysMDev{Model: "vfio-pci",
			Source: &libvirtxml.DomainHostdevSubsysMDevSource{Address: &libvirtxml.DomainAddressMDev{UUID: d.Mdev}}}}
	}
	var parts []*uint
	for _, text := range strings.FieldsFunc(d.PCI, func(r rune) bool { return r == ':' || r == '.' }) {
		n, _ := strconv.ParseUint(text, 16, 16) // vet has read it
		part := uint(n)
		parts = append(parts, &part)
	}
	return libvirtxml.DomainHostdev{Managed: yes, SubsysPCI: &libvirtxml.DomainHostdevSubsysPCI{
		Source: &libvirtxml.DomainHostdevSubsysPCISource{Address: &libvirtxml.DomainAddressPCI{Domain: parts[0], Bus: parts[1], Slot: parts[2], Function: parts[3]}}}}
}

// backingOf is memory that virtiofsd can map, where there is something shared, and huge
// pages where they are asked for.
func backingOf(m host.Machine, devices *libvirtxml.DomainDeviceList) *libvirtxml.DomainMemoryBacking {
	if len(devices.Filesystems) == 0 && m.Hugepages == 0 {
		return nil
	}
	backing := &libvirtxml.DomainMemoryBacking{}
	if m.Hugepages > 0 {
		backing.MemoryHugePages = &libvirtxml.DomainMemoryHugepages{
			Hugepages: []libvirtxml.DomainMemoryHugepage{{Size: uint(m.Hugepages >> 10), Unit: "KiB"}}}
	}
	if len(devices.Filesystems) > 0 {
		backing.MemorySource = &libvirtxml.DomainMemorySource{Type: "memfd"}
		backing.MemoryAccess = &libvirtxml.DomainMemoryAccess{Mode: "shared"}
	}
	return backing
}
