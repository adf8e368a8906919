package hypervisor

import (
	"fmt"

	"libvirt.org/go/libvirtxml"
)

// OffersKVM says whether libvirt offers KVM for machines of an architecture, amd64 or
// arm64. What it offers is what it found when it started: it may fail all the same.
func (h *Hypervisor) OffersKVM(arch string) (bool, error) {
	text, err := h.virt.ConnectGetCapabilities()
	if err != nil {
		return false, fmt.Errorf("asking %s for its capabilities: %w", h.URI, err)
	}
	return offersKVM(text, arch)
}

func offersKVM(capabilities, arch string) (bool, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return false, fmt.Errorf("what libvirt says it can do is no XML: %w", err)
	}
	name := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	for _, guest := range caps.Guests {
		if guest.Arch.Name != name {
			continue
		}
		for _, domain := range guest.Arch.Domains {
			if domain.Type == "kvm" {
				return true, nil
			}
		}
	}
	return false, nil
}
