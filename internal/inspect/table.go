package inspect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	sector         = 512
	maxPartitions  = 1024 // entries of a table: 128 are usual
	typeBoot       = "BC13C2FF-59E6-4262-A352-B275FD6F7172"
	labelRoot      = "cloudimg-rootfs" // on Ubuntu and in images made as Ubuntu makes them
	labelBoot      = "BOOT"
	superAt        = 1024 // of the ext super block, from the start of its partition
	superMagicAt   = superAt + 0x38
	btrfsMagicAt   = 64<<10 + 64
	sniffedAtStart = 4096
)

// typeNames are the GPT types worth a name.
var typeNames = map[string]string{
	string(gpt.EFISystemPartition):         "EFI system",
	string(gpt.LinuxFilesystem):            "Linux file system",
	string(gpt.LinuxRootX86_64):            "Linux root (x86-64)",
	string(gpt.LinuxRootArm64):             "Linux root (arm64)",
	typeBoot:                               "Linux extended boot",
	"21686148-6449-6E6F-744E-656564454649": "BIOS boot",
}

var rootTypes = []string{string(gpt.LinuxRootX86_64), string(gpt.LinuxRootArm64)}

// A Partition is an entry of the image's GPT.
type Partition struct {
	Number     int    `json:"number"`      // 1 is the first entry of the table, used or not
	Type       string `json:"type"`        // GUID in capitals
	TypeName   string `json:"type_name"`   // in words, "" for a type that is not known here
	Name       string `json:"name"`        // in the table
	FileSystem string `json:"file_system"` // "ext4", "vfat", …, "" when not recognized
	Label      string `json:"label"`       // of the file system
	Start      int64  `json:"start"`       // in bytes
	Size       int64  `json:"size"`        // in bytes
}

// tableFile is as much of a file as the library needs to read a table.
type tableFile struct{ *io.SectionReader }

func (tableFile) Close() error               { return nil }
func (tableFile) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// partitions reads the GPT, and the backup when the first copy is damaged.
func partitions(d *disk) (list []Partition, recovered bool, err error) {
	if d.size < 3*sector {
		return nil, false, fmt.Errorf("a disk of %d bytes has no room for a partition table", d.size)
	}
	for _, at := range []int64{sector, (d.size/sector - 1) * sector} {
		if err := vetTable(d, at); err != nil {
			return nil, false, err
		}
	}
	table, err := gpt.Read(tableFile{io.NewSectionReader(d, 0, d.size)}, sector, sector)
	if err != nil {
		return nil, false, explainTable(d, err)
	}
	sectors := uint64(d.size / sector)
	for _, p := range table.Partitions {
		if p.Start == 0 || p.End < p.Start || p.End >= sectors {
			return nil, false, fmt.Errorf("truncated or malformed: partition %d spans the sectors %d to %d of a disk with %d",
				p.Index, p.Start, p.End, sectors)
		}
		kind := strings.ToUpper(string(p.Type))
		entry := Partition{
			Number: p.Index, Type: kind, TypeName: typeNames[kind], Name: line(p.Name),
			Start: int64(p.Start) * sector, Size: int64(p.End-p.Start+1) * sector,
		}
		if entry.FileSystem, entry.Label, err = sniff(d, entry); err != nil {
			return nil, false, fmt.Errorf("partition %d: %w", p.Index, err)
		}
		list = append(list, entry)
	}
	return list, table.RecoveredFromBackup, nil
}

// vetTable refuses a GPT header whose table the library would allocate, or walk
// for ever, as the header says. One without the signature is not looked at.
func vetTable(d *disk, at int64) error {
	head := make([]byte, sector)
	if _, err := d.ReadAt(head, at); err != nil {
		return err
	}
	count, size := binary.LittleEndian.Uint32(head[80:]), binary.LittleEndian.Uint32(head[84:])
	if string(head[:8]) == "EFI PART" && (count > maxPartitions || size != gpt.PartitionEntrySize) {
		return fmt.Errorf("malformed: a partition table of %d entries of %d bytes", count, size)
	}
	return nil
}

// explainTable says what a disk has instead of a GPT.
func explainTable(d *disk, err error) error {
	start := make([]byte, min(d.size, sniffedAtStart))
	if _, readErr := d.ReadAt(start, 0); readErr != nil {
		return readErr
	}
	what := ""
	switch {
	case bytes.HasPrefix(start[sector:], []byte("EFI PART")):
		return fmt.Errorf("reading the partition table: %w", err)
	case len(start) > superMagicAt+2 && binary.LittleEndian.Uint16(start[superMagicAt:]) == extMagic:
		what = ": it is a bare ext file system"
	case start[510] == 0x55 && start[511] == 0xaa:
		what = ": it has an MBR"
	}
	return errors.New("the disk has no GPT partition table" + what + "; take an image that boots with UEFI")
}

// fileSystems but ext and vfat, by their magic.
var fileSystems = []struct {
	at    int
	magic string
	name  string
}{
	{0, "XFSB", "xfs"},
	{0, "hsqs", "squashfs"},
	{0, "LUKS\xba\xbe", "luks"},
	{536, "LVM2 001", "lvm"},
	{4086, "SWAPSPACE2", "swap"},
	{btrfsMagicAt, "_BHRfS_M", "btrfs"},
}

// sniff says which file system a partition holds.
func sniff(d *disk, p Partition) (name, label string, err error) {
	read := func(at, n int) []byte {
		got := make([]byte, n)
		if int64(at+n) <= p.Size && err == nil {
			_, err = d.ReadAt(got, p.Start+int64(at))
		}
		return got
	}
	if super := read(superAt, 1024); binary.LittleEndian.Uint16(super[0x38:]) == extMagic {
		return extName(super), line(zeroEnded(super[0x78:0x88])), err
	}
	for _, known := range fileSystems {
		if string(read(known.at, len(known.magic))) == known.magic {
			return known.name, "", err
		}
	}
	start := read(0, sector)
	for _, at := range []int{54, 82} { // FAT12 and 16, FAT32
		if start[510] == 0x55 && start[511] == 0xaa && string(start[at:at+3]) == "FAT" {
			return "vfat", line(zeroEnded(start[at-11 : at])), err
		}
	}
	return "", "", err
}

// rootOf chooses the partition with the root file system: the one with Ubuntu's
// label, else with a root type, else the largest with the plain Linux type.
// Numbers say nothing: Ubuntu's partition 16 lies before its partition 1.
func rootOf(all []Partition) (Partition, error) {
	for _, fits := range []func(Partition) bool{
		func(p Partition) bool { return p.Label == labelRoot },
		func(p Partition) bool { return slices.Contains(rootTypes, p.Type) },
		func(p Partition) bool {
			return p.Type == string(gpt.LinuxFilesystem) && p.Label != labelBoot && isExt(p.FileSystem)
		},
		func(p Partition) bool { return p.Type == string(gpt.LinuxFilesystem) },
	} {
		var best Partition
		for _, p := range all {
			if fits(p) && p.Size > best.Size {
				best = p
			}
		}
		switch {
		case best.Size == 0:
		case !isExt(best.FileSystem):
			return best, fmt.Errorf("the root file system, partition %d, is %s: only ext4 is read here",
				best.Number, orWord(best.FileSystem, "of an unknown kind"))
		default:
			return best, nil
		}
	}
	return Partition{}, errors.New("none of its partitions looks like a root file system")
}

// bootOf finds a separate /boot, as Ubuntu has it since 24.04.
func bootOf(all []Partition, root Partition) (Partition, bool) {
	for _, p := range all {
		if p.Number != root.Number && isExt(p.FileSystem) && (p.Type == typeBoot || p.Label == labelBoot) {
			return p, true
		}
	}
	return Partition{}, false
}

func isExt(name string) bool { return strings.HasPrefix(name, "ext") }

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

// zeroEnded returns the text up to the first zero byte.
func zeroEnded(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}
