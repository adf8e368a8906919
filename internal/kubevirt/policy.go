package kubevirt

import (
	"slices"
	"strconv"

	"bake/internal/attest"
	"bake/internal/doc"
)

const (
	tcp = "TCP"
	udp = "UDP"
)

// openPorts are those that come in: of TCP what an outside claim says is open, and ssh where
// one logs in; of UDP, of which no claim can say anything, what the host file opens in a
// firewall of bake's.
func (e *export) openPorts() []policyPort {
	numbers := map[string][]int{}
	for _, l := range e.Layers {
		for _, c := range l.Checks {
			switch {
			case c.Outside == nil:
			case c.Outside.TCP != nil:
				numbers[tcp] = append(numbers[tcp], c.Outside.TCP.Open...)
			case c.Outside.SSH != nil:
				numbers[tcp] = append(numbers[tcp], 22)
			}
		}
	}
	for _, layer := range []string{"ufw", "docker-user"} {
		if list := e.layerNode(layer).Get("allow_udp"); list != nil {
			for _, item := range list.Items {
				if port, err := strconv.Atoi(item.Text); err == nil {
					numbers[udp] = append(numbers[udp], port)
				}
			}
		}
	}
	var ports []policyPort
	for _, protocol := range []string{tcp, udp} {
		slices.Sort(numbers[protocol])
		for _, port := range slices.Compact(numbers[protocol]) {
			ports = append(ports, policyPort{protocol, port})
		}
	}
	return ports
}

// layerNode is what the host file and those of its groups give a layer, nil for nothing.
func (e *export) layerNode(name string) *doc.Node {
	list := e.Merged.Get("layers")
	if list == nil {
		return nil
	}
	for _, item := range list.Items {
		if parameters := item.Get(name); parameters != nil {
			return parameters
		}
	}
	return nil
}

// policy lets in what openPorts says, from anywhere, and nothing else. Without any port it
// lets in nothing. What goes out is the guest's own affair, as it is under libvirt.
func (e *export) policy() object {
	spec := policySpec{PodSelector: selector{e.labels()}, PolicyTypes: []string{"Ingress"}}
	if len(e.ports) > 0 {
		spec.Ingress = []ingress{{Ports: e.ports}}
	}
	return object{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Metadata: e.about(e.Host.Name), Spec: spec}
}

// probe is on the first port that answers after attestation and not before, see the
// package's Decisions. Without such a port there is none: a machine that is called ready
// because it runs would be called ready too early.
func (e *export) probe() *probe {
	if e.Options.Network != "" { // a probe comes by the pod network
		e.warn("", "network %s: the cluster cannot reach the machine, so nothing tells it when the machine has attested", e.Options.Network)
		return nil
	}
	onFailure := e.layerNode(attest.Layer).Get("on_failure")
	if !e.Attests() {
		e.warn("layers", "the machine does not attest, so nothing tells the cluster that it is what was specified")
		return nil
	}
	for _, p := range e.ports {
		if p.Protocol != tcp || p.Port == 22 && onFailure != nil && onFailure.Text == "ssh" {
			continue
		}
		return &probe{TCPSocket: tcpSocket{p.Port}, InitialDelaySeconds: probeDelay, PeriodSeconds: probePeriod,
			TimeoutSeconds: probeTimeout, FailureThreshold: probeFailed}
	}
	e.warn("layers", "no TCP port answers after attestation and only then, so nothing tells the cluster when the machine has attested")
	return nil
}
