package lint

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"bake/internal/doc"
)

// checkLinks looks at numbers and addresses of version 2 that are possible each for
// itself, and not on a network.
func (w *world) checkLinks(n *doc.Node) {
	where := map[string]string{} // of an address
	for _, kind := range networkKinds {
		devices := n.Get(kind)
		if devices == nil {
			continue
		}
		for _, pair := range devices.Pairs {
			path, card := kind+"."+pair.Key.Text, pair.Value
			if mtu := card.Get("mtu"); mtu != nil {
				if size, err := strconv.Atoi(mtu.Text); err != nil || size < 68 || size > 65535 {
					w.report("network-value", spot{node: mtu, path: path + ".mtu"}, "the MTU is a number from 68 to 65535 (9000 for jumbo frames), not %q", mtu.Text)
				}
			}
			if slices.Contains(itemTexts(nodeOr(card.Get("interfaces"))), pair.Key.Text) {
				w.report("network-value", spot{node: pair.Key, path: path + ".interfaces"}, "%s is a part of itself", pair.Key.Text)
			}
			if list := card.Get("addresses"); list != nil {
				for _, item := range list.Items {
					w.checkHostAddress(item, path+".addresses")
					if other := where[item.Text]; other != "" && other != path && item.Text != "" {
						w.report("network-address", spot{node: item, path: path + ".addresses"}, "%s has the same address", other)
					}
					where[item.Text] = path
				}
			}
			if routes := card.Get("routes"); routes != nil {
				for _, r := range routes.Items {
					if to := r.Get("to"); to != nil && !strings.Contains(to.Text, "/") && strings.HasSuffix(to.Text, ".0") {
						w.hint("write it with its prefix, such as "+to.Text+"/24").report("network-address", spot{node: to, path: path + ".routes"}, "%s without a prefix is one machine, and no network", to.Text)
					}
				}
			}
		}
	}
}

// checkHostAddress reports the first and the last address of a network.
func (w *world) checkHostAddress(item *doc.Node, path string) {
	prefix, err := netip.ParsePrefix(item.Text)
	if err != nil || !prefix.Addr().Is4() || prefix.Bits() > 30 {
		return
	}
	last := prefix.Masked().Addr().As4()
	for bit := prefix.Bits(); bit < 32; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	switch prefix.Addr() {
	case prefix.Masked().Addr():
		w.report("network-address", spot{node: item, path: path}, "%s is the network, and no machine in it", item.Text)
	case netip.AddrFrom4(last):
		w.report("network-address", spot{node: item, path: path}, "%s is the broadcast address of the network", item.Text)
	}
}

// checkSubnets looks at the addresses of a device of version 1.
func (w *world) checkSubnets(device *doc.Node, path string) {
	for _, subnet := range nodeOr(device.Get("subnets")).Items {
		kind, address, gateway := nodeOr(subnet.Get("type")).Text, subnet.Get("address"), subnet.Get("gateway")
		if (kind == "static" || kind == "static6") && address == nil {
			w.report("network-address", spot{node: subnet, path: path + ".subnets"}, "a static subnet has no address")
			continue
		}
		if address == nil {
			continue
		}
		w.checkHostAddress(address, path+".subnets")
		prefix, err := netip.ParsePrefix(address.Text)
		if err != nil || gateway == nil {
			continue
		}
		if to, err := netip.ParseAddr(gateway.Text); err != nil || to.Is4() == prefix.Addr().Is4() && !prefix.Contains(to) && !to.IsLinkLocalUnicast() {
			w.report("network-address", spot{node: gateway, path: path + ".subnets"}, "the gateway %s is in no network of the card", gateway.Text)
		}
	}
}
