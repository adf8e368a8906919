package exposure

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var target = Target{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x37, 0x28, 9}, V4: netip.MustParseAddr("10.0.2.15")}

// guest answers frames as a machine without a firewall would: port 22 takes
// connections, the others refuse. What is silent stays so.
type guest struct {
	t      *testing.T
	us     neighbour // who asks
	silent func(to netip.Addr, port int) bool
}

func (g guest) from(parts ...gopacket.SerializableLayer) []byte {
	return serialize(g.t, parts...)
}

// back turns a packet round.
func (g guest) back(packet gopacket.Packet) (*layers.Ethernet, gopacket.NetworkLayer, gopacket.SerializableLayer, netip.Addr) {
	ethernet := &layers.Ethernet{SrcMAC: target.MAC, DstMAC: g.us.mac, EthernetType: layers.EthernetTypeIPv4}
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		to, _ := netip.AddrFromSlice(ip.DstIP)
		reply := &layers.IPv4{Version: 4, TTL: 64, Protocol: ip.Protocol, SrcIP: ip.DstIP, DstIP: ip.SrcIP}
		return ethernet, reply, reply, to
	case *layers.IPv6:
		ethernet.EthernetType = layers.EthernetTypeIPv6
		to, _ := netip.AddrFromSlice(ip.DstIP)
		reply := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: ip.NextHeader, SrcIP: ip.DstIP, DstIP: ip.SrcIP}
		return ethernet, reply, reply, to
	}
	g.t.Fatalf("neither IPv4 nor IPv6: %v", packet)
	return nil, nil, nil, netip.Addr{}
}

func (g guest) answer(data []byte) []byte {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	if packet.ErrorLayer() != nil {
		g.t.Errorf("not a packet: %v", packet)
		return nil
	}
	ethernet, network, ip, to := g.back(packet)
	if tcp, ok := packet.TransportLayer().(*layers.TCP); ok {
		if !tcp.SYN || g.silent(to, int(tcp.DstPort)) {
			return nil
		}
		reply := &layers.TCP{SrcPort: tcp.DstPort, DstPort: tcp.SrcPort, Ack: tcp.Seq + 1, ACK: true}
		reply.SYN, reply.RST = tcp.DstPort == 22, tcp.DstPort != 22
		if err := reply.SetNetworkLayerForChecksum(network); err != nil {
			g.t.Fatal(err)
		}
		return g.from(ethernet, ip, reply)
	}
	if g.silent(to, 0) {
		return nil
	}
	if _, ok := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return g.from(ethernet, ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)})
	}
	icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoReply, 0)}
	if err := icmp.SetNetworkLayerForChecksum(network); err != nil {
		g.t.Fatal(err)
	}
	return g.from(ethernet, ip, icmp, &layers.ICMPv6Echo{})
}

// wire is the place beside that guest.
type wire struct {
	guest   guest
	answers chan []byte
}

var errEnd = errors.New("the end")

func (w wire) Send(data []byte) error {
	if reply := w.guest.answer(data); reply != nil {
		w.answers <- reply
	}
	return nil
}

func (w wire) Receive() ([]byte, error) {
	if data, ok := <-w.answers; ok {
		return data, nil
	}
	return nil, errEnd
}

// probe asks a guest so often that every port had its turn, after the guest has
// said something by itself.
func probe(t *testing.T, silent func(netip.Addr, int) bool, hello ...[]byte) Record {
	t.Helper()
	us := newNeighbour(target)
	w := wire{guest{t, us, silent}, make(chan []byte, 10*len(Ports))}
	p := &Prober{wire: w, us: us, started: time.Now(), ports: Ports, first: map[Answer]time.Duration{}, v6: []netip.Addr{linkLocal(target.MAC)}}
	for _, data := range hello {
		w.answers <- data
	}
	for n := range len(Ports) {
		if err := p.round(n); err != nil {
			t.Fatal(err)
		}
	}
	p.wire = deaf{w} // to what is sent from here on, so that it can end
	close(w.answers)
	p.listen()
	return p.Record()
}

type deaf struct{ wire }

func (deaf) Send([]byte) error { return nil }

func count(r Record, kind string, family int) (n int) {
	for _, a := range r.First {
		if a.Kind == kind && a.Family == family {
			n++
		}
	}
	return n
}

func TestOpenGuest(t *testing.T) {
	r := probe(t, func(netip.Addr, int) bool { return false })
	for _, family := range []int{4, 6} {
		if count(r, Accepted, family) != 1 || count(r, Refused, family) != len(Ports) || count(r, Echo, family) != 1 {
			t.Errorf("IPv%d: %v", family, r.First)
		}
	}
	if got := r.Answers(0, []int{22}); len(got) != 2*len(Ports) {
		t.Errorf("%d answers that may not be, want those of %d ports in two families", len(got), len(Ports))
	}
	if got := r.Answers(time.Hour, []int{22}); len(got) != 2*len(Ports)+4 {
		t.Errorf("before it opens all answers count: %d", len(got))
	}
}

func TestShutGuest(t *testing.T) {
	r := probe(t, func(netip.Addr, int) bool { return true })
	if len(r.First) != 0 || len(r.Answers(time.Hour, nil)) != 0 || r.Probes == 0 {
		t.Errorf("%+v", r)
	}
}

// One that answers over IPv6 alone, and on one port, is seen.
func TestForgottenFamily(t *testing.T) {
	r := probe(t, func(to netip.Addr, port int) bool { return to.Is4() || port != 18789 })
	want := Answer{Kind: Refused, Family: 6, Port: 18789}
	got := r.Answers(time.Hour, nil)
	if len(got) == 1 {
		got[0].After = 0
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// Frames that a guest should not send are survived, those of others ignored.
func TestHostileFrames(t *testing.T) {
	syn := newNeighbour(target).syn(target.V4, 22, 1)
	reply := guest{t, newNeighbour(target), func(netip.Addr, int) bool { return false }}.answer(syn)
	other := append([]byte{}, reply...)
	other[11]++ // another sender's MAC address
	cut := reply[:40]
	silent := func(netip.Addr, int) bool { return true }
	r := probe(t, silent, nil, []byte{1}, other, cut, make([]byte, 1500))
	if count(r, Accepted, 4) != 0 {
		t.Errorf("an answer of somebody else, or half of one, counts: %v", r.First)
	}
	if r := probe(t, silent, reply); count(r, Accepted, 4) != 1 {
		t.Errorf("the whole answer of the guest does not count: %v", r.First)
	}
}

func TestNeighbourDiscovery(t *testing.T) {
	us := newNeighbour(target)
	ask := func(op uint16, who netip.Addr) []byte {
		return serialize(t, &layers.Ethernet{SrcMAC: target.MAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
			&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
				Operation: op, SourceHwAddress: target.MAC, SourceProtAddress: target.V4.AsSlice(),
				DstHwAddress: make([]byte, 6), DstProtAddress: who.AsSlice()})
	}
	reply := us.read(ask(layers.ARPRequest, us.v4)).reply
	arp, ok := gopacket.NewPacket(reply, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if !ok || net.HardwareAddr(arp.SourceHwAddress).String() != us.mac.String() {
		t.Errorf("who has us: %v", arp)
	}
	if us.read(ask(layers.ARPRequest, target.V4)).reply != nil || us.read(ask(layers.ARPReply, us.v4)).reply != nil {
		t.Error("it answers what it is not asked")
	}

	own := linkLocal(target.MAC)
	if own.String() != "fe80::5054:ff:fe37:2809" {
		t.Errorf("link-local address %s", own)
	}
	for _, who := range []netip.Addr{us.v6, us.site, own} {
		ethernet := &layers.Ethernet{SrcMAC: target.MAC, DstMAC: us.mac, EthernetType: layers.EthernetTypeIPv6}
		ip := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: own.AsSlice(), DstIP: who.AsSlice()}
		icmp := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
		if err := icmp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		s := us.read(serialize(t, ethernet, ip, icmp, &layers.ICMPv6NeighborSolicitation{TargetAddress: who.AsSlice()}))
		packet := gopacket.NewPacket(s.reply, layers.LayerTypeEthernet, gopacket.Default)
		advert, ok := packet.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement)
		if ok != (who != own) || ok && !advert.TargetAddress.Equal(who.AsSlice()) {
			t.Errorf("who has %s: %v", who, packet)
		}
		if s.from != own {
			t.Errorf("the guest's address is read as %s", s.from)
		}
	}
}

func TestLearn(t *testing.T) {
	p := &Prober{v6: []netip.Addr{linkLocal(target.MAC)}}
	for _, text := range []string{"fec0::5", "::", "ff02::1", "10.0.2.15", "fec0::5", "fd00::1", "fd00::2", "fd00::3", "fd00::4"} {
		p.learn(netip.MustParseAddr(text))
	}
	if len(p.v6) != maxAddresses || p.v6[1].String() != "fec0::5" {
		t.Errorf("%v", p.v6)
	}
}

func TestStartRefuses(t *testing.T) {
	for _, bad := range []Target{{}, {MAC: target.MAC}, {V4: target.V4}, {MAC: target.MAC, V4: netip.MustParseAddr("::1")}} {
		if _, err := Start(nil, bad); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

func TestStartStop(t *testing.T) {
	asked := make(chan []byte)
	p, err := Start(counting{asked}, target, 22, 1234, 80)
	if err != nil {
		t.Fatal(err)
	}
	<-asked // it asks
	if r := p.Stop(); r.Probes == 0 || r.Asked[0] != 22 || len(r.Asked) != len(Ports)+2 {
		t.Errorf("%+v", r)
	}
}

// counting is a wire to nobody, of which the first question is known.
type counting struct{ asked chan []byte }

func (c counting) Send(data []byte) error {
	select {
	case c.asked <- data:
	default:
	}
	return nil
}

func (counting) Receive() ([]byte, error) { return nil, errEnd }

func TestTimeline(t *testing.T) {
	r := Record{Seconds: 60, Probes: 7200, Rate: 20, First: []Answer{
		{Kind: Frame, After: 20 * time.Second}, {Kind: Refused, Family: 4, Port: 80, After: 21 * time.Second},
		{Kind: Refused, Family: 4, Port: 443, After: 22 * time.Second}, {Kind: Accepted, Family: 6, Port: 22, After: 40 * time.Second}}}
	var out strings.Builder
	if err := r.Timeline(&out, []Event{{"sshd up", 30 * time.Second}}); err != nil {
		t.Fatal(err)
	}
	const want = `    20.0 s  first packet of the guest: its network card is up
    21.0 s  first answer: rst over IPv4 from port 80
    30.0 s  sshd up
    40.0 s  first answer: syn/ack over IPv6 from port 22
            2 ports in all refused over IPv4
7200 probes in 60 s, port 22 asked 20.0 times a second over each of IPv4 and IPv6
`
	if out.String() != want {
		t.Errorf("%s", out.String())
	}
}
