package inspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const extMagic = 0xef53

// Features of a super block, and flags of an inode, that change how it is read.
const (
	compatJournal      = 0x4
	incompatFileType   = 0x2
	incompatRecover    = 0x4
	incompatMetaBG     = 0x10
	incompatExtents    = 0x40
	incompat64Bit      = 0x80
	incompatMMP        = 0x100
	incompatFlexBG     = 0x200
	incompatEAInode    = 0x400
	incompatSeed       = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000
	incompatEncrypt    = 0x10000
	incompatCasefold   = 0x20000

	// incompatReadable lists what this reader knows to be able to ignore or read.
	// Inline data, encryption and case folding are refused where they are met.
	incompatReadable = incompatFileType | incompatRecover | incompatExtents | incompat64Bit | incompatMMP |
		incompatFlexBG | incompatEAInode | incompatSeed | incompatLargeDir | incompatInlineData |
		incompatEncrypt | incompatCasefold

	flagEncrypted = 0x800
	flagExtents   = 0x80000
	flagInline    = 0x10000000
	flagCasefold  = 0x40000000
)

const (
	rootInode    = 2
	maxDirectory = 8 << 20 // bytes: more than 100 000 names
	maxExtents   = 1 << 16 // of a file: 64 MiB in single blocks of 1 KiB
	maxDepth     = 5       // of an extent tree, by the format
	maxTarget    = 4096    // of a symbolic link
)

// volume is an ext4 file system that is only read.
type volume struct {
	disk           io.ReaderAt
	start          int64 // in bytes
	block          int64 // bytes
	blocks         int64
	firstData      int64 // block
	inodes         uint32
	inodesPerGroup uint32
	inodeSize      int64
	descriptor     int64 // bytes
	features       uint32
	dirty          bool // its journal holds changes that are not in place
}

// inode is what is needed of one.
type inode struct {
	mode  uint16
	flags uint32
	size  int64
	map60 [60]byte // extent tree root, or target of a short link
}

func (n inode) is(kind uint16) bool { return n.mode&0xf000 == kind }

const (
	kindDirectory = 0x4000
	kindRegular   = 0x8000
	kindLink      = 0xa000
)

var le = binary.LittleEndian

// extName tells ext2, ext3 and ext4 by the features of a super block.
func extName(super []byte) string {
	switch incompat := le.Uint32(super[0x60:]); {
	case incompat&(incompatExtents|incompat64Bit|incompatFlexBG) != 0:
		return "ext4"
	case le.Uint32(super[0x5c:])&compatJournal != 0:
		return "ext3"
	}
	return "ext2"
}

// mount reads and vets the super block of a file system of at most size bytes.
func mount(disk io.ReaderAt, start, size int64) (*volume, error) {
	super := make([]byte, 1024)
	if size < superAt+int64(len(super)) {
		return nil, errors.New("too small for a file system")
	}
	if _, err := disk.ReadAt(super, start+superAt); err != nil {
		return nil, fmt.Errorf("reading the super block: %w", err)
	}
	v := &volume{
		disk: disk, start: start,
		blocks:         int64(le.Uint32(super[4:])),
		firstData:      int64(le.Uint32(super[0x14:])),
		inodes:         le.Uint32(super),
		inodesPerGroup: le.Uint32(super[0x28:]),
		inodeSize:      128,
		descriptor:     32,
		features:       le.Uint32(super[0x60:]),
	}
	if le.Uint32(super[0x4c:]) > 0 { // revision
		v.inodeSize = int64(le.Uint16(super[0x58:]))
	}
	if v.features&incompat64Bit != 0 {
		v.blocks |= int64(le.Uint32(super[0x150:])&0x7fffffff) << 32
		v.descriptor = int64(le.Uint16(super[0xfe:]))
	}
	v.dirty = v.features&incompatRecover != 0
	shift := le.Uint32(super[0x18:])
	switch {
	case le.Uint16(super[0x38:]) != extMagic:
		return nil, errors.New("no ext4 file system")
	case v.features&^uint32(incompatReadable) != 0:
		return nil, fmt.Errorf("ext4 features that are not read here: bits %#x", v.features&^uint32(incompatReadable))
	case shift > 6:
		return nil, fmt.Errorf("malformed: ext4 blocks of 2^%d bytes", 10+uint64(shift))
	}
	v.block = 1024 << shift
	switch {
	case v.inodeSize < 128 || v.inodeSize > v.block || v.inodeSize&(v.inodeSize-1) != 0:
		return nil, fmt.Errorf("malformed: ext4 inodes of %d bytes", v.inodeSize)
	case v.descriptor < 32 || v.descriptor > v.block || v.descriptor&(v.descriptor-1) != 0,
		v.features&incompat64Bit != 0 && v.descriptor < 64:
		return nil, fmt.Errorf("malformed: ext4 group descriptors of %d bytes", v.descriptor)
	case v.inodesPerGroup == 0 || v.blocks == 0 || v.firstData > 1:
		return nil, errors.New("malformed: an ext4 super block with an impossible geometry")
	case v.blocks > size/v.block:
		return nil, fmt.Errorf("truncated: an ext4 file system of %d blocks of %d bytes in %d bytes", v.blocks, v.block, size)
	}
	return v, nil
}

// read reads from a block; it never leaves the file system.
func (v *volume) read(p []byte, block, offset int64) error {
	if block < 0 || block >= v.blocks || offset+int64(len(p)) > (v.blocks-block)*v.block {
		return fmt.Errorf("malformed: ext4 block %d of %d", block, v.blocks)
	}
	_, err := v.disk.ReadAt(p, v.start+block*v.block+offset)
	return err
}

func (v *volume) inode(number uint32) (inode, error) {
	if number == 0 || number > v.inodes {
		return inode{}, fmt.Errorf("malformed: inode %d of %d", number, v.inodes)
	}
	group, index := int64((number-1)/v.inodesPerGroup), int64((number-1)%v.inodesPerGroup)
	descriptor := make([]byte, v.descriptor)
	at := group * v.descriptor
	if err := v.read(descriptor, v.firstData+1+at/v.block, at%v.block); err != nil {
		return inode{}, fmt.Errorf("reading the descriptor of group %d: %w", group, err)
	}
	table := int64(le.Uint32(descriptor[8:]))
	if v.descriptor >= 64 {
		table |= int64(le.Uint32(descriptor[0x28:])&0x7fffffff) << 32
	}
	raw := make([]byte, 128)
	at = index * v.inodeSize
	if err := v.read(raw, table+at/v.block, at%v.block); err != nil {
		return inode{}, fmt.Errorf("reading inode %d: %w", number, err)
	}
	n := inode{
		mode:  le.Uint16(raw),
		flags: le.Uint32(raw[0x20:]),
		size:  int64(le.Uint32(raw[4:])) | int64(le.Uint32(raw[0x6c:])&0x7fffffff)<<32,
	}
	copy(n.map60[:], raw[0x28:])
	return n, nil
}

// content returns all of a file, directory or link of at most limit bytes.
func (v *volume) content(n inode, limit int64) ([]byte, error) {
	switch {
	case n.size > limit:
		return nil, fmt.Errorf("it has %d bytes, at most %d are read", n.size, limit)
	case n.flags&flagEncrypted != 0:
		return nil, errors.New("it is encrypted")
	case n.is(kindLink) && n.size < int64(len(n.map60)) && n.flags&flagExtents == 0:
		return n.map60[:n.size], nil
	case n.flags&flagInline != 0:
		return nil, errors.New("it is stored in its inode (inline_data), which is not read here")
	case n.size == 0:
		return nil, nil
	case n.flags&flagExtents == 0:
		return nil, errors.New("it has a block map as in ext2 and ext3, which is not read here: only extents are")
	}
	out := make([]byte, n.size)
	left := maxExtents
	if err := v.fill(out, n.map60[:], -1, &left); err != nil {
		return nil, err
	}
	return out, nil
}

// fill puts the extents below a tree node where they belong in out; what none
// covers stays zero. A node must be one level below the node above it, so that
// no tree is endless, and left bounds how many there are.
func (v *volume) fill(out, node []byte, depth int, left *int) error {
	count, level := int(le.Uint16(node[2:])), int(le.Uint16(node[6:]))
	switch {
	case le.Uint16(node) != 0xf30a || 12+12*count > len(node):
		return errors.New("malformed: a damaged extent tree")
	case depth < 0 && level > maxDepth, depth >= 0 && level != depth:
		return fmt.Errorf("malformed: an extent tree node of level %d", level)
	}
	if *left -= count; *left < 0 {
		return fmt.Errorf("it has more than %d extents", maxExtents)
	}
	for entry := node[12 : 12+12*count]; len(entry) > 0; entry = entry[12:] {
		if level > 0 {
			child := make([]byte, v.block)
			if err := v.read(child, int64(le.Uint32(entry[4:]))|int64(le.Uint16(entry[8:]))<<32, 0); err != nil {
				return err
			}
			if err := v.fill(out, child, level-1, left); err != nil {
				return err
			}
			continue
		}
		if err := v.fillExtent(out, entry); err != nil {
			return err
		}
	}
	return nil
}

func (v *volume) fillExtent(out, entry []byte) error {
	at, count := int64(le.Uint32(entry))*v.block, int64(le.Uint16(entry[4:]))
	if count > 1<<15 || at >= int64(len(out)) { // allocated but never written, or behind the end
		return nil
	}
	first := int64(le.Uint16(entry[6:]))<<32 | int64(le.Uint32(entry[8:]))
	return v.read(out[at:min(at+count*v.block, int64(len(out)))], first, 0)
}

// names calls use with each entry of a directory until that returns false. A
// directory with a hash tree needs no other treatment: its inner nodes look
// like blocks without entries, by design.
func (v *volume) names(n inode, use func(name []byte, number uint32) bool) error {
	if n.flags&flagCasefold != 0 {
		return errors.New("its names are matched without regard to case, which is not read here")
	}
	all, err := v.content(n, maxDirectory)
	if err != nil {
		return err
	}
	for ; len(all) > 0; all = all[min(v.block, int64(len(all))):] {
		block := all[:min(v.block, int64(len(all)))]
		for len(block) >= 8 {
			number, length, name := le.Uint32(block), int(le.Uint16(block[4:])), int(block[6])
			if length == 0xffff || length == 0 { // all of a block of 64 KiB
				length = 64 << 10
			}
			if length < 8 || length%4 != 0 || length > len(block) || number != 0 && name > length-8 {
				return errors.New("malformed: a damaged directory")
			}
			if number != 0 && name > 0 && !use(block[8:8+name], number) {
				return nil
			}
			block = block[length:]
		}
	}
	return nil
}
