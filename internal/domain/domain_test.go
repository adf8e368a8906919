package domain

import (
	"encoding/xml"
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bake/internal/host"
	"bake/internal/layer"
	"bake/internal/secret"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const generation = "0123456789abcdef"

func zap() *host.Host {
	return &host.Host{
		Name: "zap",
		Machine: host.Machine{
			Arch: host.AMD64, VCPUs: 2, Memory: 3 << 30, Disk: 60 << 30, Agent: true, Balloon: true,
			Firmware: host.UEFISecure, TPM: host.TPMOn, ImagesPath: "/var/lib/libvirt/images/bake",
		},
		Network: host.Network{
			MAC: "52:54:00:12:34:56", DHCP: true, Isolated: true, Attach: host.Attach{Network: "default"},
		},
	}
}

// hosts is every kind of machine: all of them are golden and go to the judge.
func hosts() map[string]*host.Host {
	secure, plain := zap(), zap()
	plain.Machine.Firmware, plain.Machine.TPM = host.UEFI, host.TPMOff
	plain.Network.Attach, plain.Network.Isolated = host.Attach{Bridge: "br0"}, false
	odd := zap()
	odd.Machine.Memory = 1_500_000_000
	odd.Machine.ImagesPath = `/srv/a & b/<"images'>`
	odd.Network.Attach.Network = `a<b>&"c"`
	shares := zap()
	shares.Layers = []layer.Rendered{{Name: "ssh"}, {Name: "a", Shares: []layer.Share{{Dir: "/srv/zap", Tag: "workspace", ReadOnly: true}}},
		{Name: "b", Shares: []layer.Share{{Dir: `/srv/a & b/<"x'>`, Tag: "drop"}}}}
	secrets := zap()
	secrets.Secrets = []secret.Ref{{Name: "db", File: "db"}}
	offline := zap()
	offline.Offline = true
	state := zap()
	state.Machine.State = 20 << 30
	arm := zap()
	arm.Machine.Arch, arm.Machine.State, arm.Machine.Watchdog = host.ARM64, 20<<30, "reset"
	extra := zap()
	extra.Machine.Hugepages, extra.Machine.Watchdog, extra.Machine.Vsock = 2<<20, "poweroff", true
	extra.Machine.Agent, extra.Machine.Balloon = false, false
	extra.Machine.Disks = []host.Disk{{Name: "data", Path: "/srv/a & b.qcow2", Format: "qcow2"}, {Name: "lun", Path: "/dev/disk/by-id/x", Format: "raw", ReadOnly: true}}
	extra.Machine.Devices = []host.Device{{PCI: "0000:65:1f.7"}, {Mdev: "4b20d080-1b54-4048-85b3-a6a62d165c01"}}
	extra.Network.Filter, extra.Network.DHCP = "clean-traffic", false
	extra.Network.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.9/24"), netip.MustParsePrefix("2001:db8::9/64")}
	extra.Layers = []layer.Rendered{{Name: "a", Shares: []layer.Share{{Dir: "/srv/zap", Tag: "workspace"}}}}
	auto := wanting(host.FirmwareAuto, host.TPMAuto)
	return map[string]*host.Host{"auto": auto, "arm64": arm, "extra": extra, "state": state, "offline": offline, "secure": secure, "plain": plain, "odd": odd, "shares": shares, "secrets": secrets}
}

// wanting is a host with another firmware and another TPM.
func wanting(firmware host.Firmware, tpm host.TPM) *host.Host {
	h := zap()
	h.Machine.Firmware, h.Machine.TPM = firmware, tpm
	return h
}

func render(t *testing.T, h *host.Host) []byte {
	t.Helper()
	data, err := XML(h, generation)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestGolden(t *testing.T) {
	for name, h := range hosts() {
		t.Run(name, func(t *testing.T) {
			got := render(t, h)
			path := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got (go test -update rewrites):\n%s", diff)
			}
		})
	}
}

// need skips a test when a program is missing, and fails it in CI.
func need(t *testing.T, program string) {
	t.Helper()
	_, err := exec.LookPath(program)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
}

func run(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func validate(t *testing.T, data []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "domain.xml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	need(t, "xmllint") // which virt-xml-validate runs, from another package
	need(t, "virt-xml-validate")
	return run("virt-xml-validate", path, "domain")
}

func TestSchema(t *testing.T) {
	for name, h := range hosts() {
		t.Run(name, func(t *testing.T) {
			if name == "odd" {
				h.Network.Attach.Network = "a&b" // the schema has no < in a network's name
			}
			if out, err := validate(t, render(t, h)); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestSchemaJudges: the judge of TestSchema does refuse.
func TestSchemaJudges(t *testing.T) {
	good := string(render(t, zap()))
	for from, to := range map[string]string{
		"<port isolated=\"yes\"":   "<port isolated=\"perhaps\"",
		"name=\"enrolled-keys\"":   "name=\"enroled-keys\"",
		"model=\"tpm-crb\"":        "model=\"tpm-crab\"",
		"freePageReporting=\"on\"": "freePageReporting=\"yes\"",
		"cache=\"none\"":           "cache=\"nothing\"",
	} {
		bad := strings.Replace(good, from, to, 1)
		if bad == good {
			t.Errorf("the XML lacks %s", from)
		}
		if out, err := validate(t, []byte(bad)); err == nil || !strings.Contains(out, "fails to validate") {
			t.Errorf("virt-xml-validate on %s: %v %s", to, err, out)
		}
	}
}

// TestEscaping: what is written is what a parser reads back.
func TestEscaping(t *testing.T) {
	h := hosts()["odd"]
	h.Name = `z<a>"p'&`
	data := render(t, h)
	var d libvirtxml.Domain
	if err := d.Unmarshal(string(data)); err != nil {
		t.Fatal(err)
	}
	if d.Name != h.Name {
		t.Errorf("name %q, want %q", d.Name, h.Name)
	}
	if got, want := d.Devices.Disks[0].Source.File.File, h.Machine.ImagesPath+"/"+h.Name+"/"+generation+"/disk.qcow2"; got != want {
		t.Errorf("disk %q, want %q", got, want)
	}
	if got := d.Devices.Interfaces[0].Source.Network.Network; got != h.Network.Attach.Network {
		t.Errorf("network %q", got)
	}
	var metadata struct {
		Machine struct {
			Host       string `xml:"host,attr"`
			Generation string `xml:"generation,attr"`
		} `xml:"urn:bake:domain:1 machine"`
	}
	if err := xml.Unmarshal([]byte("<metadata>"+d.Metadata.XML+"</metadata>"), &metadata); err != nil {
		t.Fatal(err)
	}
	if metadata.Machine.Host != h.Name || metadata.Machine.Generation != generation {
		t.Errorf("metadata %+v", metadata)
	}
}

// TestReproducible: neither time zone nor directory nor a second run shows.
func TestReproducible(t *testing.T) {
	first := render(t, zap())
	t.Setenv("TZ", "Asia/Tokyo")
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", "/nowhere")
	if string(first) != string(render(t, zap())) {
		t.Error("the same host, other bytes")
	}
	other := zap()
	other.Name = "zip"
	if string(first) == string(render(t, other)) {
		t.Error("another host, the same bytes")
	}
}

// TestUUID pins what the command in the package comment prints.
func TestUUID(t *testing.T) {
	if got, want := uuidOf("zap"), "ddb0d5a0-e188-5c18-addc-91ca8a2731d1"; got != want {
		t.Errorf("uuid %s, want %s", got, want)
	}
	if uuidOf("zap") == uuidOf("zip") {
		t.Error("two hosts, one UUID")
	}
}

func TestRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(h *host.Host)
		want   string
	}{
		"no name":         {func(h *host.Host) { h.Name = "" }, "no name"},
		"slash in name":   {func(h *host.Host) { h.Name = "../zap" }, "no name"},
		"option as name":  {func(h *host.Host) { h.Name = "-zap" }, "no name"},
		"newline in name": {func(h *host.Host) { h.Name = "zap\n" }, "no name"},
		"no UTF-8":        {func(h *host.Host) { h.Name = "zap\xff" }, "no name"},
		"no processors":   {func(h *host.Host) { h.Machine.VCPUs = 0 }, "0 virtual processors"},
		"negative":        {func(h *host.Host) { h.Machine.VCPUs = -1 }, "-1 virtual processors"},
		"no memory":       {func(h *host.Host) { h.Machine.Memory = 0 }, "0 bytes of memory"},
		"memory in MiB":   {func(h *host.Host) { h.Machine.Memory = 3072 }, "3072 bytes of memory"},
		"no firmware":     {func(h *host.Host) { h.Machine.Firmware = "" }, "firmware"},
		"BIOS":            {func(h *host.Host) { h.Machine.Firmware = "bios" }, `firmware "bios"`},
		"no word of TPM":  {func(h *host.Host) { h.Machine.TPM = "" }, `TPM ""`},
		"no directory":    {func(h *host.Host) { h.Machine.ImagesPath = "" }, "images directory"},
		"relative":        {func(h *host.Host) { h.Machine.ImagesPath = "images" }, "images directory"},
		"dots":            {func(h *host.Host) { h.Machine.ImagesPath = "/srv/../etc" }, "images directory"},
		"control":         {func(h *host.Host) { h.Machine.ImagesPath = "/srv/\x00" }, "control characters"},
		"no MAC":          {func(h *host.Host) { h.Network.MAC = "" }, "MAC address"},
		"auto MAC":        {func(h *host.Host) { h.Network.MAC = "auto" }, "MAC address"},
		"upper-case MAC":  {func(h *host.Host) { h.Network.MAC = "52:54:00:AB:CD:EF" }, "MAC address"},
		"long MAC":        {func(h *host.Host) { h.Network.MAC = "52:54:00:12:34:56:78:9a" }, "MAC address"},
		"multicast MAC":   {func(h *host.Host) { h.Network.MAC = "53:54:00:12:34:56" }, "multicast"},
		"same tag": {func(h *host.Host) {
			s := []layer.Share{{Dir: "/srv", Tag: "a"}}
			h.Layers = []layer.Rendered{{Name: "x", Shares: s}, {Name: "y", Shares: s}}
		}, "the layers x and y both share"},
		"no tag": {func(h *host.Host) {
			h.Layers = []layer.Rendered{{Name: "x", Shares: []layer.Share{{Dir: "/srv"}}}}
		}, "is no name"},
		"relative share": {func(h *host.Host) {
			h.Layers = []layer.Rendered{{Name: "x", Shares: []layer.Share{{Dir: "srv", Tag: "a"}}}}
		}, "not a clean absolute path"},
		"no architecture": {func(h *host.Host) { h.Machine.Arch = "" }, "architecture"},
		"a disk of bake's": {func(h *host.Host) {
			h.Machine.Disks = []host.Disk{{Name: "bake-root", Path: "/x", Format: "raw"}}
		}, "no name of its own"},
		"a disk nowhere":   {func(h *host.Host) { h.Machine.Disks = []host.Disk{{Name: "x", Path: "x", Format: "raw"}} }, "clean absolute path"},
		"a guessed format": {func(h *host.Host) { h.Machine.Disks = []host.Disk{{Name: "x", Path: "/x"}} }, "format"},
		"too many disks":   {func(h *host.Host) { h.Machine.Disks = make([]host.Disk, 22) }, "more than there are letters"},
		"no device":        {func(h *host.Host) { h.Machine.Devices = []host.Device{{}} }, "is none"},
		"no PCI address":   {func(h *host.Host) { h.Machine.Devices = []host.Device{{PCI: "65:00.0"}} }, "is none"},
		"no attach":        {func(h *host.Host) { h.Network.Attach.Network = "" }, "exactly one"},
		"two attaches":     {func(h *host.Host) { h.Network.Attach.Bridge = "br0" }, "exactly one"},
		"bridge control":   {func(h *host.Host) { h.Network.Attach.Network = "a\x1b" }, "control characters"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := zap()
			test.change(h)
			if _, err := XML(h, generation); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	for _, bad := range []string{"", "a/b", ".draft-1", "a\tb"} {
		if _, err := XML(zap(), bad); err == nil {
			t.Errorf("generation %q was taken", bad)
		}
	}
}
