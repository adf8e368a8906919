package domain

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDiff(t *testing.T) {
	wanted := string(render(t, hosts()["shares"]))
	for name, test := range map[string]struct {
		from, to string
		want     []Difference
	}{
		"nothing":                 {"", "", nil},
		"the generation's name":   {`<title>zap ` + generation, `<title>zip`, nil},
		"another unit":            {`<memory unit="b">3221225472<`, `<memory unit="KiB">3145728<`, nil},
		"a version":               {`machine="q35"`, `machine="pc-q35-7.2"`, nil},
		"another machine":         {`machine="q35"`, `machine="pc-i440fx-7.2"`, []Difference{{"os/type@machine", "q35", "pc-i440fx-7.2"}}},
		"what libvirt adds":       {`<devices>`, `<devices><emulator>/bin/qemu</emulator><input type="mouse" bus="ps2"/><controller type="pci" index="0"/>`, nil},
		"an alias":                {`<serial>bake-root</serial>`, `<serial>bake-root</serial><alias name="virtio-disk0"/>`, nil},
		"an attribute":            {`cache="none"`, `cache="writeback"`, []Difference{{"devices/disk[vda]/driver@cache", "none", "writeback"}}},
		"no attribute":            {` io="native"`, ``, []Difference{{"devices/disk[vda]/driver@io", "native", absent}}},
		"a checked processor":     {`check="none"`, `check="full"`, nil},
		"firmware that was found": {`<os firmware="efi">`, `<os><loader>/x</loader>`, nil},
		"a text":                  {`<on_crash>destroy<`, `<on_crash>restart<`, []Difference{{"on_crash", "destroy", "restart"}}},
		"a device less":           {`<rng model="virtio">`, `<input type="x">`, []Difference{{"devices/rng", present, absent}}},
		"a device more":           {`<devices>`, `<devices><disk type="file"><target dev="vdz" bus="virtio"/></disk>`, []Difference{{"devices/disk[vdz]", absent, present}}},
		"a screen":                {`<devices>`, `<devices><graphics type="vnc"/>`, []Difference{{"devices/graphics", absent, present}}},
		"arguments of QEMU's":     {`<devices>`, `<commandline xmlns="http://libvirt.org/schemas/domain/qemu/1.0"><arg value="-monitor"/></commandline><devices>`, []Difference{{"commandline", absent, present}}},
		"another kernel":          {`</firmware>`, `</firmware><kernel>/x</kernel><cmdline>init=/bin/sh</cmdline>`, []Difference{{"os/kernel", absent, present}, {"os/cmdline", absent, present}}},
		"no confinement":          {`<devices>`, `<seclabel type="none" model="apparmor"/><devices>`, []Difference{{"seclabel", absent, present}}},
		"libvirt's own":           {`<devices>`, `<seclabel type="dynamic" model="apparmor" relabel="yes"/><seclabel type="dynamic" model="dac" relabel="yes"/><devices>`, nil},
		"a second port":           {`<devices>`, `<devices><serial type="tcp"><target port="1"/></serial>`, []Difference{{"devices/serial[1]", absent, present}}},
		"a disk that is shared":   {`<serial>bake-root</serial>`, `<serial>bake-root</serial><shareable/>`, []Difference{{"devices/disk[vda]/shareable", absent, present}}},
		"a script":                {`<model type="virtio"></model>`, `<model type="virtio"></model><script path="/x"/>`, []Difference{{"devices/interface[52:54:00:12:34:56]/script", absent, present}}},
		"another of two":          {`<target dir="drop">`, `<target dir="other">`, []Difference{{"devices/filesystem[drop]", present, absent}, {"devices/filesystem[other]", absent, present}}},
		"a seed that is gone":     {`dev="vdb"`, `dev="vdb2"`, []Difference{{"devices/disk[vdb2]", absent, present}}},
		"another card's address":  {`52:54:00:12:34:56`, `52:54:00:12:34:57`, []Difference{{"devices/interface[52:54:00:12:34:56]", present, absent}, {"devices/interface[52:54:00:12:34:57]", absent, present}}},
	} {
		t.Run(name, func(t *testing.T) {
			found := wanted
			if test.from != "" {
				found = strings.ReplaceAll(wanted, test.from, test.to)
				if name == "a device less" {
					found = strings.Replace(found, "</rng>", "</input>", 1)
				}
				if found == wanted {
					t.Fatal("nothing was changed")
				}
			}
			got, err := Diff(wanted, found)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
	for _, bad := range []string{"", "<domain>", "<a/><b/>"} {
		if _, err := Diff(bad, wanted); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

// TestEdited: with KVM and without, what was defined of a generation is what it says.
func TestEdited(t *testing.T) {
	text := render(t, zap())
	mark := Mark{Host: "zap", Generation: generation}
	for _, emulated := range []bool{false, true} {
		defined, _, err := Fit(text, mark, Abilities{Emulated: emulated})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Edited(text, mark, defined); len(got) > 0 || err != nil {
			t.Errorf("emulated %v: %v, %v", emulated, got, err)
		}
		edited := strings.Replace(defined, `cache="none"`, `cache="unsafe"`, 1)
		want := []Difference{{"devices/disk[vda]/driver@cache", "none", "unsafe"}}
		if got, err := Edited(text, mark, edited); !cmp.Equal(got, want) || err != nil {
			t.Errorf("emulated %v: %v, %v", emulated, got, err)
		}
	}
	if _, err := Edited(text, Mark{Host: "zip", Generation: generation}, string(text)); err == nil {
		t.Error("another host's was taken")
	}
}

// TestEditedChoice: of what a machine has got, because its hypervisor had it, is seen that
// somebody has taken it away; and that somebody has given it what it has not got.
func TestEditedChoice(t *testing.T) {
	text := render(t, hosts()["auto"])
	remove := regexp.MustCompile(`(?s)<tpm .*</tpm>`).ReplaceAllString
	const tpm = `<tpm model="tpm-crb"><backend type="emulator" version="2.0"></backend></tpm>`
	for name, test := range map[string]struct {
		can  Abilities
		edit func(string) string
		want []Difference
	}{
		"both, as they were":  {Abilities{SecureBoot: true, TPM: true}, nil, nil},
		"secure boot alone":   {Abilities{SecureBoot: true}, nil, nil},
		"a TPM alone":         {Abilities{TPM: true}, nil, nil},
		"none":                {Abilities{}, nil, nil},
		"emulated":            {Abilities{Emulated: true, SecureBoot: true, TPM: true}, nil, nil},
		"no TPM any more":     {Abilities{SecureBoot: true, TPM: true}, func(s string) string { return remove(s, "") }, []Difference{{"devices/tpm", present, absent}}},
		"a TPM of somebody's": {Abilities{SecureBoot: true}, func(s string) string { return strings.Replace(s, "<devices>", "<devices>"+tpm, 1) }, []Difference{{"devices/tpm", absent, present}}},
		"no secure boot": {Abilities{SecureBoot: true, TPM: true}, func(s string) string {
			return strings.Replace(s, `"yes" name="secure-boot"`, `"no" name="secure-boot"`, 1)
		}, []Difference{{"os/firmware/feature[secure-boot]@enabled", yes, no}}},
		"no keys": {Abilities{SecureBoot: true}, func(s string) string {
			return strings.Replace(s, `"yes" name="enrolled-keys"`, `"no" name="enrolled-keys"`, 1)
		}, []Difference{{"os/firmware/feature[enrolled-keys]@enabled", yes, no}}},
		"variables for all": {Abilities{SecureBoot: true}, func(s string) string { return strings.Replace(s, `<smm state="on">`, `<smm state="off">`, 1) }, []Difference{{"features/smm@state", on, off}}},
	} {
		t.Run(name, func(t *testing.T) {
			defined, mark, err := Fit(text, Mark{Host: "zap", Generation: generation}, test.can)
			if err != nil {
				t.Fatal(err)
			}
			if test.edit != nil {
				edited := test.edit(defined)
				if edited == defined {
					t.Fatal("nothing was edited")
				}
				defined = edited
			}
			got, err := Edited(text, mark, defined)
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}
