package artifact

import (
	"strings"
	"testing"
)

func TestDifferences(t *testing.T) {
	sum := func(digit string) string { return strings.Repeat(digit, 64) }
	start := func() Manifest {
		m := manifest(genA)
		m.Base = Base{Reference: "ubuntu:24.04", Serial: "20261101", SHA256: sum("a"), Signer: "F1"}
		m.Payload = &Payload{Packages: []string{"fail2ban 1.0-1", "ufw 0.36"}, Trees: []string{"openclaw"}}
		m.Files = map[string]File{"seed.iso": {sum("1"), 1}, "domain.xml": {sum("2"), 1}, "disk.qcow2": {sum("3"), 1}}
		m.Secrets = []string{"token"}
		return m
	}
	for name, test := range map[string]struct {
		change func(m *Manifest)
		want   string
	}{
		"nothing": {func(*Manifest) {}, ""},
		"base": {func(m *Manifest) {
			m.Base.Serial, m.Base.SHA256 = "20261127", sum("b")
			m.Files["disk.qcow2"] = File{sum("4"), 1}
		}, "base: 20261101 -> 20261127, sha256 aaaaaaaaaaaa... -> bbbbbbbbbbbb..."},
		"the same image under another name": {func(m *Manifest) { m.Base.Serial = "" }, "base: the same image, ubuntu:24.04 20261101 -> ubuntu:24.04 -"},
		"signer":                            {func(m *Manifest) { m.Base.Signer = "" }, "base: signer F1 -> none"},
		"packages": {func(m *Manifest) { m.Payload = &Payload{Packages: []string{"nftables 1", "ufw 0.37"}} },
			"package fail2ban: gone, 1.0-1; package nftables: new, 1; package ufw: 0.36 -> 0.37; tree openclaw: gone"},
		"no payload": {func(m *Manifest) { m.Payload = nil }, "package fail2ban: gone, 1.0-1; package ufw: gone, 0.36; tree openclaw: gone"},
		"layers": {func(m *Manifest) {
			m.Layers = []Layer{{"ssh", sum("9")}, {"audit", sum("8")}}
			m.Files["seed.iso"] = File{sum("5"), 1}
		}, "layer audit: new; layer ssh: changed; layer ufw: gone"},
		"order":        {func(m *Manifest) { m.Layers = []Layer{m.Layers[1], m.Layers[0]} }, "layers: another order"},
		"secrets":      {func(m *Manifest) { m.Secrets = nil }, "secret token: gone"},
		"tool":         {func(m *Manifest) { m.Tool = "2" }, "tool: 1.0.0 -> 2"},
		"a file more":  {func(m *Manifest) { m.Files["disk.raw"] = File{sum("6"), 1} }, "disk.raw: new"},
		"the settings": {func(m *Manifest) { m.Files["domain.xml"] = File{sum("6"), 1} }, "domain.xml: another, if only by the generation's name"},
		"the seed":     {func(m *Manifest) { m.Files["seed.iso"] = File{sum("6"), 1} }, "seed.iso: another"},
	} {
		other := start()
		test.change(&other)
		if got := strings.Join(start().Differences(other), "; "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
		if back := other.Differences(start()); (len(back) == 0) != (test.want == "") {
			t.Errorf("%s: the other way round: %q", name, back)
		}
	}
}
