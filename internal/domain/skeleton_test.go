package domain

import (
	"strings"
	"testing"

	"bake/internal/host"
)

// TestSkeleton goes through what a machine has and what it must not have, one by one, and
// through what it has only if somebody asks. The golden files show all of it at once.
func TestSkeleton(t *testing.T) {
	base := zap()
	base.Machine.State = 20 << 30
	for what, element := range map[string]string{
		"a PC of today":                           `machine="q35">hvm</type>`,
		"UEFI":                                    `<os firmware="efi">`,
		"secure boot":                             `<feature enabled="yes" name="secure-boot">`,
		"with keys":                               `<feature enabled="yes" name="enrolled-keys">`,
		"that the guest cannot change":            `<smm state="on">`,
		"the hypervisor's processor":              `<cpu mode="host-passthrough" check="none" migratable="on">`,
		"a thread for its disks":                  `<iothreads>1</iothreads>`,
		"which they use, past the page cache":     `cache="none" io="native" discard="unmap" iothread="1" detect_zeroes="unmap"`,
		"a seed that nobody writes to":            "<target dev=\"vdb\" bus=\"virtio\"></target>\n      <readonly>",
		"no USB":                                  `<controller type="usb" index="0" model="none">`,
		"no screen":                               "<video>\n      <model type=\"none\">",
		"no sound":                                `<audio id="1" type="none">`,
		"a serial console":                        `<serial type="pty">`,
		"whose log begins at a start":             `/console.log" append="off">`,
		"a guest agent":                           `name="org.qemu.guest_agent.0"`,
		"a way for its report":                    `/report.json" append="off">`,
		"randomness":                              `<backend model="random">/dev/urandom</backend>`,
		"a TPM":                                   "<tpm model=\"tpm-crb\">\n      <backend type=\"emulator\" version=\"2.0\">",
		"memory that goes back":                   `<memballoon model="virtio" autodeflate="on" freePageReporting="on">`,
		"a card without the cost of a real one":   `<model type="virtio"></model>` + "\n      <port",
		"that no neighbour reaches":               `<port isolated="yes">`,
		"no sleep":                                `<suspend-to-mem enabled="no">`,
		"an end when it panics":                   `<on_crash>destroy</on_crash>`,
		"a clock that is told what it has missed": `<timer name="rtc" tickpolicy="catchup">`,
	} {
		if !strings.Contains(string(render(t, base)), element) {
			t.Errorf("%s: there is no %s", what, element)
		}
	}
	for _, element := range []string{"<graphics", "cdrom", "<sound", "<redirdev", "io_uring", "<vsock", "<watchdog", "<filterref", "<hugepages", "<hostdev", "<memoryBacking"} {
		if strings.Contains(string(render(t, base)), element) {
			t.Errorf("nobody has asked for %s", element)
		}
	}
	for element, ask := range map[string]func(*host.Host){
		`<vsock model="virtio">`:                         func(h *host.Host) { h.Machine.Vsock = true },
		`<cid auto="yes">`:                               func(h *host.Host) { h.Machine.Vsock = true },
		`<watchdog model="i6300esb" action="reset">`:     func(h *host.Host) { h.Machine.Watchdog = "reset" },
		`<filterref filter="clean-traffic">`:             func(h *host.Host) { h.Network.Filter = "clean-traffic" },
		`name="CTRL_IP_LEARNING" value="dhcp"`:           func(h *host.Host) { h.Network.Filter = "clean-traffic" },
		`<page size="1048576" unit="KiB">`:               func(h *host.Host) { h.Machine.Hugepages = 1 << 30 },
		`<memballoon model="none">`:                      func(h *host.Host) { h.Machine.Balloon = false },
		`<hostdev mode="subsystem" type="pci"`:           func(h *host.Host) { h.Machine.Devices = []host.Device{{PCI: "0000:65:00.0"}} },
		`<feature enabled="no" name="secure-boot">`:      func(h *host.Host) { h.Machine.Firmware = host.UEFI },
		` secure="auto" tpm="auto">`:                     func(h *host.Host) { h.Machine.Firmware, h.Machine.TPM = host.FirmwareAuto, host.TPMAuto },
		`<source dev="/dev/sdb">`:                        func(h *host.Host) { h.Machine.Disks = []host.Disk{{Name: "x", Path: "/dev/sdb", Format: "raw"}} },
		`<type arch="aarch64" machine="virt">hvm</type>`: func(h *host.Host) { h.Machine.Arch = host.ARM64 },
	} {
		h := zap()
		if strings.Contains(string(render(t, h)), element) {
			t.Errorf("%s is there without being asked for", element)
		}
		if ask(h); !strings.Contains(string(render(t, h)), element) {
			t.Errorf("there is no %s", element)
		}
	}
	h := zap()
	if h.Machine.Agent = false; strings.Contains(string(render(t, h)), "guest_agent") {
		t.Error("there is an agent's channel that nobody wants")
	}
}
