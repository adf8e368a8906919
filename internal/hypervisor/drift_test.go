package hypervisor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/secret"
)

// full is a machine with all that one may have and this hypervisor can give, and the
// files that it wants.
func full(t *testing.T, h *Hypervisor) *host.Host {
	t.Helper()
	root, err := os.MkdirTemp("", "bake-full-") // for QEMU, which is somebody else there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	wanted := &host.Host{Name: "full", Offline: true, Secrets: []secret.Ref{{Name: "db", File: "db"}},
		Machine: host.Machine{Arch: host.AMD64, Agent: true, Balloon: true, Watchdog: "reset", VCPUs: 1, Memory: 512 << 20, Disk: 1 << 30, State: 64 << 20, Firmware: host.UEFI, TPM: host.TPMOn,
			ImagesPath: filepath.Join(root, "images"), Disks: []host.Disk{{Name: "data", Path: filepath.Join(root, "data"), Format: "qcow2"}}},
		Network: host.Network{MAC: "52:54:00:00:00:01", DHCP: true, Filter: "clean-traffic", Attach: host.Attach{Network: "default"}},
		Layers:  []layer.Rendered{{Name: "virtiofs", Shares: []layer.Share{{Dir: root, Tag: "workspace"}}}}}
	for _, name := range []string{"0123456789abcdef/disk.qcow2", "state.qcow2", "../../data"} {
		if _, err := h.MakeDisk(filepath.Join(wanted.Machine.ImagesPath, "full", name), 64<<20); err != nil {
			t.Fatal(err)
		}
	}
	return wanted
}

// TestDrift: what runs is what was defined, until somebody changes one of the two.
func TestDrift(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	mark := domain.Mark{Host: "full", Generation: "0123456789abcdef"}
	if _, err := define(h, full(t, h), mark); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Undefine("full") })
	if err := h.Start("full", false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Kill("full") })
	differ := func(what string, want ...domain.Difference) {
		t.Helper()
		m, err := h.Find("full")
		if err != nil {
			t.Fatal(err)
		}
		live, err := h.Live("full")
		if err != nil {
			t.Fatal(err)
		}
		got, err := domain.Diff(m.XML, live)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s\n%s\n%s", what, err, diff, m.XML, live)
		}
	}
	differ("as it was started")
	d, err := h.virt.DomainLookupByName("full")
	if err != nil {
		t.Fatal(err)
	}
	const bell = "<channel type='unix'><target type='virtio' name='bell'/></channel>"
	if err := h.virt.DomainAttachDeviceFlags(d, bell, uint32(libvirt.DomainDeviceModifyLive)); err != nil {
		t.Fatal(err)
	}
	differ("a device that was plugged in", domain.Difference{Element: "devices/channel[bell]", Wanted: "absent", Found: "present"})
	if err := h.virt.DomainAttachDeviceFlags(d, bell, uint32(libvirt.DomainDeviceModifyConfig)); err != nil {
		t.Fatal(err)
	}
	differ("and defined")
	if err := h.virt.DomainSetMemoryFlags(d, 400<<10, uint32(libvirt.DomainAffectConfig)); err != nil {
		t.Fatal(err)
	}
	differ("less memory from the next start on", domain.Difference{Element: "currentMemory", Wanted: "409600", Found: "524288"})
}
