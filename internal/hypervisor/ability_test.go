package hypervisor

import (
	"os/exec"
	"strings"
	"testing"

	"bake/internal/domain"
	"bake/internal/host"
	"bake/internal/vm"
)

// withAll is what libvirt 9.0 says where OVMF and swtpm are installed, as far as it matters.
const withAll = `<domainCapabilities>
  <os supported='yes'>
    <enum name='firmware'><value>efi</value></enum>
    <loader supported='yes'>
      <value>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</value>
      <enum name='type'><value>rom</value><value>pflash</value></enum>
      <enum name='secure'><value>yes</value><value>no</value></enum>
    </loader>
  </os>
  <devices>
    <tpm supported='yes'>
      <enum name='model'><value>tpm-tis</value><value>tpm-crb</value></enum>
      <enum name='backendModel'><value>passthrough</value><value>emulator</value><value>external</value></enum>
      <enum name='backendVersion'><value>1.2</value><value>2.0</value></enum>
    </tpm>
  </devices>
</domainCapabilities>`

func TestAbilities(t *testing.T) {
	both := domain.Abilities{SecureBoot: true, TPM: true}
	for name, test := range map[string]struct {
		arch, from, to string
		want           domain.Abilities
	}{
		"all":                        {"x86_64", "", "", both},
		"another card of ARM's":      {"aarch64", "", "", both},
		"no tpm-crb":                 {"x86_64", "<value>tpm-crb</value>", "", domain.Abilities{SecureBoot: true}},
		"tpm-crb is none of ARM's":   {"aarch64", "<value>tpm-tis</value>", "", domain.Abilities{SecureBoot: true}},
		"no secure firmware":         {"x86_64", "<enum name='secure'><value>yes</value>", "<enum name='secure'>", domain.Abilities{TPM: true}},
		"no UEFI":                    {"x86_64", "<value>efi</value>", "<value>bios</value>", domain.Abilities{TPM: true}},
		"no firmware":                {"x86_64", "<loader supported='yes'>", "<loader supported='no'>", domain.Abilities{TPM: true}},
		"no swtpm":                   {"x86_64", "<value>emulator</value>", "", domain.Abilities{SecureBoot: true}},
		"swtpm of 1.2 alone":         {"x86_64", "<value>2.0</value>", "", domain.Abilities{SecureBoot: true}},
		"libvirt tells no version":   {"x86_64", "<enum name='backendVersion'><value>1.2</value><value>2.0</value></enum>", "", both},
		"no TPM":                     {"x86_64", "<tpm supported='yes'>", "<tpm supported='no'>", domain.Abilities{SecureBoot: true}},
		"libvirt says nothing of it": {"x86_64", withAll[strings.Index(withAll, "<tpm"):strings.Index(withAll, "</devices>")], "", domain.Abilities{SecureBoot: true}},
		"libvirt says nothing":       {"x86_64", withAll, "<domainCapabilities/>", domain.Abilities{}},
	} {
		text := strings.Replace(withAll, test.from, test.to, 1)
		if got, err := abilities(text, test.arch); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := abilities("no XML", "x86_64"); err == nil {
		t.Error("no error")
	}
}

// TestAbilitiesHere: what a real libvirtd says it can, its QEMU's command line can have.
func TestAbilitiesHere(t *testing.T) {
	_, uri := daemon(t)
	h := connect(t, uri)
	can, err := h.Abilities("x86_64")
	if err != nil {
		t.Fatal(err)
	}
	wanted := full(t, h)
	wanted.Machine.Firmware, wanted.Machine.TPM = host.FirmwareAuto, host.TPMAuto
	text, err := domain.XML(wanted, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	mark := domain.Mark{Host: "full", Generation: "0123456789abcdef"}
	fit, as, err := domain.Fit(text, mark, can)
	if err != nil || (as.Secure == domain.Chosen) != can.SecureBoot || (as.TPM == domain.Chosen) != can.TPM {
		t.Fatal(as, err)
	}
	if err := h.Check(withoutKVM.Replace(fit)); err != nil {
		t.Errorf("%+v: %v in\n%s", can, err, fit)
	}
	_, none := vm.FindFirmware("amd64", string(host.UEFISecure))
	if can.SecureBoot != (none == nil) {
		t.Errorf("secure boot: %v, %v", can.SecureBoot, none)
	}
	if _, none = exec.LookPath("swtpm"); can.TPM != (none == nil) {
		t.Errorf("a TPM: %v, %v", can.TPM, none)
	}
	if _, err := h.Abilities("sparc64"); err == nil || !strings.Contains(err.Error(), "sparc64") {
		t.Errorf("what it has no QEMU for it knows: %v", err)
	}
}
