package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bake/internal/tool"
)

// machine is one that has the programs named, and nothing else missing.
func machine(t *testing.T, programs ...string) Options {
	t.Helper()
	bin := t.TempDir()
	for _, name := range programs {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Tools:       tool.Box{Getenv: func(string) string { return bin }},
		Commands:    []string{"image", "verify", "up", "ssh"},
		Accelerator: func(context.Context) (string, string, error) { return "kvm", "a guest ran", nil },
		Firmware:    func(arch, kind string) (string, error) { return "/firmware/" + arch + "/" + kind, nil },
		Libvirt:     func(context.Context) error { return nil },
		Places:      []Place{{"cache", filepath.Join(bin, "not", "yet"), 1, []string{"image"}}},
	}
}

func look(t *testing.T, o Options) map[string]Finding {
	t.Helper()
	findings, err := Look(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Finding{}
	for _, f := range findings {
		if len(f.For) == 0 {
			t.Errorf("nobody needs %s", f.Name)
		}
		if old, twice := byName[f.Name]; !twice || !old.IsLack() {
			byName[f.Name] = f
		}
	}
	return byName
}

var all = []string{"qemu-system-x86_64", "qemu-system-aarch64", "qemu-img", "prlimit", "apt-get", "dpkg-deb", "mksquashfs", "npm", "node", "ssh", "swtpm"}

func TestAllIsThere(t *testing.T) {
	for name, f := range look(t, machine(t, all...)) {
		if f.State != OK && name != "virtiofsd" {
			t.Errorf("%s is %s: %s", name, f.State, f.Found)
		}
	}
}

// TestLacks takes one thing away at a time.
func TestLacks(t *testing.T) {
	absent := errors.New("dial unix: nobody")
	tests := map[string]struct {
		change func(*Options)
		want   Finding
		isLack bool
	}{
		"qemu-img": {func(o *Options) { *o = machine(t, without(all, "qemu-img")...) },
			Finding{State: Missing, Found: "not installed", Package: "qemu-utils"}, true},
		"mksquashfs": {func(o *Options) { *o = machine(t, without(all, "mksquashfs")...) },
			Finding{State: Missing, Found: "not installed", Package: "squashfs-tools", Only: withPackages}, false},
		"qemu-system-aarch64": {func(o *Options) { *o = machine(t, without(all, "qemu-system-aarch64")...) },
			Finding{State: Missing, Found: "not installed", Package: "qemu-system-arm", Only: withARM}, false},
		"uefi-arm64": {func(o *Options) {
			o.Firmware = func(arch, kind string) (string, error) {
				if arch == "arm64" {
					return "", &tool.MissingError{Name: "firmware", Package: "qemu-efi-aarch64"}
				}
				return kind, nil
			}
		}, Finding{State: Missing, Found: "not installed", Package: "qemu-efi-aarch64", Only: withARM}, false},
		"accelerator": {func(o *Options) {
			o.Accelerator = func(context.Context) (string, string, error) {
				return "", "", &tool.MissingError{Name: "qemu-system-x86_64", Package: "qemu-system-x86"}
			}
		}, Finding{State: Missing, Found: "qemu-system-x86_64 is not installed", Package: "qemu-system-x86"}, true},
		"uefi": {func(o *Options) {
			o.Firmware = func(string, string) (string, error) { return "", &tool.MissingError{Name: "firmware", Package: "ovmf"} }
		}, Finding{State: Missing, Found: "not installed", Package: "ovmf"}, true},
		"libvirt": {func(o *Options) { o.Libvirt = func(context.Context) error { return absent } },
			Finding{State: Missing, Found: absent.Error()}, true},
		"cache": {func(o *Options) { o.Places[0].Need = 1 << 62 },
			Finding{State: Missing}, true},
	}
	for name, test := range tests {
		o := machine(t, all...)
		test.change(&o)
		got := look(t, o)[name]
		if got.State != test.want.State || test.want.Found != "" && got.Found != test.want.Found ||
			got.Package != test.want.Package || got.Only != test.want.Only || got.IsLack() != test.isLack {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func without(list []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == name })
}

func TestNoSocketNamesThePackage(t *testing.T) {
	o := machine(t, all...)
	o.Libvirt = func(context.Context) error { return &fs.PathError{Op: "dial", Path: "x", Err: fs.ErrNotExist} }
	if f := look(t, o)["libvirt"]; f.Package != "libvirt-daemon-system" {
		t.Errorf("%+v", f)
	}
}

// TestEmulation is no lack.
func TestEmulation(t *testing.T) {
	o := machine(t, all...)
	o.Accelerator = func(context.Context) (string, string, error) { return "tcg", "this machine has no /dev/kvm", nil }
	f := look(t, o)["accelerator"]
	if f.State != Slow || f.IsLack() || !strings.Contains(f.Found, "no /dev/kvm") {
		t.Errorf("%+v", f)
	}
}

// TestCommands judges those that count and no others.
func TestCommands(t *testing.T) {
	o := machine(t)
	o.Commands = []string{"ssh"}
	o.Accelerator, o.Firmware, o.Libvirt = nil, nil, nil // not to be asked
	found := look(t, o)
	if len(found) != 1 || !found["ssh"].IsLack() {
		t.Errorf("%+v", found)
	}
}

func TestProbeThatFails(t *testing.T) {
	o := machine(t, all...)
	o.Accelerator = func(context.Context) (string, string, error) { return "", "", errors.New("probing /dev/kvm: no") }
	if _, err := Look(context.Background(), o); err == nil {
		t.Error("a probe that could not be made is no answer")
	}
}
