package hypervisor

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"strings"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"
)

// A Lease is an address that a network of libvirt's keeps for a machine. An entry with
// the machine's MAC address and its name is that machine's, any other is somebody
// else's.
type Lease struct {
	Network string
	MAC     string
	Host    string // the machine's name
	Address netip.Addr
}

// Reserved says whether a network keeps an address for a machine. The error is a
// *LackError when it cannot: it has no such address to give, or somebody else has it.
func (h *Hypervisor) Reserved(l Lease) (bool, error) {
	_, entry, err := h.lease(l)
	return entry.IP == l.Address.String(), err
}

// Reserve has a network keep an address for a machine, from the next lease on, in the
// place of another that it has kept for it.
func (h *Hypervisor) Reserve(l Lease) error {
	n, entry, err := h.lease(l)
	command := libvirt.NetworkUpdateCommandAddLast
	if entry.MAC != "" {
		command = libvirt.NetworkUpdateCommandModify
	}
	if err == nil && entry.IP != l.Address.String() {
		err = h.updateLease(n, command, l.Host, l.MAC, l.Address.String())
	}
	if err != nil {
		return fmt.Errorf("reserving %s on the network %q of %s: %w", l.Address, l.Network, h.URI, err)
	}
	return nil
}

// Release takes back what Reserve has done, whatever the address. What is not there, or not
// the machine's, is no error, and stays.
func (h *Hypervisor) Release(l Lease) error {
	n, found, err := h.network(l.Network)
	if is(err, libvirt.ErrNoNetwork) {
		return nil
	}
	for _, entry := range entries(found) {
		if err == nil && strings.EqualFold(entry.MAC, l.MAC) && entry.Name == l.Host {
			err = h.updateLease(n, libvirt.NetworkUpdateCommandDelete, l.Host, entry.MAC, entry.IP)
		}
	}
	if err != nil {
		return fmt.Errorf("releasing the address of %s on the network %q of %s: %w", l.Host, l.Network, h.URI, err)
	}
	return nil
}

func (h *Hypervisor) network(name string) (n libvirt.Network, found libvirtxml.Network, err error) {
	n, err = h.virt.NetworkLookupByName(name)
	var text string
	if err == nil {
		text, err = h.virt.NetworkGetXMLDesc(n, 0)
	}
	if err == nil {
		err = found.Unmarshal(text)
	}
	return n, found, err
}

// entries are all for which a network keeps an address.
func entries(n libvirtxml.Network) (all []libvirtxml.NetworkDHCPHost) {
	for _, ip := range n.IPs {
		if ip.DHCP != nil {
			all = append(all, ip.DHCP.Hosts...)
		}
	}
	return all
}

// lease looks for a machine's entry, which is empty when there is none, and for what
// would keep it from one.
func (h *Hypervisor) lease(l Lease) (n libvirt.Network, entry libvirtxml.NetworkDHCPHost, err error) {
	lack := func(format string, args ...any) error {
		return &LackError{fmt.Sprintf("the network %q of %s cannot keep %s for %s: ", l.Network, h.URI, l.Address, l.Host) + fmt.Sprintf(format, args...)}
	}
	n, found, err := h.network(l.Network)
	if is(err, libvirt.ErrNoNetwork) {
		return n, entry, lack("it is not there")
	}
	if err != nil {
		return n, entry, err
	}
	ip := giving(&found, l.Address)
	if ip == nil {
		return n, entry, lack("it gives no address of that network by DHCP")
	}
	for _, e := range ip.DHCP.Hosts {
		isMAC := strings.EqualFold(e.MAC, l.MAC)
		switch {
		case isMAC && e.Name == l.Host:
			entry = e
		case isMAC, e.Name == l.Host, e.IP == l.Address.String():
			return n, entry, lack("there is an entry that is not bake's, MAC %q, name %q, address %q", e.MAC, e.Name, e.IP)
		}
	}
	if gateway, err := netip.ParseAddr(ip.Address); err == nil && gateway == l.Address {
		return n, entry, lack("it is the hypervisor's own")
	}
	return n, entry, nil
}

// giving is the part of a network that gives an address away, nil for none.
func giving(n *libvirtxml.Network, address netip.Addr) *libvirtxml.NetworkIP {
	for i, ip := range n.IPs {
		own, err := netip.ParseAddr(ip.Address)
		if err != nil || ip.DHCP == nil || !own.Is4() {
			continue
		}
		bits := int(ip.Prefix)
		if mask, err := netip.ParseAddr(ip.Netmask); err == nil && mask.Is4() {
			bits = 0
			for _, b := range mask.As4() {
				for ; b != 0; b <<= 1 {
					bits++
				}
			}
		}
		if prefix, err := own.Prefix(bits); err == nil && prefix.Contains(address) {
			return &n.IPs[i]
		}
	}
	return nil
}

func (h *Hypervisor) updateLease(n libvirt.Network, command libvirt.NetworkUpdateCommand, host, mac, address string) error {
	entry, err := xml.Marshal(struct {
		XMLName xml.Name `xml:"host"`
		MAC     string   `xml:"mac,attr"`
		Name    string   `xml:"name,attr"`
		IP      string   `xml:"ip,attr"`
	}{MAC: mac, Name: host, IP: address})
	if err != nil {
		return err
	}
	active, err := h.virt.NetworkIsActive(n)
	if err != nil {
		return err
	}
	persistent, err := h.virt.NetworkIsPersistent(n)
	if err != nil {
		return err
	}
	var flags libvirt.NetworkUpdateFlags
	if active != 0 {
		flags |= libvirt.NetworkUpdateAffectLive
	}
	if persistent != 0 {
		flags |= libvirt.NetworkUpdateAffectConfig
	}
	const anywhere = -1 // libvirt knows which part gives addresses away
	return h.virt.NetworkUpdateCompat(n, command, libvirt.NetworkSectionIPDhcpHost, anywhere, string(entry), flags)
}
