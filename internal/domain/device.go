package domain

import (
	"path"

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
	secure := yesNo(m.Firmware == host.UEFISecure)
	return &libvirtxml.DomainOS{
		Type:     &libvirtxml.DomainOSType{Arch: "x86_64", Machine: "q35", Type: "hvm"},
		Firmware: "efi",
		FirmwareInfo: &libvirtxml.DomainOSFirmwareInfo{Features: []libvirtxml.DomainOSFirmwareFeature{
			{Enabled: secure, Name: "enrolled-keys"},
			{Enabled: secure, Name: "secure-boot"},
		}},
	}
}

// featuresOf has SMM with secure boot only, which is what keeps the guest from
// writing the firmware's variables itself.
func featuresOf(m host.Machine) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{
		ACPI:   &libvirtxml.DomainFeature{},
		APIC:   &libvirtxml.DomainFeatureAPIC{},
		VMPort: &libvirtxml.DomainFeatureState{State: off},
	}
	if m.Firmware == host.UEFISecure {
		f.SMM = &libvirtxml.DomainFeatureSMM{State: on}
	}
	return f
}

func clock() *libvirtxml.DomainClock {
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
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
			},
		}},
		Audios: []libvirtxml.DomainAudio{{ID: 1, None: &libvirtxml.DomainAudioNone{}}},
		Videos: []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: "none"}}},
		MemBalloon: &libvirtxml.DomainMemBalloon{
			Model: "virtio", AutoDeflate: on, FreePageReporting: on,
		},
		RNGs: []libvirtxml.DomainRNG{{
			Model: "virtio",
			Backend: &libvirtxml.DomainRNGBackend{
				Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"},
			},
		}},
	}
	if len(h.Secrets) > 0 { // beside the generations: what it holds is part of none
		d.Disks = append(d.Disks, onceDisk("vdc", "bake-secrets", path.Join(home, "secrets.iso")))
	}
	if h.Offline {
		d.Disks = append(d.Disks, onceDisk("vdd", "bake-payload", path.Join(home, generation, "payload.squashfs")))
	}
	if h.Machine.State > 0 { // beside the generations: it outlives them
		d.Disks = append(d.Disks, keptDisk("vde", "bake-state", path.Join(home, "state.qcow2")))
	}
	for _, l := range h.Layers {
		for _, s := range l.Shares {
			d.Filesystems = append(d.Filesystems, share(s.Dir, s.Tag, s.ReadOnly))
		}
	}
	if h.Machine.TPM {
		d.TPMs = []libvirtxml.DomainTPM{{
			Model: "tpm-crb",
			Backend: &libvirtxml.DomainTPMBackend{
				Emulator: &libvirtxml.DomainTPMBackendEmulator{Version: "2.0"},
			},
		}}
	}
	return d
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

// backingOf is memory that virtiofsd can map, where there is something shared.
func backingOf(devices *libvirtxml.DomainDeviceList) *libvirtxml.DomainMemoryBacking {
	if len(devices.Filesystems) == 0 {
		return nil
	}
	return &libvirtxml.DomainMemoryBacking{
		MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
		MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
	}
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
	return c
}
