package hypervisor

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

const (
	headSize  = 28       // length, program, version, procedure, type, serial, status: 4 bytes each
	maxPacket = 64 << 20 // libvirt's own limit is 32 MiB
)

// The types of packets that matter here, and their status, by libvirt's
// virnetprotocol.x.
const (
	reply  = 1
	stream = 3

	goesOn = 2
)

// ordered hands libvirt's packets on, the reply to a call before what its stream has
// to say, and nothing of a stream that has ended. The daemon has a thread for each: now
// and then it sends the stream's first bytes before the reply, which the library takes
// for that, and what it says once more of a stream that has failed nobody takes, which
// holds everything up for ever.
type ordered struct {
	*alive
	from  *bufio.Reader
	ready []byte               // packets that are handed on
	calls map[uint32]*progress // by their serial
}

// progress is how far a call has come.
type progress struct {
	isReplied, isEnded bool
	early              []byte // packets of its stream that wait for the reply
}

func inOrder(conn *alive) *ordered {
	return &ordered{alive: conn, from: bufio.NewReaderSize(conn, 256<<10), calls: map[uint32]*progress{}}
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
	kind, serial, status := word(4), word(5), word(6)
	call := o.calls[serial]
	if call == nil && (kind == reply || kind == stream) {
		call = &progress{}
		o.calls[serial] = call
		delete(o.calls, serial-keep) // serials count up, and streams end
	}
	switch {
	case word(1) == keepAlive: // the library knows nothing of that
		o.answers.Store(true)
	case kind == reply:
		o.ready = append(packet, call.early...)
		call.isReplied, call.early = true, nil
	case kind != stream:
		o.ready = packet
	case call.isEnded:
	default:
		call.isEnded = status != goesOn || len(packet) == headSize
		if call.isReplied {
			o.ready = packet
		} else {
			call.early = append(call.early, packet...)
		}
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
