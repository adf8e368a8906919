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
	mark := Mark{Host: "zap", Generation: generation, Previous: "fedcba9876543210", Trying: true, Leaving: true}
	fit, err := Fit([]byte(text), mark, true)
	if err != nil {
		t.Fatal(err)
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
			fit, err := Fit(render(t, h), mark, emulated)
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
		if _, err := Fit([]byte(changed), mark, false); err == nil {
			t.Errorf("%s: no error", what)
		}
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
