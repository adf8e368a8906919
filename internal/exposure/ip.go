package exposure

import (
	"encoding/binary"
	"net/netip"
)

// packet is one of IPv4 or IPv6 that is whole.
type packet struct {
	from, to netip.Addr
	protocol byte // of what it carries
	carried  []byte
}

// readIPv4 reads a packet; what Ethernet filled it up with is left out. The parts of a
// divided one are not put together: nothing that we ask for has an answer so long.
func readIPv4(data []byte) (packet, bool) {
	if len(data) < 20 || data[0]>>4 != 4 {
		return packet{}, false
	}
	header, total := int(data[0]&0xf)*4, int(binary.BigEndian.Uint16(data[2:]))
	const moreOrNotTheFirst = 0x3fff
	if header < 20 || total < header || total > len(data) || binary.BigEndian.Uint16(data[6:])&moreOrNotTheFirst != 0 {
		return packet{}, false
	}
	return packet{netip.AddrFrom4([4]byte(data[12:16])), netip.AddrFrom4([4]byte(data[16:20])), data[9], data[header:total]}, true
}

// readIPv6 does the same, past the headers that may stand before what is carried. Whom it
// is from is known also if those are wrong.
func readIPv6(data []byte) (packet, bool) {
	if len(data) < 40 || data[0]>>4 != 6 {
		return packet{}, false
	}
	length := int(binary.BigEndian.Uint16(data[4:]))
	if length > len(data)-40 {
		return packet{}, false
	}
	p := packet{netip.AddrFrom16([16]byte(data[8:24])), netip.AddrFrom16([16]byte(data[24:40])), data[6], data[40 : 40+length]}
	const hopByHop, routing, destination = 0, 43, 60
	for p.protocol == hopByHop || p.protocol == routing || p.protocol == destination {
		if len(p.carried) < 8 || len(p.carried) < 8+8*int(p.carried[1]) {
			return p, false
		}
		p.protocol, p.carried = p.carried[0], p.carried[8+8*int(p.carried[1]):]
	}
	return p, true
}
