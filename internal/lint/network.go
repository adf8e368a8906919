package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bake/internal/doc"
	"bake/internal/lazy"
)

// cardKeys are those of a device in network-config version 2.
var cardKeys = words(`match set-name wakeonlan dhcp4 dhcp6 dhcp4-overrides dhcp6-overrides dhcp-identifier addresses gateway4 gateway6 nameservers routes routing-policy optional optional-addresses
	mtu macaddress accept-ra renderer critical ipv6-privacy link-local activation-mode ignore-carrier emit-lldp auth openvswitch ipv6-mtu ipv6-address-generation ipv6-address-token infiniband-mode regulatory-domain
	interfaces parameters id link access-points mode local remote ttl key keys peers mark port table virtual-function-count embedded-switch-mode delay-virtual-functions-rebind neigh-suppress
	receive-checksum-offload transmit-checksum-offload tcp-segmentation-offload tcp6-segmentation-offload generic-segmentation-offload generic-receive-offload large-receive-offload hairpin port-mac-learning networkmanager gateway addresses`)

var (
	networkKinds = words("ethernets bonds bridges vlans wifis tunnels vrfs dummy-devices modems virtual-ethernets nm-devices openvswitch")
	macForm      = lazy.Regexp(`^(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$`)
	kernelName   = lazy.Regexp(`^(?:eth[0-9]+|en[psox][0-9a-z]+|ens[0-9]+|eno[0-9]+|wlan[0-9]+|wlp[0-9a-z]+)$`)
)

// checkNetwork looks at a network-config.
func checkNetwork(w *world, root *doc.Node) {
	n := root
	if inner := n.Get("network"); inner != nil && len(n.Pairs) == 1 {
		n = inner
	}
	version := n.Get("version")
	switch c := n.Get("config"); {
	case c != nil && c.Text == "disabled": // cloud-init leaves the network alone
		return
	case version == nil:
		w.report("network-version", spot{node: n, path: "version"}, "the version is missing: cloud-init takes the file for none")
	case version.Text == "1":
		kinds := words("physical bond bridge vlan infiniband nameserver route loopback")
		if list := n.Get("config"); list != nil {
			for i, item := range list.Items {
				w.checkSubnets(item, fmt.Sprintf("config[%d]", i))
				if mac := item.Get("mac_address"); mac != nil {
					w.checkMAC(mac, fmt.Sprintf("config[%d].mac_address", i))
				}
				if kind := item.Get("type"); kind == nil || !slices.Contains(kinds, kind.Text) {
					w.report("network-key", spot{node: item, path: fmt.Sprintf("config[%d]", i)}, "version 1 has physical, bond, bridge, vlan, nameserver and route, and each entry is one of them")
				}
			}
		}
		return
	case version.Text != "2":
		w.report("network-version", spot{node: version, path: "version"}, "the version is 1 or 2, not %s", version.Text)
	}
	for _, pair := range n.Pairs {
		if key := pair.Key.Text; !slices.Contains(append(networkKinds, "version", "renderer"), key) {
			w.hint(near(key, append(networkKinds, "version", "renderer"))).report("network-key", spot{node: pair.Key, path: key}, "version 2 has no %s", key)
		}
	}
	if r := n.Get("renderer"); r != nil && !slices.Contains(words("networkd NetworkManager sriov"), r.Text) {
		w.hint(near2(r.Text, words("networkd NetworkManager"))).report("network-value", spot{node: r, path: "renderer"}, "the renderer is networkd or NetworkManager, not %q", r.Text)
	}
	w.checkDevices(n)
	w.checkLinks(n)
	w.checkSecretsOf("", n)
	var physical, waiting []doc.Pair
	if cards := n.Get("ethernets"); cards != nil {
		for _, pair := range cards.Pairs {
			w.checkCard("ethernets."+pair.Key.Text, pair, true)
			if !isTrue(pair.Value.Get("optional")) {
				waiting = append(waiting, pair)
			}
			physical = append(physical, pair)
		}
	}
	for _, kind := range words("bonds bridges vlans") {
		if devices := n.Get(kind); devices != nil {
			waiting = nil // their cards have no address
			for _, pair := range devices.Pairs {
				w.checkCard(kind+"."+pair.Key.Text, pair, false)
			}
		}
	}
	if len(physical) > 1 && len(waiting) > 1 {
		for _, pair := range waiting[1:] {
			w.report("network-waits", spot{node: pair.Key, path: "ethernets." + pair.Key.Text}, "the boot waits, two minutes or for ever, until every card that is not optional has an address")
		}
	}
}

// checkDevices looks at what devices say of each other.
func (w *world) checkDevices(n *doc.Node) {
	macs, names, used := map[string]bool{}, map[string]bool{}, map[string]bool{}
	defaults := 0
	for _, kind := range networkKinds {
		devices := n.Get(kind)
		if devices != nil && devices.Kind == doc.List {
			w.report("network-value", spot{node: devices, path: kind}, "this is a list, want a map of devices by name")
			continue
		}
		if devices == nil {
			continue
		}
		for _, pair := range devices.Pairs {
			names[pair.Key.Text] = true
		}
	}
	for _, kind := range networkKinds {
		devices := n.Get(kind)
		if devices == nil {
			continue
		}
		for _, pair := range devices.Pairs {
			at := spot{node: pair.Key, path: kind + "." + pair.Key.Text}
			parts := slices.Clone(nodeOr(pair.Value.Get("interfaces")).Items)
			if link := pair.Value.Get("link"); link != nil {
				parts = append(parts, link)
			}
			for _, part := range parts {
				used[part.Text] = true
				if !names[part.Text] {
					w.report("network-key", spot{node: part, path: at.path}, "nothing defines %s: netplan refuses the file", part.Text)
				}
				if kind != "vlans" && names[part.Text] {
					w.checkMember(n, part, pair.Key.Text)
				}
			}
			for _, p := range nodeOr(pair.Value.Get("parameters")).Pairs {
				if known := parameters[kind]; known != nil && !slices.Contains(known, p.Key.Text) {
					w.hint(near(p.Key.Text, known)).report("network-key", spot{node: p.Key, path: at.path + ".parameters"}, "there is no parameter %s: netplan refuses the file", p.Key.Text)
				}
			}
			if id := pair.Value.Get("id"); id != nil {
				at.node = id
			}
			if id := pair.Value.Get("id"); kind == "vlans" && (id == nil || !onlyDigits(id.Text) || len(id.Text) > 4 || id.Text > "4094" && len(id.Text) == 4) {
				w.report("network-value", at, "a VLAN has an id from 0 to 4094")
			}
			mac := pair.Value.Get("match").Get("macaddress")
			if mac != nil && macs[strings.ToLower(mac.Text)] {
				w.report("network-mac", spot{node: mac, path: at.path + ".match.macaddress"}, "another card is matched by the same address")
			}
			if mac != nil {
				macs[strings.ToLower(mac.Text)] = true
			}
			if routes := pair.Value.Get("routes"); routes != nil {
				for _, r := range routes.Items {
					if to := r.Get("to"); to != nil && (to.Text == "default" || to.Text == "0.0.0.0/0") && r.Get("table") == nil && r.Get("metric") == nil {
						if defaults++; defaults > 1 {
							w.warn("network-address", spot{node: r, path: at.path + ".routes"}, "a second default route, without a metric")
						}
					}
				}
			}
		}
	}
	if cards := n.Get("ethernets"); cards != nil {
		for _, pair := range cards.Pairs {
			v := pair.Value
			if v.Kind == doc.Map && !used[pair.Key.Text] && v.Get("addresses") == nil && !isTrue(v.Get("dhcp4")) && !isTrue(v.Get("dhcp6")) && v.Get("link-local") == nil && v.Get("accept-ra") == nil && n.Get("bonds") == nil && n.Get("bridges") == nil && n.Get("vlans") == nil && !isTrue(v.Get("optional")) && v.Get("dhcp4") == nil {
				w.warn("network-address", spot{node: pair.Key, path: "ethernets." + pair.Key.Text}, "the card gets no address: neither dhcp4 nor addresses")
			}
		}
	}
}

// checkMember reports a card that has addresses of its own although it is a part of
// something that has them.
func (w *world) checkMember(n, part *doc.Node, of string) {
	for _, kind := range networkKinds {
		card := n.Get(kind).Get(part.Text)
		if isTrue(card.Get("dhcp4")) || isTrue(card.Get("dhcp6")) || len(nodeOr(card.Get("addresses")).Items) > 0 {
			w.warn("network-address", spot{node: part, path: of}, "%s is a part of %s, and has addresses of its own: the machine answers on neither reliably", part.Text, of)
		}
	}
}

// parameters are those of bonds and bridges.
var parameters = map[string][]string{"bonds": words(`mode lacp-rate mii-monitor-interval min-links transmit-hash-policy ad-select all-slaves-active all-members-active arp-interval arp-ip-targets arp-validate arp-all-targets up-delay down-delay fail-over-mac-policy gratuitous-arp gratuitious-arp packets-per-slave packets-per-member
	primary-reselect-policy resend-igmp learn-packet-interval primary`), "bridges": words("ageing-time aging-time priority port-priority forward-delay hello-time max-age path-cost stp")}

// wordsOfCard are keys of a device with few values.
var wordsOfCard = map[string][]string{"dhcp-identifier": words("mac duid"), "activation-mode": words("manual off"), "ipv6-address-generation": words("eui64 stable-privacy"), "renderer": words("networkd NetworkManager sriov")}

// checkSecretsOf looks for passwords of wireless networks and the like.
func (w *world) checkSecretsOf(path string, n *doc.Node) {
	for _, pair := range n.Pairs {
		if slices.Contains(words("password psk client-key-password private"), pair.Key.Text) && pair.Value.Scalar() && len(pair.Value.Text) > 3 && !strings.HasPrefix(pair.Value.Text, "/") {
			w.warn("secret-plain", spot{node: pair.Value, path: doc.Join(path, pair.Key.Text)}, "the password stands here for everybody who reads the seed")
		}
		w.checkSecretsOf(doc.Join(path, pair.Key.Text), pair.Value)
	}
}

func nodeOr(n *doc.Node) *doc.Node {
	if n == nil {
		return &doc.Node{}
	}
	return n
}

func (w *world) checkCard(path string, pair doc.Pair, ethernet bool) {
	card := pair.Value
	if card.Kind != doc.Map {
		return
	}
	for _, p := range card.Pairs {
		at := spot{node: p.Key, path: path + "." + p.Key.Text}
		switch key := p.Key.Text; {
		case !slices.Contains(cardKeys, key):
			w.hint(near(key, cardKeys)).report("network-key", at, "a device has no key %s", key)
		case slices.Contains(words("dhcp4 dhcp6 optional critical wakeonlan accept-ra"), key) && p.Value.Kind != doc.Bool && !(key == "accept-ra" && p.Value.Kind == doc.Null):
			w.report("network-value", spot{node: p.Value, path: at.path}, "this is %s, want true or false", p.Value.Kind)
		case wordsOfCard[key] != nil && !slices.Contains(wordsOfCard[key], p.Value.Text):
			w.hint(cmpOr(near(p.Value.Text, wordsOfCard[key]), "one of: "+strings.Join(wordsOfCard[key], " "))).report("network-value", spot{node: p.Value, path: at.path}, "%s cannot be %q", key, p.Value.Text)
		case key == "gateway4" || key == "gateway6":
			w.hint("write routes: [{to: default, via: ADDRESS}]").report("network-deprecated", at, "%s is from the past", key)
		case key == "nameservers" && p.Value.Kind != doc.Map:
			w.hint("write nameservers: {addresses: [ADDRESS]}").report("network-nameservers", spot{node: p.Value, path: at.path}, "this is %s, want a map with addresses", p.Value.Kind)
		}
	}
	match := card.Get("match")
	if n := card.Get("set-name"); n != nil && match != nil && match.Get("macaddress") == nil && match.Get("driver") == nil && match.Get("name") == nil {
		w.report("network-set-name", spot{node: n, path: path + ".set-name"}, "the match is empty, and fits every card: set-name needs a macaddress or driver")
	}
	if match != nil {
		for _, p := range match.Pairs {
			if !slices.Contains(words("macaddress name driver"), p.Key.Text) {
				w.hint(cmpOr(near(p.Key.Text, words("macaddress name driver")), "macaddress, name or driver")).report("network-key", spot{node: p.Key, path: path + ".match"}, "match has no key %s", p.Key.Text)
			}
		}
		if name := match.Get("name"); name != nil && kernelName.MatchString(name.Text) && match.Get("macaddress") == nil {
			w.hint("match the card by its macaddress").report("network-name", spot{node: name, path: path + ".match.name"}, "the name %s depends on the machine type and the slot of the card", name.Text)
		}
	}
	if servers := card.Get("nameservers").Get("addresses"); servers != nil {
		for _, item := range servers.Items {
			if _, err := netip.ParseAddr(strings.Split(item.Text, "#")[0]); err != nil {
				w.report("network-nameservers", spot{node: item, path: path + ".nameservers.addresses"}, "%q is no address", item.Text)
			}
		}
	}
	if mac := match.Get("macaddress"); mac != nil {
		w.checkMAC(mac, path+".match.macaddress")
	}
	if ethernet && match == nil {
		if name := pair.Key; kernelName.MatchString(name.Text) {
			w.hint("match the card by its macaddress").report("network-name", spot{node: name, path: path}, "the name %s depends on the machine type and the slot of the card", name.Text)
		}
		if n := card.Get("set-name"); n != nil {
			w.report("network-set-name", spot{node: n, path: path + ".set-name"}, "set-name needs a match: the file is refused")
		}
	}
	w.checkAddresses(card, path)
}

func (w *world) checkMAC(n *doc.Node, path string) {
	switch {
	case n.Kind != doc.String:
		w.report("network-mac", spot{node: n, path: path}, "without quotes this is a number in base 60")
	case !macForm.MatchString(n.Text):
		w.report("network-mac", spot{node: n, path: path}, "%q is no MAC address of six pairs", n.Text)
	}
}

func (w *world) checkAddresses(card *doc.Node, path string) {
	var nets []netip.Prefix
	if list := card.Get("addresses"); list != nil {
		for _, item := range list.Items {
			text := item.Text
			if item.Kind == doc.Map && len(item.Pairs) == 1 {
				text = item.Pairs[0].Key.Text
			}
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				if address, mask, ok := strings.Cut(text, "/"); ok && strings.Count(mask, ".") == 3 && strings.Count(address, ".") == 3 {
					w.warn("network-address", spot{node: item, path: path + ".addresses"}, "netplan wants the length of the prefix, not the mask %s", mask)
					continue
				}
				w.hint("write it with its prefix, such as 192.0.2.10/24").report("network-address", spot{node: item, path: path + ".addresses"}, "%q is no address with a prefix", text)
				continue
			}
			nets = append(nets, prefix)
		}
	}
	routes := card.Get("routes")
	if routes == nil {
		return
	}
	for _, r := range routes.Items {
		via, to := r.Get("via"), r.Get("to")
		switch {
		case to == nil:
			w.report("network-address", spot{node: r, path: path + ".routes"}, "the route says not where to")
		case via == nil && r.Get("scope") == nil && r.Get("type") == nil && !isTrue(r.Get("on-link")):
			w.hint("add via: ADDRESS").report("network-address", spot{node: r, path: path + ".routes"}, "the route says not by whom: netplan refuses the file")
		case via != nil:
			addr, err := netip.ParseAddr(via.Text)
			if err != nil {
				w.report("network-address", spot{node: via, path: path + ".routes"}, "%q is no address", via.Text)
			} else if slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Addr() == addr }) {
				w.report("network-address", spot{node: via, path: path + ".routes"}, "the gateway %s is the card's own address", addr)
			} else if len(nets) > 0 && !isTrue(r.Get("on-link")) && !slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(addr) }) && !addr.IsLinkLocalUnicast() && !isTrue(card.Get("dhcp4")) {
				w.hint("add on-link: true if that is meant").report("network-address", spot{node: via, path: path + ".routes"}, "the gateway %s is in no network of the card", addr)
			}
		}
	}
}

// checkMeta looks at meta-data.
func checkMeta(w *world, n *doc.Node) {
	if id := n.Get("instance-id"); id == nil || id.Text == "" {
		w.report("meta-instance-id", spot{node: n, path: "instance-id"}, "without an instance-id every machine is the same one, %q, and a changed seed has no effect", "nocloud")
	}
	if mode := n.Get("dsmode"); mode != nil && !slices.Contains(words("local net pass disabled"), mode.Text) {
		w.hint(near(mode.Text, words("local net"))).report("meta-dsmode", spot{node: mode, path: "dsmode"}, "dsmode is local or net, not %q", mode.Text)
	}
	for _, pair := range n.Pairs {
		if meant, wrong := map[string]string{"hostname": "local-hostname", "instance_id": "instance-id", "local_hostname": "local-hostname", "public_keys": "public-keys", "instanceid": "instance-id"}[pair.Key.Text]; wrong {
			w.hint("write "+meant).report("key-unknown", spot{node: pair.Key, path: pair.Key.Text}, "NoCloud reads %s, and not %s", meant, pair.Key.Text)
		}
	}
	if keys := n.Get("public-keys"); keys != nil && keys.Kind == doc.String {
		for line := range strings.Lines(keys.Text) {
			if text := strings.TrimSpace(line); text != "" && !slices.Contains(keyTypes, strings.Fields(text)[0]) && !strings.Contains(text, " ssh-") {
				w.warn("users-key", spot{node: keys, path: "public-keys"}, "this is no public key")
			}
		}
	}
	if name := n.Get("local-hostname"); name != nil && !slices.ContainsFunc([]string{name.Text}, func(s string) bool {
		return !slices.ContainsFunc(strings.Split(s, "."), func(l string) bool { return !hostLabel.MatchString(strings.ToLower(l)) })
	}) {
		w.report("hostname", spot{node: name, path: "local-hostname"}, "%q cannot be the name of a machine: letters, digits and -", name.Text)
	}
}
