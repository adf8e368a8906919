package hypervisor

import (
	"fmt"
	"slices"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"bake/internal/domain"
)

// Abilities says what this libvirt, its QEMU and its firmware say they can give a machine of
// an architecture, as QEMU calls it. Whether a machine really can have it Check finds out.
func (h *Hypervisor) Abilities(arch string) (domain.Abilities, error) {
	machine := libvirt.OptString{map[string]string{"x86_64": "q35", "aarch64": "virt"}[arch]} // of no other PC is secure boot said
	text, err := h.virt.ConnectGetDomainCapabilities(nil, libvirt.OptString{arch}, machine, nil, 0)
	if err != nil {
		return domain.Abilities{}, fmt.Errorf("asking %s what a machine of %s can have: %w", h.URI, arch, err)
	}
	return abilities(text, arch)
}

func abilities(capabilities, arch string) (can domain.Abilities, err error) {
	var caps libvirtxml.DomainCaps
	if err := caps.Unmarshal(capabilities); err != nil {
		return can, fmt.Errorf("what libvirt says a machine can have is no XML: %w", err)
	}
	if os := caps.OS; os != nil && os.Supported == "yes" && os.Loader != nil && os.Loader.Supported == "yes" {
		can.SecureBoot = lists(os.Enums, "firmware", "efi") && lists(os.Loader.Enums, "secure", "yes")
	}
	if caps.Devices == nil || caps.Devices.TPM == nil || caps.Devices.TPM.Supported != "yes" { // libvirt before 8.0 says nothing of TPMs
		return can, nil
	}
	all := caps.Devices.TPM.Enums
	can.TPM = lists(all, "model", domain.TPMModel(arch == "aarch64")) && lists(all, "backendModel", "emulator") &&
		(lists(all, "backendVersion", domain.TPMVersion) || !has(all, "backendVersion"))
	return can, nil
}

func has(enums []libvirtxml.DomainCapsEnum, name string) bool {
	return slices.ContainsFunc(enums, func(e libvirtxml.DomainCapsEnum) bool { return e.Name == name })
}

func lists(enums []libvirtxml.DomainCapsEnum, name, value string) bool {
	return slices.ContainsFunc(enums, func(e libvirtxml.DomainCapsEnum) bool {
		return e.Name == name && slices.Contains(e.Values, value)
	})
}
