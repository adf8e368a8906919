// Package exposure measures what a guest answers to its neighbours, from power-on.
//
// A Prober sits on the guest's own Ethernet. It asks one TCP port after the other
// for a connection, pings, and notes when the first answer of each kind comes,
// over IPv4 and IPv6. It knows the guest's MAC address and asks before the guest
// can be found by ARP, so it misses no moment between two looks of a scanner.
//
// It promises that an answer which is recorded was sent by the guest to this
// prober, and that what the guest sends, whatever it is, is bounded and ends
// nothing. It does not measure UDP, where silence proves nothing.
//
// # Decisions
//
// 2026-11: the few kinds of frames there are, are built and read here. gopacket did it
// before, and its tables were a fifth of bake, and 5 MiB that the garbage collector
// looked through each time. The tests hold every frame that is built against gopacket's
// bytes, and what is read against what gopacket reads. Would change for more protocols.
//
// 2026-11: the guest is reached as a neighbour on its Ethernet and not by user-mode
// networking, which accepts a connection before the guest has seen it and has no
// ICMP; and not by a tap, which needs root.
package exposure

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kinds of answers.
const (
	Frame    = "frame"   // anything at all: the network card is up
	Accepted = "syn/ack" // a TCP port takes connections
	Refused  = "rst"     // a TCP port answers that it does not
	Echo     = "echo"    // an answer to a ping
	Reject   = "reject"  // an ICMP message that something is unreachable
)

// An Answer is the first of its kind.
type Answer struct {
	Kind   string        `json:"kind"`
	Family int           `json:"family,omitempty"` // 4 or 6
	Port   int           `json:"port,omitempty"`   // TCP
	After  time.Duration `json:"after_ns"`         // since the Prober started
}

// A Record is what a Prober has found out.
type Record struct {
	Seconds float64  `json:"seconds"`
	Probes  int      `json:"probes"`      // that were sent
	Rate    float64  `json:"per_second"`  // of port 22, each family
	Asked   []int    `json:"ports_asked"` // TCP
	First   []Answer `json:"first"`       // by time
}

// Answers returns the answers to TCP probes and pings, but for those that came
// after a moment from ports that may answer then.
func (r Record) Answers(until time.Duration, then []int) []Answer {
	var found []Answer
	for _, a := range r.First {
		isFree := a.Kind == Frame || a.After >= until && (a.Kind == Accepted && slices.Contains(then, a.Port) || a.Kind == Echo)
		if !isFree {
			found = append(found, a)
		}
	}
	return found
}

func (a Answer) String() string {
	text := a.Kind
	switch a.Family {
	case 4:
		text += " over IPv4"
	case 6:
		text += " over IPv6"
	}
	if a.Port != 0 {
		text += fmt.Sprintf(" from port %d", a.Port)
	}
	return text
}

// Ports are asked of every guest: what is interesting to have found open.
var Ports = []int{
	21, 23, 25, 53, 80, 110, 111, 139, 143, 389, 443, 445, 631, 873, 2049, // of old
	2375, 2376, 2377, 4243, 5000, 6443, 10250, // Docker, registries, Kubernetes
	3000, 5173, 8000, 8080, 8443, 8888, 9000, 9090, 9100, // web
	3306, 5432, 6379, 9200, 11211, 27017, // databases
	18789, 18790, 18791, 18792, // OpenClaw
	16509, 5900, 5355, // libvirt, VNC, LLMNR
}

const (
	tick     = 50 * time.Millisecond // port 22 is asked at each: 20 times a second
	others   = 1                     // other ports asked at each
	pingTick = 4                     // a ping at each fourth
)

// Target is the guest, as its neighbours may know it.
type Target struct {
	MAC net.HardwareAddr
	V4  netip.Addr
}

// A Wire is a place on the guest's Ethernet. What is sent must reach the guest and
// nobody else: to others a probe would be a probe, too. Receive returns frames of
// the guest's, and an error when there will be none. Both are used at the same time.
type Wire interface {
	Send(frame []byte) error
	Receive() ([]byte, error)
}

// A Prober asks until it is stopped.
type Prober struct {
	wire    Wire
	us      neighbour
	started time.Time
	ports   []int
	ended   sync.WaitGroup
	stop    chan struct{}

	mutex  sync.Mutex
	probes int
	rounds int
	first  map[Answer]time.Duration // by kind, family and port
	v6     []netip.Addr             // of the guest: link-local, and what it was seen to use
}

// Start begins to ask, more ports beside Ports and 22. The prober has the wire for
// itself.
func Start(wire Wire, target Target, more ...int) (*Prober, error) {
	if len(target.MAC) != 6 || !target.V4.Is4() {
		return nil, fmt.Errorf("probing: MAC address %q and IPv4 address %s name no guest", target.MAC, target.V4)
	}
	p := &Prober{wire: wire, us: newNeighbour(target), started: time.Now(), stop: make(chan struct{}),
		first: map[Answer]time.Duration{}, v6: []netip.Addr{linkLocal(target.MAC)}}
	for _, port := range append(slices.Clone(Ports), more...) {
		if port != 22 && !slices.Contains(p.ports, port) {
			p.ports = append(p.ports, port)
		}
	}
	p.ended.Go(p.ask)
	go p.listen()
	return p, nil
}

// At is a moment on the prober's clock, which begins with Start.
func (p *Prober) At(t time.Time) time.Duration { return t.Sub(p.started) }

// Stop ends the questions and returns what was found out. What the guest sends is
// still read, so that the wire does not fill.
func (p *Prober) Stop() Record {
	close(p.stop)
	p.ended.Wait()
	return p.Record()
}

// Record returns what has been found out so far.
func (p *Prober) Record() Record {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	seconds := p.At(time.Now()).Seconds()
	r := Record{Seconds: seconds, Probes: p.probes, Rate: float64(p.rounds) / seconds, Asked: append([]int{22}, p.ports...)}
	for a, after := range p.first {
		a.After = after
		r.First = append(r.First, a)
	}
	slices.SortFunc(r.First, func(a, b Answer) int {
		return cmp.Or(cmp.Compare(a.After, b.After), strings.Compare(a.String(), b.String()))
	})
	return r
}

// ask sends the questions.
func (p *Prober) ask() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
		}
		if err := p.round(n); err != nil {
			return // the guest is gone
		}
	}
}

// round asks the n-th time: port 22, some of the others, and now and then a ping.
func (p *Prober) round(n int) error {
	ports := []int{22}
	for i := range others {
		ports = append(ports, p.ports[(n*others+i)%len(p.ports)])
	}
	p.mutex.Lock()
	to := append([]netip.Addr{p.us.target.V4}, p.v6...)
	p.rounds++
	p.mutex.Unlock()
	for _, address := range to {
		for _, port := range ports {
			// A port of ours is used again only when the guest has forgotten it.
			if err := p.send(p.us.syn(address, port, n)); err != nil {
				return err
			}
		}
		if n%pingTick == 0 {
			if err := p.send(p.us.ping(address, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Prober) send(frame []byte) error {
	p.mutex.Lock()
	p.probes++
	p.mutex.Unlock()
	return p.wire.Send(frame)
}

// listen notes answers and gives the guest those that it needs to answer.
func (p *Prober) listen() {
	for {
		frame, err := p.wire.Receive()
		if err != nil {
			return
		}
		seen := p.us.read(frame)
		for _, answer := range seen.answers {
			p.note(answer)
		}
		p.learn(seen.from)
		if seen.reply != nil && p.wire.Send(seen.reply) != nil {
			return
		}
	}
}

func (p *Prober) note(a Answer) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if _, seen := p.first[a]; !seen {
		p.first[a] = p.At(time.Now())
	}
}

// maxAddresses bounds what a guest can make us ask, and what being asked costs an
// emulated one.
const maxAddresses = 2

// learn takes an IPv6 address that the guest uses.
func (p *Prober) learn(address netip.Addr) {
	if !address.Is6() || address.IsUnspecified() || address.IsMulticast() {
		return
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.v6) < maxAddresses && !slices.Contains(p.v6, address) {
		p.v6 = append(p.v6, address)
	}
}

// An Event is a moment of a boot that is known from elsewhere.
type Event struct {
	Name string        `json:"name"`
	At   time.Duration `json:"at_ns"` // since the Prober started
}

// Timeline writes answers and other moments in their order, a line each. Of ports
// that refuse at the same time only the first is named.
func (r Record) Timeline(w io.Writer, events []Event) error {
	all := slices.Clone(events)
	refused := map[int]int{}
	for _, a := range r.First {
		if a.Kind == Refused {
			if refused[a.Family]++; refused[a.Family] > 1 {
				continue
			}
		}
		name := "first answer: " + a.String()
		if a.Kind == Frame {
			name = "first packet of the guest: its network card is up"
		}
		all = append(all, Event{name, a.After})
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	var text strings.Builder
	for _, e := range all {
		fmt.Fprintf(&text, "%8.1f s  %s\n", e.At.Seconds(), e.Name)
	}
	for _, family := range []int{4, 6} {
		if refused[family] > 1 {
			fmt.Fprintf(&text, "            %d ports in all refused over IPv%d\n", refused[family], family)
		}
	}
	fmt.Fprintf(&text, "%d probes in %.0f s, port 22 asked %.1f times a second over each of IPv4 and IPv6\n", r.Probes, r.Seconds, r.Rate)
	_, err := io.WriteString(w, text.String())
	return err
}
