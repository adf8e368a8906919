package hypervisor

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
)

const (
	headSize  = 28       // length, program, version, procedure, type, serial, status: 4 bytes each
	maxPacket = 64 << 20 // libvirt's own limit is 32 MiB
)

// The types of packets that matter here, by libvirt's virnetprotocol.x.
const (
	reply  = 1
	stream = 3
)

// ordered hands libvirt's packets on, the reply to a call before what its stream
// has to say. The daemon has a thread for each, and now and then sends the stream's
// first bytes first; the library takes them for the reply, loses them, and waits for
// ever.
type ordered struct {
	net.Conn
	from    *bufio.Reader
	ready   []byte              // packets that are handed on
	replied map[uint32]bool     // calls that were replied to, by their serial
	early   map[uint32][][]byte // packets of streams that wait for the reply
}

func inOrder(conn net.Conn) *ordered {
	return &ordered{Conn: conn, from: bufio.NewReaderSize(conn, 256<<10), replied: map[uint32]bool{}, early: map[uint32][][]byte{}}
}

func (o *ordered) Read(p []byte) (int, error) {
	for len(o.ready) == 0 {
		packet, err := readPacket(o.from)
		if err != nil {
			return 0, err
		}
		o.sort(packet)
	}
	n := copy(p, o.ready)
	o.ready = o.ready[n:]
	return n, nil
}

func (o *ordered) sort(packet []byte) {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(packet[4*i:]) }
	kind, serial := word(4), word(5)
	switch {
	case kind == stream && !o.replied[serial]:
		o.early[serial] = append(o.early[serial], packet)
	case kind == reply:
		o.ready = packet
		for _, late := range o.early[serial] {
			o.ready = append(o.ready, late...)
		}
		delete(o.early, serial)
		o.replied[serial] = true
		delete(o.replied, serial-keep) // serials count up, and streams end
	default:
		o.ready = packet
	}
}

// keep is for how many calls a stream may go on.
const keep = 4096

func readPacket(from io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size < headSize || size > maxPacket {
		return nil, errors.New("what libvirt sends is no packet")
	}
	packet := make([]byte, size)
	copy(packet, length[:])
	_, err := io.ReadFull(from, packet[4:])
	return packet, err
}
