package exposure

import (
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// neighbour builds and reads the frames of an address of ours.
type neighbour struct {
	target Target
	mac    net.HardwareAddr
	v4     netip.Addr
	v6     netip.Addr // link-local
	site   netip.Addr // for guests with an address in the network that QEMU announces
}

func newNeighbour(target Target) neighbour {
	v4 := target.V4.As4()
	if v4[3] = 77; netip.AddrFrom4(v4) == target.V4 {
		v4[3] = 78
	}
	return neighbour{target: target, mac: net.HardwareAddr{0x52, 0x54, 0, 0xbe, 0xef, 0x77}, v4: netip.AddrFrom4(v4),
		v6: netip.MustParseAddr("fe80::bace:77"), site: netip.MustParseAddr("fec0::bace:77")}
}

// linkLocal is the address that a card gives itself (RFC 4291, modified EUI-64).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]})
}

// from is our address for a talk with one of the guest's.
func (n neighbour) from(to netip.Addr) netip.Addr {
	switch {
	case to.Is4():
		return n.v4
	case to.IsLinkLocalUnicast():
		return n.v6
	}
	return n.site
}

// ip returns the two lower layers of a packet to the guest.
func (n neighbour) ip(to netip.Addr, v4, v6 layers.IPProtocol) (*layers.Ethernet, gopacket.NetworkLayer, gopacket.SerializableLayer) {
	ethernet := &layers.Ethernet{SrcMAC: n.mac, DstMAC: n.target.MAC, EthernetType: layers.EthernetTypeIPv4}
	if to.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: v4, SrcIP: n.v4.AsSlice(), DstIP: to.AsSlice()}
		return ethernet, ip, ip
	}
	ethernet.EthernetType = layers.EthernetTypeIPv6
	// Neighbour discovery is believed from next door only: a hop limit of 255.
	ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: v6, SrcIP: n.from(to).AsSlice(), DstIP: to.AsSlice()}
	return ethernet, ip, ip
}

func frame(parts ...gopacket.SerializableLayer) ([]byte, error) {
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	return buffer.Bytes(), err
}

// firstPort and ports are those that we ask from.
const firstPort, ports = 20000, 40000

// syn asks for a connection, the n-th time.
func (n neighbour) syn(to netip.Addr, port, round int) ([]byte, error) {
	ethernet, network, ip := n.ip(to, layers.IPProtocolTCP, layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: layers.TCPPort(firstPort + round%ports), DstPort: layers.TCPPort(port),
		Seq: 1, SYN: true, Window: 1024}
	if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
		return nil, err
	}
	return frame(ethernet, ip, tcp)
}

// reset ends what a guest has accepted.
func (n neighbour) reset(to netip.Addr, accepted *layers.TCP) ([]byte, error) {
	ethernet, network, ip := n.ip(to, layers.IPProtocolTCP, layers.IPProtocolTCP)
	tcp := &layers.TCP{SrcPort: accepted.DstPort, DstPort: accepted.SrcPort, Seq: accepted.Ack, RST: true}
	if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
		return nil, err
	}
	return frame(ethernet, ip, tcp)
}

func (n neighbour) ping(to netip.Addr, round int) ([]byte, error) {
	ethernet, network, ip := n.ip(to, layers.IPProtocolICMPv4, layers.IPProtocolICMPv6)
	if to.Is4() {
		return frame(ethernet, ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0),
			Id: 77, Seq: uint16(round)})
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		return nil, err
	}
	return frame(ethernet, ip, icmp, &layers.ICMPv6Echo{Identifier: 77, SeqNumber: uint16(round)})
}

// seen is what a frame says.
type seen struct {
	answers []Answer   // without their times
	from    netip.Addr // an address of the guest, or invalid
	reply   []byte     // what we owe it, nil for nothing
}

// read takes a frame for what it is worth: whoever sent it, the guest among them,
// may have made it up.
func (n neighbour) read(data []byte) seen {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	ethernet, ok := packet.LinkLayer().(*layers.Ethernet)
	if !ok || ethernet.SrcMAC.String() != n.target.MAC.String() {
		return seen{} // QEMU's own network is on the wire as well
	}
	s := seen{answers: []Answer{{Kind: Frame}}}
	if arp, ok := packet.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		s.reply = n.answerARP(arp)
		return s
	}
	var from, to netip.Addr
	family := 4
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
	case *layers.IPv6:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
		family = 6
		s.from = from
	default:
		return s
	}
	if solicited, ok := packet.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation); ok {
		s.reply = n.advertise(from, solicited)
		return s
	}
	if to != n.v4 && to != n.v6 && to != n.site {
		return s
	}
	n.readAnswer(packet, family, from, &s)
	return s
}

// readAnswer reads a packet that is addressed to us.
func (n neighbour) readAnswer(packet gopacket.Packet, family int, from netip.Addr, s *seen) {
	if tcp, ok := packet.TransportLayer().(*layers.TCP); ok && tcp.DstPort >= firstPort && tcp.DstPort < firstPort+ports {
		switch {
		case tcp.RST:
			s.answers = append(s.answers, Answer{Kind: Refused, Family: family, Port: int(tcp.SrcPort)})
		case tcp.SYN && tcp.ACK:
			s.answers = append(s.answers, Answer{Kind: Accepted, Family: family, Port: int(tcp.SrcPort)})
			s.reply, _ = n.reset(from, tcp) // an error is a packet less
		}
	}
	if icmp, ok := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		switch icmp.TypeCode.Type() {
		case layers.ICMPv4TypeEchoReply:
			s.answers = append(s.answers, Answer{Kind: Echo, Family: 4})
		case layers.ICMPv4TypeDestinationUnreachable:
			s.answers = append(s.answers, Answer{Kind: Reject, Family: 4})
		}
	}
	if icmp, ok := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		switch icmp.TypeCode.Type() {
		case layers.ICMPv6TypeEchoReply:
			s.answers = append(s.answers, Answer{Kind: Echo, Family: 6})
		case layers.ICMPv6TypeDestinationUnreachable:
			s.answers = append(s.answers, Answer{Kind: Reject, Family: 6})
		}
	}
}

// answerARP tells the guest our MAC address if it asks for it.
func (n neighbour) answerARP(arp *layers.ARP) []byte {
	asked, _ := netip.AddrFromSlice(arp.DstProtAddress)
	if arp.Operation != layers.ARPRequest || asked != n.v4 || len(arp.SourceHwAddress) != 6 || len(arp.SourceProtAddress) != 4 {
		return nil
	}
	reply, _ := frame(
		&layers.Ethernet{SrcMAC: n.mac, DstMAC: n.target.MAC, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPReply, SourceHwAddress: n.mac, SourceProtAddress: n.v4.AsSlice(),
			DstHwAddress: arp.SourceHwAddress, DstProtAddress: arp.SourceProtAddress})
	return reply
}

// advertise does the same for IPv6.
func (n neighbour) advertise(to netip.Addr, solicited *layers.ICMPv6NeighborSolicitation) []byte {
	asked, _ := netip.AddrFromSlice(solicited.TargetAddress)
	if asked != n.v6 && asked != n.site || !to.Is6() || to.IsUnspecified() {
		return nil
	}
	ethernet, network, ip := n.ip(to, 0, layers.IPProtocolICMPv6)
	network.(*layers.IPv6).SrcIP = asked.AsSlice()
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)}
	if icmp.SetNetworkLayerForChecksum(network) != nil {
		return nil
	}
	const solicitedAndOverride = 0x60
	reply, _ := frame(ethernet, ip, icmp, &layers.ICMPv6NeighborAdvertisement{Flags: solicitedAndOverride,
		TargetAddress: asked.AsSlice(),
		Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: n.mac}}})
	return reply
}
