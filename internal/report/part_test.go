package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"bake/internal/attest"
	"bake/internal/exposure"
	"bake/internal/nightly"
	"bake/internal/verify"
)

func TestCover(t *testing.T) {
	of := func(refs ...string) string {
		rows := cover([]layerView{{Name: "own", Refs: refs, Claims: make([]claimView, 3), Held: 2}})
		var found []string
		for _, row := range rows {
			if len(row.Layers) > 0 {
				found = append(found, fmt.Sprintf("%s%s %d/%d", row.Number, map[bool]string{true: " " + row.Title}[row.Number == ""], row.Held, row.Claims))
			}
		}
		return strings.Join(found, ", ")
	}
	for want, refs := range map[string][]string{
		"":                           {"ufw(8)", "CIS Ubuntu 24.04 4.2", "layer 1"},
		"1 2/3":                      {"ufw(8)", "security document layer 1"},
		"4 2/3, 5 2/3":               {"security document layers 4 and 5"},
		" Before layer 1 2/3":        {`security document "before layer 1"`},
		" Tailscale access 2/3":      {`security document "Tailscale access"`},
		"7 2/3, 8 2/3":               {"security document layer 7", "security document layer 8"},
		"2 2/3":                      {"security document layer 2", "sudoers(5)"},
		" Before layer 1 2/3, 3 2/3": {`security document "before layer 1"`, "security document layer 3"},
	} {
		if got := of(refs...); got != want {
			t.Errorf("%q: %q, want %q", refs, got, want)
		}
	}
	if rows := cover([]layerView{{Refs: []string{"security document layer 9"}}}); len(rows) != len(documentLayers) {
		t.Errorf("%d rows", len(rows))
	}
	if rows := cover([]layerView{{Refs: []string{"ufw(8)"}}}); rows != nil {
		t.Error("there are rows though no layer says anything of the document")
	}
}

// Marks lie apart, bands follow one another, and all of it is in the picture, whatever the
// guest's clock said.
func TestBootLine(t *testing.T) {
	for name, m := range map[string]attest.Moments{
		"usual":         sample().Report.Moments,
		"all at once":   {Closed: 1, Network: 1, SSH: 1, Trying: 1, Attested: 1},
		"close by":      {Closed: 100000, Network: 100001, SSH: 100002, Trying: 100003, Attested: 900000},
		"never opened":  {Closed: 5000, Attested: 900000},
		"backwards":     {Closed: 900000, Network: 5, SSH: 3, Trying: 2, Attested: 1},
		"a whole month": {Closed: 1, Attested: 30 * 24 * 3600 * 1000},
		"the end of it": {Closed: 1, Attested: math.MaxInt64 / 2_000_000},
		"before time":   {Closed: -5, Network: -1, Attested: 4000},
	} {
		line := bootLine(verify.Report{Moments: m, Attestation: attested})
		if line == nil || len(line.Charts) != 2 {
			t.Fatalf("%s: %+v", name, line)
		}
		for _, c := range line.Charts {
			in := func(x float64) bool { return x >= 0 && x <= c.Width }
			for i, a := range c.Marks {
				if !in(a.X) || a.Y < radius || a.Y > c.Height {
					t.Errorf("%s: mark %d is at %v, %v", name, i+1, a.X, a.Y)
				}
				for _, b := range c.Marks[:i] {
					if math.Hypot(a.X-b.X, a.Y-b.Y) < 2*radius {
						t.Errorf("%s, %s: marks %s and %s cover each other", name, c.Class, a.Words, b.Words)
					}
				}
			}
			for i, b := range c.Bands {
				if b.Width < 0 || !in(b.X) || !in(b.X+b.Width) || i > 0 && b.X < c.Bands[i-1].X {
					t.Errorf("%s: band %d is %+v", name, i, b)
				}
			}
			if len(c.Ticks) == 0 || len(c.Ticks) > 20 {
				t.Errorf("%s: %d ticks", name, len(c.Ticks))
			}
		}
	}
	if bootLine(verify.Report{}) != nil {
		t.Error("there is a line of a guest that said nothing")
	}
	shut := bootLine(verify.Report{Moments: attest.Moments{Closed: 1000, Attested: 9000}, Attestation: "ufw: no"})
	if bands := shut.Charts[0].Bands; bands[len(bands)-1].Class != "shut" {
		t.Error("a machine that stayed shut ends open")
	}
}

func TestExposureLine(t *testing.T) {
	words := func(s Subject) (all []string) {
		for _, step := range exposureLine(s).Steps {
			all = append(all, strings.ReplaceAll(fmt.Sprint(step.Bad, " ", step.At, " ", step.Words), "\u00a0", " "))
		}
		return all
	}
	want := []string{"false 38.0 s first answer: a packet of any kind: its network card is up",
		"true 41.0 s first answer: port 80 refuses over IPv6, and 1 port more", "false 79.0 s its claims hold, it opens",
		"false 80.0 s first answer: port 22 takes connections over IPv4", "false 81.0 s first answer: port 22 takes connections over IPv6",
		"false 82.0 s first answer: a ping is answered over IPv4"}
	if got := words(sample()); !slices.Equal(got, want) {
		t.Errorf("%s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, change := range map[string]func(*verify.Exposure){
		"a port too early":   func(e *verify.Exposure) { e.First[3].After = 78 * time.Second },
		"a port not listed":  func(e *verify.Exposure) { e.First[3].Port = 23 },
		"a ping too early":   func(e *verify.Exposure) { e.First[5].After = time.Second },
		"it never opened":    func(e *verify.Exposure) { e.Opens = 0 },
		"it is unreachable":  func(e *verify.Exposure) { e.First[4].Kind = exposure.Reject },
		"of a later release": func(e *verify.Exposure) { e.First[3].Kind = "quic" },
	} {
		s := good()
		bad := func() int { return strings.Count(strings.Join(words(s), "\n"), "true ") }
		if bad() != 0 {
			t.Fatalf("%d answers of a good machine are bad", bad())
		}
		s.Report.Exposure.First = slices.Clone(s.Report.Exposure.First)
		first := s.Report.Exposure.First // a packet, 22 over IPv4, 22 over IPv6, a ping
		e := &verify.Exposure{Record: exposure.Record{Seconds: 132, First: []exposure.Answer{first[0], first[0], first[0], first[1], first[2], first[3]}}, Opens: s.Report.Exposure.Opens}
		change(e)
		s.Report.Exposure = e
		if bad() == 0 {
			t.Errorf("%s: nothing is marked", name)
		}
	}
	for want, change := range map[string]func(*verify.Exposure){
		"Nobody got an answer before it opened, and then from the listed ports alone.": func(*verify.Exposure) {},
		"Nobody got an answer, as it never opened.":                                    func(e *verify.Exposure) { e.Opens, e.First = 0, e.First[:1] },
		"4 answers came that nobody was to get.":                                       func(e *verify.Exposure) { e.Opens, e.First = 0, append(e.First, e.First[3]) },
		"1 answer came that nobody was to get.":                                        func(e *verify.Exposure) { e.First = append(e.First, exposure.Answer{Kind: exposure.Reject, Family: 4}) },
		"Not one packet of the machine was seen, so nothing was measured.":             func(e *verify.Exposure) { e.First = nil },
	} {
		s := good()
		change(s.Report.Exposure)
		if got := exposureLine(s).Verdict; got.Words != want || got.OK != strings.HasPrefix(want, "Nobody") {
			t.Errorf("%+v, want %q", got, want)
		}
	}
	many := good()
	for port := range 1000 {
		many.Report.Exposure.First = append(many.Report.Exposure.First, exposure.Answer{Kind: exposure.Accepted, Family: 4, Port: 1000 + port, After: time.Hour})
	}
	if line := exposureLine(many); len(line.Charts[0].Lanes) != mostLanes || line.Steps[len(line.Steps)-1].Words != "and answers of 990 other kinds" || line.Verdict.Words != "1000 answers came that nobody was to get." {
		t.Errorf("%d lanes, at the end: %+v", len(line.Charts[0].Lanes), line.Steps[len(line.Steps)-1])
	}
}

func TestPorts(t *testing.T) {
	rows, asked := portsOf(sample())
	var got []string
	for _, p := range rows {
		got = append(got, fmt.Sprintf("%d/%s %s ok=%v inside=%q %s loopback=%v", p.Port, p.Proto, p.Outside, p.OK, p.Inside, p.Program, p.Loopback))
	}
	want := []string{`22/tcp open ok=true inside="0.0.0.0, ::" sshd loopback=false`, `25/tcp silent ok=true inside=""  loopback=false`,
		`80/tcp refuses ok=false inside=""  loopback=false`, `443/tcp refuses ok=false inside=""  loopback=false`,
		`18789/tcp silent ok=true inside="127.0.0.1" node loopback=true`, `53/udp  ok=true inside="127.0.0.53%lo" systemd-resolve loopback=true`}
	if !slices.Equal(got, want) || asked != len(exposure.Ports)+1 {
		t.Errorf("%d asked\n%s\nwant\n%s", asked, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	shut := sample()
	shut.Report.Exposure = nil
	shut.Report.Results[3].Got = "22 silent, 25 accepted"
	if rows, _ := portsOf(shut); rows[0].OK || rows[1].OK || rows[0].Outside != "silent" || rows[1].Outside != "open" {
		t.Errorf("the other way round: %+v", rows[:2])
	}
}

func TestPackages(t *testing.T) {
	s := sample()
	all, brought := packagesOf(s)
	at := func(name string) packageView {
		i := slices.IndexFunc(all, func(p packageView) bool { return p.Name == name })
		if i < 0 {
			t.Fatalf("there is no %s", name)
		}
		return all[i]
	}
	if len(all) != 302 || brought != 3 || !at("fail2ban").Brought || at("base-files").Brought || at("lib007").Version != "1:7.0-1" {
		t.Errorf("%d packages, %d brought along, %+v", len(all), brought, at("fail2ban"))
	}
	for _, bom := range []string{"", "{", "[]", `{"components": {}}`, `{"components": []}`} {
		s.SBOM = []byte(bom)
		if all, brought = packagesOf(s); len(all) != 3 || brought != 3 || at("docker.io").Version != "26.1.5+dfsg1-9+b9" {
			t.Errorf("%q: %d packages, %d brought along", bom, len(all), brought)
		}
	}
	s.SBOM = []byte(`{"components": [{"name": "openclaw", "version": "1", "purl": "pkg:npm/openclaw@1"}, {"name": "x", "version": "1", "purl": "pkg:deb/debian/x@1"}]}`)
	if all, _ = packagesOf(s); !at("openclaw").Brought || at("x").Brought {
		t.Errorf("%+v", all)
	}
	s.SBOM = []byte(`{"components": [` + strings.Repeat(`{"name": "x"},`, 2*mostPackages) + `{}]}`)
	if all, _ = packagesOf(s); len(all) != mostPackages {
		t.Errorf("%d packages", len(all))
	}
}

func TestHistory(t *testing.T) {
	signs := func(all []nightView) (text string) {
		for _, v := range all {
			text += v.Sign
		}
		return text
	}
	if got, want := signs(historyOf(nights(24), "zap")), "––––✓––––––✗–✓–––?––––✓–"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := historyOf(nights(24), "no such"); got != nil {
		t.Errorf("%v", got)
	}
	if got := historyOf(nights(200), "zap"); len(got) != mostNights {
		t.Errorf("%d nights", len(got))
	}
	cut := nights(3)
	cut[2].Ended, cut[2].Hosts = time.Time{}, nil
	link := func(o nightly.Outcome) string { return "../out/" + o.Host + "/current/report.html" }
	page, err := Index(append(cut[:2:2], nightly.Night{Notes: []string{"its report cannot be read"}}), link)
	if err != nil || !strings.Contains(string(page), `<a href="../out/zap/current/report.html">zap</a>`) || !strings.Contains(string(page), "2 unchanged") {
		t.Errorf("%v\n%s", err, page)
	}
	if page, err := Index(cut, link); err != nil || strings.Contains(string(page), `<header class="good">`) {
		t.Errorf("a night that was cut off is good: %v", err)
	}
	if page, err := Index(nil, link); err != nil || !strings.Contains(string(page), "there was no night yet") {
		t.Errorf("%v", err)
	}
}

// TestDrilled: how it stands with restores is on the page about nights.
func TestDrilled(t *testing.T) {
	link := func(nightly.Outcome) string { return "" }
	proven := time.Date(2026, 11, 20, 3, 0, 0, 0, time.UTC)
	drilled := []nightly.Night{{Began: proven, Ended: proven, Hosts: []nightly.Outcome{
		{Host: "zap", Verdict: nightly.Unchanged, Drill: &nightly.Drill{Tried: true, Proven: proven, RPO: 7200, RTO: 150}},
		{Host: "zip", Verdict: nightly.Promoted, Drill: &nightly.Drill{Tried: true, IsLate: true, Reason: "no <b>restore"}},
	}}}
	page, err := Index(drilled, link)
	for _, want := range []string{"a restore was proven last on ", "a restore was never proven", "no &lt;b&gt;restore", `<header class="bad">`, "a new generation proved itself; no restore is proven"} {
		if err != nil || !strings.Contains(string(page), want) {
			t.Errorf("no %s, %v", want, err)
		}
	}
	drilled[0].Hosts = drilled[0].Hosts[:1]
	if page, err := Index(drilled, link); err != nil || !strings.Contains(string(page), `<header class="good">`) || !strings.Contains(string(page), "of a state 120\u00a0min\u00a000\u00a0s old, in 2\u00a0min\u00a030\u00a0s") {
		t.Errorf("a proven restore: %v", err)
	}
}

// A host that the last night was not about is on the page with what the one before said of it.
func TestIndexHasOthers(t *testing.T) {
	began := time.Date(2026, 11, 28, 3, 0, 0, 0, time.UTC)
	all := nightly.Night{Number: 1, Began: began, Ended: began, Hosts: []nightly.Outcome{{Host: "zap", Verdict: nightly.Promoted, Generation: "one"}, {Host: "zip", Verdict: nightly.Failed, Reason: "it leaks"}}}
	one := nightly.Night{Number: 2, Began: began.AddDate(0, 0, 1), Ended: began, Hosts: []nightly.Outcome{{Host: "zap", Verdict: nightly.Unchanged, Generation: "one"}}}
	page, err := Index([]nightly.Night{all, one}, func(nightly.Outcome) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for want, times := range map[string]int{"<span>zap</span>": 1, "<span>zip</span>": 1, "it leaks": 1, "failed, on " + when(began): 1, "unchanged, on": 0} {
		if got := strings.Count(text, want); got < times || times == 0 && got > 0 || strings.HasPrefix(want, "<span>") && got != times {
			t.Errorf("%q is there %d times", want, got)
		}
	}
}
