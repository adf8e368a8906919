package domain

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// Abilities are what a hypervisor can give a machine that leaves it to the hypervisor.
type Abilities struct {
	Emulated   bool // it has no KVM for such machines
	SecureBoot bool // it has firmware for that, with keys
	TPM        bool // it has swtpm
}

// Fit makes a generation's XML fit the hypervisor that is to run it: with the
// mark, and without KVM where there is none. Under emulation the processor is
// QEMU's greatest but for two features with which kernels have been seen to
// panic there: cmpxchg16b (QEMU 7.2) and five-level paging.
//
// Secure boot and a TPM that the generation wants if they can be had it gets where the
// hypervisor can, exactly as one that demands them; what it got is in the mark that is
// returned. Under emulation it gets neither: without KVM QEMU's maintainers promise no
// security at all, and SMM, which secure boot needs, is slow there.
//
// It refuses XML that is not of the mark's host and generation: what comes from a
// hypervisor might define another machine, or give this one another's disks.
func Fit(text []byte, mark Mark, can Abilities) (fit string, as Mark, err error) {
	wants, _, err := ReadMark(string(text))
	if err != nil {
		return "", mark, err
	}
	mark.Secure = wants.Secure.of(can.SecureBoot && !can.Emulated)
	mark.TPM = wants.TPM.of(can.TPM && !can.Emulated)
	fit, err = fitted(text, wants, mark, can.Emulated)
	return fit, mark, err
}

// of is what becomes of a wish.
func (c Choice) of(can bool) Choice {
	if c == Auto && can {
		return Chosen
	}
	return ""
}

// fitted grants what a mark says was granted of what a generation wants.
func fitted(text []byte, wants, mark Mark, emulated bool) (string, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(text)); err != nil {
		return "", fmt.Errorf("reading the XML of a domain: %w", err)
	}
	if err := vetOwn(text, &d, mark); err != nil {
		return "", fmt.Errorf("the XML of generation %s: %w", mark.Generation, err)
	}
	d.Metadata = metadataOf(mark)
	isARM := d.OS != nil && d.OS.Type != nil && d.OS.Type.Arch == "aarch64"
	if emulated {
		d.Type = "qemu"
		d.CPU = emulatedCPU(isARM)
	}
	if wants.Secure == Auto && mark.Secure == Chosen {
		secure(&d, isARM)
	}
	if wants.TPM == Auto && mark.TPM == Chosen {
		d.Devices.TPMs = tpmOf(isARM)
	}
	return d.Marshal()
}

// secure gives a domain secure boot.
func secure(d *libvirtxml.Domain, isARM bool) {
	if d.OS == nil {
		d.OS = &libvirtxml.DomainOS{}
	}
	d.OS.Firmware, d.OS.FirmwareInfo = "efi", firmwareOf(true)
	if isARM {
		return
	}
	if d.Features == nil {
		d.Features = &libvirtxml.DomainFeatureList{}
	}
	d.Features.SMM = guardOf()
}

// Remark puts another mark into XML that Fit has made.
func Remark(fit string, mark Mark) (string, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(fit); err != nil {
		return "", fmt.Errorf("reading the XML of a domain: %w", err)
	}
	d.Metadata = metadataOf(mark)
	return d.Marshal()
}

func metadataOf(m Mark) *libvirtxml.DomainMetadata {
	return &libvirtxml.DomainMetadata{XML: "\n    " + m.String() + "\n  "}
}

// emulatedCPU is the processor that throwaway machines have, too: see package vm.
func emulatedCPU(isARM bool) *libvirtxml.DomainCPU {
	if isARM {
		return &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Check: "none",
			Model: &libvirtxml.DomainCPUModel{Fallback: "forbid", Value: "cortex-a72"}}
	}
	return &libvirtxml.DomainCPU{Mode: "maximum", Check: "none",
		Features: []libvirtxml.DomainCPUFeature{{Policy: "disable", Name: "cx16"}, {Policy: "disable", Name: "la57"}}}
}

func vetOwn(text []byte, d *libvirtxml.Domain, mark Mark) error {
	needs, err := ReadNeeds(text)
	home := path.Dir(path.Dir(needs.Disk))
	switch {
	case err != nil:
		return err
	case d.Name != mark.Host || d.UUID != uuidOf(mark.Host):
		return fmt.Errorf("it is of the domain %q with the UUID %s, not of %s", d.Name, d.UUID, mark.Host)
	case path.Base(home) != mark.Host || path.Base(path.Dir(needs.Disk)) != mark.Generation:
		return fmt.Errorf("its root disk is %q", needs.Disk)
	case needs.State != "" && path.Dir(needs.State) != home:
		return fmt.Errorf("its state disk is %q", needs.State)
	}
	return nil
}

// SameFirmware says whether two XMLs of a domain have the same firmware, and so whether
// what one of them has kept in its variables, such as the keys of secure boot, is what the
// other needs there.
func SameFirmware(one, two string) (bool, error) {
	var a, b libvirtxml.Domain
	if err := errors.Join(a.Unmarshal(one), b.Unmarshal(two)); err != nil {
		return false, fmt.Errorf("reading the XML of a domain: %w", err)
	}
	return isSecure(a.OS) == isSecure(b.OS), nil
}

// isSecure says whether a domain has secure boot: asked for, or as libvirt has found it.
func isSecure(os *libvirtxml.DomainOS) bool {
	switch {
	case os == nil:
		return false
	case os.Loader != nil && os.Loader.Secure == yes:
		return true
	case os.FirmwareInfo == nil:
		return false
	}
	return slices.Contains(os.FirmwareInfo.Features, libvirtxml.DomainOSFirmwareFeature{Enabled: yes, Name: "secure-boot"})
}

// UUID is the one that libvirt knows a host's domain by, see the package comment.
func UUID(host string) string { return uuidOf(host) }

// Needs is what a generation's XML wants to find on its hypervisor.
type Needs struct {
	Arch    string   // of the processor, as QEMU calls it
	Disk    string   // path of the root disk
	State   string   // path of the state disk, "" for none
	Network string   // of libvirt's, "" for a bridge
	Filter  string   // of libvirt's, "" for none
	Shares  []string // directories
	Disks   []string // that are not bake's
}

// ReadNeeds reads them from XML that this package has rendered.
func ReadNeeds(text []byte) (n Needs, err error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(text)); err != nil {
		return n, fmt.Errorf("reading the XML of a domain: %w", err)
	}
	if d.Devices == nil {
		return n, fmt.Errorf("reading the XML of a domain: it has no devices")
	}
	if d.OS != nil && d.OS.Type != nil {
		n.Arch = d.OS.Type.Arch
	}
	for _, disk := range d.Devices.Disks {
		var file string
		switch {
		case disk.Source == nil:
		case disk.Source.File != nil:
			file = disk.Source.File.File
		case disk.Source.Block != nil:
			file = disk.Source.Block.Dev
		}
		switch {
		case disk.Serial == "bake-root":
			n.Disk = file
		case disk.Serial == "bake-state":
			n.State = file
		case file != "" && !strings.HasPrefix(disk.Serial, "bake-"):
			n.Disks = append(n.Disks, file)
		}
	}
	for _, card := range d.Devices.Interfaces {
		if card.Source != nil && card.Source.Network != nil {
			n.Network = card.Source.Network.Network
		}
		if card.FilterRef != nil {
			n.Filter = card.FilterRef.Filter
		}
	}
	for _, fs := range d.Devices.Filesystems {
		if fs.Source != nil && fs.Source.Mount != nil {
			n.Shares = append(n.Shares, fs.Source.Mount.Dir)
		}
	}
	return n, nil
}
