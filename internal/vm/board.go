package vm

import "fmt"

// The architectures of Spec, as Go and Debian name them.
const (
	amd64 = "amd64"
	arm64 = "arm64"
)

// board is the virtual hardware of an architecture, in QEMU's words.
type board struct {
	program  string // that emulates it
	target   string // its name in descriptions of firmware
	machines string // what the names of its machines begin with there
	firmware string // Debian's package
}

var boards = map[string]board{
	amd64: {"qemu-system-x86_64", "x86_64", "pc-q35", "ovmf"},
	arm64: {"qemu-system-aarch64", "aarch64", "virt", "qemu-efi-aarch64"},
}

// boardOf returns the hardware of an architecture; "" is amd64.
func boardOf(arch string) (board, error) {
	if arch == "" {
		arch = amd64
	}
	b, ok := boards[arch]
	if !ok {
		return board{}, fmt.Errorf("the architecture %q is neither %s nor %s", arch, amd64, arm64)
	}
	return b, nil
}

// processor returns the QEMU options that pick accelerator and CPU model.
//
// On amd64 under TCG cx16 stays off, for QEMU 7.2 emulates it so that Linux 6.12 panics,
// and la57, which makes every walk through the page tables a level longer. On arm64 it is a
// processor without pointer authentication, of which QEMU's model computes each signature in
// software.
func processor(arch, accel string) []string {
	switch {
	case accel == kvm:
		return []string{"-accel", "kvm", "-cpu", "host"}
	case arch == arm64:
		return []string{"-accel", "tcg,thread=multi", "-cpu", "cortex-a72"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max,-cx16,-la57"}
}

// mainboard returns the QEMU options of the machine around the processor, with its flash.
func (s Spec) mainboard(firm firmware) []string {
	const flash = ",pflash0=code,pflash1=" + varsDisk
	switch {
	case s.Arch == arm64:
		return []string{"-machine", virt(s.Accel) + flash}
	case firm.secure:
		// Only code in system management mode may write the variables.
		return []string{"-machine", "q35,smm=on" + flash,
			"-global", "driver=cfi.pflash01,property=secure,value=on",
			"-global", "ICH9-LPC.disable_s3=1"}
	}
	return []string{"-machine", "q35,smm=off" + flash}
}

// virt is the machine of arm64. Version 2 of the interrupt controller has eight processors
// at most; under KVM it is the one that this machine has.
func virt(accel string) string {
	if accel == kvm {
		return "virt,gic-version=host"
	}
	return "virt,gic-version=3"
}
