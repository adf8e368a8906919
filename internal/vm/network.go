package vm

import (
	"fmt"
	"net/netip"
)

// lan is the user-mode network that a guest sits on; zero without a card.
type lan struct {
	guest   netip.Addr
	options string // of -netdev user
}

// newLAN lays the network out so that a guest with a static address finds its
// gateway where its configuration says. Without one QEMU's DHCP server gives
// the first guest 10.0.2.15.
func newLAN(s Spec) (lan, error) {
	if s.NoCard {
		return lan{}, nil
	}
	restrict := ",restrict=off"
	if s.Offline {
		restrict = ",restrict=on" // forwarded ports still work
	}
	if !s.Address.IsValid() {
		return lan{guest: netip.AddrFrom4([4]byte{10, 0, 2, 15}), options: restrict}, nil
	}
	guest, network := s.Address.Addr(), s.Address.Masked()
	if !guest.Is4() || network.Bits() < 4 || network.Bits() > 30 {
		return lan{}, fmt.Errorf("the address %v is not IPv4 with a prefix length from 4 to 30", s.Address)
	}
	gateway := s.Gateway
	if !gateway.IsValid() {
		gateway = spare(network, guest)
	}
	if !network.Contains(gateway) || gateway == guest {
		return lan{}, fmt.Errorf("the gateway %v is not another address of %v", gateway, network)
	}
	options := fmt.Sprintf("%s,net=%v,host=%v,dhcpstart=%v,dns=%v",
		restrict, network, gateway, guest, spare(network, guest, gateway))
	return lan{guest: guest, options: options}, nil
}

// reachable says why nobody can get to the guest by its first card.
func (l lan) reachable() error {
	if !l.guest.IsValid() {
		return fmt.Errorf("%w: the machine has no network card", ErrUnreachable)
	}
	return nil
}

// spare returns the first host address of a network that is not taken. In the
// smallest network that is the broadcast address, which suits a name server
// that nobody was told about.
func spare(network netip.Prefix, taken ...netip.Addr) netip.Addr {
	for addr := network.Addr().Next(); ; addr = addr.Next() {
		free := true
		for _, other := range taken {
			free = free && addr != other
		}
		if free {
			return addr
		}
	}
}
