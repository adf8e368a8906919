package hypervisor

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

// agentTime is how long a guest's agent may think about where it is, in seconds. libvirt
// would wait for it for ever.
const agentTime = 5

// Addresses returns where a running machine can be reached: by its lease, by what the
// hypervisor has seen of it, and where neither tells by what the guest's agent says of the
// card that is the machine's. Link-local ones are left out.
func (h *Hypervisor) Addresses(host string) ([]netip.Addr, error) {
	var found []netip.Addr
	err := h.with("looking for the addresses of", host, func(d libvirt.Domain) error {
		for _, source := range []libvirt.DomainInterfaceAddressesSource{libvirt.DomainInterfaceAddressesSrcLease, libvirt.DomainInterfaceAddressesSrcArp} {
			cards, err := h.virt.DomainInterfaceAddresses(d, uint32(source), 0)
			if err == nil { // a network without leases, a domain that is off
				found = addressesOf(found, cards)
			}
		}
		if len(found) > 0 {
			return nil
		}
		text, err := h.virt.DomainGetXMLDesc(d, 0)
		if err == nil {
			found, err = h.askAgent(d, text)
		}
		return err
	})
	return found, err
}

// askAgent asks the agent of a machine's guest, if there is one. It answers what it likes,
// and when.
func (h *Hypervisor) askAgent(d libvirt.Domain, text string) ([]netip.Addr, error) {
	var running libvirtxml.Domain
	if err := running.Unmarshal(text); err != nil {
		return nil, err
	}
	isThere := running.Devices != nil && slices.ContainsFunc(running.Devices.Channels, func(c libvirtxml.DomainChannel) bool {
		return c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == "org.qemu.guest_agent.0" && c.Target.VirtIO.State == "connected"
	})
	if !isThere {
		return nil, nil
	}
	if _, err := h.virt.DomainAgentSetResponseTimeout(d, agentTime, 0); err != nil { // libvirt before 5.10
		return nil, nil
	}
	cards, err := h.virt.DomainInterfaceAddresses(d, uint32(libvirt.DomainInterfaceAddressesSrcAgent), 0)
	_, _ = h.virt.DomainAgentSetResponseTimeout(d, int32(libvirt.DomainAgentResponseTimeoutBlock), 0) // as it was
	if err != nil {
		return nil, nil // it may not, or will not
	}
	return addressesOf(nil, ownCards(cards, running.Devices.Interfaces)), nil
}

// ownCards are those of a guest that its machine has: not its bridges, and not its containers'.
func ownCards(cards []libvirt.DomainInterface, machine []libvirtxml.DomainInterface) (own []libvirt.DomainInterface) {
	for _, card := range cards {
		if slices.ContainsFunc(machine, func(m libvirtxml.DomainInterface) bool {
			return m.MAC != nil && len(card.Hwaddr) > 0 && strings.EqualFold(m.MAC.Address, card.Hwaddr[0])
		}) {
			own = append(own, card)
		}
	}
	return own
}

// addressesOf adds the addresses of cards by which others can reach them.
func addressesOf(found []netip.Addr, cards []libvirt.DomainInterface) []netip.Addr {
	for _, card := range cards {
		for _, address := range card.Addrs {
			a, err := netip.ParseAddr(address.Addr)
			if err == nil && a.IsGlobalUnicast() && a.Zone() == "" && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	return found
}
