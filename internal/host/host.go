// Package host loads a host file and resolves it into a Host: the machine as
// specified, with every default filled in, every value checked and every layer
// rendered.
//
//	host: zap                      equals the file's name, hosts/zap.yaml
//	groups: [web]                  whose files, hosts/_web.yaml, it is laid over
//	labels: {role: web}            what it is selected by, see package label
//	base: ubuntu:24.04             or debian:13, a link with its digest, a path to a qcow2 image
//	mirrors: {ubuntu: https://...} where to fetch images from instead; trusted no more than the
//	                               publisher; packages: of the archives in the image
//	machine:
//	  arch: amd64                  or arm64
//	  vcpus: 2
//	  memory: 3GiB
//	  disk: 60GiB                  virtual size of the root disk
//	  state: 20GiB                 of a disk that survives a rebuild; none without it
//	  firmware: auto               or uefi, uefi-secure
//	  tpm: auto                    or true, false
//	  images: /var/lib/libvirt/images/bake
//	  hugepages: 2MiB              or 1GiB: of pages that the hypervisor has set apart
//	  watchdog: reset              or poweroff, pause; none without it
//	  vsock: false                 a socket to the hypervisor, past the guest's firewall
//	  agent: true                  a channel for QEMU's guest agent
//	  balloon: true                memory that the guest does not need goes back
//	  disks: [{name: data, path: /srv/data.qcow2, format: qcow2, readonly: false}]   that are there
//	  devices: [{pci: "0000:65:00.0"}, {mdev: 4b20d080-1b54-4048-85b3-a6a62d165c01}]   of the hypervisor's
//	network:
//	  mac: auto                    derived from the host's name
//	  dhcp: true                   or addresses, gateways, nameservers
//	  attach: {network: default}   libvirt network, or {bridge: br0}
//	  isolated: true               nothing goes from it to its neighbours on the bridge, nor back
//	  reserve: 192.168.122.10      address that the libvirt network keeps for it
//	  filter: clean-traffic        libvirt's nwfilter for its packets; none without it
//	domain:
//	  uri: qemu:///system          libvirt that bake up and bake deploy talk to, see URI; or the
//	                               cluster where bake rollout has it run, see Cluster
//	  autostart: false             start the machine with its hypervisor
//	admin: {name: ops, keys: [ssh-ed25519 AAAA... ops@desk]}
//	layers:                        in the order in which they take effect; attest is always first
//	  - ssh
//	  - ufw: {allow_tcp: [22]}
//	payload: offline               packages of layers come on a disk; or none: from the network
//	secrets:                       where they are, never what they are; see package secret
//	  tailscale: {file: secrets/tailscale}
//	cloud-config: {}               cloud-init's own keys, merged last
//	override: [timezone]           keys of cloud-config that win over a layer
//	allow: {firewall-late: why}    rules of bake lint that the host may break
//
// What hosts share stands in files beside them that have the same keys but host and
// groups: hosts/_defaults.yaml for all, hosts/_GROUP.yaml for those that name the group.
// A group's file is laid over the defaults, later groups over earlier ones, the host's own
// file over all: a map into the map, and anything else in the place of what was there.
// network.attach and each of secrets are one value. The lists of layers are joined, each
// layer once, with the parameters of both.
//
// It promises that a Host that loads can be rendered: all names, addresses and
// keys have been parsed. It refuses everything it does not know, with the
// nearest known word, and reports all problems of host file and layers at once.
//
// # Decisions
//
// 2026-11: the order of layers is the order in which they are listed, moved
// only as far as `requires` and `after` demand. A listed order is what a reader
// expects; sorting by name would make a rename change the machine.
//
// 2026-11: the layer attest is part of every machine, listed or not, and comes
// first whatever the order: it shuts the door behind which the others work.
// List it to set its parameters. A layer that replaces it takes over that duty.
//
// 2026-11: the MAC address comes from the host's name, as every other identity does (the
// UUID, see package domain), so that a rebuilt machine keeps its DHCP lease and the same
// host file gives the same bytes anywhere.
//
// 2026-11: a host with secrets has the layer secrets, first, whether it is listed
// or not. A secret that is named and does not arrive would be found out by the
// layer that needs it, if at all.
//
// 2026-11: a host of which a layer needs packages has the layer payload, before
// all but attest and secrets, which installs them from a disk that was baked. With
// payload: none it has not, and cloud-init installs them from the network, as it
// does what the host's own cloud-config lists under packages in any case. Offline
// is what a host gets without asking: a first boot must not depend on a mirror.
//
// 2026-11: a host with machine.state has the layer state, before payload, whose
// packages may start what keeps its state there. Without machine.state a layer's state
// is on the root disk: that is said, and not refused, as a machine that is never
// rebuilt loses nothing.
//
// 2026-11: lists of layers are joined, because what a group is for is most often a layer
// more; other lists are replaced, because a key that somebody could still log in by must
// not come from another file. A host cannot lose a layer that a group gives it: put that
// into a group of those that want it.
//
// 2026-11: groups have no groups. What a host is made of is found in the files that it
// names and in no others.
//
// 2026-11: groups and labels are no part of a generation, but for what a group's file
// says: a host can be moved from one rollout to another without being baked again.
//
// 2026-11: machine.arch is also that of the base image. It is amd64 unless it is said, and
// not that of the machine that bakes: the same host file gives the same bytes anywhere.
//
// 2026-11: machine.firmware and machine.tpm are auto unless they are said. Secure boot and a
// TPM are what a machine should have, and a host file that demands them of a hypervisor that
// lacks them is refused there: who has to have them says so.
package host

import (
	"net/netip"
	"slices"

	"bake/internal/attest"
	"bake/internal/claim"
	"bake/internal/doc"
	"bake/internal/layer"
	"bake/internal/origin"
	"bake/internal/secret"
)

// Host is a host file with every default filled in and every value checked:
// the machine as specified.
type Host struct {
	Name    string            // the machine's name and local hostname, [a-z][a-z0-9-]{0,62}
	Groups  []string          // in the order in which one is laid over another
	Shared  []string          // files in hosts/ that it was laid over, such as _defaults.yaml
	Labels  map[string]string // what it is selected by, with bake/host, its name
	Base    string            // base image reference as written, e.g. "debian:13" or "./base.qcow2"
	Ref     origin.Ref        // the same, read; a file's path is relative to the host file
	Mirrors map[string]string // URL to fetch images from instead, by distribution; checked by CheckMirror
	Machine Machine
	Network Network
	Domain  Domain
	Admin   Admin
	Offline bool             // the packages of its layers come on a disk of their own
	Secrets []secret.Ref     // sorted by name; nothing has looked for them yet
	Layers  []layer.Rendered // in the order in which they take effect
	Config  *doc.Node        // the host's own cloud-config, a Map or nil
	Winning []string         // dotted keys of Config that win over a layer's
	Allow   []Allowance      // rules of lint that it may break
	File    string           // the host file's path as given, for messages
	Merged  *doc.Node        `json:"-"` // the host file laid over those of its groups, nil for one made by hand
}

// Allowance is a rule of lint that a host may break, and why.
type Allowance struct {
	Rule   string
	Reason string
	Key    *doc.Node // where it stands
}

// Machine is the virtual hardware.
type Machine struct {
	Arch       string // AMD64 or ARM64
	VCPUs      int
	Memory     int64 // bytes
	Disk       int64 // virtual size of the root disk in bytes
	State      int64 // of the disk that survives a rebuild, 0 for none
	Firmware   Firmware
	TPM        TPM
	ImagesPath string // directory on the hypervisor that holds base images and generations

	Hugepages int64  // bytes of a page of the hypervisor's that memory is made of, 0 for the usual ones
	Watchdog  string // what becomes of a guest that stops feeding it: "reset", "poweroff" or "pause"; "" for none
	Vsock     bool   // a socket between guest and hypervisor, past any firewall
	Agent     bool   // a channel for QEMU's guest agent
	Balloon   bool   // memory that the guest does not need goes back
	Disks     []Disk
	Devices   []Device
}

// Domain is where and how libvirt runs the machine: nothing that a generation is
// made of.
type Domain struct {
	URI       string // of libvirt or of a cluster, "" where the host file has none: that is qemu:///system for those who need one
	Autostart bool   // the machine starts with its hypervisor
}

// The architectures of machines, as Debian calls them.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// Firmware names how the machine starts its boot loader.
type Firmware string

// The firmware kinds a host file may name.
const (
	FirmwareAuto Firmware = "auto" // UEFISecure where it can be had, see package domain
	UEFI         Firmware = "uefi"
	UEFISecure   Firmware = "uefi-secure"
)

// TPM says whether the machine has a TPM 2.0.
type TPM string

// What a host file may say of it.
const (
	TPMAuto TPM = "auto" // TPMOn where it can be had, see package domain
	TPMOn   TPM = "true"
	TPMOff  TPM = "false"
)

// Network is the one network card and its addresses.
type Network struct {
	MAC         string         // lower case, colon separated; derived from the host name when "auto"
	DHCP        bool           // IPv4 by DHCP, IPv6 by router advertisement
	Addresses   []netip.Prefix // static addresses, when DHCP is false
	Gateways    []netip.Addr   // at most one of each family
	Nameservers []netip.Addr
	Attach      Attach
	Isolated    bool       // from its neighbours on the bridge
	Reserve     netip.Addr // that the libvirt network keeps for it; part of no generation
	Filter      string     // of libvirt's for its packets, "" for none
}

// Attach names what the card is plugged into: a libvirt network or a host
// bridge. Exactly one of the two is set.
type Attach struct {
	Network string // libvirt network, "default" unless the host file says otherwise
	Bridge  string
}

// Admin is the one person who can log in: key only, sudo without a password.
type Admin struct {
	Name string
	Keys []string // authorized_keys lines without options
}

// Checks returns all that is claimed of the machine: what is claimed of every
// machine, under the layer name claim.BootLayer, then its layers' claims.
func (h *Host) Checks() ([]claim.Check, error) {
	checks := claim.Boot()
	if h.Attests() {
		_, applied, err := h.Applied()
		if err != nil {
			return nil, err
		}
		checks = append(checks, applied)
	}
	for _, l := range h.Layers {
		checks = append(checks, l.Checks...)
	}
	return checks, nil
}

// Applied returns the list of layers that the machine keeps, and the claim that it
// got as far as that.
func (h *Host) Applied() (list string, check claim.Check, err error) {
	var names, digests []string
	for _, l := range h.Layers {
		digest, err := l.Digest()
		if err != nil {
			return "", claim.Check{}, err
		}
		names, digests = append(names, l.Name), append(digests, digest)
	}
	list, check = claim.Applied(names, digests)
	return list, check, nil
}

// Losing returns the directories of layers that a rebuild loses: all of them, where
// the machine has no disk that outlives it.
func (h *Host) Losing() []string {
	var dirs []string
	for _, l := range h.Layers {
		for _, d := range l.State {
			if h.Machine.State == 0 {
				dirs = append(dirs, d.Dir)
			}
		}
	}
	return dirs
}

// FromNetwork returns the host as it is where there is no payload: cloud-init
// installs the packages of its layers.
func (h *Host) FromNetwork() *Host {
	if !h.Offline {
		return h
	}
	other := *h
	other.Offline = false
	other.Layers = slices.DeleteFunc(slices.Clone(h.Layers), func(l layer.Rendered) bool { return l.Name == payloadLayer })
	return &other
}

// Attests reports whether the machine judges itself before it opens, which it
// does unless somebody's own layer has taken the place of attest and claims
// nothing.
func (h *Host) Attests() bool {
	for _, l := range h.Layers {
		if l.Name == attest.Layer {
			return len(l.Checks) > 0
		}
	}
	return false
}
