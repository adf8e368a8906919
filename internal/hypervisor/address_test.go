package hypervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// TestAddresses: a machine is where its lease says, or where the hypervisor has seen its card.
func TestAddresses(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	const mac = "52:54:00:0a:0b:0c"
	text := strings.Replace(small("zap", domain.UUID("zap"), domain.Mark{Host: "zap", Generation: "one"}.String()), "<devices>",
		"<devices><interface type='network'><mac address='"+mac+"'/><source network='default'/><model type='virtio'/></interface>", 1)
	if err := errors.Join(h.Define(text), h.Start("zap", false)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(h.Kill("zap"), h.Undefine("zap")); err != nil {
			t.Error(err)
		}
	}()
	see := func(want ...string) {
		t.Helper()
		found, err := h.Addresses("zap")
		var got []string
		for _, a := range found {
			got = append(got, a.String())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	see()
	neighbour := func(args ...string) {
		t.Helper()
		line := append([]string{"--net", "--target", daemonPID(t, shared.dir), "ip", "neigh"}, args...)
		if out, err := exec.Command("nsenter", line...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	neighbour("replace", "192.168.122.55", "lladdr", mac, "dev", "virbr0", "nud", "reachable")
	neighbour("replace", "192.168.122.56", "lladdr", "52:54:00:0a:0b:0d", "dev", "virbr0", "nud", "reachable") // another's
	arp := []string{"192.168.122.55"}
	d, err := h.virt.DomainLookupByName("zap")
	if err == nil {
		_, err = h.virt.DomainInterfaceAddresses(d, uint32(libvirt.DomainInterfaceAddressesSrcArp), 0)
	}
	if err != nil { // libvirt 9.0 cannot read what kernel 6.18 says
		t.Logf("without ARP: %v", err)
		arp = nil
	}
	see(arp...)
	leases := filepath.Join(shared.dir, "lib/dnsmasq/virbr0.status")
	lease := fmt.Sprintf(`[{"ip-address": "192.168.122.44", "mac-address": %q, "hostname": "zap; reboot", "expiry-time": %d}]`, mac, time.Now().Add(time.Hour).Unix())
	if err := os.WriteFile(leases, []byte(lease), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(leases)
	see(append([]string{"192.168.122.44"}, arp...)...)
	neighbour("del", "192.168.122.55", "dev", "virbr0")
	see("192.168.122.44")
}
