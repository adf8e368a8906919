package kubevirt

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/secret"
)

// anyHost draws one of all kinds of hosts that a cluster can have, and the options for it.
func anyHost(r *rand.Rand, i int) (*host.Host, Generation, Options) {
	coin := func() bool { return r.IntN(2) == 0 }
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	h := &host.Host{Name: anyName(r, i), File: "hosts/x.yaml",
		Machine: host.Machine{Arch: pick(host.AMD64, host.AMD64, host.ARM64), Agent: true, Balloon: coin(), Vsock: coin(),
			VCPUs: 1 + r.IntN(64), Memory: int64(512+r.IntN(1<<20)) << 20, Disk: int64(1+r.IntN(1<<14)) << 30,
			Firmware: host.Firmware(pick(string(host.FirmwareAuto), string(host.UEFI))), TPM: host.TPM(pick(string(host.TPMAuto), string(host.TPMOn), string(host.TPMOff))), Hugepages: []int64{0, 0, 2 << 20, 1 << 30}[r.IntN(4)]},
		Network: host.Network{MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", r.IntN(256), r.IntN(256), r.IntN(256)), DHCP: true, Isolated: coin()},
		Offline: coin()}
	h.Network.Attach.Network = pick("default", "lab-1")
	if coin() {
		h.Network.Attach = host.Attach{Bridge: pick("br0", "virbr1")}
	}
	if h.Machine.Arch == host.AMD64 {
		h.Machine.Watchdog = pick("", "reset", "poweroff")
		h.Machine.Firmware = host.Firmware(pick(string(host.FirmwareAuto), string(host.UEFI), string(host.UEFISecure)))
	}
	if coin() {
		h.Machine.State = int64(64+r.IntN(1<<20)) << 20
	}
	g := Generation{Name: fmt.Sprintf("%016x", r.Uint64()), Program: make([]byte, r.IntN(3_500_000)),
		BaseURL:    pick("https://cloud.example.org/a.qcow2", "https://u:p@[2001:db8::1]:8443/a%20b/c'd\".qcow2?x=1&y=: #", "http://x/é"),
		BaseSHA256: strings.Repeat("0f", 32),
		Words: map[string][]byte{"user-data": anyBytes(r, 1+r.IntN(10_000)), "meta-data": []byte("dsmode: local\n"),
			"network-config": []byte("version: 2\n"), "claims.json": []byte("{}")}}
	if coin() {
		h.Secrets = []secret.Ref{{Name: "db", File: "db"}}
		g.Secrets = map[string][]byte{"index": []byte("s000 db\n"), "s000": anyBytes(r, 1+r.IntN(1000))}
	}
	o := Options{Namespace: pick("", "machines", "a-1"), StorageClass: pick("", "ceph-rbd", "fast.example.org")}
	if h.Offline || coin() {
		o.Image = pick("registry.example:5000/fleet/zap@sha256:"+strings.Repeat("a1", 32), "r.example/zap:h-0f", "127.0.0.1:5000/z")
		o.Ephemeral, o.PullSecret, o.ImportSecret = coin(), pick("", "pull"), pick("", "import.1")
	}
	if coin() {
		o.Network = pick("lan", "infra/lan-1")
		if h.Network.DHCP = coin(); !h.Network.DHCP {
			h.Network.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24")}
		}
	}
	anyClaims(r, h)
	return h, g, o
}

func anyClaims(r *rand.Rand, h *host.Host) {
	h.Layers = []layer.Rendered{{Name: attest.Layer}}
	if r.IntN(5) > 0 {
		h.Layers[0].Checks = []claim.Check{{Layer: attest.Layer, Claim: "It is so.", Inside: &claim.Inside{Run: "true"}}}
	}
	for range r.IntN(3) {
		var ports []int
		for range r.IntN(40) {
			ports = append(ports, 1+r.IntN(65535))
		}
		h.Layers = append(h.Layers, layer.Rendered{Name: "x", Checks: []claim.Check{
			{Outside: &claim.Outside{TCP: &claim.Ports{Open: ports, Closed: []int{1}}}},
			{Outside: &claim.Outside{SSH: &claim.Login{User: "ops", With: "key", Want: "accepted"}}},
			{Outside: &claim.Outside{None: "nothing to see"}}}})
	}
}

// anyName is a host's name, short or as long as there is, and now and then what another
// reader of YAML takes for something else than text.
func anyName(r *rand.Rand, i int) string {
	if words := []string{"y", "no", "on", "null", "e1", "x" + strings.Repeat("0", 62)}; i < len(words) {
		return words[i]
	}
	name := fmt.Sprintf("h%d", i)
	for range r.IntN(60 - len(name)) {
		name += string("abcdefghijklmnopqrstuvwxyz0123456789-"[r.IntN(37)])
	}
	return strings.TrimRight(name, "-")
}

func anyBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
