package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"bake/internal/tool"
)

// This process is between the first card and its network, by the last descriptors.
func TestWireOnTheCommandLine(t *testing.T) {
	spec := Spec{Accel: tcg, VCPUs: 1, Memory: 1 << 30, Cards: make([]*os.File, 2), Ports: []string{"a", "b", "c"}}
	plain := spec.command(firmware{}, nil, nil, lan{})
	if slices.ContainsFunc(plain, func(arg string) bool { return strings.Contains(arg, "hub") || strings.Contains(arg, "wire") }) {
		t.Errorf("a wire that nobody asked for: %q", plain)
	}
	spec.Wire = true
	wired := spec.command(firmware{}, nil, nil, lan{})
	for _, want := range []string{fmt.Sprintf("socket,id=card,fd=%d", tapFD+2+3), fmt.Sprintf("socket,id=uplink,fd=%d", tapFD+2+4),
		"hubport,id=hub0,hubid=0,netdev=net0", "hubport,id=hub1,hubid=0,netdev=uplink", "virtio-net-pci,romfile=,netdev=card"} {
		if !slices.Contains(wired, want) {
			t.Errorf("%q is missing in %q", want, wired)
		}
	}
	if slices.Contains(wired, "virtio-net-pci,romfile=,netdev=net0") {
		t.Error("the card is on its network, past us")
	}
}

// ether is a frame between two addresses, each a byte repeated.
func ether(to, from byte, text string) []byte {
	return append(append(bytes.Repeat([]byte{to}, 6), bytes.Repeat([]byte{from}, 6)...), text...)
}

// joined are the ends of a wire that QEMU has.
func joined(t *testing.T) (w *Wire, card, network net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	up, card2 := net.Pipe()
	w = newWire(ours, up)
	t.Cleanup(func() { w.end(nil) })
	return w, theirs, card2
}

const guestMAC, networkMAC, ourMAC = 1, 2, 3

func TestWireSwitches(t *testing.T) {
	w, card, network := joined(t)
	see := func(name string, from net.Conn, want []byte) {
		t.Helper()
		if got, err := readFrame(from); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s sees %q, %v; want %q", name, got, err, want)
		}
	}
	send := func(to net.Conn, frame []byte) {
		t.Helper()
		if err := writeFrame(to, frame); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want []byte) {
		t.Helper()
		if got, err := w.Receive(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the neighbour hears %q, %v; want %q", got, err, want)
		}
	}
	send(card, ether(networkMAC, guestMAC, "out"))
	see("the network", network, ether(networkMAC, guestMAC, "out"))
	hear(ether(networkMAC, guestMAC, "out"))
	send(network, ether(guestMAC, networkMAC, "in"))
	see("the guest", card, ether(guestMAC, networkMAC, "in"))

	// What the neighbour says reaches the guest, and what is meant for him him alone:
	// the next that the network sees is what comes after.
	if err := w.Send(ether(guestMAC, ourMAC, "syn")); err != nil {
		t.Fatal(err)
	}
	see("the guest", card, ether(guestMAC, ourMAC, "syn"))
	send(card, ether(ourMAC, guestMAC, "rst"))
	hear(ether(ourMAC, guestMAC, "rst"))
	send(card, ether(0xff, guestMAC, "who has"))
	hear(ether(0xff, guestMAC, "who has"))
	see("the network", network, ether(0xff, guestMAC, "who has"))
}

// A neighbour that sends without end, to a guest that takes nothing, and hears
// nothing, holds nobody up.
func TestWireDrops(t *testing.T) {
	w, card, network := joined(t)
	for n := range 3 * waiting {
		if err := w.Send(ether(guestMAC, ourMAC, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 * waiting {
		if err := writeFrame(card, ether(networkMAC, guestMAC, fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
		if got, err := readFrame(network); err != nil || !bytes.Equal(got, ether(networkMAC, guestMAC, fmt.Sprint(n))) {
			t.Fatalf("the network sees %q, %v", got, err)
		}
	}
}

func TestWireEnds(t *testing.T) {
	for name, bad := range map[string][]byte{"too long": {0xff, 0xff, 0xff, 0xff}, "cut": {0, 0, 0, 9, 1}} {
		w, card, network := joined(t)
		if _, err := card.Write(bad); err != nil {
			t.Fatal(err)
		}
		card.Close()
		for {
			if _, err := w.Receive(); err != nil {
				if !errors.Is(err, ErrWireClosed) {
					t.Errorf("%s: %v", name, err)
				}
				break
			}
		}
		if err := w.Send(ether(guestMAC, ourMAC, "x")); !errors.Is(err, ErrWireClosed) {
			t.Errorf("%s: Send: %v", name, err)
		}
		if _, err := network.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: the network is not told", name)
		}
	}
}

// What the neighbour sends never becomes a connection of this machine's. The same
// frame, had it reached the user-mode network, would: to a port on loopback.
func TestWireKeepsProbesIn(t *testing.T) {
	door, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	spec := bare(emptyImage(t))
	spec.Wire = true
	m, err := Start(context.Background(), tool.Box{}, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	syn := func(from int) []byte {
		// 10.0.2.2 is this machine's loopback to a guest.
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 2, 15}, DstIP: net.IP{10, 0, 2, 2}}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(door.Addr().(*net.TCPAddr).Port), SYN: true, Window: 1024}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buffer := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
			&layers.Ethernet{SrcMAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, DstMAC: net.HardwareAddr{0x52, 0x55, 10, 0, 2, 2},
				EthernetType: layers.EthernetTypeIPv4}, ip, tcp); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(buffer.Bytes())
	}
	for range 20 {
		if err := m.Wire().Send(syn(1111)); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFrame(m.wire.network, syn(2222)); err != nil {
		t.Fatal(err)
	}
	_ = door.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	conn, err := door.Accept()
	if err != nil {
		t.Fatalf("the user-mode network opens no connection, so that nothing was tried: %v", err)
	}
	defer conn.Close()
	text, err := m.monitor.human(context.Background(), "info usernet")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "1111") || !strings.Contains(text, "2222") {
		t.Errorf("connections of the user-mode network:\n%s", text)
	}
}
