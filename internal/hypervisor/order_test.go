package hypervisor

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

func packetOf(kind, serial, status uint32, text string) []byte {
	packet := make([]byte, headSize)
	for i, word := range []uint32{uint32(headSize + len(text)), 0x20008086, 1, 209, kind, serial, status} {
		binary.BigEndian.PutUint32(packet[4*i:], word)
	}
	return append(packet, text...)
}

// TestOrder: a reply comes before its stream, and nothing after the stream's end.
func TestOrder(t *testing.T) {
	const event, ok, failed = 2, 0, 1
	sent := [][]byte{
		packetOf(stream, 1, goesOn, "first"), packetOf(event, 0, ok, "event"), packetOf(stream, 1, goesOn, "second"),
		packetOf(reply, 1, ok, "reply"), packetOf(stream, 1, goesOn, "third"), packetOf(stream, 1, goesOn, ""), packetOf(stream, 1, goesOn, "late"),
		packetOf(reply, 2, ok, "two"), packetOf(stream, 2, failed, "broken"), packetOf(stream, 2, failed, "once more"),
		packetOf(stream, 3, ok, ""), packetOf(stream, 3, ok, ""), packetOf(reply, 3, ok, "three"),
	}
	here, there := net.Pipe()
	go func() {
		for _, packet := range sent {
			_, _ = there.Write(packet)
		}
		there.Close()
	}()
	data, err := io.ReadAll(inOrder(&alive{Conn: here}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(data) > 0 {
		size := binary.BigEndian.Uint32(data)
		got = append(got, fmt.Sprint(binary.BigEndian.Uint32(data[20:]), string(data[headSize:size])))
		data = data[size:]
	}
	if want := "0event 1reply 1first 1second 1third 1 2two 2broken 3three 3"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", strings.Join(got, " "), want)
	}
	for _, bad := range []string{"\x00\x00\x00\x04", "\xff\xff\xff\xff", "\x00\x00\x00\x1c123"} {
		if _, err := readPacket(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is a packet", bad)
		}
	}
}
