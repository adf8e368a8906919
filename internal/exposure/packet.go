package exposure

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// What frames and packets carry, as their headers number it.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	protocolICMP   = 1
	protocolTCP    = 6
	protocolICMPv6 = 58

	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10

	arpRequest = 1
	arpReply   = 2

	echoReply, echoRequest, unreachable       = 0, 8, 3
	echoReplyV6, echoRequestV6, unreachableV6 = 129, 128, 1
	solicitation, advertisement               = 135, 136
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

// frame is what goes to the guest's card, filled up to what Ethernet demands.
func (n neighbour) frame(kind uint16, parts ...[]byte) []byte {
	frame := slices.Concat(n.target.MAC, n.mac, binary.BigEndian.AppendUint16(nil, kind), slices.Concat(parts...))
	return append(frame, make([]byte, max(0, 60-len(frame)))...)
}

// packet is a frame with a packet to the guest. The carried segment or message gets
// its checksum, which stands there at sumAt.
func (n neighbour) packet(from, to netip.Addr, protocol byte, carried []byte, sumAt int) []byte {
	sources := slices.Concat(from.AsSlice(), to.AsSlice())
	pseudo := slices.Concat(sources, []byte{0, protocol}, binary.BigEndian.AppendUint16(nil, uint16(len(carried))))
	if protocol == protocolICMP {
		pseudo = nil // the one that does not vouch for the addresses
	}
	binary.BigEndian.PutUint16(carried[sumAt:], checksum(pseudo, carried))
	if to.Is4() {
		header := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0}
		binary.BigEndian.PutUint16(header[2:], uint16(20+len(carried)))
		binary.BigEndian.PutUint16(header[10:], checksum(header, sources))
		return n.frame(etherIPv4, header, sources, carried)
	}
	// Neighbour discovery is believed from next door only: a hop limit of 255.
	header := []byte{0x60, 0, 0, 0, 0, 0, protocol, 255}
	binary.BigEndian.PutUint16(header[4:], uint16(len(carried)))
	return n.frame(etherIPv6, header, sources, carried)
}

// checksum is the Internet's (RFC 1071). All parts but the last have an even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, part := range parts {
		for i, b := range part {
			sum += uint32(b) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// firstPort and ports are those that we ask from.
const firstPort, ports = 20000, 40000

func (n neighbour) tcp(to netip.Addr, source, destination int, sequence uint32, flags byte, window uint16) []byte {
	segment := make([]byte, 20)
	binary.BigEndian.PutUint16(segment, uint16(source))
	binary.BigEndian.PutUint16(segment[2:], uint16(destination))
	binary.BigEndian.PutUint32(segment[4:], sequence)
	segment[12], segment[13] = 5<<4, flags // five words of header, and nothing behind it
	binary.BigEndian.PutUint16(segment[14:], window)
	return n.packet(n.from(to), to, protocolTCP, segment, 16)
}

// syn asks for a connection, the n-th time.
func (n neighbour) syn(to netip.Addr, port, round int) []byte {
	return n.tcp(to, firstPort+round%ports, port, 1, tcpSYN, 1024)
}

func (n neighbour) ping(to netip.Addr, round int) []byte {
	message := []byte{echoRequest, 0, 0, 0, 0, 77, byte(round >> 8), byte(round)}
	if to.Is4() {
		return n.packet(n.v4, to, protocolICMP, message, 2)
	}
	message[0] = echoRequestV6
	return n.packet(n.from(to), to, protocolICMPv6, message, 2)
}

// seen is what a frame says.
type seen struct {
	answers []Answer   // without their times
	from    netip.Addr // an IPv6 address of the guest, or invalid
	reply   []byte     // what we owe it, nil for nothing
}

// read takes a frame for what it is worth: whoever sent it, the guest among them,
// may have made it up. Checksums are not looked at: what was damaged on this wire
// was damaged by the guest.
func (n neighbour) read(frame []byte) seen {
	if len(frame) < 14 || !bytes.Equal(frame[6:12], n.target.MAC) {
		return seen{} // QEMU's own network is on the wire as well
	}
	s := seen{answers: []Answer{{Kind: Frame}}}
	data := frame[14:]
	var got packet
	var ok bool
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		s.reply = n.answerARP(data)
		return s
	case etherIPv4:
		got, ok = readIPv4(data)
	case etherIPv6:
		got, ok = readIPv6(data)
		s.from = got.from
	}
	switch {
	case !ok:
	case got.protocol == protocolICMPv6 && got.to.Is6() && len(got.carried) >= 24 && got.carried[0] == solicitation:
		s.reply = n.advertise(got.from, netip.AddrFrom16([16]byte(got.carried[8:24])))
	case got.to == n.v4 || got.to == n.v6 || got.to == n.site:
		n.readAnswer(got, &s)
	}
	return s
}

// readAnswer reads a packet that is addressed to us.
func (n neighbour) readAnswer(got packet, s *seen) {
	family, carried := 6, got.carried
	if got.to.Is4() {
		family = 4
	}
	add := func(kind string, port int) {
		s.answers = append(s.answers, Answer{Kind: kind, Family: family, Port: port})
	}
	switch {
	case got.protocol == protocolTCP && len(carried) >= 20:
		if header := int(carried[12]>>4) * 4; header < 20 || header > len(carried) {
			return
		}
		source, destination := int(binary.BigEndian.Uint16(carried)), int(binary.BigEndian.Uint16(carried[2:]))
		switch flags := carried[13]; {
		case destination < firstPort || destination >= firstPort+ports:
		case flags&tcpRST != 0:
			add(Refused, source)
		case flags&tcpSYN != 0 && flags&tcpACK != 0:
			add(Accepted, source)
			s.reply = n.tcp(got.from, destination, source, binary.BigEndian.Uint32(carried[8:]), tcpRST, 0) // and that ends it
		}
	case len(carried) < 8:
	case family == 4 && got.protocol == protocolICMP && carried[0] == echoReply,
		family == 6 && got.protocol == protocolICMPv6 && carried[0] == echoReplyV6:
		add(Echo, 0)
	case family == 4 && got.protocol == protocolICMP && carried[0] == unreachable,
		family == 6 && got.protocol == protocolICMPv6 && carried[0] == unreachableV6:
		add(Reject, 0)
	}
}

// answerARP tells the guest our MAC address if it asks for it.
func (n neighbour) answerARP(data []byte) []byte {
	overEthernet := []byte{0, 1, 8, 0, 6, 4, 0}
	if len(data) < 28 || !bytes.Equal(data[:8], append(overEthernet, arpRequest)) || [4]byte(data[24:28]) != n.v4.As4() {
		return nil
	}
	return n.frame(etherARP, overEthernet, []byte{arpReply}, n.mac, n.v4.AsSlice(), data[8:18])
}

// advertise does the same for IPv6.
func (n neighbour) advertise(to, asked netip.Addr) []byte {
	if asked != n.v6 && asked != n.site || to.IsUnspecified() {
		return nil
	}
	const solicitedAndOverride, targetLinkAddress, eightBytes = 0x60, 2, 1
	message := slices.Concat([]byte{advertisement, 0, 0, 0, solicitedAndOverride, 0, 0, 0}, asked.AsSlice(),
		[]byte{targetLinkAddress, eightBytes}, n.mac)
	return n.packet(asked, to, protocolICMPv6, message, 2)
}
