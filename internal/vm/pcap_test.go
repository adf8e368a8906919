package vm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	testFlow  = flow{guest: addr("10.0.2.15"), port: 22, peer: 40000}
	testHost  = addr("10.0.2.2")
	captured0 = []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 1, 0, 0, 0}
)

// segment returns an IPv4 packet with a TCP header.
func segment(from netip.Addr, fromPort uint16, to netip.Addr, toPort uint16, flags byte) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, fromPort)
	binary.BigEndian.PutUint16(tcp[2:], toPort)
	tcp[12], tcp[13] = 5<<4, flags
	return packet(6, from, to, tcp)
}

func packet(protocol byte, from, to netip.Addr, body []byte) []byte {
	header := make([]byte, 20)
	header[0], header[9] = 0x45, protocol
	copy(header[12:], from.AsSlice())
	copy(header[16:], to.AsSlice())
	return append(header, body...)
}

// captureFile returns a pcap file with Ethernet frames around the packets.
func captureFile(packets ...[]byte) []byte {
	file := bytes.Clone(captured0)
	for _, p := range packets {
		frame := append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, p...)
		header := make([]byte, 16)
		binary.LittleEndian.PutUint32(header[8:], uint32(len(frame)))
		binary.LittleEndian.PutUint32(header[12:], uint32(len(frame)))
		file = append(append(file, header...), frame...)
	}
	return file
}

func TestReadCapture(t *testing.T) {
	const syn, rst, ack = 0x02, 0x04, 0x10
	guest := testFlow.guest
	ask := segment(testHost, 40000, guest, 22, syn)
	yes := segment(guest, 22, testHost, 40000, syn|ack)
	no := segment(guest, 22, testHost, 40000, rst|ack)
	unreachable := func(quoted []byte) []byte {
		return packet(1, guest, testHost, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quoted...))
	}
	withOptions := bytes.Clone(yes)
	withOptions = append(append(withOptions[:20:20], 1, 1, 1, 1), withOptions[20:]...)
	withOptions[0] = 0x46
	fragment := bytes.Clone(yes)
	fragment[7] = 1
	for _, test := range []struct {
		name    string
		file    []byte
		asked   bool
		replied record
	}{
		{"accepted", captureFile(ask, yes), true, accepted},
		{"refused", captureFile(ask, no), true, refused},
		{"first answer counts", captureFile(ask, yes, no), true, accepted},
		{"IP options", captureFile(ask, withOptions), true, accepted},
		{"asked thrice", captureFile(ask, ask, ask), true, other},
		{"unreachable", captureFile(ask, unreachable(ask)), true, refused},
		{"unreachable, short quote", captureFile(ask, unreachable(ask[:28])), true, refused},
		{"unreachable about another", captureFile(ask, unreachable(segment(testHost, 40001, guest, 22, syn))), true, other},
		{"unreachable about nothing", captureFile(ask, unreachable(ask[:23])), true, other},
		{"another guest port", captureFile(ask, segment(guest, 23, testHost, 40000, syn|ack)), true, other},
		{"another connection", captureFile(ask, segment(guest, 22, testHost, 40001, syn|ack)), true, other},
		{"another guest", captureFile(ask, segment(addr("10.0.2.16"), 22, testHost, 40000, syn|ack)), true, other},
		{"answer before the question", captureFile(yes), false, other},
		{"fragment", captureFile(ask, fragment), true, other},
		{"not IPv4", captureFile(ask, append([]byte{0x60}, yes[1:]...)), true, other},
		{"header longer than the packet", captureFile(ask, append([]byte{0x4f}, yes[1:30]...)), true, other},
		{"unfinished record", captureFile(ask, yes)[:len(captureFile(ask, yes))-1], true, other},
		{"unfinished record header", captureFile(ask, yes)[:len(captureFile(ask))+9], true, other},
		{"empty", nil, false, other},
		{"no pcap", append([]byte{0xa1, 0xb2, 0xc3, 0xd4}, captureFile(ask, yes)[4:]...), false, other},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked, replied := readCapture(test.file, testFlow)
			if asked != test.asked || replied != test.replied {
				t.Errorf("readCapture = %v, %v; want %v, %v", asked, replied, test.asked, test.replied)
			}
		})
	}
}

// No bytes crash the reader, and an answer needs a question.
func FuzzReadCapture(f *testing.F) {
	ask := segment(testHost, 40000, testFlow.guest, 22, 0x02)
	f.Add(captureFile(ask, segment(testFlow.guest, 22, testHost, 40000, 0x12)))
	f.Add(captureFile(ask, packet(1, testFlow.guest, testHost, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, ask...))))
	f.Fuzz(func(t *testing.T, file []byte) {
		asked, replied := readCapture(file, testFlow)
		if !asked && replied != other || replied != other && replied != accepted && replied != refused {
			t.Errorf("readCapture = %v, %v", asked, replied)
		}
		for cut := range min(len(file), 64) { // a growing file never takes an answer back
			before, early := readCapture(file[:len(file)-cut], testFlow)
			if before && !asked || early != other && early != replied {
				t.Errorf("cut by %d: %v, %v; whole: %v, %v", cut, before, early, asked, replied)
			}
		}
	})
}
