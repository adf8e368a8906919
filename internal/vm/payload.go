package vm

import (
	"bufio"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

var (
	//go:embed probe.lst
	listing string
	//go:embed probe-arm64.lst
	listingARM string
)

// What the probe's guest reports: the exit status of QEMU for its last OUT to
// isa-debug-exit (2n+1), and the stages it passes before that. On arm64 the last stage, or
// armWrong, before the machine is switched off.
const (
	payloadPassed = 2*0x2a + 1
	payloadWrong  = 2*1 + 1
	payloadStages = 5
	armWrong      = 0xff
)

// stages names, for each architecture, what worked once the guest has reported stage n.
var stages = map[string][payloadStages + 1]string{
	amd64: {
		"before 64-bit mode",
		"in 64-bit mode, at its first exception or page fault",
		"at the model specific registers",
		"at SSE and XSAVE",
		"on the way to user mode and back",
		"waiting for a timer interrupt",
	},
	arm64: {
		"at its first instructions",
		"at its first exception",
		"at its page tables",
		"at SIMD",
		"waiting for its timer",
		"switching itself off",
	},
}

// Places in the 64 KiB image. It runs as a copy in RAM at ramBase, seen by
// 64-bit code through highBase as well.
const (
	payloadSize = 0x10000
	romBase     = 0xffff0000
	ramBase     = 0x100000
	highBase    = 0xffffffff80000000 + ramBase

	idtAt     = 0xa00 // interrupt descriptors, 16 bytes each
	gdtAt     = 0xf80 // segment descriptors
	idtrAt    = 0xfe0 // operand of LIDT
	gdtrROMAt = 0xff0 // operand of the first LGDT
	gdtrRAMAt = 0xff8 // operand of the second
	pml4At    = 0x1000
	pdptAt    = 0x2000
	pdAt      = 0x3000
	resetAt   = 0xfff0 // where the processor starts
)

// payload returns the probe's firmware image.
func payload(arch string) ([]byte, error) {
	image := make([]byte, payloadSize)
	if arch == arm64 {
		_, err := assemble(image, listingARM)
		return image, err
	}
	labels, err := assemble(image[:idtAt], listing)
	if err != nil {
		return nil, err
	}
	putSegments(image)
	putPages(image)
	putGates(image, labels)
	copy(image[resetAt:], []byte{0xe9, 0x0d, 0x00}) // jmp 0: over the end of the segment
	return image, nil
}

// assemble copies the bytes of a listing into image and returns its labels.
func assemble(image []byte, text string) (map[string]int, error) {
	labels := map[string]int{}
	at := 0
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if name, ok := strings.CutSuffix(fields[0], ":"); ok {
			if len(fields) > 1 && fields[1][0] == '@' {
				place, err := strconv.ParseUint(fields[1][1:], 16, 12)
				if err != nil || int(place) < at {
					return nil, fmt.Errorf("probe listing: bad place in %q", lines.Text())
				}
				at = int(place)
			}
			labels[name] = at
			continue
		}
		code, err := hex.DecodeString(fields[0])
		if err != nil || at+len(code) > len(image) {
			return nil, fmt.Errorf("probe listing: bad line %q", lines.Text())
		}
		at += copy(image[at:], code)
	}
	return labels, nil
}

// putSegments writes the flat segments that the listing's selectors name, and
// the operands of its LGDT instructions.
func putSegments(image []byte) {
	segments := []uint64{
		0,
		0x00cf9b000000ffff, // 0x08: 32-bit code
		0x00cf93000000ffff, // 0x10: data
		0x00af9b000000ffff, // 0x18: 64-bit code
		0x00cf93000000ffff, // 0x20: data, where SYSCALL expects it
		0x00cff3000000ffff, // 0x28: data of ring 3, where SYSRET expects it
		0x00affb000000ffff, // 0x30: 64-bit code of ring 3
	}
	for i, segment := range segments {
		binary.LittleEndian.PutUint64(image[gdtAt+8*i:], segment)
	}
	for at, base := range map[int]uint32{gdtrROMAt: romBase, gdtrRAMAt: ramBase} {
		binary.LittleEndian.PutUint16(image[at:], uint16(8*len(segments)-1))
		binary.LittleEndian.PutUint32(image[at+2:], base+gdtAt)
	}
}

// putPages maps the first 4 MiB of RAM at 0 and in the upper half, and the
// local APIC (0xfee00000, uncached) at 0x3ee00000, in pages of 2 MiB.
func putPages(image []byte) {
	const usable, huge, uncached = 0x07, 0x80, 0x18
	for at, entry := range map[int]uint64{
		pml4At:           ramBase + pdptAt | usable,
		pml4At + 8*511:   ramBase + pdptAt | usable,
		pdptAt:           ramBase + pdAt | usable,
		pdptAt + 8*510:   ramBase + pdAt | usable,
		pdAt:             huge | usable,
		pdAt + 8*1:       0x200000 | huge | usable,
		pdAt + 8*(0x1f7): 0xfee00000 | huge | uncached | usable,
	} {
		binary.LittleEndian.PutUint64(image[at:], entry)
	}
}

// putGates points the interrupt vectors at the listing's handlers.
func putGates(image []byte, labels map[string]int) {
	const gates = 0x41
	for vector, handler := range map[int]string{
		3: "breakpoint", 6: "fail", 13: "fail", 14: "fault", 0x40: "tick",
	} {
		gate := image[idtAt+16*vector:]
		target := uint64(highBase) + uint64(labels[handler])
		binary.LittleEndian.PutUint16(gate, uint16(target))
		binary.LittleEndian.PutUint16(gate[2:], 0x18)   // the 64-bit code segment
		binary.LittleEndian.PutUint16(gate[4:], 0x8e00) // present, interrupt gate
		binary.LittleEndian.PutUint16(gate[6:], uint16(target>>16))
		binary.LittleEndian.PutUint32(gate[8:], uint32(target>>32))
	}
	binary.LittleEndian.PutUint16(image[idtrAt:], 16*gates-1)
	binary.LittleEndian.PutUint64(image[idtrAt+2:], uint64(highBase)+idtAt)
}
