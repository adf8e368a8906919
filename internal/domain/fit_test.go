package domain

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bake/internal/host"
)

func TestFit(t *testing.T) {
	h := zap()
	h.Machine.State = 20 << 30
	text := string(render(t, h))
	mark := Mark{Host: "zap", Generation: generation, Previous: "fedcba9876543210", Trying: true, Leaving: true, Reserved: "default lab"}
	fit, as, err := Fit([]byte(text), mark, Abilities{Emulated: true})
	if err != nil || as != mark {
		t.Fatal(as, err)
	}
	if got, ok, err := ReadMark(fit); got != mark || !ok || err != nil {
		t.Errorf("%+v, %v, %v", got, ok, err)
	}
	if !strings.Contains(fit, "<domain type=\"qemu\">") {
		t.Errorf("it wants KVM: %s", fit)
	}
	// What is emulated has the processor that it boots with in bake verify.
	for arch, want := range map[string]string{host.AMD64: `<feature policy="disable" name="cx16">`, host.ARM64: `>cortex-a72<`} {
		h := zap()
		h.Machine.Arch = arch
		for _, emulated := range []bool{true, false} {
			fit, _, err := Fit(render(t, h), mark, Abilities{Emulated: emulated})
			if err != nil || strings.Contains(fit, want) != emulated || strings.Contains(fit, "host-passthrough") == emulated {
				t.Errorf("%s, emulated %v: %v, %s", arch, emulated, err, fit)
			}
		}
	}
	home := "/var/lib/libvirt/images/bake/zap/"
	for what, change := range map[string][2]string{
		"another name":             {"<name>zap</name>", "<name>two</name>"},
		"another UUID":             {UUID("zap"), UUID("two")},
		"another host's root disk": {home + generation + "/disk", "/var/lib/libvirt/images/bake/two/" + generation + "/disk"},
		"another generation's":     {home + generation + "/disk", home + "fedcba9876543210/disk"},
		"another state disk":       {home + "state", "/var/lib/libvirt/images/bake/two/state"},
		"no root disk":             {">bake-root<", ">root<"},
		"no devices":               {"devices>", "title>"},
	} {
		changed := strings.ReplaceAll(text, change[0], change[1])
		if changed == text {
			t.Fatalf("%s: nothing changed", what)
		}
		if _, _, err := Fit([]byte(changed), mark, Abilities{}); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// TestFitWants: what a host file leaves to the hypervisor its machine gets where that has it
// and KVM, exactly as one whose host file demands it; what a host file says stays as it is.
func TestFitWants(t *testing.T) {
	mark := Mark{Host: "zap", Generation: generation, Previous: "fedcba9876543210", Trying: true}
	chosen := map[bool]Choice{true: Chosen}
	for _, arch := range []string{host.AMD64, host.ARM64} {
		for bits := range 1 << 3 {
			can := Abilities{Emulated: bits&1 > 0, SecureBoot: bits&2 > 0, TPM: bits&4 > 0}
			secure, tpm := can.SecureBoot && !can.Emulated, can.TPM && !can.Emulated
			for firmware, as := range map[host.Firmware]host.Firmware{host.UEFI: host.UEFI, host.UEFISecure: host.UEFISecure,
				host.FirmwareAuto: map[bool]host.Firmware{true: host.UEFISecure, false: host.UEFI}[secure]} {
				for asked, got := range map[host.TPM]host.TPM{host.TPMOn: host.TPMOn, host.TPMOff: host.TPMOff,
					host.TPMAuto: map[bool]host.TPM{true: host.TPMOn, false: host.TPMOff}[tpm]} {
					h, demanding := wanting(firmware, asked), wanting(as, got)
					h.Machine.Arch, demanding.Machine.Arch = arch, arch
					want := mark
					want.Secure, want.TPM = chosen[firmware == host.FirmwareAuto && secure], chosen[asked == host.TPMAuto && tpm]
					fit, is, err := Fit(render(t, h), mark, can)
					if err != nil || is != want {
						t.Errorf("%s, %s, %s, %+v: %+v, %v", arch, firmware, asked, can, is, err)
					}
					if read, ok, err := ReadMark(fit); read != want || !ok || err != nil {
						t.Errorf("%s, %s, %s, %+v: it has the mark %+v, %v, %v", arch, firmware, asked, can, read, ok, err)
					}
					demanded, _, err := Fit(render(t, demanding), mark, can)
					if err == nil {
						demanded, err = Remark(demanded, want)
					}
					if diff := cmp.Diff(demanded, fit); diff != "" || err != nil {
						t.Errorf("%s, %s, %s, %+v: %v\n%s", arch, firmware, asked, can, err, diff)
					}
				}
			}
		}
	}
}

// TestFitAgain: what a mark says of another hypervisor does not count.
func TestFitAgain(t *testing.T) {
	had := Mark{Host: "zap", Generation: generation, Secure: Chosen, TPM: Chosen}
	fit, as, err := Fit(render(t, hosts()["auto"]), had, Abilities{TPM: true})
	if err != nil || as.Secure != "" || as.TPM != Chosen || strings.Contains(fit, `"yes" name="secure-boot"`) {
		t.Errorf("%+v, %v: %s", as, err, fit)
	}
}

// TestAutoByHand: without bake such a machine is the plain one.
func TestAutoByHand(t *testing.T) {
	auto := string(render(t, hosts()["auto"]))
	plain := strings.Replace(auto, ` secure="auto" tpm="auto"`, "", 1)
	if diff := cmp.Diff(string(render(t, wanting(host.UEFI, host.TPMOff))), plain); diff != "" || plain == auto {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestReadMark: what bake would not write it does not read. A generation is a part of
// a path.
func TestReadMark(t *testing.T) {
	domain := func(generation, previous string) string {
		return "<domain><name>zap</name><metadata>" + Mark{Host: "zap", Generation: generation, Previous: previous}.String() + "</metadata></domain>"
	}
	for name, test := range map[string]struct {
		generation, previous string
		ok                   bool
	}{
		"both":              {generation, generation, true},
		"no previous":       {generation, "", true},
		"no generation":     {"", "", false},
		"up":                {"..", "", false},
		"another host's":    {generation, "../two/" + generation, false},
		"hidden":            {".base", "", false},
		"a line":            {generation, "a\nzip running", false},
		"an absolute path":  {"/etc", "", false},
		"an option, almost": {"-x", "", false},
	} {
		if _, ok, err := ReadMark(domain(test.generation, test.previous)); ok != test.ok || err != nil {
			t.Errorf("%s: %v, %v", name, ok, err)
		}
	}
}

// TestReadNeeds: what must be there before such a machine starts.
func TestReadNeeds(t *testing.T) {
	got, err := ReadNeeds(render(t, hosts()["extra"]))
	home := "/var/lib/libvirt/images/bake/zap/"
	want := Needs{Arch: "x86_64", Disk: home + generation + "/disk.qcow2", Network: "default", Filter: "clean-traffic", Shares: []string{"/srv/zap"},
		Disks: []string{"/srv/a & b.qcow2", "/dev/disk/by-id/x"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}
