package hypervisor

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// TestLease: a network keeps an address, another one, none any more; what others have
// entered there stays as it is.
func TestLease(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	const theirs = "<network><name>lease</name><ip address='10.9.8.1' netmask='255.255.255.0'><dhcp><range start='10.9.8.2' end='10.9.8.254'/>" +
		"<host mac='52:54:00:00:00:99' name='theirs' ip='10.9.8.99'/></dhcp></ip></network>"
	n, err := h.virt.NetworkDefineXML(theirs)
	if err == nil {
		err = h.virt.NetworkCreate(n)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(h.virt.NetworkDestroy(n), h.virt.NetworkUndefine(n)) })
	see := func(l Lease, isReserved bool, in, out string) {
		t.Helper()
		if is, err := h.Reserved(l); is != isReserved || err != nil {
			t.Errorf("%+v: %v, %v", l, is, err)
		}
		for flags, what := range map[uint32]string{0: "live", 1: "defined"} {
			text, err := h.virt.NetworkGetXMLDesc(n, flags)
			if err != nil || !strings.Contains(text, in) || out != "" && strings.Contains(text, out) || !strings.Contains(text, "ip='10.9.8.99'") {
				t.Errorf("%s: want %q, not %q, %v: %s", what, in, out, err, text)
			}
		}
	}
	lease := Lease{Network: "lease", MAC: "52:54:00:ab:cd:ef", Host: "zap", Address: netip.MustParseAddr("10.9.8.20")}
	const one, two = "<host mac='52:54:00:ab:cd:ef' name='zap' ip='10.9.8.20'/>", "<host mac='52:54:00:ab:cd:ef' name='zap' ip='10.9.8.21'/>"
	see(lease, false, "", one)
	for range 2 {
		if err := h.Reserve(lease); err != nil {
			t.Fatal(err)
		}
		see(lease, true, one, "")
	}
	moved := lease
	moved.Address = netip.MustParseAddr("10.9.8.21")
	if err := h.Reserve(moved); err != nil {
		t.Fatal(err)
	}
	see(moved, true, two, one)
	for name, change := range map[string]func(*Lease){
		"somebody else's address": func(l *Lease) { l.Address = netip.MustParseAddr("10.9.8.99") },
		"somebody else's name":    func(l *Lease) { l.Host = "theirs" },
		"somebody else's card":    func(l *Lease) { l.MAC = "52:54:00:00:00:99" },
		"another network's":       func(l *Lease) { l.Address = netip.MustParseAddr("10.9.9.20") },
		"the hypervisor's":        func(l *Lease) { l.Address = netip.MustParseAddr("10.9.8.1") },
		"no network":              func(l *Lease) { l.Network = "nowhere" },
	} {
		other := lease
		change(&other)
		var lacks *LackError
		if _, err := h.Reserved(other); !errors.As(err, &lacks) {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Reserve(other); !errors.As(err, &lacks) {
			t.Errorf("%s: %v", name, err)
		}
		if other.Address = lease.Address; other != lease { // whatever the address, it would be the machine's
			if err := h.Release(other); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		see(moved, true, two, "")
	}
	for range 2 {
		if err := h.Release(Lease{Network: lease.Network, MAC: lease.MAC, Host: lease.Host}); err != nil { // the host file has none by now
			t.Fatal(err)
		}
		see(lease, false, "", "52:54:00:ab:cd:ef")
	}
}
