package host

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"bake/internal/doc"
	"bake/internal/layer"
)

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

func (r *resolver) machine(n *doc.Node) {
	m := &r.host.Machine
	*m = Machine{Arch: AMD64, VCPUs: 2, Memory: 2 * gib, Disk: 20 * gib, Firmware: FirmwareAuto, TPM: TPMAuto, Agent: true, Balloon: true,
		ImagesPath: "/var/lib/libvirt/images/bake"}
	if n == nil {
		return
	}
	get := n.Fields("machine", &r.problems, "arch", "vcpus", "memory", "disk", "state", "firmware", "tpm", "images",
		"hugepages", "watchdog", "vsock", "agent", "balloon", "disks", "devices")
	if text, ok := r.read(get("arch"), "machine.arch", layer.Param{Type: "enum", Of: []string{AMD64, ARM64}}); ok {
		m.Arch = text
	}
	if text, ok := r.read(get("vcpus"), "machine.vcpus", layer.Param{Type: "int", Min: at(1), Max: at(512)}); ok {
		m.VCPUs, _ = strconv.Atoi(text)
	}
	// Less than 512 MiB does not hold cloud-init and apt; 12 TiB is QEMU's q35 default limit.
	r.size(get("memory"), "machine.memory", 512*mib, 12<<40, &m.Memory)
	r.size(get("disk"), "machine.disk", 1*gib, 16<<40, &m.Disk)
	// Less than 64 MiB is all journal; more than 16 TiB ext4 does not number with 32 bits.
	r.size(get("state"), "machine.state", 64*mib, 16<<40, &m.State)
	if text, ok := r.read(get("firmware"), "machine.firmware",
		layer.Param{Type: "enum", Of: []string{string(FirmwareAuto), string(UEFI), string(UEFISecure)}}); ok {
		m.Firmware = Firmware(text)
	}
	r.tpm(get("tpm"))
	if text, ok := r.read(get("images"), "machine.images", layer.Param{Type: "path"}); ok {
		m.ImagesPath = text
	}
	r.hardware(get)
}

// tpm reads a bool that may be auto, too.
func (r *resolver) tpm(n *doc.Node) {
	const path, form = "machine.tpm", "auto, true or false"
	switch {
	case n == nil:
	case n.Kind == doc.Bool, n.Kind == doc.String && n.Text == string(TPMAuto):
		r.host.Machine.TPM = TPM(n.Text)
	case n.Kind == doc.String && (n.Text == string(TPMOn) || n.Text == string(TPMOff)):
		r.problems.Add(n.Problem(path, "write it without quotes", "%q is not allowed, want %s", n.Text, form))
	case n.Kind == doc.Null || !n.Scalar():
		r.problems.Add(n.Problem(path, "", "this is %s, want %s", n.Kind, form))
	default:
		r.problems.Add(n.Problem(path, "", "%q is not allowed, want %s", n.Text, form))
	}
}

func at(i int64) *int64 { return &i }

// read checks an optional scalar; ok is false when it is absent or wrong.
func (r *resolver) read(n *doc.Node, path string, p layer.Param) (string, bool) {
	if n == nil {
		return "", false
	}
	elements, ok := p.Read(n, path, &r.problems)
	if !ok {
		return "", false
	}
	return elements[0], true
}

// size reads an optional size in whole MiB; to stays what it is when there is none.
func (r *resolver) size(n *doc.Node, path string, least, most int64, to *int64) {
	text, ok := r.read(n, path, layer.Param{Type: "size", Min: at(least), Max: at(most)})
	if !ok {
		return
	}
	*to, _ = strconv.ParseInt(text, 10, 64) // read has checked it
	if *to%mib != 0 {
		r.problems.Add(n.Problem(path, "", "%d bytes is not a whole number of MiB", *to))
	}
}

func (r *resolver) network(n *doc.Node, name string) {
	net := &r.host.Network
	*net = Network{MAC: macFor(name), DHCP: true, Isolated: true, Attach: Attach{Network: "default"}}
	if n == nil {
		return
	}
	get := n.Fields("network", &r.problems, "mac", "dhcp", "addresses", "gateways", "nameservers", "attach", "isolated", "reserve", "filter")
	if n := get("mac"); n != nil && n.Text != "auto" {
		net.MAC = r.mac(n)
	}
	net.Addresses = list(r, get("addresses"), "network.addresses",
		"an address with its prefix length such as 192.0.2.10/24", ownAddress)
	const address = "an address such as 192.0.2.1 or 2001:db8::1"
	net.Gateways = list(r, get("gateways"), "network.gateways", address, plainAddress)
	net.Nameservers = list(r, get("nameservers"), "network.nameservers", address, plainAddress)
	static := get("addresses") != nil && len(get("addresses").Items) > 0
	net.DHCP = !static
	if text, ok := r.read(get("dhcp"), "network.dhcp", layer.Param{Type: "bool"}); ok {
		net.DHCP = text == "true"
	}
	if net.DHCP == static {
		r.problems.Add(n.Problem("network", "", "want one of dhcp: true and addresses, there is %s",
			map[bool]string{true: "both", false: "neither"}[net.DHCP]))
	}
	if len(net.Gateways) > 0 && net.DHCP {
		r.problems.Add(get("gateways").Problem("network.gateways", "", "gateways go with addresses, not with dhcp"))
	}
	r.gateways(get("gateways"))
	if text, ok := r.read(get("isolated"), "network.isolated", layer.Param{Type: "bool"}); ok {
		net.Isolated = text == "true"
	}
	if text, ok := r.read(get("filter"), "network.filter", layer.Param{Type: "name"}); ok {
		net.Filter = text
	}
	if n := get("attach"); n != nil {
		r.attach(n)
	}
	r.reserve(get("reserve"))
}

// reserve reads the address that libvirt's network keeps for the machine.
func (r *resolver) reserve(n *doc.Node) {
	if n == nil {
		return
	}
	net := &r.host.Network
	const path = "network.reserve"
	address, err := plainAddress(n.Text)
	switch {
	case n.Kind != doc.String || err != nil || !address.Is4():
		r.problems.Add(n.Problem(path, "", "%q is not allowed, want an address such as 192.168.122.10", n.Text))
	case net.Attach.Network == "":
		r.problems.Add(n.Problem(path, "ask whoever runs the DHCP of that bridge", "a bridge keeps no address: that goes with attach: {network: NAME}"))
	case !net.DHCP:
		r.problems.Add(n.Problem(path, "", "the machine has static addresses and asks for none: reserve goes with dhcp"))
	default:
		net.Reserve = address
	}
}

// gateways checks the parsed gateways, whose nodes are n's items.
func (r *resolver) gateways(n *doc.Node) {
	net := &r.host.Network
	families := map[bool]int{}
	for i, gateway := range net.Gateways {
		at, path := n.Items[i], fmt.Sprintf("network.gateways[%d]", i)
		if families[gateway.Is4()]++; families[gateway.Is4()] > 1 {
			r.problems.Add(at.Problem(path, "one gateway each for IPv4 and IPv6 is possible", "a second gateway of one kind"))
		}
		near := gateway.IsLinkLocalUnicast() || slices.ContainsFunc(net.Addresses, func(p netip.Prefix) bool {
			return p.Contains(gateway)
		})
		if !near && len(net.Addresses) > 0 {
			r.problems.Add(at.Problem(path, "", "the gateway %s is in the network of none of the addresses", gateway))
		}
	}
}

// ownAddress refuses, beside what is no address, the network's own.
func ownAddress(text string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(text)
	if err == nil && prefix == prefix.Masked() && prefix.Bits() < prefix.Addr().BitLen()-1 {
		return prefix, fmt.Errorf("%s is a network", prefix)
	}
	return prefix, err
}

// plainAddress refuses zones: they name a card of this machine, or any text.
func plainAddress(text string) (netip.Addr, error) {
	address, err := netip.ParseAddr(text)
	if err == nil && address.Zone() != "" {
		return address, fmt.Errorf("%s has a zone", address)
	}
	return address, err
}

// macFor derives a locally administered address in QEMU's prefix from a name.
func macFor(name string) string {
	sum := sha256.Sum256([]byte("bake mac " + name))
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", sum[0], sum[1], sum[2])
}

func (r *resolver) mac(n *doc.Node) string {
	mac, err := net.ParseMAC(n.Text)
	switch {
	case n.Kind != doc.String || err != nil || len(mac) != 6:
		r.problems.Add(n.Problem("network.mac", `write it in quotes, "52:54:00:12:34:56", or auto`,
			"%q is not allowed, want auto or a MAC address", n.Text))
	case mac.String() == "00:00:00:00:00:00":
		r.problems.Add(n.Problem("network.mac", "", "%q is no card's address", n.Text))
	case mac[0]&1 != 0:
		r.problems.Add(n.Problem("network.mac", "the first byte must be even", "%q is a multicast address", n.Text))
	}
	return mac.String()
}

// list parses a list of different texts of one form, all of them or none.
func list[T comparable](r *resolver, n *doc.Node, path, form string, parse func(string) (T, error)) []T {
	if n == nil {
		return nil
	}
	if n.Kind != doc.List {
		r.problems.Add(n.Problem(path, "", "this is %s, want a list", n.Kind))
		return nil
	}
	var out []T
	bad := false
	for i, item := range n.Items {
		v, err := parse(item.Text)
		if item.Kind != doc.String || err != nil {
			r.problems.Add(item.Problem(fmt.Sprintf("%s[%d]", path, i), "", "%q is not allowed, want %s", item.Text, form))
			bad = true
			continue
		}
		if slices.Contains(out, v) {
			r.problems.Add(item.Problem(fmt.Sprintf("%s[%d]", path, i), "remove one of the two", "%q is listed twice", item.Text))
			bad = true
		}
		out = append(out, v)
	}
	if bad {
		return nil
	}
	return out
}

func (r *resolver) attach(n *doc.Node) {
	get := n.Fields("network.attach", &r.problems, "network", "bridge")
	if (get("network") == nil) == (get("bridge") == nil) && n.Kind == doc.Map {
		r.problems.Add(n.Problem("network.attach", "", "want exactly one of network and bridge"))
		return
	}
	r.host.Network.Attach = Attach{}
	if text, ok := r.read(get("network"), "network.attach.network", layer.Param{Type: "name"}); ok {
		r.host.Network.Attach.Network = text
	}
	if text, ok := r.read(get("bridge"), "network.attach.bridge", layer.Param{Type: "name"}); ok {
		r.host.Network.Attach.Bridge = text
	}
}

func (r *resolver) domain(n *doc.Node) {
	d := &r.host.Domain
	if n == nil {
		return
	}
	get := n.Fields("domain", &r.problems, "uri", "autostart")
	if uri := get("uri"); uri != nil {
		d.URI = r.text(n, uri, "domain.uri", "uri: qemu:///system")
		_, err := ParseURI(d.URI)
		if IsCluster(d.URI) {
			_, err = ParseCluster(d.URI)
		}
		if d.URI != "" && err != nil {
			r.problems.Add(uri.Problem("domain.uri", "", "%v", err))
		}
	}
	if text, ok := r.read(get("autostart"), "domain.autostart", layer.Param{Type: "bool"}); ok {
		d.Autostart = text == "true"
	}
}

func (r *resolver) admin(n *doc.Node) {
	if n == nil {
		r.problems.Add(r.node.Problem("admin", "admin: {name: ops, keys: [ssh-ed25519 AAAA...]}",
			"the key \"admin\" is missing: nobody could log in"))
		return
	}
	get := n.Fields("admin", &r.problems, "name", "keys")
	if n.Kind != doc.Map {
		return
	}
	if text, ok := r.read(get("name"), "admin.name", layer.Param{Type: "user"}); ok {
		r.host.Admin.Name = text
		if text == "root" {
			r.problems.Add(get("name").Problem("admin.name", "name a person's account", "root does not log in"))
		}
	} else if get("name") == nil {
		r.text(n, nil, "admin.name", "name a person's account, such as ops")
	}
	keys := get("keys")
	switch {
	case keys == nil:
		r.problems.Add(n.Problem("admin.keys", layer.KeyHint, "the key \"keys\" is missing: nobody could log in"))
		return
	case keys.Kind != doc.List:
		r.problems.Add(keys.Problem("admin.keys", "put brackets around it: [ssh-ed25519 AAAA...]", "this is %s, want a list of public keys", keys.Kind))
		return
	case len(keys.Items) == 0:
		r.problems.Add(keys.Problem("admin.keys", layer.KeyHint, "the list is empty: nobody could log in"))
		return
	}
	for i, item := range keys.Items {
		if err := layer.CheckKey(item.Text); err != nil || item.Kind != doc.String {
			r.problems.Add(item.Problem(fmt.Sprintf("admin.keys[%d]", i), layer.KeyHint, "%v", err))
			continue
		}
		r.host.Admin.Keys = append(r.host.Admin.Keys, item.Text)
	}
}
