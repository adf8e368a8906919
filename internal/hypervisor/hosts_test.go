package hypervisor

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/secret"
)

// anyHost draws one of all kinds of hosts.
func anyHost(r *rand.Rand, i int) *host.Host {
	coin := func() bool { return r.IntN(2) == 0 }
	pick := func(words ...string) string { return words[r.IntN(len(words))] }
	h := &host.Host{Name: fmt.Sprintf("h%d", i),
		Machine: host.Machine{Arch: host.AMD64, Agent: coin(), Balloon: coin(), Vsock: coin(), Watchdog: pick("", "reset", "poweroff", "pause"), VCPUs: 1 + r.IntN(64), Memory: int64(512+r.IntN(1<<20)) << 20, Disk: 1 << 30, Firmware: host.UEFI,
			TPM: host.TPM(pick(string(host.TPMAuto), string(host.TPMOn), string(host.TPMOff))), ImagesPath: pick("/var/lib/libvirt/images/bake", "/srv/a b", "/x&y", "/srv/ü")},
		Network: host.Network{MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", r.IntN(256), r.IntN(256), r.IntN(256)), DHCP: true, Isolated: coin()},
		Offline: coin()}
	if coin() {
		h.Machine.State = int64(1+r.IntN(1000)) << 30
	}
	if coin() {
		h.Machine.Firmware = host.Firmware(pick(string(host.UEFISecure), string(host.FirmwareAuto)))
	}
	if coin() {
		h.Network.Attach.Bridge = pick("br0", "virbr1")
	} else {
		h.Network.Attach.Network = pick("default", "lab-1", "a&b")
	}
	if coin() {
		h.Secrets = []secret.Ref{{Name: "db", File: "db"}}
	}
	if coin() {
		h.Network.Filter = pick("clean-traffic", "no-mac-spoofing", "mine")
	}
	if coin() {
		h.Network.DHCP = false
		h.Network.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24"), netip.MustParsePrefix("2001:db8::9/64")}[:1+r.IntN(2)]
	}
	h.Machine.Hugepages = []int64{0, 0, 2 << 20, 1 << 30}[r.IntN(4)]
	for n := range r.IntN(4) {
		h.Machine.Disks = append(h.Machine.Disks, host.Disk{Name: fmt.Sprint("data-", n), Path: pick("/srv/a & b", "/dev/<x>") + fmt.Sprint(n), Format: pick("raw", "qcow2"), ReadOnly: coin()})
	}
	for n := range r.IntN(3) {
		h.Machine.Devices = append(h.Machine.Devices, []host.Device{{PCI: fmt.Sprintf("0000:%02x:%02x.%d", 1+r.IntN(255), r.IntN(32), n)},
			{Mdev: fmt.Sprintf("4b20d080-1b54-4048-85b3-a6a62d165c%02x", n)}}[r.IntN(2)])
	}
	for n := range r.IntN(4) {
		h.Layers = append(h.Layers, layer.Rendered{Name: fmt.Sprintf("l%d", n), Shares: []layer.Share{
			{Dir: pick("/srv/a", "/srv/a & b", "/srv/<x>") + fmt.Sprint(n), Tag: fmt.Sprintf("tag%d", n), ReadOnly: coin()}}})
	}
	return h
}

// TestEveryHost: the daemon accepts the XML of all kinds of hosts, with KVM and
// without, and gives back what matters of it.
func TestEveryHost(t *testing.T) {
	dir, uri := daemon(t)
	h := connect(t, uri)
	r := rand.New(rand.NewPCG(7, 11))
	var files []string
	for i := range 200 {
		wanted := anyHost(r, i)
		mark := domain.Mark{Host: wanted.Name, Generation: "0123456789abcdef", Trying: true}
		can := domain.Abilities{Emulated: r.IntN(4) == 0, SecureBoot: r.IntN(4) > 0, TPM: r.IntN(4) > 0}
		fit, as, err := defineOn(h, wanted, mark, can)
		if err != nil && strings.Contains(err.Error(), "virtiofs does not yet support read-only mode") && makeWritable(wanted) {
			fit, as, err = defineOn(h, wanted, mark, can) // libvirt before 11.0, see package domain
		}
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, filepath.Join(dir, wanted.Name+".xml"))
		if err := os.WriteFile(files[i], []byte(fit), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := h.Find(wanted.Name)
		if err != nil || m == nil || m.Mark != as {
			t.Fatalf("%+v, %v", m, err)
		}
		var back libvirtxml.Domain
		if err := back.Unmarshal(m.XML); err != nil {
			t.Fatal(err)
		}
		if complaint := compare(wanted, can, &back); complaint != "" {
			t.Errorf("%s in\n%s", complaint, m.XML)
		}
		if differences, err := domain.Diff(fit, m.XML); len(differences) > 0 || err != nil {
			t.Errorf("it is not as it was defined: %v, %v", differences, err)
		}
		needs, err := domain.ReadNeeds([]byte(m.XML))
		if err != nil || needs.Disk == "" || (needs.State != "") != (wanted.Machine.State > 0) || needs.Network != wanted.Network.Attach.Network {
			t.Errorf("%+v, %v", needs, err)
		}
		if err := h.Undefine(wanted.Name); err != nil {
			t.Fatal(err)
		}
	}
	// What virt-xml-validate runs for each.
	out, err := exec.Command("xmllint", append([]string{"--noout", "--relaxng", "/usr/share/libvirt/schemas/domain.rng"}, files...)...).CombinedOutput()
	if err != nil || strings.Count(string(out), " validates") != len(files) {
		t.Errorf("%v: %s", err, out)
	}
}

func compare(wanted *host.Host, can domain.Abilities, back *libvirtxml.Domain) string {
	shared := back.MemoryBacking != nil && back.MemoryBacking.MemoryAccess != nil && back.MemoryBacking.MemoryAccess.Mode == "shared" &&
		back.MemoryBacking.MemorySource != nil && back.MemoryBacking.MemorySource.Type == "memfd"
	isolated := len(back.Devices.Interfaces) == 1 && back.Devices.Interfaces[0].PortOptions != nil && back.Devices.Interfaces[0].PortOptions.Isolated == "yes"
	disks := 2 + len(wanted.Machine.Disks)
	for _, is := range []bool{wanted.Machine.State > 0, len(wanted.Secrets) > 0, wanted.Offline} {
		if is {
			disks++
		}
	}
	switch {
	case len(back.Devices.Filesystems) != len(wanted.Layers):
		return "other shares"
	case shared != (len(wanted.Layers) > 0):
		return "virtiofs without shared memory, or the other way round"
	case isolated != wanted.Network.Isolated:
		return "another port"
	case len(back.Devices.Disks) != disks:
		return "other disks"
	case back.Memory.Value != uint(wanted.Machine.Memory>>10) || back.Memory.Unit != "KiB":
		return "other memory"
	case int(back.VCPU.Value) != wanted.Machine.VCPUs:
		return "other processors"
	case len(back.Devices.Graphics)+len(back.Devices.Sounds)+len(back.Devices.Inputs) > 2: // libvirt adds the two PS/2 devices of the chipset
		return "devices that nobody asked for"
	case len(back.Devices.Hostdevs) != len(wanted.Machine.Devices):
		return "other devices of the hypervisor's"
	case (back.Devices.VSock != nil) != wanted.Machine.Vsock:
		return "another vsock"
	case len(back.Devices.Channels) != map[bool]int{true: 2, false: 1}[wanted.Machine.Agent]:
		return "another agent"
	case (back.Devices.MemBalloon.Model == "virtio") != wanted.Machine.Balloon:
		return "another balloon"
	case len(back.Devices.Watchdogs) != map[bool]int{true: 1, false: 0}[wanted.Machine.Watchdog != ""]:
		return "another watchdog"
	case (back.MemoryBacking != nil && back.MemoryBacking.MemoryHugePages != nil) != (wanted.Machine.Hugepages > 0):
		return "other pages"
	case (back.Devices.Interfaces[0].FilterRef != nil) != (wanted.Network.Filter != ""):
		return "another filter"
	case (len(back.Devices.TPMs) > 0) != (wanted.Machine.TPM == host.TPMOn || wanted.Machine.TPM == host.TPMAuto && can.TPM && !can.Emulated):
		return "another TPM"
	case isSecure(back) != (wanted.Machine.Firmware == host.UEFISecure || wanted.Machine.Firmware == host.FirmwareAuto && can.SecureBoot && !can.Emulated):
		return "other firmware"
	}
	return ""
}

// isSecure says whether a PC has secure boot, and what goes with it.
func isSecure(d *libvirtxml.Domain) bool {
	is := slices.Contains(d.OS.FirmwareInfo.Features, libvirtxml.DomainOSFirmwareFeature{Enabled: "yes", Name: "secure-boot"}) &&
		slices.Contains(d.OS.FirmwareInfo.Features, libvirtxml.DomainOSFirmwareFeature{Enabled: "yes", Name: "enrolled-keys"})
	return is && d.Features.SMM != nil && d.Features.SMM.State == "on"
}

func define(h *Hypervisor, wanted *host.Host, mark domain.Mark) (fit string, err error) {
	fit, _, err = defineOn(h, wanted, mark, domain.Abilities{Emulated: true})
	return fit, err
}

// defineOn defines a host's domain as on a hypervisor that can do that. This daemon's QEMU has
// no KVM: of one that would have it no more is taken over.
func defineOn(h *Hypervisor, wanted *host.Host, mark domain.Mark, can domain.Abilities) (fit string, as domain.Mark, err error) {
	text, err := domain.XML(wanted, mark.Generation)
	if err != nil {
		return "", as, err
	}
	fit, as, err = domain.Fit(text, mark, can)
	if err != nil {
		return "", as, err
	}
	if !can.Emulated {
		fit = withoutKVM.Replace(fit)
	}
	if err := h.Define(fit); err != nil {
		return "", as, fmt.Errorf("%w in\n%s", err, fit)
	}
	return fit, as, nil
}

var withoutKVM = strings.NewReplacer(`<domain type="kvm">`, `<domain type="qemu">`,
	`<cpu mode="host-passthrough" check="none" migratable="on">`, `<cpu mode="maximum" check="none">`)

// makeWritable reports whether a share was not.
func makeWritable(h *host.Host) (changed bool) {
	for _, l := range h.Layers {
		changed = changed || l.Shares[0].ReadOnly
		l.Shares[0].ReadOnly = false
	}
	return changed
}
