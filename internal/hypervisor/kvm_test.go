package hypervisor

import (
	"os/exec"
	"strings"
	"testing"
)

const withKVM = `<capabilities>
  <guest><os_type>hvm</os_type><arch name='aarch64'><domain type='qemu'/></arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>
</capabilities>`

func TestOffersKVM(t *testing.T) {
	for _, test := range []struct {
		text, arch string
		want       bool
	}{
		{withKVM, "amd64", true},
		{withKVM, "arm64", false},
		{strings.Replace(withKVM, "kvm", "xen", 1), "amd64", false},
		{"<capabilities/>", "amd64", false},
	} {
		if got, err := offersKVM(test.text, test.arch); err != nil || got != test.want {
			t.Errorf("%s in %s: %t, %v", test.arch, test.text, got, err)
		}
	}
	if _, err := offersKVM("no XML", "amd64"); err == nil {
		t.Error("no error")
	}
}

// TestAsksForKVM: what a real libvirtd says, as virsh shows it.
func TestAsksForKVM(t *testing.T) {
	_, uri := daemon(t)
	text, err := exec.Command("virsh", "-c", uri, "capabilities").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		want, err := offersKVM(string(text), arch)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := connect(t, uri).OffersKVM(arch); err != nil || got != want {
			t.Errorf("%s: %t, %v", arch, got, err)
		}
	}
	if !strings.Contains(string(text), "x86_64") {
		t.Error("no machine of amd64 at all")
	}
}
