package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bake/internal/tool"
)

// The firmware kinds of Spec.
const (
	firmwareAuto = "auto"
	uefi         = "uefi"
	uefiSecure   = "uefi-secure"
)

// firmwareDirs is where distributions describe their firmware for QEMU
// (docs/interop/firmware.json), the administrator's before the system's.
var firmwareDirs = []string{"/etc/qemu/firmware", "/usr/share/qemu/firmware"}

// firmware is a UEFI image: code that is shared, variables to copy.
type firmware struct {
	Code, Vars flash
	secure     bool
}

type flash struct {
	Filename string `json:"filename"`
	Format   string `json:"format"`
}

type descriptor struct {
	Mapping struct {
		Device     string `json:"device"`
		Mode       string `json:"mode"`
		Executable flash  `json:"executable"`
		Template   flash  `json:"nvram-template"`
	} `json:"mapping"`
	Targets []struct {
		Architecture string   `json:"architecture"`
		Machines     []string `json:"machines"`
	} `json:"targets"`
	Features []string `json:"features"`
}

// findFirmware returns the first firmware of a kind that is described and
// present for that hardware.
func findFirmware(b board, kind string, dirs []string) (firmware, error) {
	if kind != uefi && kind != uefiSecure {
		return firmware{}, fmt.Errorf("the firmware %q is neither %s nor %s", kind, uefi, uefiSecure)
	}
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.json")) // sorted
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			var d descriptor
			if json.Unmarshal(text, &d) != nil || !d.suits(b, kind) {
				continue
			}
			return firmware{d.Mapping.Executable, d.Mapping.Template, kind == uefiSecure}, nil
		}
	}
	name := "UEFI firmware for QEMU (" + b.target + ")"
	if kind == uefiSecure {
		name = "UEFI firmware for QEMU with secure boot and enrolled keys (" + b.target + ")"
	}
	return firmware{}, &tool.MissingError{Name: name, Package: b.firmware}
}

// findFirmware returns the firmware of a machine, whose kind it decides where that is left
// to it.
func (s Spec) findFirmware(b board, dirs []string) (firmware, error) {
	if s.Firmware != firmwareAuto {
		return findFirmware(b, s.Firmware, dirs)
	}
	if s.Accel == kvm {
		if firm, err := findFirmware(b, uefiSecure, dirs); err == nil {
			return firm, nil
		}
	}
	return findFirmware(b, uefi, dirs)
}

func (d *descriptor) suits(b board, kind string) bool {
	m := d.Mapping
	if m.Device != "flash" || m.Mode != "" && m.Mode != "split" || !m.Executable.present() || !m.Template.present() {
		return false
	}
	has := func(feature string) bool { return slices.Contains(d.Features, feature) }
	if kind == uefiSecure && !(has("secure-boot") && has("enrolled-keys")) {
		return false
	}
	if kind == uefi && (has("secure-boot") || has("requires-smm")) {
		return false
	}
	for _, target := range d.Targets {
		fits := slices.ContainsFunc(target.Machines, func(name string) bool {
			return strings.HasPrefix(name, b.machines)
		})
		if target.Architecture == b.target && fits {
			return true
		}
	}
	return false
}

func (f flash) present() bool {
	info, err := os.Stat(f.Filename)
	return err == nil && info.Mode().IsRegular() && (f.Format == "raw" || f.Format == "qcow2")
}

// FindFirmware returns the path of the firmware of that kind, uefi or uefi-secure, that
// a boot here of a machine of that architecture would use. The error is a
// *tool.MissingError when there is none.
func FindFirmware(arch, kind string) (string, error) {
	b, err := boardOf(arch)
	if err != nil {
		return "", err
	}
	found, err := findFirmware(b, kind, firmwareDirs)
	return found.Code.Filename, err
}
