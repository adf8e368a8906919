package vm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// flow is one TCP connection as the guest sees it.
type flow struct {
	guest netip.Addr // IPv4
	port  uint16     // the guest's
	peer  uint16     // the port of the other side
}

// record is one captured packet of a flow, reduced to what an answer needs.
type record int

const (
	other    record = iota
	asked           // our SYN, delivered to the guest
	accepted        // the guest's SYN and ACK
	refused         // the guest's RST or ICMP "unreachable"
)

// readCapture returns whether the guest was asked and its first answer, other
// when there is none. The bytes are a pcap file as QEMU's filter-dump writes
// it (little endian, Ethernet), possibly still growing; the packets in it are
// the guest's, so nothing about them is taken for granted.
func readCapture(file []byte, f flow) (isAsked bool, reply record) {
	const fileHeader, packetHeader = 24, 16
	if len(file) < fileHeader || !bytes.Equal(file[:4], []byte{0xd4, 0xc3, 0xb2, 0xa1}) {
		return false, other
	}
	for file = file[fileHeader:]; len(file) >= packetHeader; {
		size := uint64(binary.LittleEndian.Uint32(file[8:]))
		file = file[packetHeader:]
		if size > uint64(len(file)) {
			break // not completely written yet
		}
		switch kind := f.classify(file[:size]); kind {
		case asked:
			isAsked = true
		case accepted, refused:
			if isAsked {
				return true, kind
			}
		}
		file = file[size:]
	}
	return isAsked, other
}

// classify says what an Ethernet frame means for the flow.
func (f flow) classify(frame []byte) record {
	if len(frame) < 14 || frame[12] != 0x08 || frame[13] != 0x00 {
		return other
	}
	packet, ok := parseIPv4(frame[14:])
	if !ok {
		return other
	}
	const protocolICMP, protocolTCP = 1, 6
	switch {
	case packet.protocol == protocolTCP:
		return f.classifyTCP(packet)
	case packet.protocol == protocolICMP && len(packet.body) >= 8 && packet.body[0] == 3:
		// Destination unreachable quotes the packet that it is about.
		about, ok := parseIPv4(packet.body[8:])
		if ok && about.protocol == protocolTCP && f.classifyTCP(about) == asked {
			return refused
		}
	}
	return other
}

func (f flow) classifyTCP(packet ipv4) record {
	const syn, rst, ack = 0x02, 0x04, 0x10
	if len(packet.body) < 4 {
		return other
	}
	from, to := binary.BigEndian.Uint16(packet.body), binary.BigEndian.Uint16(packet.body[2:])
	toGuest := packet.to == f.guest && to == f.port && from == f.peer
	fromGuest := packet.from == f.guest && from == f.port && to == f.peer
	if len(packet.body) < 14 { // an ICMP quotation may end after 8 bytes
		if toGuest {
			return asked
		}
		return other
	}
	flags := packet.body[13]
	switch {
	case toGuest && flags&(syn|ack|rst) == syn:
		return asked
	case fromGuest && flags&rst != 0:
		return refused
	case fromGuest && flags&(syn|ack) == syn|ack:
		return accepted
	}
	return other
}

type ipv4 struct {
	protocol byte
	from, to netip.Addr
	body     []byte
}

func parseIPv4(data []byte) (ipv4, bool) {
	if len(data) < 20 || data[0]>>4 != 4 {
		return ipv4{}, false
	}
	header := int(data[0]&0x0f) * 4
	fragment := binary.BigEndian.Uint16(data[6:]) & 0x1fff
	if header < 20 || header > len(data) || fragment != 0 {
		return ipv4{}, false
	}
	return ipv4{
		protocol: data[9],
		from:     netip.AddrFrom4([4]byte(data[12:16])),
		to:       netip.AddrFrom4([4]byte(data[16:20])),
		body:     data[header:],
	}, true
}
