// Package seed makes the words a machine is told at its first boot: it merges
// the rendered layers of a host into one checked cloud-config and writes it as
// a NoCloud seed, an ISO 9660 or FAT image or a directory.
//
// A seed has five files:
//
//	user-data       one document, #cloud-config and YAML that every version
//	                of YAML reads alike
//	meta-data       instance-id, local-hostname, dsmode: local
//	network-config  version 2, the card matched by its MAC address
//	attest          the program that tries the claims in the guest
//	claims.json     the claims about its inside
//
// The last two are not cloud-init's. Their digests are in user-data, so that a
// machine does not run or believe others; without a layer attest they are left
// out.
//
// dsmode: local makes cloud-init apply everything that matters to security
// before the network comes up: bootcmd and write_files run in
// cloud-init-local.service, which is ordered before network-pre.target.
//
// The instance id is derived from user-data and network-config, so that the same
// words are the same instance and changed words a new one.
//
// The merge, in the order of the layers: maps recurse, lists append, equal
// scalars agree, unequal scalars are an error that names both lines. The
// host's own cloud-config comes last and wins only where its override says so.
//
// It promises that the same host gives the same bytes anywhere, and that the
// parameters of a layer are data in the document, never structure. It refuses
// two layers that write one file, and text that YAML cannot carry.
//
// What must not be read from a seed, which the groups disk and cdrom of the guest
// can read and cloud-init copies, travels on a volume of its own: WriteSecrets.
//
// # Decisions
//
// 2026-11: merge here and ship one document instead of one part per layer.
// cloud-init's own merge of parts keeps only the last part's lists and reports
// success.
//
// 2026-11: files that bootcmd needs are written by bootcmd itself, as quoted
// here-documents, because cloud-init runs write_files after it. An auditor can
// read them in place, which base64 would not allow.
package seed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"bake/internal/attest"
	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
)

// Seed is the content of a NoCloud seed.
type Seed struct {
	UserData      []byte
	MetaData      []byte
	NetworkConfig []byte
	Program       []byte // that attests in the guest; empty where nobody does
	Claims        []byte // what it tries, an attest.Plan as JSON
}

// A Payload is the disk that packages come on, as the machine must know it.
type Payload struct {
	SHA256   string
	Packages []string // "NAME VERSION" each
	Trees    []string // what else is on it, by its path there
}

// Build merges a host's layers into a seed that has the machine attested by
// program, a static executable for the guest's architecture. The payload is nil
// for a host without one, and as long as it is not known: a machine with such a
// seed stays shut. The error is a diag.List when layers contradict each other, or
// have more than a MiB to say.
func Build(h *host.Host, program []byte, payload *Payload) (Seed, error) {
	s, err := withClaims(h, program)
	if err != nil {
		return Seed{}, err
	}
	config, err := merge(h, s, payload)
	if err != nil {
		return Seed{}, err
	}
	body, err := doc.Emit(config)
	var large *doc.SizeError
	if errors.As(err, &large) { // it is the files of layers that make it so
		return Seed{}, diag.List{{Pos: diag.Position{File: h.File}, Message: "the words of the machine are too many: " + large.Error(),
			Hint: "have the machine fetch large files of layers, or put them into a package"}}
	}
	if err != nil {
		return Seed{}, fmt.Errorf("writing user-data: %w", err)
	}
	s.UserData = append([]byte("#cloud-config\n"), body...)
	if s.NetworkConfig, err = doc.Emit(network(h)); err != nil {
		return Seed{}, fmt.Errorf("writing network-config: %w", err)
	}
	meta := (&doc.Node{Kind: doc.Map}).
		Set("instance-id", doc.Text(s.instance(h.Name))).
		Set("local-hostname", doc.Text(h.Name)).
		Set("dsmode", doc.Text("local"))
	if s.MetaData, err = doc.Emit(meta); err != nil {
		return Seed{}, fmt.Errorf("writing meta-data: %w", err)
	}
	return s, nil
}

// withClaims begins a seed with what is not cloud-init's, whose digests go into
// the words.
func withClaims(h *host.Host, program []byte) (s Seed, err error) {
	if !h.Attests() {
		return s, nil
	}
	checks, err := h.Checks()
	if err != nil {
		return s, err
	}
	s.Program = program
	if s.Claims, err = json.Marshal(attest.NewPlan(h.Name, checks)); err != nil {
		return s, fmt.Errorf("writing the claims: %w", err)
	}
	return s, nil
}

func (s Seed) instance(name string) string {
	sum := sha256.New()
	for _, part := range [][]byte{s.UserData, s.NetworkConfig} {
		fmt.Fprintf(sum, "%d:", len(part))
		sum.Write(part)
	}
	return "bake-" + name + "-" + hex.EncodeToString(sum.Sum(nil)[:8])
}

// InstanceID returns the instance id that meta-data gives the machine.
func (s Seed) InstanceID(h *host.Host) string { return s.instance(h.Name) }

// network renders the one card. It is matched by its address because its name
// depends on the machine type and the PCI slot.
func network(h *host.Host) *doc.Node {
	is := func(b bool) *doc.Node { return &doc.Node{Kind: doc.Bool, Text: fmt.Sprint(b)} }
	card := (&doc.Node{Kind: doc.Map}).
		Set("match", (&doc.Node{Kind: doc.Map}).Set("macaddress", doc.Text(h.Network.MAC))).
		Set("dhcp4", is(h.Network.DHCP))
	if !h.Network.DHCP {
		// A static machine must not wait for, or believe, router advertisements.
		card.Set("dhcp6", is(false)).Set("accept-ra", is(false))
		card.Set("addresses", texts(h.Network.Addresses))
		routes := &doc.Node{Kind: doc.List}
		for _, gateway := range h.Network.Gateways {
			to := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if gateway.Is4() {
				to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			routes.Items = append(routes.Items, (&doc.Node{Kind: doc.Map}).
				Set("to", doc.Text(to.String())).Set("via", doc.Text(gateway.String())))
		}
		if len(routes.Items) > 0 {
			card.Set("routes", routes)
		}
	}
	if len(h.Network.Nameservers) > 0 {
		card.Set("nameservers", (&doc.Node{Kind: doc.Map}).Set("addresses", texts(h.Network.Nameservers)))
	}
	return (&doc.Node{Kind: doc.Map}).
		Set("version", &doc.Node{Kind: doc.Int, Text: "2"}).
		Set("ethernets", (&doc.Node{Kind: doc.Map}).Set("nic0", card))
}

func texts[T fmt.Stringer](values []T) *doc.Node {
	list := &doc.Node{Kind: doc.List}
	for _, v := range values {
		list.Items = append(list.Items, doc.Text(v.String()))
	}
	return list
}
