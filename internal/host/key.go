package host

// A Key is a key of the host file, as the manual and `bake help hosts` describe it.
type Key struct {
	Path    string // dotted; NAME stands for a name of the user's choice
	Form    string // what it may be
	Default string // "" when the key must be there or nothing takes its place
	About   string // one line
	Example string // a line, or lines, of a host file that have it; "" for a map of keys that follow
}

// Keys describes every key that Load knows, in the order in which a host file is
// best read. Tests compare the names, the defaults and the bounds with what Load does.
func Keys() []Key { return keys }

var keys = []Key{
	{"host", "name of the file", "", "a DNS label that starts with a letter", "host: zap"},
	{"groups", "list of groups", "none", "whose files it is laid over: hosts/_web.yaml for web", "groups: [web]"},
	{"labels", "map", "none", "what it is selected by, as Kubernetes writes them; text, part of no generation", "labels: {role: web, ring: \"1\"}"},
	{"base", "reference", "", "the image to start from: a release, a link with its digest, or a local qcow2 file", "base: debian:13"},
	{"mirrors", "map", "", "where to fetch from instead; believed no more than the publisher", ""},
	{"mirrors.ubuntu", "URL", "the publisher", "of Ubuntu's images; plain http will do, they are signed", "mirrors: {ubuntu: http://mirror.example.org/cloud}"},
	{"mirrors.debian", "URL", "the publisher", "of Debian's images", "mirrors: {debian: https://mirror.example.org/cloud}"},
	{"mirrors.packages", "URL", "the image's sources", "scheme and host of the archives that packages come from", "mirrors: {packages: https://mirror.example.org}"},
	{"machine", "map", "", "the virtual hardware", ""},
	{"machine.arch", "amd64 or arm64", "amd64", "of the machine and its base image; bake verify --boot emulates arm64", "machine: {arch: arm64}"},
	{"machine.vcpus", "int 1 to 512", "2", "virtual processors", "machine: {vcpus: 4}"},
	{"machine.memory", "size from 512MiB", "2GiB", "whole MiB", "machine: {memory: 3GiB}"},
	{"machine.disk", "size from 1GiB", "20GiB", "virtual size of the root disk, which every generation begins anew", "machine: {disk: 60GiB}"},
	{"machine.state", "size from 64MiB", "none", "of a disk that survives rebuilds: ssh host keys, the state of services", "machine: {state: 20GiB}"},
	{"machine.firmware", "auto, uefi or uefi-secure", "auto", "uefi-secure: secure boot with enrolled keys; auto: that, if the hypervisor has it, and KVM", "machine: {firmware: uefi-secure}"},
	{"machine.tpm", "auto, true or false", "auto", "a TPM 2.0 by swtpm; auto: if the hypervisor has it, and KVM", "machine: {tpm: true}"},
	{"machine.images", "path", "/var/lib/libvirt/images/bake", "directory of the hypervisor that holds images and generations", "machine: {images: /srv/vm}"},
	{"machine.hugepages", "2MiB or 1GiB", "none", "memory of pages that the hypervisor has set apart", "machine: {hugepages: 2MiB}"},
	{"machine.watchdog", "reset, poweroff or pause", "none", "what becomes of a guest whose systemd (RuntimeWatchdogSec) stops feeding it", "machine: {watchdog: reset}"},
	{"machine.vsock", "bool", "false", "a socket to the hypervisor, past the firewall: systemd 256 and later has sshd listen there", "machine: {vsock: true}"},
	{"machine.agent", "bool", "true", "a channel for QEMU's guest agent; what that answers is set in the guest", "machine: {agent: false}"},
	{"machine.balloon", "bool", "true", "memory that the guest does not need goes back", "machine: {balloon: false}"},
	{"machine.disks", "list of maps", "none", "files and block devices of the hypervisor that are there: neither made nor deleted", "machine: {disks: [{name: data, path: /srv/data.qcow2, format: qcow2, readonly: true}]}"},
	{"machine.devices", "list of pci or mdev", "none", "devices of the hypervisor that the machine has for itself", "machine: {devices: [{pci: \"0000:65:00.0\"}, {mdev: 4b20d080-1b54-4048-85b3-a6a62d165c01}]}"},
	{"network", "map", "", "the one network card", ""},
	{"network.mac", "auto or a MAC address", "auto", "auto: from the host's name, the same at every rebuild; quote an address", `network: {mac: "52:54:00:12:34:56"}`},
	{"network.dhcp", "bool", "true without addresses", "IPv4 by DHCP, IPv6 by router advertisement", "network: {dhcp: true}"},
	{"network.addresses", "list of ADDRESS/LENGTH", "none", "static addresses, instead of dhcp", "network: {addresses: [192.0.2.10/24]}"},
	{"network.gateways", "list of addresses", "none", "at most one each for IPv4 and IPv6, in the network of an address", "network: {addresses: [192.0.2.10/24], gateways: [192.0.2.1]}"},
	{"network.nameservers", "list of addresses", "none", "", "network: {nameservers: [192.0.2.53]}"},
	{"network.attach", "map", "the network default", "what the card is plugged into, one of:", ""},
	{"network.attach.network", "name", "default", "a network of libvirt", "network: {attach: {network: default}}"},
	{"network.attach.bridge", "name", "none", "a bridge of the hypervisor", "network: {attach: {bridge: br0}}"},
	{"network.isolated", "bool", "true", "from its neighbours on the bridge; the hypervisor's kernel must know isolated ports", "network: {isolated: false}"},
	{"network.reserve", "IPv4 address", "none", "libvirt's network keeps it for the machine, with dhcp; part of no generation", "network: {reserve: 192.168.122.10}"},
	{"network.filter", "name", "none", "libvirt's nwfilter for the machine's packets; clean-traffic drops IPv6", "network: {filter: no-mac-spoofing}"},
	{"domain", "map", "", "what runs the machine: nothing that a generation is made of", ""},
	{"domain.uri", "URI", "qemu:///system", "qemu:///session, qemu+ssh://USER@HOST/system?keyfile=PATH; kubevirt://NAMESPACE for rollout", "domain: {uri: qemu+ssh://root@hypervisor/system}"},
	{"domain.autostart", "bool", "false", "start the machine with its hypervisor", "domain: {autostart: true}"},
	{"admin", "map", "", "the one person who can log in, by key alone, with sudo", ""},
	{"admin.name", "user", "", "not root", "admin: {name: ops, keys: [KEY]}"},
	{"admin.keys", "list of public keys", "", "lines of authorized_keys without options", "admin: {name: ops, keys: [KEY]}"},
	{"layers", "list", "", "what is done to the machine, in this order: NAME, or NAME: {PARAMETER: VALUE}", "layers: [ssh, {ufw: {allow_tcp: [22]}}]"},
	{"payload", "offline or none", "offline", "packages of layers come on a disk, or by cloud-init from the network", "payload: none"},
	{"secrets", "map", "none", "where secrets are, never what they are; a layer is given the name", ""},
	{"secrets.NAME.file", "path", "", "relative to the host file, 0600", "secrets: {tailnet: {file: secrets/tailnet}}"},
	{"secrets.NAME.env", "variable", "", "of bake's environment", "secrets: {registry: {env: REGISTRY_TOKEN}}"},
	{"secrets.NAME.age", "path", "", "a file that age has encrypted", "secrets: {db: {age: db.age}}"},
	{"secrets.NAME.identity", "path", "$BAKE_AGE_IDENTITY, ~/.config/bake/age.txt", "what opens the age file", "secrets: {db: {age: db.age, identity: id.txt}}"},
	{"secrets.NAME.command", "list of words", "", "whose output is the secret; no shell", "secrets: {model: {command: [pass, show, model]}}"},
	{"allow", "map", "none", "rules of bake lint that this host breaks, each with the reason", "allow: {no-firewall: the hypervisor filters}"},
	{"cloud-config", "map", "none", "cloud-init's own keys, merged last", "cloud-config: {timezone: Etc/UTC}"},
	{"override", "list of dotted keys", "none", "of cloud-config, that win over a layer's", "cloud-config: {timezone: Etc/UTC}\noverride: [timezone]"},
}
