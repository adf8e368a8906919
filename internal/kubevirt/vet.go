package kubevirt

import (
	"fmt"
	"strings"

	"bake/internal/diag"
	"bake/internal/doc"
	"bake/internal/host"
)

// find is the node of a dotted path in the host file or in its groups', or what is there of
// it; nil without a file.
func (e *export) find(path string) *doc.Node {
	node := e.Merged
	for key := range strings.SplitSeq(path, ".") {
		if next := node.Get(key); next != nil {
			node = next
		}
	}
	return node
}

func (e *export) problem(path, hint, format string, args ...any) diag.Problem {
	if node := e.find(path); node != nil {
		return node.Problem(path, hint, format, args...)
	}
	return diag.Problem{Pos: diag.Position{File: e.Host.File}, Path: path, Hint: hint, Message: fmt.Sprintf(format, args...)}
}

func (e *export) refuse(path, hint, format string, args ...any) {
	e.problems.Add(e.problem(path, hint, format, args...))
}

func (e *export) warn(path, format string, args ...any) {
	p := e.problem(path, "", format, args...)
	p.Warning = true
	e.warnings.Add(p)
}

// vet finds what KubeVirt cannot give.
func (e *export) vet() {
	if !dnsLabel.MatchString(e.Host.Name) {
		e.refuse("host", "", "%q is no name of an object: it ends with a dash", e.Host.Name)
	}
	e.vetMachine()
	e.vetNetwork()
	e.vetSources()
	for _, l := range e.Layers {
		for _, s := range l.Shares {
			e.refuse("layers", "have the machine mount it over the network, or keep it on the state disk",
				"layer %s shares %s of its hypervisor by virtiofs: a pod has no such directory", l.Name, s.Dir)
		}
	}
}

func (e *export) vetMachine() {
	m, arm := e.Machine, e.Machine.Arch == host.ARM64
	if len(m.Disks) > 0 {
		e.refuse("machine.disks", "state: SIZE is a disk that a cluster can have", "disks of a hypervisor's are not a cluster's")
	}
	if len(m.Devices) > 0 {
		e.refuse("machine.devices", "", "KubeVirt knows devices by the name of a resource, not by their address on one hypervisor")
	}
	if !m.Agent {
		e.refuse("machine.agent", "remove the line; the layer guest-agent bounds what it answers", "KubeVirt gives every machine a channel for the guest agent")
	}
	switch {
	case m.Watchdog == "pause":
		e.refuse("machine.watchdog", "want reset or poweroff", "KubeVirt has no watchdog that pauses")
	case m.Watchdog != "" && arm:
		e.refuse("machine.watchdog", "", "KubeVirt has no watchdog on arm64")
	}
	if m.Firmware == host.UEFISecure && arm {
		e.refuse("machine.firmware", "", "KubeVirt has no secure boot on arm64")
	}
	if m.Vsock {
		e.warn("machine.vsock", "the cluster needs the feature gate VSOCK")
	}
	if e.Domain.Autostart {
		e.warn("domain.autostart", "the cluster starts the machine, and starts it anew after a failure, with or without it")
	}
}

func (e *export) vetNetwork() {
	n := e.Host.Network
	switch {
	case !n.DHCP && e.Options.Network == "":
		e.refuse("network.addresses", "name a network of the cluster with --network, or write dhcp: true",
			"the pod network gives a machine its address")
	case e.Options.Network == "" && n.Attach.Bridge != "":
		e.warn("network.attach", "the card is on the pod network, not on bridge %s: --network names another", n.Attach.Bridge)
	case e.Options.Network == "" && n.Attach.Network != "default" && n.Attach.Network != "":
		e.warn("network.attach", "the card is on the pod network, not on libvirt's network %s: --network names another", n.Attach.Network)
	}
	if n.Filter != "" {
		e.refuse("network.filter", "a network plugin with its own checks of addresses does that in a cluster",
			"KubeVirt does not know libvirt's filter %s", n.Filter)
	}
	if n.Reserve.IsValid() {
		e.warn("network.reserve", "the cluster does not keep the address %s for the machine: a Service does", n.Reserve)
	}
	if e.Options.Network != "" {
		e.warn("network", "a NetworkPolicy is for the pod network: on network %s the guest's own firewall is the only one", e.Options.Network)
	} else if n.Isolated {
		e.warn("network.isolated", "nothing comes in but on the ports that a claim says are open; what the machine sends to its neighbours only a policy of the cluster can stop")
	}
}

func (e *export) vetSources() {
	switch {
	case e.Ephemeral && e.IsBase:
		e.warn("machine.disk", "an ephemeral root disk has the size of the base image, not this one: bake image --flatten makes an image of the size that is asked for")
		return
	case e.Image != "":
		return
	case e.BaseURL == "":
		e.refuse("base", "bake publish sends the generation to a registry, --from names that", "a cluster has no file of this machine")
	}
	if e.Offline {
		e.refuse("payload", "bake publish sends the generation to a registry, --from names that; or write payload: none",
			"the packages come on a disk that is in the generation's image alone")
	}
}
