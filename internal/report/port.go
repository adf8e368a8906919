package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bake/internal/exposure"
	"bake/internal/verify"
)

// portView is a TCP port of the machine, from outside and from inside.
type portView struct {
	Proto    string
	Port     int
	Outside  string // what is claimed and what was seen, "" for not asked
	IsOpen   bool   // it took a connection
	Wanted   bool   // and was to
	OK       bool   // as it was to
	Inside   string // addresses on which something listens
	Program  string
	Loopback bool // only there
}

func open(all []portView) (n int) {
	for _, p := range all {
		if p.IsOpen {
			n++
		}
	}
	return n
}

// wantOpen are the TCP ports that some claim wants to answer, and all that claims are
// about.
func wantOpen(p verify.Plan) (open, all []int) {
	for _, l := range p.Layers {
		for _, c := range l.Checks {
			if c.Outside != nil && c.Outside.TCP != nil {
				open = append(open, c.Outside.TCP.Open...)
				all = append(all, c.Outside.TCP.Closed...)
			}
		}
	}
	return open, append(all, open...)
}

// portsOf lists the ports that somebody claims something about, that answered or on
// which something listens, and says how many were asked in all.
func portsOf(s Subject) ([]portView, int) {
	rows := map[string]*portView{}
	at := func(proto string, port int) *portView {
		key := fmt.Sprint(proto, port)
		if rows[key] == nil {
			rows[key] = &portView{Proto: proto, Port: port, OK: true, Loopback: true}
		}
		return rows[key]
	}
	want, claimed := wantOpen(s.Plan)
	asked := slices.Clone(claimed)
	answered := answers(s.Report)
	if e := s.Report.Exposure; e != nil {
		asked = append(asked, e.Asked...)
	}
	for port := range answered {
		claimed = append(claimed, port)
	}
	for _, port := range claimed {
		at("tcp", port).look(slices.Contains(want, port), answered[port])
	}
	for _, socket := range s.Report.Listening {
		p := at(socket.Proto, socket.Port)
		p.listens(socket)
		if p.Outside == "" && socket.Proto == "tcp" && slices.Contains(asked, socket.Port) {
			p.Outside = "silent"
		}
	}
	var all []portView
	for _, p := range rows {
		p.Loopback = p.Loopback && p.Inside != ""
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b portView) int {
		return cmp.Or(strings.Compare(a.Proto, b.Proto), a.Port-b.Port)
	})
	slices.Sort(asked)
	return all, len(slices.Compact(asked))
}

// look notes what was to be seen from outside and what was.
func (p *portView) look(want bool, seen string) {
	p.IsOpen, p.Wanted = seen == "open", want
	p.OK = p.IsOpen == want && seen != "refuses"
	p.Outside = cmp.Or(seen, "silent")
}

// listens adds an address. Of a guest that has many, the page shows the first.
func (p *portView) listens(s verify.Socket) {
	if len(p.Inside) < 120 {
		p.Inside = strings.TrimPrefix(p.Inside+", "+s.Address, ", ")
	}
	p.Program = cmp.Or(p.Program, s.Program)
	host, _, _ := strings.Cut(s.Address, "%")
	address, err := netip.ParseAddr(host)
	p.Loopback = p.Loopback && err == nil && address.IsLoopback()
}

// answers says how TCP ports answered, by what claims saw and by what a prober did.
// The others were silent or nobody asked them.
func answers(r verify.Report) map[int]string {
	all := map[int]string{}
	for _, result := range r.Results {
		if result.Where != "outside" {
			continue
		}
		for part := range strings.SplitSeq(result.Got, ", ") {
			var port int
			var word string
			if n, _ := fmt.Sscanf(part, "%d %s", &port, &word); n == 2 {
				switch word {
				case "accepted":
					all[port] = "open"
				case "refused":
					all[port] = "refuses"
				}
			}
		}
	}
	if r.Exposure == nil {
		return all
	}
	for _, a := range r.Exposure.First {
		switch {
		case a.Kind == exposure.Accepted:
			all[a.Port] = "open"
		case a.Kind == exposure.Refused && all[a.Port] == "":
			all[a.Port] = "refuses"
		}
	}
	return all
}
