package domain

import (
	"path"

	"bake/internal/attest"
	"bake/internal/host"

	"libvirt.org/go/libvirtxml"
)

const (
	yes = "yes"
	no  = "no"
	on  = "on"
	off = "off"

	rootThread = 1 // the one I/O thread, which serves the disks that are written to
)

func yesNo(b bool) string {
	if b {
		return yes
	}
	return no
}

func osOf(m host.Machine) *libvirtxml.DomainOS {
	return &libvirtxml.DomainOS{
		Type:         typeOf(m),
		Firmware:     "efi",
		FirmwareInfo: firmwareOf(m.Firmware == host.UEFISecure),
	}
}

// firmwareOf has the features of UEFI with secure boot, or of UEFI without.
func firmwareOf(secure bool) *libvirtxml.DomainOSFirmwareInfo {
	return &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
		{Enabled: yesNo(secure), Name: "enrolled-keys"},
		{Enabled: yesNo(secure), Name: "secure-boot"},
	}}
}

// typeOf is the machine that QEMU makes, as libvirt calls it.
func typeOf(m host.Machine) *libvirtxml.DomainOSType {
	if m.Arch == host.ARM64 {
		return &libvirtxml.DomainOSType{Arch: "aarch64", Machine: "virt", Type: "hvm"}
	}
	return &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"}
}

// cpuOf is the hypervisor's own processor. That it can be moved to another hypervisor is
// a word of x86 alone.
func cpuOf(m host.Machine) *libvirtxml.DomainCPU {
	cpu := &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"}
	if m.Arch != host.ARM64 {
		cpu.Migratable = on
	}
	return cpu
}

// pmOf has the guest not go to sleep, which QEMU's virt cannot anyway.
func pmOf(m host.Machine) *libvirtxml.DomainPM {
	if m.Arch == host.ARM64 {
		return nil
	}
	return &libvirtxml.DomainPM{
		SuspendToMem:  &libvirtxml.DomainPMPolicy{Enabled: no},
		SuspendToDisk: &libvirtxml.DomainPMPolicy{Enabled: no},
	}
}

func featuresOf(m host.Machine) *libvirtxml.DomainFeatureList {
	if m.Arch == host.ARM64 {
		return &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}}
	}
	f := &libvirtxml.DomainFeatureList{
		ACPI:   &libvirtxml.DomainFeature{},
		APIC:   &libvirtxml.DomainFeatureAPIC{},
		VMPort: &libvirtxml.DomainFeatureState{State: off},
	}
	if m.Firmware == host.UEFISecure {
		f.SMM = guardOf()
	}
	return f
}

// guardOf is what a PC has with secure boot only: SMM keeps the guest from writing the
// firmware's variables itself.
func guardOf() *libvirtxml.DomainFeatureSMM { return &libvirtxml.DomainFeatureSMM{State: on} }

func clockOf(m host.Machine) *libvirtxml.DomainClock {
	if m.Arch == host.ARM64 { // which has one timer
		return &libvirtxml.DomainClock{Offset: "utc"}
	}
	return &libvirtxml.DomainClock{
		Offset: "utc",
		Timer: []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup"},
			{Name: "pit", TickPolicy: "delay"},
			{Name: "hpet", Present: no},
		},
	}
}

func devicesOf(h *host.Host, generation string) *libvirtxml.DomainDeviceList {
	home := path.Join(h.Machine.ImagesPath, h.Name)
	zero := uint(0)
	d := &libvirtxml.DomainDeviceList{
		Disks: []libvirtxml.DomainDisk{
			rootDisk(path.Join(home, generation, "disk.qcow2")),
			onceDisk("vdb", "bake-seed", path.Join(home, generation, "seed.iso")),
		},
		Controllers: []libvirtxml.DomainController{{Type: "usb", Index: &zero, Model: "none"}},
		Interfaces:  []libvirtxml.DomainInterface{card(h.Network)},
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainSerialTarget{Port: &zero},
			Log:    &libvirtxml.DomainChardevLog{File: path.Join(home, "console.log"), Append: off},
		}},
		Consoles: []libvirtxml.DomainConsole{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &zero},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{File: &libvirtxml.DomainChardevSourceFile{Path: path.Join(home, "report.json"), Append: off}},
			Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: attest.Port}},
		}},
		Audios:     []libvirtxml.DomainAudio{{ID: 1, None: &libvirtxml.DomainAudioNone{}}},
		Videos:     []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "none"}}},
		MemBalloon: balloonOf(h.Machine),
		RNGs: []libvirtxml.DomainRNG{{
			Model: "virtio",
			Backend: &libvirtxml.DomainRNGBackend{
				Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"},
			},
		}},
	}
	d.Disks = append(d.Disks, moreDisks(h, home, generation)...)
	for _, l := range h.Layers {
		for _, s := range l.Shares {
			d.Filesystems = append(d.Filesystems, share(s.Dir, s.Tag, s.ReadOnly))
		}
	}
	addExtras(d, h.Machine)
	return d
}

// moreDisks are those that not every machine has.
func moreDisks(h *host.Host, home, generation string) (disks []libvirtxml.DomainDisk) {
	if len(h.Secrets) > 0 { // beside the generations: what it holds is part of none
		disks = append(disks, onceDisk("vdc", "bake-secrets", path.Join(home, "secrets.iso")))
	}
	if h.Offline {
		disks = append(disks, onceDisk("vdd", "bake-payload", path.Join(home, generation, "payload.squashfs")))
	}
	if h.Machine.State > 0 { // beside the generations: it outlives them
		disks = append(disks, keptDisk("vde", "bake-state", path.Join(home, "state.qcow2")))
	}
	for i, disk := range h.Machine.Disks {
		disks = append(disks, foreignDisk("vd"+string(rune('f'+i)), disk))
	}
	return disks
}

func rootDisk(file string) libvirtxml.DomainDisk {
	disk := keptDisk("vda", "bake-root", file)
	disk.Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
	return disk
}

// keptDisk is one that the guest writes to, and without which the machine does not
// start.
func keptDisk(dev, serial, file string) libvirtxml.DomainDisk {
	thread := uint(rootThread)
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{
			Name: "qemu", Type: "qcow2", Cache: "none", IO: "native",
			Discard: "unmap", DetectZeros: "unmap", IOThread: &thread,
		},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}},
		Target: &libvirtxml.DomainDiskTarget{Dev: dev, Bus: "virtio"},
		Serial: serial,
	}
}

// onceDisk is for the first boot, mostly, and the machine starts without it when
// its file is gone. It is a disk and not a CD-ROM, see the package's Decisions.
func onceDisk(dev, serial, file string) libvirtxml.DomainDisk {
	return libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source: &libvirtxml.DomainDiskSource{
			File: &libvirtxml.DomainDiskSourceFile{File: file}, StartupPolicy: "optional",
		},
		Target:   &libvirtxml.DomainDiskTarget{Dev: dev, Bus: "virtio"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		Serial:   serial,
	}
}

// foreignDisk is one that bake has not made. Zeroes that a guest writes stay what they
// are: whoever made it may have set the room aside.
func foreignDisk(dev string, d host.Disk) libvirtxml.DomainDisk {
	disk := keptDisk(dev, d.Name, d.Path)
	disk.Driver.Type, disk.Driver.DetectZeros = d.Format, ""
	if d.IsBlock() {
		disk.Source = &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: d.Path}}
	}
	if d.ReadOnly {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return disk
}

// share is a directory of the hypervisor. libvirt before 11.0 starts no machine
// with a read-only one, see the package's Decisions.
func share(dir, tag string, readOnly bool) libvirtxml.DomainFilesystem {
	fs := libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Driver:     &libvirtxml.DomainFilesystemDriver{Type: "virtiofs"},
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: dir}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: tag},
	}
	if readOnly {
		fs.ReadOnly = &libvirtxml.DomainFilesystemReadOnly{}
	}
	return fs
}

func card(n host.Network) libvirtxml.DomainInterface {
	source := &libvirtxml.DomainInterfaceSource{}
	if n.Attach.Bridge != "" {
		source.Bridge = &libvirtxml.DomainInterfaceSourceBridge{Bridge: n.Attach.Bridge}
	} else {
		source.Network = &libvirtxml.DomainInterfaceSourceNetwork{Network: n.Attach.Network}
	}
	c := libvirtxml.DomainInterface{
		MAC:    &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
		Source: source,
		Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
	}
	if n.Isolated {
		c.PortOptions = &libvirtxml.DomainInterfacePortOptions{Isolated: yes}
	}
	if n.Filter != "" {
		c.FilterRef = filterOf(n)
	}
	return c
}

// filterOf is libvirt's filter for the card, told the addresses that are its own: it
// would learn one of them otherwise, from the first packet.
func filterOf(n host.Network) *libvirtxml.DomainInterfaceFilterRef {
	ref := &libvirtxml.DomainInterfaceFilterRef{Filter: n.Filter}
	add := func(name, value string) {
		ref.Parameters = append(ref.Parameters, libvirtxml.DomainInterfaceFilterParam{Name: name, Value: value})
	}
	if n.DHCP {
		add("CTRL_IP_LEARNING", "dhcp")
	}
	for _, address := range n.Addresses {
		name := "IP"
		if address.Addr().Is6() {
			name = "IPV6"
		}
		add(name, address.Addr().String())
	}
	return ref
}
