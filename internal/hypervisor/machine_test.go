package hypervisor

import (
	"slices"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"bake/internal/domain"
)

// TestOwnCards: of what a guest's agent says that counts which is of the machine's own card,
// and can be an address that others reach.
func TestOwnCards(t *testing.T) {
	card := func(name, mac string, addresses ...string) libvirt.DomainInterface {
		c := libvirt.DomainInterface{Name: name}
		if mac != "" {
			c.Hwaddr = libvirt.OptString{mac}
		}
		for _, a := range addresses {
			c.Addrs = append(c.Addrs, libvirt.DomainIPAddr{Addr: a})
		}
		return c
	}
	said := []libvirt.DomainInterface{
		card("lo", "00:00:00:00:00:00", "127.0.0.1", "::1"),
		card("nothing", "", "198.51.100.1"),
		card("docker0", "02:42:00:00:00:01", "172.17.0.1"),
		card("enp1s0", "52:54:00:AB:CD:EF", "192.0.2.9", "fe80::1", "2001:db8::9", "192.0.2.9", "0.0.0.0", "ff02::1", "2001:db8::9%x", "; reboot", "\x1b[2J"),
	}
	machine := []libvirtxml.DomainInterface{{}, {MAC: &libvirtxml.DomainInterfaceMAC{Address: "52:54:00:ab:cd:ef"}}}
	var got []string
	for _, a := range addressesOf(nil, ownCards(said, machine)) {
		got = append(got, a.String())
	}
	if want := []string{"192.0.2.9", "2001:db8::9"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestNoAgent: a machine without a lease whose guest has no agent is nowhere, and nobody waits
// for it.
func TestNoAgent(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	err := h.Define(small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String()))
	if err == nil {
		err = h.Start("zap", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Kill("zap"); err != nil {
			t.Error(err)
		}
		if err := h.Undefine("zap"); err != nil {
			t.Error(err)
		}
	}()
	if found, err := h.Addresses("zap"); len(found) > 0 || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}
