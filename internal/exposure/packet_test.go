package exposure

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func serialize(t *testing.T, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buffer.Bytes())
}

// summed is a layer whose checksum vouches for addresses.
type summed interface {
	gopacket.SerializableLayer
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// between writes a packet with gopacket.
func between(t *testing.T, isOurs bool, from, to netip.Addr, protocol layers.IPProtocol, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	us := newNeighbour(target)
	ethernet := &layers.Ethernet{SrcMAC: us.mac, DstMAC: target.MAC, EthernetType: layers.EthernetTypeIPv4}
	if !isOurs {
		ethernet.SrcMAC, ethernet.DstMAC = ethernet.DstMAC, ethernet.SrcMAC
	}
	v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	v6 := &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: protocol, SrcIP: from.AsSlice(), DstIP: to.AsSlice()}
	var network gopacket.NetworkLayer = v4
	all := []gopacket.SerializableLayer{ethernet, v4}
	if to.Is6() {
		ethernet.EthernetType, network, all[1] = layers.EthernetTypeIPv6, v6, v6
	}
	for _, part := range parts {
		if part, ok := part.(summed); ok {
			if err := part.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	return serialize(t, append(all, parts...)...)
}

// TestBuilt holds every kind of frame that is built against the bytes of gopacket's.
func TestBuilt(t *testing.T) {
	us, own, global := newNeighbour(target), linkLocal(target.MAC), netip.MustParseAddr("fec0::5054:ff:fe37:2809")
	v6type := func(code uint8) *layers.ICMPv6 { return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(code, 0)} }
	type pair struct {
		name      string
		got, want []byte
	}
	var pairs []pair
	for _, to := range []netip.Addr{target.V4, own, global} {
		from := us.from(to)
		for _, round := range []int{0, 7, 40001, 70000} {
			pairs = append(pairs, pair{"syn to " + to.String(), us.syn(to, 18789, round), between(t, true, from, to, layers.IPProtocolTCP,
				&layers.TCP{SrcPort: layers.TCPPort(20000 + round%40000), DstPort: 18789, Seq: 1, SYN: true, Window: 1024})})
			ping := pair{"ping to " + to.String(), us.ping(to, round), nil}
			if to.Is4() {
				ping.want = between(t, true, from, to, layers.IPProtocolICMPv4, &layers.ICMPv4{
					TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 77, Seq: uint16(round)})
			} else {
				ping.want = between(t, true, from, to, layers.IPProtocolICMPv6, v6type(layers.ICMPv6TypeEchoRequest),
					&layers.ICMPv6Echo{Identifier: 77, SeqNumber: uint16(round)})
			}
			pairs = append(pairs, ping)
		}
		accepted := between(t, false, to, from, layers.IPProtocolTCP, &layers.TCP{SrcPort: 22, DstPort: 20001, Seq: 5, Ack: 0xfffffffe, SYN: true, ACK: true})
		pairs = append(pairs, pair{"the end of a connection with " + to.String(), us.read(accepted).reply, between(t, true, from, to, layers.IPProtocolTCP,
			&layers.TCP{SrcPort: 20001, DstPort: 22, Seq: 0xfffffffe, RST: true})})
	}
	for _, asked := range []netip.Addr{us.v6, us.site} {
		question := between(t, false, own, asked, layers.IPProtocolICMPv6, v6type(layers.ICMPv6TypeNeighborSolicitation),
			&layers.ICMPv6NeighborSolicitation{TargetAddress: asked.AsSlice()})
		pairs = append(pairs, pair{"where is " + asked.String(), us.read(question).reply, between(t, true, asked, own, layers.IPProtocolICMPv6,
			v6type(layers.ICMPv6TypeNeighborAdvertisement), &layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: asked.AsSlice(),
				Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: us.mac}}})})
	}
	arp := layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: target.MAC, SourceProtAddress: target.V4.AsSlice(),
		DstHwAddress: make([]byte, 6), DstProtAddress: us.v4.AsSlice()}
	question := serialize(t, &layers.Ethernet{SrcMAC: target.MAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP}, &arp)
	arp.Operation, arp.SourceHwAddress, arp.SourceProtAddress, arp.DstHwAddress, arp.DstProtAddress =
		layers.ARPReply, us.mac, us.v4.AsSlice(), target.MAC, target.V4.AsSlice()
	pairs = append(pairs, pair{"who has us", us.read(question).reply,
		serialize(t, &layers.Ethernet{SrcMAC: us.mac, DstMAC: target.MAC, EthernetType: layers.EthernetTypeARP}, &arp)})
	for _, p := range pairs {
		if !bytes.Equal(p.got, p.want) {
			t.Errorf("%s:\n%x, gopacket writes\n%x", p.name, p.got, p.want)
		}
	}
}

// answers are frames that a guest may send.
func answers(t *testing.T) [][]byte {
	us, own := newNeighbour(target), linkLocal(target.MAC)
	var all [][]byte
	tcp := func(syn, ack, rst bool) *layers.TCP {
		return &layers.TCP{SrcPort: 22, DstPort: 20001, Seq: 9, Ack: 2, SYN: syn, ACK: ack, RST: rst, Window: 9,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}}
	}
	for _, segment := range []*layers.TCP{tcp(true, true, false), tcp(false, true, true), tcp(true, false, false), tcp(false, true, false)} {
		options := &layers.IPv6Destination{Options: []*layers.IPv6DestinationOption{{OptionType: 1, OptionData: make([]byte, 4)}}}
		options.NextHeader = layers.IPProtocolTCP
		all = append(all, between(t, false, target.V4, us.v4, layers.IPProtocolTCP, segment),
			between(t, false, own, us.v6, layers.IPProtocolTCP, segment),
			between(t, false, own, us.v6, layers.IPProtocolIPv6Destination, options, segment))
	}
	for _, code := range []uint8{layers.ICMPv4TypeEchoReply, layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeEchoRequest} {
		all = append(all, between(t, false, target.V4, us.v4, layers.IPProtocolICMPv4,
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(code, 1)}, gopacket.Payload("what was asked")))
	}
	for _, code := range []uint8{layers.ICMPv6TypeEchoReply, layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6TypeNeighborSolicitation} {
		all = append(all, between(t, false, own, us.v6, layers.IPProtocolICMPv6,
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(code, 0)}, gopacket.Payload(append(make([]byte, 4), us.v6.AsSlice()...))))
	}
	return all
}

// likeGopacket is what a frame says by gopacket; ok is false where gopacket takes
// it for damaged, or for something else than there is here.
func likeGopacket(data []byte) (said []Answer, from netip.Addr, ok bool) {
	us := newNeighbour(target)
	parsed := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	if parsed.ErrorLayer() != nil || parsed.Metadata().Truncated {
		return nil, from, false
	}
	said = []Answer{{Kind: Frame}}
	var to netip.Addr
	family := 4
	switch ip := parsed.NetworkLayer().(type) {
	case *layers.IPv4:
		to, _ = netip.AddrFromSlice(ip.DstIP)
		if ip.Version != 4 || ip.Contents[2]|ip.Contents[3] == 0 { // it does not look, and takes all for what a card will divide
			return nil, from, false
		}
	case *layers.IPv6:
		if ip.Version != 6 {
			return nil, from, false
		}
		to, _ = netip.AddrFromSlice(ip.DstIP)
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		family = 6
	}
	kinds := []gopacket.LayerType{layers.LayerTypeEthernet, layers.LayerTypeIPv4, layers.LayerTypeIPv6, layers.LayerTypeIPv6HopByHop,
		layers.LayerTypeIPv6Destination, layers.LayerTypeTCP, layers.LayerTypeICMPv4, layers.LayerTypeICMPv6, layers.LayerTypeICMPv6Echo,
		layers.LayerTypeICMPv6NeighborSolicitation, gopacket.LayerTypePayload, gopacket.LayerTypeFragment}
	for _, layer := range parsed.Layers() {
		if !slices.Contains(kinds, layer.LayerType()) {
			return nil, from, false
		}
	}
	if to != us.v4 && to != us.v6 && to != us.site || parsed.Layer(layers.LayerTypeICMPv6NeighborSolicitation) != nil {
		return said, from, true
	}
	tcp, isTCP := parsed.TransportLayer().(*layers.TCP)
	icmp, isV4 := parsed.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
	icmp6, isV6 := parsed.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
	if isV4 && family == 6 || isV6 && (family == 4 || len(icmp6.Payload) < 4) {
		return nil, from, false
	}
	kind, port := "", 0
	switch {
	case isTCP && (tcp.DstPort < 20000 || tcp.DstPort >= 60000):
	case isTCP && tcp.RST:
		kind, port = Refused, int(tcp.SrcPort)
	case isTCP && tcp.SYN && tcp.ACK:
		kind, port = Accepted, int(tcp.SrcPort)
	case isV4 && icmp.TypeCode.Type() == layers.ICMPv4TypeEchoReply, isV6 && icmp6.TypeCode.Type() == layers.ICMPv6TypeEchoReply:
		kind = Echo
	case isV4 && icmp.TypeCode.Type() == layers.ICMPv4TypeDestinationUnreachable,
		isV6 && icmp6.TypeCode.Type() == layers.ICMPv6TypeDestinationUnreachable:
		kind = Reject
	}
	if kind != "" {
		said = append(said, Answer{Kind: kind, Family: family, Port: port})
	}
	return said, from, true
}

// TestLikeGopacket changes frames at random, and holds what is read of them against what
// gopacket reads.
func TestLikeGopacket(t *testing.T) {
	us, all, random := newNeighbour(target), answers(t), rand.New(rand.NewPCG(1, 2))
	compared, more := 0, 0
	for i := range 200000 {
		data := slices.Clone(all[i%len(all)])
		for range i / len(all) % 4 { // the first time as it is
			at := 12 + random.IntN(len(data)-12)
			if data[at] ^= 1 << random.IntN(8); random.IntN(4) == 0 {
				data[at] = byte(random.IntN(256))
			}
		}
		said, from, ok := likeGopacket(data)
		if !ok {
			continue
		}
		compared++
		got := us.read(data)
		if !reflect.DeepEqual(got.answers, said) || got.from != from {
			t.Fatalf("%x:\n%v from %v, gopacket reads %v from %v", data, got.answers, got.from, said, from)
		}
		more += len(said) - 1
	}
	if compared < 50000 || more < 10000 {
		t.Errorf("only %d frames were compared, with %d answers", compared, more)
	}
	t.Logf("%d frames, %d answers", compared, more)
}

func FuzzRead(f *testing.F) {
	us := newNeighbour(target)
	for _, to := range []netip.Addr{target.V4, linkLocal(target.MAC)} {
		f.Add(us.syn(to, 22, 1))
		f.Add(us.ping(to, 1))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= 12 {
			copy(data[6:12], target.MAC) // from the guest: of others nothing is read
		}
		s := us.read(data)
		if len(s.answers) > 2 || len(s.reply) > 1500 {
			t.Errorf("%d answers, a reply of %d bytes", len(s.answers), len(s.reply))
		}
		if said, from, ok := likeGopacket(data); ok && len(data) >= 14 && (!reflect.DeepEqual(s.answers, said) || s.from != from) {
			t.Errorf("%v from %v, gopacket reads %v from %v", s.answers, s.from, said, from)
		}
	})
}
